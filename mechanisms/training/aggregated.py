"""Training a stage auction for every participation profile in one batched run (docs/notation.md, AGG-5).

All profiles are trained alike, however seldom they come: each has boosts of its own, and the same number of rows in
every minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from protocol.artifact.classes.aggregated import MAX_BIDDERS
from torch import Generator, Tensor

from mechanisms.affine.size_boost import CHUNK, SizeBoosted, programme, rival_states
from mechanisms.aggregated import Aggregated
from mechanisms.participation import WithParticipation, all_profiles, profile_numbers
from mechanisms.training.loop import step_generator
from mechanisms.training.surrogate import pull
from mechanisms.valuations import ValuationModel

BARRED: Final = -1000.0  # an item of an absent seat, over the scale of the values: never worth it
POOL: Final = 1 << 17  # profiles of valuations, as far as memory allows
POOL_NUMBERS: Final = 1 << 26
LEAST_POOL: Final = 512
LEAST_ROUNDS: Final = 64  # of a record


def profile_tables(
    values: Float[Tensor, "batch bidders items"], present: Bool[Tensor, "batch bidders"]
) -> Float[Tensor, "batch tables states"]:
    """Return, by vector of bundle sizes, the best value of the present: all of them, then without each in turn.

    Size vectors that give something to an absent bidder come out far below zero (SIZE-2, SIZE-3, AGG-2).
    """
    n, items = values.shape[1:]
    states = len(programme(n, items).vectors)
    parts = []
    for rows, here in zip(*(torch.split(t, max(1, CHUNK // (4 * states))) for t in (values, present)), strict=True):
        welfare = torch.where(here[:, :, None], rows, rows.new_tensor(BARRED)).permute(1, 2, 0).contiguous()
        tables = [programme(n, items).best_by_sizes(welfare)]
        for bidder in range(n):
            others = torch.tensor([j for j in range(n) if j != bidder], dtype=torch.int64)
            rivals = programme(n - 1, items).best_by_sizes(welfare[others])
            tables.append(rivals[rival_states(n, items, bidder)])
        parts.append(torch.stack(tables).permute(2, 0, 1).contiguous())
    return torch.cat(parts)


class AggregatedSizeBoosts:
    """Boosts by bundle sizes with unit weights for every participation profile, several starts side by side.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        reserves: One start each, over the scale of the values: the boost of sizes s is reserve (m - sum of s).
        exchangeable: Whether profiles with as many present bidders share their stage auction, which then treats
            bidders alike; else each of the 2^n - 1 profiles has one of its own.
    """

    def __init__(self, bidders: int, items: int, reserves: Sequence[float], *, exchangeable: bool = True) -> None:
        if bidders > MAX_BIDDERS:
            raise ValueError(f"{bidders} bidders have too many profiles, at most {MAX_BIDDERS} bidders")
        if not reserves:
            raise ValueError("no starting reserve was given")
        self.bidders, self.items, self.starts, self.exchangeable = bidders, items, len(reserves), exchangeable
        self.vectors = programme(bidders, items).vectors
        if exchangeable:  # the first k seats stand for every group of k
            self.present = torch.ones(bidders, bidders).tril().bool()
            kinds = self.vectors.sort(dim=1, descending=True).values
        else:
            self.present = all_profiles(bidders)[1:]
            kinds = self.vectors
        unique, self.class_of = torch.unique(kinds, dim=0, return_inverse=True)
        unsold = (items - unique.sum(1)).float()
        start = torch.tensor(list(reserves), dtype=torch.float32)[:, None, None] * unsold
        self.boosts = start.expand(-1, len(self.present), -1).contiguous()
        rows = POOL_NUMBERS // ((bidders + 1) * self.boosts[0].numel())
        if rows < LEAST_POOL:
            raise ValueError(
                f"{len(self.present)} profiles of {bidders} x {items} are too many to train one by one; generate them"
            )
        self._pool_rows = min(POOL, rows)
        self._here = self.present.to(torch.float32)

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensor by name: boosts by profile and class, shape (starts, profiles, classes)."""
        return {"boosts": self.boosts}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: a pool of valuations with the tables of every profile."""
        everyone = values.values if isinstance(values, WithParticipation) else values
        profiles = (everyone.sample(self._pool_rows, step_generator(seed, 7, 0)) / values.scale).to(torch.float32)
        if not isinstance(values, WithParticipation) and not (profiles > 0).any(2).all():
            pool = torch.stack([self._tables(self._attended(profiles, here), here) for here in self.present], dim=1)
        else:
            pool = torch.stack([self._tables(profiles, here) for here in self.present], dim=1)
        return lambda count, generator: pool[torch.randint(len(pool), (count,), generator=generator)]

    def _attended(
        self, values: Float[Tensor, "batch bidders items"], here: Bool[Tensor, " bidders"]
    ) -> Float[Tensor, "batch bidders items"]:
        """Return as many profiles of the rounds in which exactly these came, where the sample itself says who comes.

        Exchangeable bidders: rounds with as many present, who take the first seats. Where fewer than `LEAST_ROUNDS`
        different rounds had them, the rounds in which all of these and more came stand in, and where nobody ever saw
        all of these, all rounds.
        """
        came = (values > 0).any(2)
        if self.exchangeable:
            order = came.long().argsort(dim=1, descending=True, stable=True)
            values = values.gather(1, order[:, :, None].expand_as(values))
            came = came.gather(1, order)
        rounds = values[(came == here).all(1)]
        if len(torch.unique(rounds, dim=0)) < LEAST_ROUNDS:  # a sample of a record shows its rounds many times
            more = (came | ~here).all(1)
            rounds = values[more] if more.any() else values
        return rounds[torch.arange(len(values)) % len(rounds)]

    def _tables(
        self, values: Float[Tensor, "batch bidders items"], here: Bool[Tensor, " bidders"]
    ) -> Float[Tensor, "batch tables classes"]:
        """Return one profile's tables with the best of each class of size vectors."""
        parts = []
        for rows in torch.split(values, max(1, CHUNK // (4 * len(self.class_of)))):
            tables = profile_tables(rows, here.expand(len(rows), -1))
            start = tables.new_full((*tables.shape[:2], self.boosts.shape[2]), -torch.inf)
            parts.append(start.scatter_reduce(2, self.class_of.expand_as(tables), tables, "amax"))
        return torch.cat(parts)

    def gradients(
        self,
        drawn: Float[Tensor, "batch profiles tables classes"],
        temperature: float | Tensor,
        progress: float | Tensor = 0.0,
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenues (AMA-6), and their mean over profiles by start."""
        if self._here.device != drawn.device:  # once: a step recorded on a GPU cannot copy from the CPU
            self._here = self._here.to(drawn)
        slopes, revenue = profile_slopes(drawn, self.boosts, self._here, temperature)
        return {"boosts": -slopes}, revenue.mean(1)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Aggregated:
        """Return the hard mechanism of one start, float64, boosts in units of value; each least boost is 0."""
        boosts = self.boosts[start].double().cpu() * scale
        return aggregate(boosts[:, self.class_of], self.present, self.items, exchangeable=self.exchangeable)


def profile_slopes(
    drawn: Float[Tensor, "batch profiles tables classes"],
    boosts: Float[Tensor, "starts profiles classes"],
    present: Float[Tensor, "profiles bidders"],
    temperature: float | Tensor,
) -> tuple[Float[Tensor, "starts profiles classes"], Float[Tensor, "starts profiles"]]:
    """Return derivatives of the surrogate revenue of each profile by its boosts (AMA-6), and those revenues.

    An absent bidder pays nothing: its rate in the surrogate is zero.
    """
    starts, profiles, classes = boosts.shape
    warm = (temperature * boosts).view(starts * profiles, classes)
    tables = temperature * drawn.movedim(2, 0)  # (tables, batch, profiles, classes)
    wide = tables[:, :, None].expand(-1, -1, starts, -1, -1).flatten(2, 3) + warm
    welfare, *rivals = wide
    rates = present.repeat(starts, 1)
    paid = (rates.sum(1)[:, None] - 1) * welfare + warm
    result = pull(welfare, rivals, paid, temperature, rates)
    revenue = result.revenue / len(drawn)
    return result.entry.sum(0).view_as(boosts) / len(drawn), revenue.view(starts, profiles)


def aggregate(
    boosts: Float[Tensor, "stages states"], present: Bool[Tensor, "stages bidders"], items: int, *, exchangeable: bool
) -> Aggregated:
    """Return the aggregated auction of boosts by everybody's bundle sizes, in units of value; each least boost is 0.

    Args:
        boosts: One row for each stage auction.
        present: Who is present in it: the first 1, ..., n seats if exchangeable, else all profiles but nobody's in
            the order of their numbers.
        items: Number of items.
        exchangeable: Whether profiles with as many present bidders share their stage auction.
    """
    vectors = programme(present.shape[1], items).vectors
    stages = []
    for row, here in zip(boosts, present, strict=True):
        kept = row[(vectors[:, ~here] == 0).all(1)]  # in the order of the present bidders' own size vectors
        weights = torch.ones(int(here.sum()), dtype=torch.float64)
        stages.append(SizeBoosted(boosts=kept - kept.min(), weights=weights, items=items))
    every = all_profiles(present.shape[1])
    stage_of = (every.sum(1) if exchangeable else profile_numbers(every)) - 1
    return Aggregated(stages=tuple(stages), stage_of=stage_of.clamp_min(0), items=items)
