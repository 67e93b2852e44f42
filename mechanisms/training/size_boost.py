"""Training the boosts of size-boosted affine maximizers (docs/notation.md, SIZE-5).

Of a profile the surrogate needs only the best value of each class of sizes, with everybody and without each bidder in
turn: numbers that no boost changes. They are computed once for a pool of profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.size_boost import CHUNK, SizeBoosted, programme, rival_states
from mechanisms.training.loop import step_generator
from mechanisms.training.surrogate import pull
from mechanisms.valuations import ValuationModel

POOL: Final = 1 << 17  # profiles, as far as memory allows
POOL_NUMBERS: Final = 1 << 26
Classes = Literal["sorted", "ordered"]


class SizeBoostAMA:
    """Boosts by bundle sizes with unit weights, several starts trained side by side.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        reserves: One start each, over the scale of the values: the boost of sizes s is reserve (m - sum of s).
        classes: "sorted" gives equal boosts to all orders of the same sizes, "ordered" one boost to each vector.
    """

    def __init__(self, bidders: int, items: int, reserves: Sequence[float], classes: Classes = "sorted") -> None:
        if not reserves:
            raise ValueError("no starting reserve was given")
        self.bidders, self.items, self.starts = bidders, items, len(reserves)
        self.vectors = programme(bidders, items).vectors
        kinds = self.vectors.sort(dim=1, descending=True).values if classes == "sorted" else self.vectors
        unique, self.class_of = torch.unique(kinds, dim=0, return_inverse=True)
        unsold = items - unique.sum(1)
        self.boosts = torch.tensor(list(reserves), dtype=torch.float32)[:, None] * unsold

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensor by name: boosts by class, shape (starts, classes)."""
        return {"boosts": self.boosts}

    def tables(self, values: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch tables classes"]:
        """Return each class's best value: with everybody, then without each bidder in turn (SIZE-2, SIZE-3)."""
        parts = []
        for part in torch.split(values, max(1, CHUNK // (4 * len(self.class_of)))):
            welfare = part.permute(1, 2, 0).contiguous()
            best = programme(self.bidders, self.items).best_by_sizes(welfare)
            parts.append(torch.stack([self._pool(best), *self._without_each(welfare)]).permute(2, 0, 1).contiguous())
        return torch.cat(parts)

    def fee_tables(self, values: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch tables classes"]:
        """Return `tables`, then each bidder's weighted value in the best allocation of each class."""
        states = len(self.class_of)
        parts = []
        for part in torch.split(values, max(1, CHUNK // (8 * self.bidders * states))):
            welfare = part.permute(1, 2, 0).contiguous()
            best, own = programme(self.bidders, self.items).allocations_by_sizes(welfare)
            index = self.class_of[:, None].expand(-1, len(part))
            top = self._pool(best)
            number = torch.arange(states)[:, None].where(best == top.gather(0, index), torch.tensor(states))
            first = torch.full(top.shape, states).scatter_reduce(0, index, number, "amin")
            chosen = own.gather(1, first[None].expand(self.bidders, -1, -1))
            both = torch.cat([torch.stack([top, *self._without_each(welfare)]), chosen])
            parts.append(both.permute(2, 0, 1).contiguous())
        return torch.cat(parts)

    def _without_each(self, welfare: Tensor) -> list[Tensor]:
        pooled = []
        for bidder in range(self.bidders):
            others = torch.tensor([j for j in range(self.bidders) if j != bidder], dtype=torch.int64)
            rivals = programme(self.bidders - 1, self.items).best_by_sizes(welfare[others])
            pooled.append(self._pool(rivals[rival_states(self.bidders, self.items, bidder)]))
        return pooled

    def _pool(self, best: Float[Tensor, "states batch"]) -> Float[Tensor, "classes batch"]:
        """Return the best of each class of states."""
        index = self.class_of[:, None].expand(-1, best.shape[1])
        start = best.new_full((self.boosts.shape[1], best.shape[1]), -torch.inf)
        return start.scatter_reduce(0, index, best, "amax")

    def fee_source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], tuple[Tensor, Tensor]]:
        """Return what draws profiles over the scale of the values with their `fee_tables`, from a pool."""
        profiles = self._profiles(values, seed, 2 * self.bidders + 1)
        pool = self.fee_tables(profiles)

        def draw(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(pool), (count,), generator=generator)
            return profiles[chosen], pool[chosen]

        return draw

    def _profiles(self, values: ValuationModel, seed: int, tables: int) -> Float[Tensor, "pool bidders items"]:
        """Return the profiles of a pool with so many tables each, over the scale of the values."""
        size = min(POOL, POOL_NUMBERS // (tables * self.boosts.shape[1]))
        return (values.sample(size, step_generator(seed, 7, 0)) / values.scale).to(torch.float32)

    def soft_outcome(
        self, drawn: Float[Tensor, "batch tables classes"], temperature: float | Tensor
    ) -> tuple[Float[Tensor, "starts batch bidders"], Float[Tensor, "starts batch bidders"]]:
        """Return softened utilities and payments, with their autograd graph; own values follow the tables."""
        boosted, n = self.boosts[:, None, :], self.bidders
        welfare = drawn[:, 0] + boosted
        chosen = torch.softmax(temperature * welfare, dim=-1)
        rivals = [torch.logsumexp(temperature * (drawn[:, 1 + i] + boosted), -1) / temperature for i in range(n)]
        utility = (chosen * welfare).sum(-1, keepdim=True) - torch.stack(rivals, dim=-1)
        own = torch.stack([(chosen * drawn[:, 1 + n + i]).sum(-1) for i in range(n)], dim=-1)
        return utility, own - utility

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: the tables of a pool of profiles, over the scale of the values."""
        pool = self.tables(self._profiles(values, seed, self.bidders + 1))
        return lambda count, generator: pool[torch.randint(len(pool), (count,), generator=generator)]

    def gradients(
        self, drawn: Float[Tensor, "batch tables classes"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue (AMA-6), and the surrogate of each start."""
        warm = temperature * self.boosts
        welfare, *rivals = (temperature * drawn[:, table, None] + warm for table in range(self.bidders + 1))
        result = pull(welfare, rivals, torch.add(warm, welfare, alpha=self.bidders - 1), temperature)
        return {"boosts": -result.entry.sum(0) / len(drawn)}, result.revenue / len(drawn)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> SizeBoosted:
        """Return the hard mechanism of one start, float64, boosts in units of value; the least boost is 0."""
        boosts = self.boosts[start].double().cpu()
        return SizeBoosted(
            boosts=((boosts - boosts.min()) * scale)[self.class_of],
            weights=torch.ones(self.bidders, dtype=torch.float64),
            items=self.items,
        )
