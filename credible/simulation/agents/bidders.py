"""Bidders: truthful, shading, learning, paced, careless, in league; and shills of the auctioneer."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from credible.simulation.agents.base import Bidder, Disclosed, Row, Seat
from credible.simulation.draws import Counts, Flags, Floats

ARMS: Final = tuple(range(40, 125, 10))  # per cent of the values that learners choose among
TRIED: Final = tuple(range(0, 160, 10))  # per cent that a best response searches
IMAGINED: Final = 2048  # rounds of the prior that a search looks at


def _percent(text: str, most: int, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ValueError(f"{text!r}, wanted a percentage from {least} to {most}")
    return int(text)


class Truthful(Bidder):
    """Bids its values."""


class Shading(Bidder):
    """Bids a fixed percentage of its values; `shade:80`."""

    def __init__(self, percent: str = "80") -> None:
        self._percent = _percent(percent, 200)

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return the values times the percentage, floored."""
        return np.minimum(values * self._percent // 100, self.seat.header.bid_max)


class Noisy(Bidder):
    """Bids its values with a multiplicative error, uniform up to a percentage; `noisy:20`."""

    def __init__(self, percent: str = "20") -> None:
        self._percent = _percent(percent, 100)

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return the values times 1 + an error for each item."""
        k, m = values.shape[1:]
        error = self.seat.draws.uniform(round_index, k * m).reshape(-1, k, m) * 2 - 1
        return self.grid(values * (1 + error * self._percent / 100))


def scaled_utilities(bidder: Bidder, arms: tuple[int, ...], disclosed: Disclosed) -> Floats:
    """Return what each percentage of the values would have earned against disclosed bids, (some, arms), fine units."""
    seat = bidder.seat
    result = np.zeros((len(disclosed.bids), len(arms)))
    own = list(seat.seats)
    for arm, percent in enumerate(arms):
        bids = disclosed.bids.copy()
        bids[:, own] = np.minimum(disclosed.values * percent // 100, seat.header.bid_max)
        arrays = seat.execute(bids, disclosed.participation)
        worth = bidder.worth(disclosed.values, arrays["allocation"][:, own]) - arrays["payment"][:, own]
        result[:, arm] = worth.sum(axis=1)
    return result


class BestResponse(Bidder):
    """Searches for the percentage of its values that earns most against truthful rivals of the public prior."""

    def start(self, seat: Seat) -> None:
        """Search before the first round; nearest to the truth among equals."""
        super().start(seat)
        values, present = seat.imagine(IMAGINED)
        own = list(seat.seats)
        imagined = Disclosed(-1, np.arange(len(values)), values[:, own], values, present)
        earned = scaled_utilities(self, TRIED, imagined).mean(axis=0)
        best = np.flatnonzero(earned >= earned.max() * (1 - 1e-12))
        self.percent = min((TRIED[arm] for arm in best), key=lambda percent: (abs(percent - 100), percent))

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return the values times the percentage found."""
        return np.minimum(values * self.percent // 100, self.seat.header.bid_max)


class _Learner(Bidder):
    """Chooses among percentages of its values by weights that it learns."""

    explore: float = 0.0

    def start(self, seat: Seat) -> None:
        super().start(seat)
        self.weights: Floats = np.zeros((seat.lanes, len(ARMS)))  # logarithms
        self.chosen = np.zeros(seat.lanes, dtype=np.int64)
        values = seat.imagine(IMAGINED)[0][:, list(seat.seats)]
        worth = values.sum(axis=(1, 2)) * float(1 << seat.header.share_bits)
        self.scale, self.largest = max(float(worth.mean()), 1.0), max(float(worth.max()), 1.0)

    def chances(self) -> Floats:
        """Return the chance of each percentage, (lanes, arms)."""
        weights = np.exp(self.weights - self.weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray((1 - self.explore) * weights + self.explore / len(ARMS))

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Draw a percentage and return the values times it."""
        edges = self.chances().cumsum(axis=1)
        point = self.seat.draws.uniform(round_index, 1)
        self.chosen = np.minimum((edges <= point).sum(axis=1), len(ARMS) - 1)
        percent = np.asarray(ARMS)[self.chosen]
        return np.asarray(np.minimum(values * percent[:, None, None] // 100, self.seat.header.bid_max))


class MultiplicativeWeights(_Learner):
    """Learns from audited rounds: with everybody's bids disclosed it knows what each percentage would have earned."""

    def start(self, seat: Seat) -> None:
        """Set the rate for the number of audits that the rules announce."""
        super().start(seat)
        rules = seat.terms
        expected = rules.k if rules.preset == "published" else float(rules.q) * rules.rounds
        self.rate = math.sqrt(8 * math.log(len(ARMS)) / max(expected, 1.0))

    def read(self, disclosed: Disclosed) -> None:
        """Raise the weights by what each percentage would have earned."""
        earned = scaled_utilities(self, ARMS, disclosed) / self.scale
        self.weights[disclosed.lanes] += self.rate * earned


class Exp3(_Learner):
    """Learns from its own rows alone: the bandit algorithm EXP3 (Auer, Cesa-Bianchi, Freund and Schapire 2002)."""

    def start(self, seat: Seat) -> None:
        """Set exploration for the number of rounds that the rules announce."""
        super().start(seat)
        arms = len(ARMS)
        self.explore = min(1.0, math.sqrt(arms * math.log(arms) / ((math.e - 1) * seat.terms.rounds)))

    def reward(self, utility: Counts) -> Floats:
        """Return utilities as rewards in [0, 1]: no payment is above the bid, so none is below the largest overbid."""
        lowest = 1 - max(ARMS) / 100
        return np.clip((utility / self.largest - lowest) / (1 - lowest), 0, 1)

    def observe(self, row: Row) -> None:
        """Raise the weight of what was played by its reward over its chance."""
        utility = (self.worth(row.values, row.shares) - row.payment).sum(axis=1)
        reward = self.reward(utility)
        lanes = np.arange(len(reward))
        gained = self.explore * reward / (self.chances()[lanes, self.chosen] * len(ARMS))
        self.weights[lanes, self.chosen] += np.where(row.present.any(axis=1), gained, 0)


class Budgeted(Bidder):
    """Paces its spending to a budget by adaptive pacing (Balseiro and Gur 2019); `budget:10`.

    The budget is a percentage of what its values sum to in T rounds of the prior; once it is spent, it bids nothing.
    """

    def __init__(self, percent: str = "10") -> None:
        self._percent = _percent(percent, 100)

    def start(self, seat: Seat) -> None:
        """Compute the budget and start without shading."""
        super().start(seat)
        values = seat.imagine(IMAGINED)[0][:, list(seat.seats)]
        self.a_round = float(values.sum(axis=(1, 2)).mean()) * (1 << seat.header.share_bits) * self._percent / 100
        self.left = np.full(seat.lanes, self.a_round * seat.terms.rounds)
        self.multiplier = np.zeros(seat.lanes)
        self.step = 1 / math.sqrt(seat.terms.rounds)

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return values over 1 + the multiplier, and never more than is left."""
        bids = self.grid(values / (1 + self.multiplier)[:, None, None])
        worth = bids.sum(axis=(1, 2)) * float(1 << self.seat.header.share_bits)
        return np.where((worth <= self.left)[:, None, None], bids, 0)

    def observe(self, row: Row) -> None:
        """Shade more after a round above the budget of a round, less after one below."""
        spent = row.payment.sum(axis=1)
        self.left -= spent
        there = row.present.any(axis=1)
        moved = self.multiplier + self.step * (spent / max(self.a_round, 1.0) - 1)
        self.multiplier = np.where(there, np.maximum(moved, 0), self.multiplier)


class _Careless(Bidder):
    """Does something with a chance; a round's number decides, not what happened before."""

    def __init__(self, percent: str = "10") -> None:
        self._percent = _percent(percent, 100)

    def happens(self, round_index: int) -> Flags:
        """Return where it does it, (lanes, seats)."""
        return np.asarray(self.seat.draws.uniform(round_index, self.size) < self._percent / 100)


class Late(_Careless):
    """Truthful, but some bids come after the deadline and do not count; `late:10`."""

    def late(self, round_index: int) -> Flags | None:
        """Return where the bid is late."""
        return self.happens(round_index)


class Silent(_Careless):
    """Commits and at some rounds never opens: forfeits its deposit and is out (spec 3.10, 9.9); `silent:10`."""

    def silent(self, round_index: int) -> Flags | None:
        """Return where it does not open."""
        return self.happens(round_index)


class Ring(Bidder):
    """A ring: on each item only the member who values it most bids, truthfully; `ring*2`."""

    size = 2

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return the highest value of each item on its first holder, zero elsewhere."""
        top = values == values.max(axis=1, keepdims=True)
        first = np.cumsum(top, axis=1) == 1
        return np.where(top & first, values, 0)


class Sybil(Bidder):
    """One bidder under several names: the first bids its values, the others a percentage of them; `sybil:50*2`."""

    size = 2

    def __init__(self, percent: str = "50") -> None:
        self._percent = _percent(percent, 200)

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return its own values, and what its other names bid."""
        others = np.minimum(values[:, :1] * self._percent // 100, self.seat.header.bid_max)
        return np.concatenate([values[:, :1], np.repeat(others, self.size - 1, axis=1)], axis=1)

    def worth(self, values: Counts, shares: Counts) -> Counts:
        """Return what shares are worth to the one behind all names."""
        return np.asarray((values[:, :1] * shares).sum(axis=2))


class Shill(Bidder):
    """Bids for the auctioneer, blind: the same percentage of the highest value on every item; `shill:50`."""

    house = True

    def __init__(self, percent: str = "50") -> None:
        self._percent = _percent(percent, 100, least=0)

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return the same bid in every round."""
        return np.full_like(values, self.seat.header.bid_max * self._percent // 100)


class AdaptiveShill(Bidder):
    """Bids for the auctioneer having seen the others' bids: one unit below the highest on every item."""

    house = True
    peeks = True

    def bid_after(self, round_index: int, bids: Counts, present: Flags) -> Counts:
        """Return bids one unit below the highest."""
        highest: Counts = bids.max(axis=1, keepdims=True)
        return np.repeat(np.maximum(highest - 1, 0), self.size, axis=1)
