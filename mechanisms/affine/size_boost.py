"""Affine maximizers over all deterministic allocations with boosts by bundle sizes (SIZE-1 to SIZE-4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Final, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from protocol.artifact.classes.size_boost import size_vectors, transitions
from torch import Tensor

from mechanisms.outcome import Outcome

CHUNK: Final = 1 << 21  # states times profiles that are worked on together


class Programme:
    """The dynamic programme over items for n bidders and m items; its state is the vector of bundle sizes.

    States are numbered as in the artifact (`size_vectors`): by sum, then ascending, so that those of sum at most t come
    first. Tensors have the states in front and the profiles behind: a transition moves whole rows.
    """

    def __init__(self, bidders: int, items: int) -> None:
        self.bidders, self.items = bidders, items
        self.vectors = torch.from_numpy(size_vectors(bidders, items))
        self.after = torch.from_numpy(transitions(bidders, items))[1:]  # by owner, then state
        self._before = torch.full((bidders, len(self.vectors)), -1)
        for bidder, row in enumerate(self.after):
            self._before[bidder, row] = torch.arange(len(row))

    def layer(self, count: int) -> int:
        """Return how many states have a sum of at most `count`."""
        return comb(count + self.bidders, self.bidders)

    def best_by_sizes(self, welfare: Float[Tensor, "bidders items batch"]) -> Float[Tensor, "states batch"]:
        """Return the greatest weighted value of an allocation with exactly these bundle sizes, by state (SIZE-2)."""
        return self._by_sizes(welfare, parts=False)[0]

    def allocations_by_sizes(
        self, welfare: Float[Tensor, "bidders items batch"]
    ) -> tuple[Float[Tensor, "states batch"], Float[Tensor, "bidders states batch"]]:
        """Return `best_by_sizes`, and each bidder's part of it."""
        return self._by_sizes(welfare, parts=True)

    def _by_sizes(self, welfare: Tensor, *, parts: bool) -> tuple[Tensor, Tensor]:
        """Run the programme from the first item to the last; carry each bidder's part along, or an empty tensor."""
        batch, carried = welfare.shape[-1], self.bidders if parts else 0
        value, own = welfare.new_zeros(1, batch), welfare.new_zeros(carried, 1, batch)
        for item in range(self.items):
            count = self.layer(item + 1)
            missing = count - len(value) + 1  # one row more: what no transition reaches
            padded = torch.cat([value, value.new_full((missing, batch), -torch.inf)])
            value = padded[:-1].clone()
            held = torch.cat([own, own.new_zeros(carried, missing, batch)], dim=1)
            own = held[:, :-1]
            for bidder in range(self.bidders):
                before = self._before[bidder, :count]
                reached = padded[before].add_(welfare[bidder, item])
                if parts:
                    moved = held[:, before]
                    moved[bidder] += welfare[bidder, item]
                    own = torch.where(reached > value, moved, own)
                torch.maximum(value, reached, out=value)
        return value, own

    def optimum(
        self, welfare: Float[Tensor, "bidders items batch"], boosts: Float[Tensor, " states"]
    ) -> Float[Tensor, " batch"]:
        """Return the greatest boosted welfare of each profile."""
        return self._to_go(welfare, boosts, None)

    def allocate(
        self, welfare: Float[Tensor, "bidders items batch"], boosts: Float[Tensor, " states"]
    ) -> tuple[Float[Tensor, " batch"], Int[Tensor, "items batch"]]:
        """Return the greatest boosted welfare, and who then gets each item: 0 nobody, else seat plus 1.

        Among the maximizers these are the owners with the lowest owner of item 0, of them with the lowest of item 1,
        and so on (SIZE-4).
        """
        tables: list[Tensor] = []
        best = self._to_go(welfare, boosts, tables)
        state = torch.zeros(len(best), dtype=torch.int64)
        every = torch.arange(len(best))
        moves = torch.cat([torch.arange(self.after.shape[1])[None], self.after])
        word = []
        for table in reversed(tables):
            word.append(table[state, every].long())
            state = moves[word[-1], state]
        return best, torch.stack(word)

    def _to_go(self, welfare: Tensor, boosts: Tensor, tables: list[Tensor] | None) -> Tensor:
        """Run the programme from the last item to the first; append the lowest best owner of every state (SIZE-2)."""
        batch = welfare.shape[-1]
        value = boosts[:, None].expand(-1, batch)
        for item in reversed(range(self.items)):
            count = self.layer(item)
            best = value[:count].clone()
            owner = torch.zeros(count if tables is not None else 0, batch, dtype=torch.int16)
            for bidder in range(self.bidders):
                reached = value[self.after[bidder, :count]] + welfare[bidder, item]
                if tables is not None:
                    owner.masked_fill_(reached > best, bidder + 1)
                torch.maximum(best, reached, out=best)
            value = best
            if tables is not None:
                tables.append(owner)
        return value[0]


