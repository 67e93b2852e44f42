"""The manifest: the published rules of a session, first entry of its log (spec 6.1)."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from protocol.encoding import Message, hash_from_hex, hash_of
from protocol.errors import MalformedError
from protocol.keys import ED25519, VerifierKey, check_seal_key
from protocol.randomness.beacon import GENESIS as BEACON_GENESIS
from protocol.randomness.beacon import PERIOD as BEACON_PERIOD
from protocol.randomness.beacon import beacon_round

FORMAT: Final = "credible-session-v1"
MAX_ROUNDS: Final = 2**24  # spec 12
MAX_ITEMS: Final = 512
MAX_SEATS: Final = 65_536
SEEDED_LABEL: Final = "seeded: no secrecy"

PRESETS: Final = ("prompt", "published", "record")
DRAWS: Final = {"additive": ("per_item", "joint"), "unit_demand": ("bvn",)}  # by valuation (spec 3.15)
PROFILES: Final = ("P0", "P1")  # P2 is an extension point (docs/spec.md, 3.9)
CHARGES: Final = ("expected", "realised")
SUPPORT_RULES: Final = ("void", "clamp")
MODES: Final = ("fixed", "independent", "exposure")
BEACONS: Final = ("none", "quicknet")
DISCLOSURES: Final = ("public", "auditor")
GAINS: Final = ("kept", "returned")
NONE: Final = "none"
LEAST_BEACON_DELAY: Final = 10  # rounds after the deadline that a beacon round follows (spec 5.4)


class Grid(Message, frozen=True):
    """The bid grid: what 1 means, bounds and step, in grid units (spec 2.12)."""

    unit: str
    minimum: int
    maximum: int
    step: int


class Offsets(Message, frozen=True):
    """Deadlines in seconds: of a round after its start, of an epoch after its last round's period (spec 6.1)."""

    close: int
    opening: int
    outcome: int
    complaint: int
    root: int
    contribution: int
    response: int
    verdict: int
    whole: int


class Exposure(Message, frozen=True):
    """What a round can lose, and how often it is audited (spec 9.10).

    Attributes:
        maximum: Highest bid of the round's support, grid units; its exposure g_t is the sum of it over the items.
        num: Numerator of pi_t, the chance of an audit.
        den: Its denominator.
    """

    maximum: int
    num: int
    den: int


class AuditRule(Message, frozen=True):
    """How rounds are drawn (spec 7.2).

    Attributes:
        mode: "fixed": k of an epoch; "independent": each with chance q; "exposure": each with a chance of its own.
        k: Rounds drawn in an epoch, for "fixed".
        q_num: Numerator of q, for "independent".
        q_den: Its denominator.
        lag: L, rounds until a verdict at most (spec 9.1).
        escalation: Rounds of an epoch that auditors may ask for beyond the draw, in ticket order (spec 7.8).
        exposures: For "exposure": round t takes the entry t modulo their number.
    """

    mode: str
    k: int
    q_num: int
    q_den: int
    lag: int
    escalation: int
    exposures: list[Exposure]


class Money(Message, frozen=True):
    """Bounds and stakes, in fine units (spec 9).

    Attributes:
        gain_bound: g, the largest gain of one deviating round that tier 1 cannot see (9.11).
        penalty: F.
        deposit: The auctioneer's deposit, locked from setup on.
        bidder_deposit: A bidder's deposit.
        opening_forfeit: What an unopened commitment costs.
        contribution_forfeit: What a missing contribution costs.
        gains: "kept": gains of deviating rounds stay with the auctioneer; "returned": what bidders of an epoch were
            charged too much is paid back out of escrow on detection (9.2).
    """

    gain_bound: int
    penalty: int
    deposit: int
    bidder_deposit: int
    opening_forfeit: int
    contribution_forfeit: int
    gains: str


