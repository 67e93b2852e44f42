"""The vectorised engine: many markets side by side through the exact artifact, without a message (docs/agents.md).

It executes the artifact file, asks the agents that the full protocol asks, and draws winners by the protocol's rule.
Signatures, logs and proofs are left out. Audits, halts, penalties and forfeits follow spec 9;
`tests/credible/test_economy.py` compares both engines on the same agents and coins. One thing differs: what a bidder
can prove by itself (a dropped bid, a payment above its bid), or two signed heads, convicts here at the end of the
epoch, as if the victim went to the arbiter; a session of the full protocol goes on and leaves that to `verify`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Protocol

import numpy as np

from credible.simulation.agents.base import DEFAULT, Settling, Terms
from credible.simulation.draws import Counts, Draws, Flags, Floats
from credible.simulation.players import Players, Submitted
from protocol.randomness.lottery import draw_many

POINTS: Final = 200  # points of a time series


class Coins(Protocol):
    """Public randomness: the lottery's and the audit's."""

    def lottery(self, round_index: int) -> Counts:
        """Return the number u of each item, (lanes, items), below 2^share_bits (spec 3.15)."""
        ...

    def audited(self, epoch: int) -> Flags:
        """Return which rounds of an epoch are drawn, (lanes, rounds of the epoch)."""
        ...


class DrawnCoins:
    """Coins from a pseudo-random generator, with the chances of the protocol's.

    Args:
        secret: 32 bytes.
        rules: The announced terms.
        items: m.
        share_bits: Units of shares.
        first: Number of the first lane.
        lanes: Number of lanes.
    """

    def __init__(self, secret: bytes, rules: Terms, items: int, share_bits: int, first: int, lanes: int) -> None:
        self._rules, self._items, self._bound = rules, items, 1 << share_bits
        self._lottery = Draws(secret, "lottery", first, lanes)
        self._audit = Draws(secret, "audit", first, lanes)

    def lottery(self, round_index: int) -> Counts:
        """Return independent numbers for every item."""
        return self._lottery.below(round_index, self._bound, self._items)

    def audited(self, epoch: int) -> Flags:
        """Return k of the epoch's rounds, or each with chance q."""
        rules = self._rules
        rounds = len(rules.rounds_of(epoch))
        if rules.preset == DEFAULT:
            return np.zeros((self._audit.lanes, rounds), dtype=bool)
        tickets = self._audit.uniform(epoch, rounds)
        if rules.preset == "prompt":
            return tickets < float(rules.q)
        return np.asarray(tickets.argsort(axis=1).argsort(axis=1) < rules.k)


@dataclass(frozen=True, slots=True)
class Played:
    """A round as it was played, for whoever watches; arrays begin with a lane.

    Attributes:
        round_index: Round, from 0.
        running: Markets that were not over.
        submitted: What bidders did.
        allocation: As published, (lanes, bidders, items).
        payment: As published, fine units, (lanes, bidders).
        won: Seat by item, -1 unsold.
        deviated: Where the auctioneer published something else than the artifact's result.
    """

    round_index: int
    running: Flags
    submitted: Submitted
    allocation: Counts
    payment: Counts
    won: Counts
    deviated: Flags


@dataclass(slots=True)
class Ledger:
    """What happened in each lane; fine units unless stated, (lanes,).

    Attributes:
        rounds: Rounds played.
        revenue: Payments of bidders who bid for themselves.
        honest: What they would have paid for the same bids, had the auctioneer been honest.
        friend: What the deviations gave a friend of the auctioneer beyond its due.
        welfare: Values of those who got something, shills apart.
        deviations: Rounds with another result than the artifact's, and rounds with a dropped bid.
        audited: Rounds drawn.
        penalty: Paid by the auctioneer.
        returned: Paid back to bidders (spec 9.2).
        forfeited: Paid by bidders for unopened commitments.
        caught: 1 where the market was halted by a conviction.
        seen: Rounds in which a bidder saw the deviation itself (spec 1.4, 3.6).
        utility: By agent, (agents, lanes).
    """

    rounds: Counts
    revenue: Counts
    honest: Counts
    friend: Counts
    welfare: Counts
    deviations: Counts
    audited: Counts
    penalty: Counts
    returned: Counts
    forfeited: Counts
    caught: Counts
    seen: Counts
    utility: Counts

    @classmethod
    def empty(cls, lanes: int, agents: int) -> Ledger:
        """Return a ledger in which nothing has happened."""
        zeros = {part.name: np.zeros(lanes, dtype=np.int64) for part in fields(cls)}
        return cls(**{**zeros, "utility": np.zeros((agents, lanes), dtype=np.int64)})

    @property
    def profit(self) -> Counts:
        """What cheating earned the auctioneer: gains, a friend's too, less penalties and what it paid back."""
        return self.revenue - self.honest + self.friend - self.penalty - self.returned


