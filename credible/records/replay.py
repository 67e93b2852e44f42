"""Replaying a procurement record: every recorded bid committed and opened as it was, the recorded winner claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from credible.records.tsuchiura import RecordedAuction, RecordedBid
from credible.simulation.scenario import RoundPlan
from protocol.artifact import RoundInput, RoundOutput
from protocol.auctioneer import Auctioneer
from protocol.messages import MatrixBody
from protocol.randomness.lottery import UNSOLD
from protocol.state import Finding

if TYPE_CHECKING:
    from protocol.artifact.static import CheckedArtifact

EXPLAINED = ("rule", "lottery", "no_bids")  # classes of rounds that the announced rule explains
SHARE_BITS = 8  # ties among up to 256 bids; yen times 2^8 stays far below 2^53


@dataclass(frozen=True, slots=True)
class SeatedBid:
    """A recorded bid and its seat: one seat per firm and ordinal of its bid in the auction."""

    seat: int
    price: int | None


class Replay:
    """A record as a scenario: one auction is one round, in the record's order.

    A bid is the discount below the announced reserve, reserve - price, in yen; a row without a price commits and never
    opens. The claimed outcome is the recorded winner.
    """

    def __init__(self, auctions: Sequence[RecordedAuction]) -> None:
        self.auctions = list(auctions)
        order: dict[tuple[int, int], int] = {}
        self.seated: list[list[SeatedBid]] = []
        for auction in self.auctions:
            ordinals: Counter[int] = Counter()
            row = []
            for bid in auction.bids:
                key = (bid.firm, ordinals[bid.firm])
                ordinals[bid.firm] += 1
                row.append(SeatedBid(order.setdefault(key, len(order)), bid.price))
            self.seated.append(row)
        self.seats = [f"firm-{firm}" if ordinal == 0 else f"firm-{firm}-bid-{ordinal + 1}" for firm, ordinal in order]
        self.winners = [
            [seated.seat for seated, bid in zip(row, auction.bids, strict=True) if bid.won]
            for row, auction in zip(self.seated, self.auctions, strict=True)
        ]
        self.auctioneer: type[Auctioneer] = type(
            "RecordedAuctioneer", (_RecordedAuctioneer,), {"winners": self.winners}
        )

    @property
    def bid_max(self) -> int:
        """Largest discount that a bid of this record could name: the highest reserve."""
        return max(auction.reserve for auction in self.auctions)

    def plan(self, round_index: int) -> RoundPlan:
        """Return the recorded bids of an auction."""
        auction = self.auctions[round_index]
        row = self.seated[round_index]
        return RoundPlan(
            bids={b.seat: [0 if b.price is None else auction.reserve - b.price] for b in row},
            silent=frozenset(b.seat for b in row if b.price is None),
            context=[auction.reserve, auction.minimum],
            label=f"auction {auction.number}, {auction.date}",
        )

    def settled(self, round_index: int, matrix: MatrixBody, *, again: bool) -> None:
        """Nobody in a record learns anything."""

    def closed(self, epoch: int, disclosed: Sequence[int], halted: bool) -> None:
        """Nobody in a record learns anything."""

    def build_rule(self) -> CheckedArtifact:
        """Return the announced rule of this record as an artifact: first price among admissible bids."""
        from protocol.artifact.build import first_price

        return first_price(
            bidders=len(self.seats), bid_max=self.bid_max, share_bits=SHARE_BITS, unit="1 JPY", procurement=True
        )


class _RecordedAuctioneer(Auctioneer):
    """Publishes the winner that the record names, whatever the rule says."""

    winners: Sequence[Sequence[int]] = ()

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Return the mechanism's result if the recorded winner is one of its winners, else the record's."""
        recorded = self.winners[round_index]
        candidates = [seat for seat, row in enumerate(output.allocation) if row[0]]
        if len(recorded) == 1 and recorded[0] in candidates:
            return output, [recorded[0]]
        if not recorded and not candidates:
            return output, [UNSOLD]
        whole = 1 << self.manifest.share_bits
        share = whole // max(len(recorded), 1)
        allocation = [[share if seat in recorded else 0] for seat in range(len(item.bids))]
        payment = [row[0] * bid[0] for row, bid in zip(allocation, item.bids, strict=True)]
        return RoundOutput(allocation=allocation, payment=payment), [recorded[0] if recorded else UNSOLD]


@dataclass(frozen=True, slots=True)
class ReplayException:
    """A recorded outcome that the announced rule does not explain."""

    round: int
    auction: int
    kind: str
    reason: str


def explain(replay: Replay, findings: Sequence[Finding]) -> tuple[list[ReplayException], dict[str, int]]:
    """Classify what an audit found in a replayed record, and what it confirmed.

    Args:
        replay: The record.
        findings: Findings of the audit over all rounds; they alone decide what is an exception.

    Returns:
        The exceptions in round order, and counts of all rounds by class (`rule`, `lottery`, `no_bids` are explained).
    """
    texts: dict[int, list[str]] = {}
    for finding in findings:
        texts.setdefault(finding.round, []).append(f"spec {finding.rule}: {finding.text}")
    exceptions = []
    classes: Counter[str] = Counter()
    for index, auction in enumerate(replay.auctions):
        admissible = [b for b in auction.bids if b.price is not None and auction.minimum <= b.price <= auction.reserve]
        best = min((b.price for b in admissible if b.price is not None), default=None)
        lowest = [b for b in admissible if b.price == best]
        if index in texts:
            kind, reason = _why(auction, [b for b in lowest if not b.won])
            exceptions.append(ReplayException(index, auction.number, kind, f"{reason} ({texts[index][0]})"))
            classes[kind] += 1
        elif not lowest:
            classes["no_bids"] += 1
        else:
            classes["lottery" if len(lowest) > 1 else "rule"] += 1
    return exceptions, dict(classes)


def _why(auction: RecordedAuction, bids: Sequence[RecordedBid]) -> tuple[str, str]:
    """Say what in the record goes with an unexplained outcome; `bids` are the lowest admissible ones passed over."""
    winners = [bid for bid in auction.bids if bid.won]
    shown = ", ".join(f"firm {bid.firm} at {bid.price:,}" for bid in bids if bid.price is not None)
    if not winners:
        return "no_winner", f"no winner is recorded; the lowest admissible price is of {shown}"
    if len(winners) > 1:
        return "several_winners", f"{len(winners)} winners are recorded; the rule names one"
    disqualified = [bid for bid in bids if bid.status == "invalid"]
    won = (
        f"firm {winners[0].firm} won at {winners[0].price:,}" if winners[0].price is not None else "an unpriced bid won"
    )
    if bids and len(disqualified) == len(bids):
        reasons = ", ".join(sorted({bid.invalid_reason or "no reason given" for bid in disqualified}))
        return "lowest_disqualified", f"the lowest admissible price, {shown}, was ruled out ({reasons}); {won}"
    return "other_winner", f"the lowest admissible price is of {shown or 'nobody'}; {won}"