@final
@dataclass(frozen=True, slots=True, eq=False)
class SizeBoosted:
    """The deterministic allocation of greatest affine welfare, boosts by bundle sizes; weighted VCG payments.

    Truthful and individually rational whatever the boosts (SIZE-1). With weights 1 and boosts of the sorted sizes it
    treats bidders alike.

    Attributes:
        boosts: Added to the welfare, by vector of bundle sizes in the order of `size_vectors`, in units of value.
        weights: Positive bidder weights, dimensionless.
        items: Number of items.

    Raises:
        ValueError: If a weight is not positive or the number of boosts is not C(items + bidders, bidders).
    """

    boosts: Float[Tensor, " states"]
    weights: Float[Tensor, " bidders"]
    items: int

    def __post_init__(self) -> None:
        if not (self.weights > 0).all():
            raise ValueError(f"weights must be positive, got {self.weights.tolist()}")
        states = comb(self.items + self.bidders, self.bidders)
        if len(self.boosts) != states:
            raise ValueError(f"{len(self.boosts)} boosts, wanted {states} for {self.bidders} bidders x {self.items}")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return len(self.weights)

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports, in chunks that bound memory."""
        parts = [self._run(part) for part in torch.split(valuations, max(1, CHUNK // len(self.boosts)))]
        return Outcome(
            allocation=torch.cat([part.allocation for part in parts]),
            payment=torch.cat([part.payment for part in parts]),
        )

    def _run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        n = self.bidders
        boosts = self.boosts.to(valuations)
        weights = self.weights.to(valuations)
        welfare = (valuations * weights[:, None]).permute(1, 2, 0).contiguous()
        best, word = programme(n, self.items).allocate(welfare, boosts)
        allocation = (word.T[:, None, :] == torch.arange(1, n + 1)[:, None]).to(valuations)
        own = (allocation * valuations).sum(-1) * weights
        payments = []
        for bidder in range(n):
            others = torch.tensor([j for j in range(n) if j != bidder], dtype=torch.int64)
            relaxed = without(boosts, n, self.items, bidder)
            rivals = programme(n - 1, self.items).optimum(welfare[others], relaxed)
            payments.append((rivals - (best - own[:, bidder])) / weights[bidder])
        return Outcome(allocation=allocation, payment=torch.stack(payments, dim=1))


@cache
def programme(bidders: int, items: int) -> Programme:
    """Return the programme of a size of auction, made once."""
    return Programme(bidders, items)


@cache
def rival_states(bidders: int, items: int, bidder: int) -> Int[Tensor, " states"]:
    """Return, by state, the number of the others' state in the programme without one bidder."""
    vectors = programme(bidders, items).vectors
    others = torch.cat([vectors[:, :bidder], vectors[:, bidder + 1 :]], dim=1)
    number = {tuple(row): index for index, row in enumerate(size_vectors(bidders - 1, items).tolist())}
    return torch.tensor([number[tuple(row)] for row in others.tolist()])


def without(boosts: Float[Tensor, " states"], bidders: int, items: int, bidder: int) -> Float[Tensor, " rivals"]:
    """Return the boosts that the others see when one bidder's values are zero: its size is what is best (SIZE-3)."""
    index = rival_states(bidders, items, bidder)
    start = boosts.new_full((int(index.max()) + 1,), -torch.inf)
    return start.scatter_reduce(0, index, boosts, "amax")


@final
@dataclass(frozen=True, slots=True, eq=False)
class IntegerSizeBoosted:
    """The exact twin, by recursion in plain Python integers (SIZE-2 to SIZE-4): for the differential check.

    Attributes:
        boosts: In fine units times the weight unit, in the order of `size_vectors`.
        weights: Integers of at least 1, shape (bidders,).
        items: Number of items.
        unit_share: Fine units of a grid unit, 2^q.
        bid_max: Bids are clamped to 0..bid_max, grid units.
    """

    boosts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    items: int
    unit_share: int
    bid_max: int

    def run(self, bids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return allocation (batch, bidders, items) in 2^-q of an item and payment (batch, bidders) in fine units."""
        n, weights = len(self.weights), [int(w) for w in self.weights]
        boost_of = {
            tuple(sizes): int(boost)
            for sizes, boost in zip(size_vectors(n, self.items).tolist(), self.boosts, strict=True)
        }
        allocations, payments = [], []
        for profile in np.clip(bids, 0, self.bid_max).tolist():
            welfare = [[int(v) * self.unit_share * w for v in row] for row, w in zip(profile, weights, strict=True)]
            best, word = self._solve(welfare, boost_of)
            charged = []
            for i, weight in enumerate(weights):
                zero = [[0] * self.items if j == i else row for j, row in enumerate(welfare)]
                own = sum(welfare[i][item] for item, owner in enumerate(word) if owner == i + 1)
                charged.append((self._solve(zero, boost_of)[0] - (best - own)) // weight)
            payments.append(charged)
            allocations.append([[self.unit_share * (owner == i + 1) for owner in word] for i in range(n)])
        return np.array(allocations, dtype=np.int64), np.array(payments, dtype=np.int64)

    def _solve(self, welfare: list[list[int]], boost_of: dict[tuple[int, ...], int]) -> tuple[int, list[int]]:
        @cache
        def to_go(item: int, sizes: tuple[int, ...]) -> tuple[int, int]:
            """Return the best welfare from here on, boost included, and the lowest owner of this item that has it."""
            if item == self.items:
                return boost_of[sizes], 0
            options = [to_go(item + 1, sizes)[0]]
            for i, row in enumerate(welfare):
                more = (*sizes[:i], sizes[i] + 1, *sizes[i + 1 :])
                options.append(row[item] + to_go(item + 1, more)[0])
            return max(options), options.index(max(options))

        sizes, word = (0,) * len(welfare), []
        for item in range(self.items):
            owner = to_go(item, sizes)[1]
            word.append(owner)
            if owner:
                sizes = (*sizes[: owner - 1], sizes[owner - 1] + 1, *sizes[owner:])
        return to_go(0, (0,) * len(welfare))[0], word