class Economy:
    """Some lanes of one market.

    Args:
        players: Who plays.
        coins: Public randomness.
        watch: Called after every round.
    """

    def __init__(self, players: Players, coins: Coins, watch: Callable[[Played], None] = lambda played: None) -> None:
        self.players, self.rules, self._coins, self._watch = players, players.rules, coins, watch
        lanes, agents = players.lanes, len(players.bidders)
        self.ledger = Ledger.empty(lanes, agents)
        self.points = min(POINTS, self.rules.rounds)
        names = ("running", "revenue", "gains", "held", "deposit", "paid back", "penalties")
        self.series: dict[str, Floats] = {name: np.zeros(self.points) for name in names}
        self.bidding = np.zeros((2, agents, self.points))  # sums of bids and of values, by agent
        self._running = np.ones(lanes, dtype=bool)
        self._held = np.zeros(lanes, dtype=np.int64)  # charges in escrow until their epoch settles (spec 9.9)

    def run(self) -> Ledger:
        """Play every lane to its end."""
        for epoch in range(self.rules.epochs):
            if not self._running.any():
                break
            self._play_epoch(epoch)
        return self.ledger

    def _play_epoch(self, epoch: int) -> None:
        rules, ledger, lanes = self.rules, self.ledger, self.players.lanes
        drawn = self._coins.audited(epoch)
        convicted = np.zeros(lanes, dtype=bool)
        overcharged = np.zeros((lanes, self.players.header.bidders), dtype=np.int64)
        kept: list[tuple[int, Counts, Submitted]] = []
        for place, index in enumerate(rules.rounds_of(epoch)):
            submitted, above, deviated, seen = self._play_round(index)
            overcharged += above
            convicted |= (deviated & (drawn[:, place] | self.players.auctioneer.splits)) | seen
            where = np.flatnonzero(self._running & drawn[:, place])
            if self.players.readers and len(where):
                kept.append((index, where, submitted.of(where)))
        ledger.audited += drawn.sum(axis=1) * self._running
        for index, where, submitted in kept:
            bids = submitted.bids * submitted.participation[:, :, None]
            self.players.disclose(index, where, submitted.values, bids, submitted.participation)
        if rules.preset == DEFAULT:  # nobody looks
            convicted[:] = False
        caught = convicted & self._running
        ledger.caught += caught
        ledger.penalty += rules.penalty * caught
        owed = overcharged * (caught & (rules.gains == "returned"))[:, None]
        back = owed[:, ~self.players.house].sum(axis=1)  # what a shill gets back is the auctioneer's own
        ledger.returned += back
        for agent, seats in enumerate(self.players.seats):
            ledger.utility[agent] += owed[:, seats].sum(axis=1)
        self._running &= ~caught
        at = self._point(rules.rounds_of(epoch)[-1])
        self.series["penalties"][at] += float(rules.penalty) * float(caught.sum())
        self.series["paid back"][at] += float(back.sum())
        self._held[:] = 0
        self.players.auctioneer.told(epoch, caught)

    def _play_round(self, index: int) -> tuple[Submitted, Counts, Flags, Flags]:
        """Play a round; return what was submitted, overcharges (lanes, bidders), who deviated, who was seen to."""
        players, ledger, running = self.players, self.ledger, self._running
        submitted = players.submit(index)
        here = submitted.participation & running[:, None]
        bids = submitted.bids * here[:, :, None]
        allocation, payment = self._execute(bids, here, running)
        unit = 1 << players.header.share_bits
        settling = Settling(index, running.copy(), bids, here, allocation, payment, unit)
        shares, paid = players.claim(settling)
        shares, paid = np.where(running[:, None, None], shares, 0), np.where(running[:, None], paid, 0)
        changed = (shares != allocation).any(axis=(1, 2)) | (paid != payment).any(axis=1)
        dropped = (submitted.dropped & running[:, None]).any(axis=1)
        seen = dropped | _seen(bids, here, shares, paid, unit)  # each bidder checks its own row (spec 1.4)
        won = draw_many(shares, self._coins.lottery(index))
        won[~running] = -1
        due = allocation, payment
        if dropped.any():  # what would have been, had every bid been logged
            logged = here | (submitted.dropped & running[:, None])
            due = self._execute(submitted.bids * logged[:, :, None], logged, running)
        self._account(index, submitted, here, due, shares, paid)
        ledger.deviations += changed | dropped
        ledger.seen += seen
        players.observe(index, submitted.values, here, shares, paid, won)
        self._watch(Played(index, running.copy(), submitted, shares, paid, won, changed | dropped))
        above = np.maximum(paid - payment, 0)
        return submitted, above, changed & running, seen & running

    def _execute(self, bids: Counts, here: Flags, running: Flags) -> tuple[Counts, Counts]:
        if running.all():
            arrays = self.players.execute(bids, here)
            return arrays["allocation"], arrays["payment"]
        where = np.flatnonzero(running)
        arrays = self.players.execute(bids[where], here[where])
        allocation, payment = np.zeros_like(bids), np.zeros(here.shape, dtype=np.int64)
        allocation[where], payment[where] = arrays["allocation"], arrays["payment"]
        return allocation, payment

    def _account(
        self,
        index: int,
        submitted: Submitted,
        here: Flags,
        honest: tuple[Counts, Counts],
        shares: Counts,
        paid: Counts,
    ) -> None:
        players, ledger, running, at = self.players, self.ledger, self._running, self._point(index)
        own = ~players.house
        revenue, due = paid[:, own].sum(axis=1), honest[1][:, own].sum(axis=1)
        gains = revenue - due
        friend = players.auctioneer.friend
        if friend is not None:
            worth = ((shares - honest[0])[:, friend] * submitted.values[:, friend]).sum(axis=1)
            extra = worth - (paid - honest[1])[:, friend]
            ledger.friend += extra
            gains = gains + extra
        ledger.rounds += running
        ledger.revenue += revenue
        ledger.honest += due
        stake = self.rules.gain_bound if self.rules.preset != DEFAULT else 0
        silent = submitted.silent & running[:, None]
        ledger.forfeited += stake * silent.sum(axis=1)
        for agent, (bidder, seats) in enumerate(zip(players.bidders, players.seats, strict=True)):
            worth = bidder.worth(submitted.values[:, seats], shares[:, seats]).sum(axis=1)
            lost = paid[:, seats].sum(axis=1) + stake * silent[:, seats].sum(axis=1)
            ledger.utility[agent] += worth - lost
            if not bidder.house:
                ledger.welfare += worth
            self.bidding[0, agent, at] += float((submitted.bids[:, seats] * here[:, seats, None]).sum())
            self.bidding[1, agent, at] += float((submitted.values[:, seats] * here[:, seats, None]).sum())
        self._held += revenue
        series = self.series
        series["running"][at] += float(running.sum())
        series["revenue"][at] += float(revenue.sum())
        series["gains"][at] += float(gains.sum())
        series["held"][at] += float(self._held[running].sum())
        series["deposit"][at] += float(self.rules.penalty) * float(running.sum())

    def _point(self, index: int) -> int:
        return index * self.points // self.rules.rounds


def _seen(bids: Counts, here: Flags, shares: Counts, paid: Counts, unit: int) -> Flags:
    """Return where a result breaks what every bidder, or anybody, checks without an audit (spec 1.4, 3.14)."""
    above = (paid > (shares * bids).sum(axis=2)).any(axis=1)
    impossible = (shares < 0).any(axis=(1, 2)) | (paid < 0).any(axis=1) | (shares.sum(axis=1) > unit).any(axis=1)
    absent = ((shares != 0).any(axis=2) & ~here).any(axis=1)
    return np.asarray(above | impossible | absent)
