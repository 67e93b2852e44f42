"""Drawing up a session: keys from one root secret, manifest, policy (spec 6.1, 7.3)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from protocol.artifact import Header
from protocol.auctioneer import AuctioneerKeys
from protocol.bidder import BidderKeys
from protocol.encoding import MAX_STATEMENT, pae
from protocol.keys import COSIGNATURE, SigningKey, derive
from protocol.log.policy import Policy, single_witness
from protocol.manifest import FORMAT, SEEDED_LABEL, AuditRule, Grid, Manifest, Money, Offsets
from protocol.penalties import gain_bound, penalty_fixed, penalty_stream

PERIOD: Final = 600  # seconds of a round
EPOCH_GAP: Final = 600
OFFSETS: Final = Offsets(
    close=120, opening=240, outcome=360, complaint=480, root=60, contribution=180, response=360, verdict=480
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

    def witness(self) -> SigningKey:
        """Return the witness's cosignature key."""
        return SigningKey(f"{NAME}/witness", self._of("witness"), COSIGNATURE)

    def auditor(self) -> SigningKey:
        """Return the auditor's key."""
        return SigningKey(f"{NAME}/auditor", self._of("auditor"))

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


def draw_up(rules: Rules, header: Header, mech: str, keys: Secrets) -> tuple[Manifest, Policy]:
    """Return manifest and witness policy of a new session.

    Raises:
        ValueError: If a choice is out of range, or a stake leaves the integers of spec 2.1.
    """
    prompt = rules.preset == "prompt"
    epoch = min(rules.epoch, rules.rounds) if prompt else rules.rounds
    g = gain_bound(header.items, header.bid_max, header.share_bits)
    if rules.preset == "published":
        penalty = penalty_fixed(rules.rounds, rules.k, g)
    elif prompt:
        if rules.lag < epoch - 1:
            raise ValueError(f"lag is {rules.lag}, wanted at least {epoch - 1}: a verdict comes after its epoch")
        penalty = penalty_stream(rules.q, rules.lag, g)
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
    policy = single_witness(auctioneer.log().verifier, keys.witness().verifier)
    epochs = -(-rules.rounds // epoch)
    manifest = Manifest(
        format=FORMAT,
        label=rules.label,
        preset=rules.preset,
        labels=labels,
        auctioneer=str(auctioneer.signing().verifier),
        log=str(auctioneer.log().verifier),
        arbiter=str(keys.arbiter().verifier),
        auditors=[str(keys.auditor().verifier)],
        policy=policy.digest,
        faulty_witnesses=0,
        mech=mech,
        profile="P1",
        share_bits=header.share_bits,
        seats=header.bidders,
        items=[f"item {index}" for index in range(header.items)],
        context=header.context,
        grid=Grid(unit=header.unit, minimum=rules.minimum, maximum=header.bid_max, step=1),
        support_rule="void",
        valuation="additive",
        draw=rules.draw,
        charge=rules.charge,
        rounds=rules.rounds,
        epoch_rounds=epoch,
        start=START,
        period=PERIOD,
        epoch_gap=EPOCH_GAP,
        offsets=OFFSETS,
        audit=AuditRule(
            mode="independent" if prompt else "fixed",
            k=0 if prompt else rules.k,
            q_num=rules.q.numerator if prompt else 0,
            q_den=rules.q.denominator if prompt else 1,
            lag=rules.lag if prompt else 0,
        ),
        lottery_head=auctioneer.lottery(rules.rounds).head,
        audit_head=auctioneer.audit(epochs).head,
        seal_key=auctioneer.seal(0).public_key().public_bytes_raw().hex(),
        beacon="none",
        aborting=0,
        money=Money(
            gain_bound=g,
            penalty=penalty,
            deposit=penalty,
            bidder_deposit=stake,
            opening_forfeit=stake,
            contribution_forfeit=stake,
            gains="kept",
        ),
        disclosure="public",
        retention=RETENTION,
    )
    policy.check_faults(manifest.faulty_witnesses)
    return manifest, policy
