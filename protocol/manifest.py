"""The manifest: the published rules of a session, first entry of its log (spec 6.1)."""

from __future__ import annotations

from typing import Final

from protocol.encoding import Message, hash_from_hex, hash_of
from protocol.errors import MalformedError
from protocol.keys import ED25519, VerifierKey, check_seal_key

FORMAT: Final = "credible-session-v1"
MAX_ROUNDS: Final = 2**24  # spec 12
MAX_ITEMS: Final = 512
MAX_SEATS: Final = 65_536
SEEDED_LABEL: Final = "seeded: no secrecy"

PRESETS: Final = ("prompt", "published", "record")
DRAWS: Final = ("per_item", "joint")
CHARGES: Final = ("expected", "realised")
SUPPORT_RULES: Final = ("void", "clamp")
MODES: Final = ("fixed", "independent")


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


class AuditRule(Message, frozen=True):
    """How rounds are drawn: "fixed" k of an epoch, or "independent" with q = q_num/q_den.

    `lag` is L (spec 7.2, 9.1).
    """

    mode: str
    k: int
    q_num: int
    q_den: int
    lag: int


class Money(Message, frozen=True):
    """Bounds and stakes, in fine units (spec 9).

    Attributes:
        gain_bound: g, the largest gain of one deviating round that tier 1 cannot see (9.11).
        penalty: F.
        deposit: The auctioneer's deposit, locked from setup on.
        bidder_deposit: A bidder's deposit.
        opening_forfeit: What an unopened commitment costs.
        contribution_forfeit: What a missing contribution costs.
        gains: "kept": gains of deviating rounds stay with the auctioneer (9.2).
    """

    gain_bound: int
    penalty: int
    deposit: int
    bidder_deposit: int
    opening_forfeit: int
    contribution_forfeit: int
    gains: str


class Manifest(Message, frozen=True):
    """The rules of a session; its hash is the session's id (spec 2.11, 6.1)."""

    format: str
    label: str
    preset: str
    labels: list[str]
    auctioneer: str
    log: str
    arbiter: str
    auditors: list[str]
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
    aborting: int
    money: Money
    disclosure: str
    retention: int

    def __post_init__(self) -> None:
        """Raise ValueError, which the decoder turns into MalformedError, where a field leaves its range."""
        for name, value, low, high in (
            ("share_bits", self.share_bits, 0, 32),
            ("rounds", self.rounds, 1, MAX_ROUNDS),
            ("epoch_rounds", self.epoch_rounds, 1, self.rounds),
            ("seats", self.seats, 1, MAX_SEATS),
            ("items", len(self.items), 1, MAX_ITEMS),
            ("context", len(self.context), 0, 16),
            ("auditors", len(self.auditors), 1, 16),
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
            ("profile", self.profile, ("P1",)),
            ("valuation", self.valuation, ("additive",)),
            ("preset", self.preset, PRESETS),
            # winners that are claimed, not drawn, belong to replays alone, where no penalty is promised either
            ("draw", self.draw, ("recorded",) if self.preset == "record" else DRAWS),
            ("charge", self.charge, CHARGES),
            ("support_rule", self.support_rule, SUPPORT_RULES),
            ("audit.mode", self.audit.mode, MODES),
            ("beacon", self.beacon, ("none",)),
            ("disclosure", self.disclosure, ("public",)),
            ("money.gains", self.money.gains, ("kept",)),
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
        offsets = self.offsets
        if not 0 < offsets.close < offsets.opening < offsets.outcome <= offsets.complaint <= self.period:
            raise ValueError("manifest offsets: wanted close < opening < outcome <= complaint <= period (spec 6.1)")
        if not 0 <= offsets.root < offsets.contribution < offsets.response < offsets.verdict <= self.epoch_gap:
            raise ValueError(
                "manifest offsets: wanted root < contribution < response < verdict <= epoch_gap (spec 6.1)"
            )

    def check_keys(self) -> None:
        """Raise MalformedError unless every key and hash in the manifest is well formed (spec 2.8)."""
        for text in (self.auctioneer, self.log, self.arbiter, *self.auditors):
            if VerifierKey.parse(text).kind != ED25519:
                raise MalformedError("manifest: a role's key is not an Ed25519 signing key (spec 2.10)")
        for name in ("policy", "mech", "lottery_head", "audit_head", "seal_key"):
            hash_from_hex(getattr(self, name), f"manifest {name}")
        check_seal_key(bytes.fromhex(self.seal_key))
        roles = [self.auctioneer, self.log, self.arbiter, *self.auditors]
        if len(set(roles)) != len(roles):
            raise MalformedError("manifest: one key stands for two roles (spec 2.10)")

    @property
    def session(self) -> str:
        """Session id, hex."""
        return hash_of("manifest", self).hex()

    @property
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

    def support(self, bids: list[int]) -> list[int] | None:
        """Apply the support rule to a row of bids: the row that is executed, or None for a void (spec 3.12)."""
        grid = self.grid
        inside = all(grid.minimum <= bid <= grid.maximum and (bid - grid.minimum) % grid.step == 0 for bid in bids)
        if inside:
            return bids
        if self.support_rule == "void":
            return None
        clamped = [min(max(bid, grid.minimum), grid.maximum) for bid in bids]
        return [bid - (bid - grid.minimum) % grid.step for bid in clamped]
