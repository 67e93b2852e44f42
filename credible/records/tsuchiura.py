"""Public works of the city of Tsuchiura: 1,565 recorded first-price procurement auctions (examples/data)."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from credible.records.tables import read_table

COLUMNS: Final = ("auction", "date", "bidder", "bid_yen", "reserve_yen", "minimum_yen", "status", "invalid_reason")
STATUSES: Final = ("lost", "won", "won_by_lottery", "invalid")
CAVEAT: Final = (
    "Values built from this record are an illustration, not an estimate: bids are first-price, not values, and part of "
    "them is not competitive (Chassang et al. 2022)."
)


@dataclass(frozen=True, slots=True)
class RecordedBid:
    """One row of the record; `price` is None where no price was recorded."""

    firm: int
    price: int | None
    status: str
    invalid_reason: str

    @property
    def won(self) -> bool:
        """Whether the record names this bid as the winner."""
        return self.status in ("won", "won_by_lottery")


@dataclass(frozen=True, slots=True)
class RecordedAuction:
    """One auction: prices in yen; `minimum` is 0 where the auction had none."""

    number: int
    date: str
    reserve: int
    minimum: int
    bids: tuple[RecordedBid, ...]


def load(path: Path) -> list[RecordedAuction]:
    """Read the record, in the file's order.

    Raises:
        MalformedError: If a row cannot be read, or the rows of an auction disagree about date, reserve or minimum.
    """
    if path.is_dir():
        path = path / "bids.csv"
    heads: dict[int, tuple[str, int, int]] = {}
    bids: dict[int, list[RecordedBid]] = defaultdict(list)
    for row in read_table(path, COLUMNS):
        number = row.integer("auction")
        head = (row.text("date"), row.integer("reserve_yen"), row.optional("minimum_yen") or 0)
        if heads.setdefault(number, head) != head:
            raise row.error(f"auction {number} has another date, reserve or minimum than in its first row")
        status, price = row.text("status"), row.optional("bid_yen")
        if status not in STATUSES:
            raise row.error(f"status {status[:40]!r}, wanted one of {', '.join(STATUSES)}")
        if min(head[1], 0 if price is None else price) < 0 or not 0 <= head[2] <= head[1]:
            raise row.error("a price is negative, or the minimum above the reserve")
        bids[number].append(RecordedBid(row.integer("bidder"), price, status, row.text("invalid_reason")))
    return [RecordedAuction(number, *heads[number], tuple(bids[number])) for number in heads]


def paired_rounds(auctions: list[RecordedAuction], bidders: int, seed: int) -> dict[str, list[list[list[int] | None]]]:
    """Build rounds of two items from simultaneous auctions of one letting day.

    A round takes two auctions of a day and up to `bidders` of the firms that bid in either, in random order; a firm's
    value for an item is its relative discount below the reserve, in 10^-6, and 0 where it did not bid. Participation
    is as recorded: a seat without a firm is absent, and so is a firm without an admissible price.

    Args:
        auctions: The record.
        bidders: Seats of a round.
        seed: Order of pairs and firms.

    Returns:
        Rounds by letting day; each is one row of two integers per seat, or None.
    """
    days: dict[str, list[RecordedAuction]] = defaultdict(list)
    for auction in auctions:
        days[auction.date].append(auction)
    source = random.Random(seed)  # noqa: S311 - an order of samples, not a secret
    rounds: dict[str, list[list[list[int] | None]]] = {}
    for day in sorted(days):
        listed = days[day]
        source.shuffle(listed)
        for first, second in zip(listed[::2], listed[1::2], strict=False):
            discounts = [_discounts(first), _discounts(second)]
            firms = sorted({*discounts[0], *discounts[1]})
            source.shuffle(firms)
            chosen: list[list[int] | None] = [[item.get(firm, 0) for item in discounts] for firm in firms[:bidders]]
            rounds.setdefault(day, []).append(chosen + [None] * (bidders - len(chosen)))
    return rounds


def _discounts(auction: RecordedAuction) -> dict[int, int]:
    """Return each firm's best admissible relative discount, in 10^-6, rounded down."""
    result: dict[int, int] = {}
    for bid in auction.bids:
        if bid.price is not None and auction.minimum <= bid.price <= auction.reserve:
            discount = (auction.reserve - bid.price) * 1_000_000 // auction.reserve
            result[bid.firm] = max(discount, result.get(bid.firm, 0))
    return result
