"""Drawing up a session: keys from one root secret, manifest, policy (spec 6.1, 7.3)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.artifact import Header
from protocol.auctioneer import AuctioneerKeys
from protocol.bidder import BidderKeys
from protocol.encoding import MAX_STATEMENT, pae
from protocol.keys import COSIGNATURE, SigningKey, derive, derive_seal_key
from protocol.log.policy import Policy, group_policy
from protocol.manifest import (
    FORMAT,
    LEAST_BEACON_DELAY,
    NONE,
    SEEDED_LABEL,
    AuditRule,
    Exposure,
    Grid,
    Manifest,
    Money,
    Offsets,
)
from protocol.penalties import audit_chance, gain_bound, penalty_fixed, penalty_stream
from protocol.session import canary_commitment

PERIOD: Final = 600  # seconds of a round
EPOCH_GAP: Final = 600
MAILBOX_MARGIN: Final = 30
OFFSETS: Final = Offsets(
    close=120, opening=240, outcome=360, complaint=480, root=60, contribution=180, response=360, verdict=480, whole=580
)
START: Final = 1_767_225_600  # 2026-01-01T00:00:00Z: a simulation runs on its own clock
RETENTION: Final = 366 * 86_400
NAME: Final = "credible.example"
NO_DEPOSIT_LABEL: Final = "record: auctions that are over; nobody holds a deposit, penalties do not apply"


@dataclass(frozen=True, slots=True)
class Secrets:
    """All secrets of a simulated session, derived from one root of 32 bytes.

    In a deployment every party holds its own master secret; a simulation plays all parties.
    """

    root: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> Secrets:
        """Draw a root from the system."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def seeded(cls, seed: int) -> Secrets:
        """Derive the root from a seed: reproducible, and no secret (label "seeded: no secrecy")."""
        return cls(derive(pae("seed", {"seed": seed}), b"credible simulation root"))

    def auctioneer(self) -> AuctioneerKeys:
        """Return the auctioneer's keys."""
        return AuctioneerKeys(self._of("auctioneer"), NAME)

    def bidder(self, seat: int, name: str) -> BidderKeys:
        """Return the keys of the bidder on a seat."""
        return BidderKeys(self._of(f"bidder-{seat}"), f"{NAME}/{name}")

    def witness(self, number: int = 0) -> SigningKey:
        """Return a witness's cosignature key."""
        return SigningKey(f"{NAME}/witness-{number}", self._of(f"witness-{number}"), COSIGNATURE)

    def auditor(self, number: int = 0) -> SigningKey:
        """Return an auditor's key."""
        return SigningKey(f"{NAME}/auditor-{number}", self._of(f"auditor-{number}"))

    def auditor_seal(self, number: int = 0) -> X25519PrivateKey:
        """Return the key that responses are sealed to, for an auditor (spec 7.7)."""
        return derive_seal_key(self._of(f"auditor-seal-{number}"))

    def mailbox(self, number: int) -> SigningKey:
        """Return a mailbox's key."""
        return SigningKey(f"{NAME}/mailbox-{number}", self._of(f"mailbox-{number}"))

    def registrar(self) -> SigningKey:
        """Return the registrar's key."""
        return SigningKey(f"{NAME}/registrar", self._of("registrar"))

    def canary(self, round_index: int) -> bytes:
        """Return the arbiter's nonce of a canary round (spec 7.9)."""
        return self._of(f"canary-{round_index}")

    def arbiter(self) -> SigningKey:
        """Return the arbiter's key."""
        return SigningKey(f"{NAME}/arbiter", self._of("arbiter"))

    def agents(self) -> bytes:
        """Return the secret that agents draw values and decisions from."""
        return self._of("agents")

    def _of(self, role: str) -> bytes:
        return derive(self.root, pae("role", {"role": role}))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a session's initiator chooses; the rest of the manifest follows.

    Attributes:
        preset: "prompt" (the default), "published", or "record" for a replay.
        rounds: T.
        k: Rounds audited of an epoch, for "published" and "record".
        q: Chance of an audit, for "prompt".
        epoch: Rounds of an epoch, for "prompt".
        lag: L, for "prompt"; at least epoch - 1.
        draw: "per_item", "joint" or "recorded".
        charge: "expected" or "realised".
        minimum: Least bid of the support, grid units.
        largest_round: Most bidders that one round will have; all seats if left at 0.
        label: A text for people.
        seeded: Whether all secrets come from a seed.
        profile: "P1" or "P0" (spec 3.9).
        gains: "kept" or "returned" (spec 9.2).
        valuation: "additive" or "unit_demand"; the latter draws by "bvn".
        support_rule: "void" or "clamp" (spec 3.12).
        disclosure: "public" or "auditor" (spec 7.7).
        auditors: Number of auditors.
        escalation: Rounds of an epoch that auditors may ask for beyond the draw (spec 7.8).
        exposures: Highest bids by round, repeated, in grid units: audits by exposure (spec 9.10); "prompt" only.
        witnesses: Number of witnesses n.
        faulty_witnesses: f; the quorum is the smallest for which no split view is possible (spec 4.14).
        mailboxes: Number of mailboxes.
        faulty_mailboxes: f_m (spec 3.7).
        aborting: c, bidders assumed to abort contributions for the auctioneer (spec 5.8).
        canaries: Rounds with a planted fault (spec 7.9).
        registrar: Whether a registrar may rotate and revoke keys (spec 2.10).
        beacon: "none" or "quicknet" (spec 5.3).
        start: Start of the session, seconds since 1970.
        period: Seconds of a round.
        epoch_gap: Seconds after an epoch.
    """

    preset: str
    rounds: int
    k: int = 1
    q: Fraction = Fraction(1, 10)
    epoch: int = 5
    lag: int = 5
    draw: str = "per_item"
    charge: str = "expected"
    minimum: int = 0
    largest_round: int = 0
    label: str = ""
    seeded: bool = False
    profile: str = "P1"
    gains: str = "kept"
    valuation: str = "additive"
    support_rule: str = "void"
    disclosure: str = "public"
    auditors: int = 1
    escalation: int = 0
    exposures: tuple[int, ...] = ()
    witnesses: int = 1
    faulty_witnesses: int = 0
    mailboxes: int = 0
    faulty_mailboxes: int = 0
    aborting: int = 0
    canaries: tuple[int, ...] = ()
    registrar: bool = False
    beacon: str = NONE
    start: int = START
    period: int = PERIOD
    epoch_gap: int = EPOCH_GAP


def draw_up(rules: Rules, header: Header, mech: str, keys: Secrets) -> tuple[Manifest, Policy]:
    """Return manifest and witness policy of a new session.

    Raises:
        ValueError: If a choice is out of range, or a stake leaves the integers of spec 2.1.
    """
    prompt = rules.preset == "prompt"
    epoch = min(rules.epoch, rules.rounds) if prompt else rules.rounds
    g = gain_bound(header.items, header.bid_max, header.share_bits)
    coins = 2**rules.aborting
    exposures = [Exposure(maximum=top, num=1, den=1) for top in rules.exposures]
    if rules.preset == "published":
        penalty = penalty_fixed(rules.rounds, rules.k, g, gains=rules.gains, coins=coins)
    elif prompt:
        if rules.lag < epoch - 1:
            raise ValueError(f"lag is {rules.lag}, wanted at least {epoch - 1}: a verdict comes after its epoch")
        penalty = penalty_stream(rules.q, rules.lag, g, gains=rules.gains, coins=coins)
        if exposures:
            exposures = [
                Exposure(maximum=e.maximum, num=pi.numerator, den=pi.denominator)
                for e in exposures
                for pi in [audit_chance(gain_bound(header.items, e.maximum, header.share_bits), penalty, rules.lag, g)]
            ]
    elif rules.preset == "record":
        penalty = 0
    else:
        raise ValueError(f"preset is {rules.preset!r}, wanted prompt, published or record")
    if penalty >= 2**53:
        raise ValueError(
            f"the penalty would be {penalty}, above the 2^53 that messages carry (spec 2.1): "
            "use a coarser grid, fewer share bits or fewer rounds"
        )
    bidders = rules.largest_round or header.bidders
    response = 2_000 + bidders * (900 + 45 * header.items)  # bytes, generously: hex ids, integers of 16 digits
    if response > MAX_STATEMENT:
        raise ValueError(
            f"a round of {bidders} bidders x {header.items} items would need about {response:,} bytes to disclose, a "
            f"statement holds {MAX_STATEMENT:,} (spec 12); larger rounds are not supported yet"
        )
    stake = 0 if rules.preset == "record" else g
    labels = ["record: values are those of the record"] if rules.preset == "record" else []
    labels += [NO_DEPOSIT_LABEL] if rules.preset == "record" else []
    labels += [SEEDED_LABEL] if rules.seeded else []
    auctioneer = keys.auctioneer()
    quorum = (rules.witnesses + rules.faulty_witnesses) // 2 + 1
    policy = group_policy(auctioneer.log().verifier, [keys.witness(n).verifier for n in range(rules.witnesses)], quorum)
    mode = "fixed" if not prompt else "exposure" if exposures else "independent"
    epochs = -(-rules.rounds // epoch)
    manifest = Manifest(
        format=FORMAT,
        label=rules.label,
        preset=rules.preset,
        labels=labels,
        auctioneer=str(auctioneer.signing().verifier),
        log=str(auctioneer.log().verifier),
        arbiter=str(keys.arbiter().verifier),
        registrar=str(keys.registrar().verifier) if rules.registrar else NONE,
        auditors=[str(keys.auditor(n).verifier) for n in range(rules.auditors)],
        auditor_seals=[
            keys.auditor_seal(n).public_key().public_bytes_raw().hex()
            for n in range(rules.auditors if rules.disclosure == "auditor" else 0)
        ],
        canaries=sorted(canary_commitment(index, keys.canary(index)) for index in rules.canaries),
        mailboxes=[str(keys.mailbox(n).verifier) for n in range(rules.mailboxes)],
        faulty_mailboxes=rules.faulty_mailboxes,
        mailbox_margin=MAILBOX_MARGIN if rules.mailboxes else 0,
        policy=policy.digest,
        faulty_witnesses=rules.faulty_witnesses,
        mech=mech,
        profile=rules.profile,
        share_bits=header.share_bits,
        seats=header.bidders,
        items=[f"item {index}" for index in range(header.items)],
        context=header.context,
        grid=Grid(unit=header.unit, minimum=rules.minimum, maximum=header.bid_max, step=1),
        support_rule=rules.support_rule,
        valuation=rules.valuation,
        draw="bvn" if rules.valuation == "unit_demand" else rules.draw,
        charge=rules.charge,
        rounds=rules.rounds,
        epoch_rounds=epoch,
        start=rules.start,
        period=rules.period,
        epoch_gap=rules.epoch_gap,
        offsets=OFFSETS,
        audit=AuditRule(
            mode=mode,
            k=0 if prompt else rules.k,
            q_num=rules.q.numerator if mode == "independent" else 0,
            q_den=rules.q.denominator if mode == "independent" else 1,
            lag=rules.lag if prompt else 0,
            escalation=rules.escalation,
            exposures=exposures,
        ),
        lottery_head=auctioneer.lottery(rules.rounds).head,
        audit_head=auctioneer.audit(epochs).head,
        seal_key=auctioneer.seal(0).public_key().public_bytes_raw().hex(),
        beacon=rules.beacon,
        beacon_delay=0 if rules.beacon == NONE else LEAST_BEACON_DELAY,
        aborting=rules.aborting,
        money=Money(
            gain_bound=g,
            penalty=penalty,
            deposit=penalty,
            bidder_deposit=stake,
            opening_forfeit=stake,
            contribution_forfeit=stake,
            gains=rules.gains,
        ),
        disclosure=rules.disclosure,
        retention=RETENTION,
    )
    policy.check_faults(manifest.faulty_witnesses)
    return manifest, policy
