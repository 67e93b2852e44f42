"""Data sets with absent bidders: as often as they are absent, or each profile often enough (PART-3, PART-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mechanisms.participation.models import ParticipationModel
from mechanisms.valuations import ValuationModel


def tweaked(
    values: ValuationModel, participation: ParticipationModel, count: int, generator: Generator
) -> tuple[Float[Tensor, "count bidders items"], Bool[Tensor, "count bidders"]]:
    """Return the tweaked data set: valuations with the rows of absent bidders at zero, and who is present.

    Source: credible-repeated-auctions, section 5.1.
    """
    present = participation.sample(count, generator)
    return values.sample(count, generator) * present[:, :, None], present


@final
@dataclass(frozen=True, slots=True, eq=False)
class WithParticipation:
    """The tweaked valuation model: absent bidders value nothing (PART-3).

    Attributes:
        values: Valuations of a round with everybody.
        participation: Who comes.

    Raises:
        ValueError: If the two are for other numbers of bidders.
    """

    values: ValuationModel
    participation: ParticipationModel

    def __post_init__(self) -> None:
        if self.values.bidders != self.participation.bidders:
            raise ValueError(f"values of {self.values.bidders} bidders, participation of {self.participation.bidders}")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.values.bidders

    @property
    def items(self) -> int:
        """Number of items."""
        return self.values.items

    @property
    def scale(self) -> float:
        """Twice a typical value of one item to a present bidder, in units of value."""
        return self.values.scale

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, the rows of absent bidders at zero."""
        return tweaked(self.values, self.participation, count, generator)[0]


@dataclass(frozen=True, slots=True, eq=False)
class Stratified:
    """A sample that has every profile often enough.

    Attributes:
        values: Valuations, absent bidders' rows at zero.
        present: Who is present.
        weights: Probability of the row's profile over its share of the sample: weighted means estimate the model's.
    """

    values: Float[Tensor, "count bidders items"]
    present: Bool[Tensor, "count bidders"]
    weights: Float[Tensor, " count"]


def stratified(
    values: ValuationModel, participation: ParticipationModel, count: int, generator: Generator, *, least: float = 0.5
) -> Stratified:
    """Return a sample in which each of k profiles has at least a share `least`/k, with its importance weights.

    Shares are (1 - least) times the probability plus least/k, rounded so that every profile has a row; a profile of
    probability 0.01 among ten is then seen five times as often, and weighs a fifth.

    Args:
        values: Valuations of a round with everybody.
        participation: Who comes.
        count: Rows, at least one for each profile.
        generator: Decides every draw.
        least: Part of the sample that is spread evenly, in [0, 1].

    Raises:
        ValueError: If there are fewer rows than profiles, or `least` is no share.
    """
    profiles, probabilities = participation.profiles()
    kinds = len(profiles)
    if count < kinds or not 0 <= least <= 1:
        raise ValueError(f"{count} rows for {kinds} profiles and a least share of {least}")
    wanted = ((1 - least) * probabilities + least / kinds) * count
    rows = wanted.floor().clamp_min(1.0).long()
    while int(rows.sum()) > count:  # the floor of 1 may have taken too much: from the largest
        rows[rows.argmax()] -= 1
    left = count - int(rows.sum())
    rows[(wanted - rows).argsort(descending=True, stable=True)[:left]] += 1
    kind = torch.repeat_interleave(torch.arange(kinds), rows)[torch.randperm(count, generator=generator)]
    present = profiles[kind]
    weights = (probabilities * count / rows)[kind]
    return Stratified(values.sample(count, generator) * present[:, :, None], present, weights)