class Manifest(Message, frozen=True, dict=True):
    """The rules of a session; its hash is the session's id (spec 2.11, 6.1)."""

    format: str
    label: str
    preset: str
    labels: list[str]
    auctioneer: str
    log: str
    arbiter: str
    registrar: str
    auditors: list[str]
    auditor_seals: list[str]
    canaries: list[str]
    mailboxes: list[str]
    faulty_mailboxes: int
    mailbox_margin: int
    policy: str
    faulty_witnesses: int
    mech: str
    profile: str
    share_bits: int
    seats: int
    items: list[str]
    context: list[str]
    grid: Grid
    support_rule: str
    valuation: str
    draw: str
    charge: str
    rounds: int
    epoch_rounds: int
    start: int
    period: int
    epoch_gap: int
    offsets: Offsets
    audit: AuditRule
    lottery_head: str
    audit_head: str
    seal_key: str
    beacon: str
    beacon_delay: int
    aborting: int
    money: Money
    disclosure: str
    retention: int

    def __post_init__(self) -> None:
        """Raise ValueError, which the decoder turns into MalformedError, where a field leaves its range."""
        seals = 0 if self.disclosure == "public" else len(self.auditors)
        exposures = (1, 1024) if self.audit.mode == "exposure" else (0, 0)
        delays = (0, 0) if self.beacon == NONE else (LEAST_BEACON_DELAY, 10**6)
        for name, value, low, high in (
            ("share_bits", self.share_bits, 0, 32),
            ("rounds", self.rounds, 1, MAX_ROUNDS),
            ("epoch_rounds", self.epoch_rounds, 1, self.rounds),
            ("seats", self.seats, 1, MAX_SEATS),
            ("items", len(self.items), 1, MAX_ITEMS),
            ("context", len(self.context), 0, 16),
            # a sealed disclosure rests on the auditors' word, so there are two at least (spec 7.9)
            ("auditors", len(self.auditors), 1 if self.disclosure == "public" else 2, 16),
            ("auditor_seals", len(self.auditor_seals), seals, seals),
            ("canaries", len(self.canaries), 0, 256),
            ("mailboxes", len(self.mailboxes), 0, 16),
            ("faulty_mailboxes", self.faulty_mailboxes, 0, max(len(self.mailboxes) - 1, 0)),
            ("mailbox_margin", self.mailbox_margin, 1 if self.mailboxes else 0, self.offsets.close - 1),
            ("audit.escalation", self.audit.escalation, 0, MAX_ROUNDS),
            ("audit.exposures", len(self.audit.exposures), *exposures),
            ("beacon_delay", self.beacon_delay, *delays),
            ("period", self.period, 1, 10**9),
            ("epoch_gap", self.epoch_gap, 0, 10**9),
            ("start", self.start, 0, 10**11),
            ("faulty_witnesses", self.faulty_witnesses, 0, 32),
            ("aborting", self.aborting, 0, 16),
            ("grid.step", self.grid.step, 1, 2**52),
            ("audit.lag", self.audit.lag, 0, MAX_ROUNDS),
            ("money.gain_bound", self.money.gain_bound, 0, 2**53 - 1),
            ("money.penalty", self.money.penalty, 0, 2**53 - 1),
            ("money.deposit", self.money.deposit, self.money.penalty, 2**53 - 1),
            ("money.bidder_deposit", self.money.bidder_deposit, 0, 2**53 - 1),
            ("money.opening_forfeit", self.money.opening_forfeit, 0, 2**53 - 1),
            ("money.contribution_forfeit", self.money.contribution_forfeit, 0, 2**53 - 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"manifest {name} is {value}, wanted {low} to {high} (spec 6.1)")
        for name, text, allowed in (
            ("format", self.format, (FORMAT,)),
            ("profile", self.profile, PROFILES),
            ("valuation", self.valuation, tuple(DRAWS)),
            ("preset", self.preset, PRESETS),
            # winners that are claimed, not drawn, belong to replays alone, where no penalty is promised either
            ("draw", self.draw, ("recorded",) if self.preset == "record" else DRAWS.get(self.valuation, ())),
            ("charge", self.charge, CHARGES),
            ("support_rule", self.support_rule, SUPPORT_RULES),
            ("audit.mode", self.audit.mode, MODES),
            ("beacon", self.beacon, BEACONS),
            ("disclosure", self.disclosure, DISCLOSURES),
            ("money.gains", self.money.gains, GAINS),
        ):
            if text not in allowed:
                raise ValueError(f"manifest {name} is {text!r}, wanted one of {allowed} (spec 6.1)")
        if not 0 <= self.grid.minimum <= self.grid.maximum:
            raise ValueError("manifest grid: wanted 0 <= minimum <= maximum (spec 2.12)")
        audit = self.audit
        if audit.mode == "fixed" and not 1 <= audit.k <= self.epoch_rounds:
            raise ValueError(f"manifest audit.k is {audit.k}, wanted 1 to {self.epoch_rounds} (spec 7.2)")
        if audit.mode == "independent" and not 0 < audit.q_num <= audit.q_den:
            raise ValueError("manifest audit: wanted 0 < q_num <= q_den (spec 7.2)")
        for item in audit.exposures:
            if not 0 < item.num <= item.den or not self.grid.minimum <= item.maximum <= self.grid.maximum:
                raise ValueError(
                    f"manifest audit: exposure {item}: wanted 0 < num <= den, maximum in the grid (spec 9.10)"
                )
        offsets = self.offsets
        if not 0 < offsets.close < offsets.opening < offsets.outcome <= offsets.complaint <= self.period:
            raise ValueError("manifest offsets: wanted close < opening < outcome <= complaint <= period (spec 6.1)")
        ends = (offsets.root, offsets.contribution, offsets.response, offsets.verdict, offsets.whole)
        if ends[0] < 0 or list(ends) != sorted(set(ends)) or ends[-1] > self.epoch_gap:
            raise ValueError(
                "manifest offsets: wanted root < contribution < response < verdict < whole <= epoch_gap (spec 6.1)"
            )
        if self.beacon != NONE:
            wait = BEACON_PERIOD * (self.beacon_delay + 1)
            if offsets.outcome - offsets.opening <= wait or offsets.response - offsets.contribution <= wait:
                raise ValueError(
                    f"manifest offsets: outcome and response must come {wait} s after what they follow (spec 5.4)"
                )
            if self.start < BEACON_GENESIS:
                raise ValueError(f"manifest start is {self.start}, the beacon began at {BEACON_GENESIS} (spec 5.3)")

    def check_keys(self) -> None:
        """Raise MalformedError unless every key and hash in the manifest is well formed (spec 2.8)."""
        roles = [self.auctioneer, self.log, self.arbiter, *self.auditors, *self.mailboxes]
        roles += [] if self.registrar == NONE else [self.registrar]
        for text in roles:
            if VerifierKey.parse(text).kind != ED25519:
                raise MalformedError("manifest: a role's key is not an Ed25519 signing key (spec 2.10)")
        for name in ("policy", "mech", "lottery_head", "audit_head", "seal_key"):
            hash_from_hex(getattr(self, name), f"manifest {name}")
        for text in (self.seal_key, *self.auditor_seals):
            check_seal_key(hash_from_hex(text, "manifest seal key"))
        for text in self.canaries:
            hash_from_hex(text, "manifest canary")
        if len(set(roles)) != len(roles):
            raise MalformedError("manifest: one key stands for two roles (spec 2.10)")

    @cached_property
    def session(self) -> str:
        """Session id, hex."""
        return hash_of("manifest", self).hex()

    @cached_property
    def items_hash(self) -> str:
        """H("items", item list), hex."""
        return hash_of("items", self.items).hex()

    @property
    def epochs(self) -> int:
        """Number of epochs; the last may be shorter."""
        return -(-self.rounds // self.epoch_rounds)

    def epoch_of(self, round_index: int) -> int:
        """Return the epoch of a round."""
        return round_index // self.epoch_rounds

    def rounds_of(self, epoch: int) -> range:
        """Return the rounds of an epoch."""
        return range(epoch * self.epoch_rounds, min((epoch + 1) * self.epoch_rounds, self.rounds))

    def round_time(self, round_index: int, offset: int = 0) -> int:
        """Return a time within a round, seconds since 1970."""
        return self.start + round_index * self.period + self.epoch_of(round_index) * self.epoch_gap + offset

    def epoch_time(self, epoch: int, offset: int = 0) -> int:
        """Return a time within the gap after an epoch's last round."""
        return self.round_time(self.rounds_of(epoch)[-1]) + self.period + offset

    def maximum(self, round_index: int) -> int:
        """Return the highest bid of a round's support, grid units: the grid's, or the round's own (spec 9.10)."""
        exposures = self.audit.exposures
        return exposures[round_index % len(exposures)].maximum if exposures else self.grid.maximum

    def chance(self, round_index: int) -> tuple[int, int]:
        """Return numerator and denominator of a round's chance to be drawn, where rounds are drawn one by one."""
        exposures = self.audit.exposures
        if not exposures:
            return self.audit.q_num, self.audit.q_den
        return exposures[round_index % len(exposures)].num, exposures[round_index % len(exposures)].den

    def beacon_of_round(self, round_index: int) -> int:
        """Return the beacon round of a round's lottery; 0 without a beacon (spec 5.4)."""
        return self._beacon_after(self.round_time(round_index, self.offsets.opening))

    def beacon_of_epoch(self, epoch: int) -> int:
        """Return the beacon round of an epoch's audit draw; 0 without a beacon (spec 5.4)."""
        return self._beacon_after(self.epoch_time(epoch, self.offsets.contribution))

    def _beacon_after(self, deadline: int) -> int:
        return 0 if self.beacon == NONE else beacon_round(deadline) + self.beacon_delay

    def support(self, bids: list[int], round_index: int) -> list[int] | None:
        """Apply the support rule to a row of bids: the row that is executed, or None for a void (spec 3.12)."""
        grid, maximum = self.grid, self.maximum(round_index)
        inside = all(grid.minimum <= bid <= maximum and (bid - grid.minimum) % grid.step == 0 for bid in bids)
        if inside:
            return bids
        if self.support_rule == "void":
            return None
        clamped = [min(max(bid, grid.minimum), maximum) for bid in bids]
        return [bid - (bid - grid.minimum) % grid.step for bid in clamped]
