"""Real behaviour of bidders: withdrawals, second bids, late bids, ties, arrivals by the millisecond.

`examples/data/agent-marketplace-bids` holds what software agents bid for jobs. A withdrawn bid is one that was
committed to and is never opened; a second bid of an agent for one job is refused and kept; what arrives after the close
gets no receipt.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import msgspec
import pytest

from protocol import messages as m
from protocol.artifact import build
from protocol.auctioneer import RefusedError
from protocol.escrow import POOL
from protocol.randomness.lottery import UNSOLD
from tests.conftest import ROOT
from tests.harness import Table

SEATS, SPAN = 30, 130  # seats of the mechanism; seconds into which a job's arrivals are compressed, the close is at 120
ARTIFACT = build.first_price(bidders=SEATS, bid_max=200_000, share_bits=16, unit="1 US cent", procurement=True)


@dataclass(frozen=True)
class Arrival:
    """One recorded bid: seat by first appearance, price in cents, seconds after the first of its job."""

    seat: int
    price: int
    at: float
    withdrawn: bool


@cache
def jobs() -> dict[str, list[Arrival]]:
    rows: dict[str, list[dict[str, str]]] = {}
    with (ROOT / "examples" / "data" / "agent-marketplace-bids" / "bids.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["job"], []).append(row)
    result = {}
    for job, bids in rows.items():
        seats = {bidder: seat for seat, bidder in enumerate(dict.fromkeys(row["bidder"] for row in bids))}
        times = [datetime.fromisoformat(row["placed_at"]).timestamp() for row in bids]
        result[job] = [
            Arrival(seats[row["bidder"]], int(row["price_cents"]), at - times[0], row["status"] == "withdrawn")
            for row, at in zip(bids, times, strict=True)
        ]
    return result


def chosen() -> list[str]:
    """Return the jobs that fit and hold a withdrawal, and as many that hold a second bid."""
    fitting = {job: bids for job, bids in jobs().items() if 2 <= 1 + max(bid.seat for bid in bids) <= SEATS}
    withdrawn = [job for job, bids in fitting.items() if any(bid.withdrawn for bid in bids)]
    rebid = [job for job, bids in fitting.items() if len({bid.seat for bid in bids}) < len(bids)]
    return list(dict.fromkeys([*withdrawn[:8], *rebid[:8]]))


def second_bid(table: Table, first: bytes) -> bytes:
    """Return another bid of the same bidder for the same round."""
    body = m.Statement.decode(first).body
    assert isinstance(body, m.Bid)
    bidder = next(item for item in table.bidders if item.party == body.bidder)
    return m.sign_statement(msgspec.structs.replace(body, seq=body.seq + 1, com="ab" * 32), bidder._sign)


def test_the_record_holds_what_these_tests_are_about() -> None:
    bids = [bid for job in chosen() for bid in jobs()[job]]
    assert sum(bid.withdrawn for bid in bids) >= 8
    assert len(chosen()) >= 12


@pytest.mark.parametrize("job", chosen())
def test_a_recorded_job_runs_as_a_round(job: str) -> None:  # spec 3.5, 3.6, 3.8, 3.10, A21
    bids = jobs()[job]
    last = max(bid.at for bid in bids) or 1.0
    reserve = sorted(bid.price for bid in bids)[-2]  # the highest price is above it: outside the support
    table = Table(ARTIFACT, rounds=1, bidders=1 + max(bid.seat for bid in bids))
    session, start = table.session, table.manifest.start
    deadline = session.deadline(0, "close")
    table.auctioneer.announce(0, [reserve, 0])
    first: dict[int, tuple[Arrival, bytes]] = {}
    refused: Counter[str] = Counter()
    for bid in bids:
        at = start + int(SPAN * bid.at / last)
        bidder = table.bidders[bid.seat]
        before = table.auctioneer.log.tree.size
        if bid.seat in first:
            repeated = second_bid(table, first[bid.seat][1])
            with pytest.raises(RefusedError, match="no effect" if at <= deadline else "no receipt"):
                table.auctioneer.receive(repeated, at)
            refused["second"] += 1
            if at <= deadline:
                assert table.auctioneer.second_bids[0, bidder.party] == second_bid(table, first[bid.seat][1])
        elif at > deadline:
            with pytest.raises(RefusedError, match="no receipt"):
                table.auctioneer.receive(bidder.presence(0), at)
            refused["late"] += 1
        else:
            table.send(bidder, bidder.presence(0), at)
            data = bidder.bid(0, [reserve - bid.price])
            receipt = table.send(bidder, data, at)
            assert table.auctioneer.receive(data, at + 1) == receipt  # the same statement again
            first[bid.seat] = (bid, data)
            continue
        assert table.auctioneer.log.tree.size == before
    table.cosign(deadline - 1)
    table.auctioneer.close(0)
    opening = [seat for seat, (bid, _) in first.items() if not bid.withdrawn]
    for seat in range(len(table.bidders)):
        if seat not in first:
            table.out.add(seat)  # it has no receipt and knows it
    table.take_openings(0, opening)
    table.clear(0)
    assert table.tier1 == []
    silent = {table.bidders[seat].party for seat, (bid, _) in first.items() if bid.withdrawn}
    outside = {table.bidders[seat].party for seat in opening if first[seat][0].price > reserve}
    assert session.round(0).voids == {
        **dict.fromkeys(silent, m.NO_OPENING),
        **dict.fromkeys(outside, m.OUTSIDE_SUPPORT),
    }
    standing = {seat: first[seat][0].price for seat in opening if first[seat][0].price <= reserve}
    lowest = [seat for seat, price in standing.items() if price == min(standing.values())]
    matrix = table.auctioneer.matrices[0]
    assert matrix.won == [UNSOLD] if not standing else matrix.won[0] in lowest
    assert table.end() == []
    again = table.read_again()
    assert again.findings == []
    assert again.unproven == []
    forfeit = table.manifest.money.opening_forfeit
    assert table.book.balances.get(POOL, 0) == forfeit * len(silent)
    assert refused["second"] == sum(bid.seat in {b.seat for b in bids[:number]} for number, bid in enumerate(bids)
                                    if bid.seat in first)  # fmt: skip


def test_bids_of_one_millisecond_keep_the_order_of_the_log() -> None:  # spec 3.8: position decides, never arrival
    job = next(job for job in chosen() if len({bid.at for bid in jobs()[job]}) > 3)
    seats = list(dict.fromkeys(bid.seat for bid in jobs()[job]))[:4]
    orders = []
    for order in (seats, seats[::-1]):
        table = Table(ARTIFACT, rounds=1, bidders=1 + max(seats))
        table.auctioneer.announce(0, [1000, 0])
        for seat in order:
            table.send(table.bidders[seat], table.bidders[seat].presence(0), table.manifest.start + 5)
        for seat in order:
            table.send(table.bidders[seat], table.bidders[seat].bid(0, [7]), table.manifest.start + 5)
        table.cosign(table.session.deadline(0, "close") - 1)
        table.auctioneer.close(0)
        table.out |= set(range(len(table.bidders))) - set(order)
        table.take_openings(0, order)
        table.clear(0)
        assert table.end() == []
        orders.append(list(table.session.round(0).bids))
        shares = [row[0] for row in table.auctioneer.matrices[0].allocation]
        assert sum(shares) == 1 << 16
        assert max(shares) - min(shares) <= 3  # a tie is shared by seat, whoever came first
    assert orders[0] == orders[1][::-1]
