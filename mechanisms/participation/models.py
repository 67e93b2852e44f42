"""Stationary participation: which bidders are present in a round (PART-1, PART-2)."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Final, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

MAX_LISTED: Final = 16  # bidders whose 2^n profiles are listed


@runtime_checkable
class ParticipationModel(Protocol):
    """A distribution of participation profiles, the same in every round."""

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        ...

    def profiles(self) -> tuple[Bool[Tensor, "profiles bidders"], Float[Tensor, " profiles"]]:
        """Return the profiles G of positive probability and their probabilities Q."""
        ...

    def sample(self, count: int, generator: Generator) -> Bool[Tensor, "count bidders"]:
        """Draw independent rounds; the generator alone decides."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Listed profiles with their probabilities: G and Q of the paper (credible-repeated-auctions, section 3).

    Attributes:
        present: Who is present in each profile; no profile is listed twice.
        probabilities: Of each; they sum to 1.

    Raises:
        ValueError: If the probabilities are no distribution, or a profile is listed twice or none at all.
    """

    present: Bool[Tensor, "profiles bidders"]
    probabilities: Float[Tensor, " profiles"]

    def __post_init__(self) -> None:
        if not len(self.present):
            raise ValueError("no profile is listed")
        _check(self.probabilities)
        if len(torch.unique(self.present, dim=0)) < len(self.present):
            raise ValueError("a profile is listed twice")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.present.shape[1]

    def profiles(self) -> tuple[Bool[Tensor, "profiles bidders"], Float[Tensor, " profiles"]]:
        """Return the profiles of positive probability and their probabilities."""
        kept = self.probabilities > 0
        return self.present[kept], self.probabilities[kept]

    def sample(self, count: int, generator: Generator) -> Bool[Tensor, "count bidders"]:
        """Draw independent rounds."""
        return self.present[torch.multinomial(self.probabilities, count, replacement=True, generator=generator)]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """Each bidder comes with a probability of its own, whoever else comes.

    Raises:
        ValueError: If a probability lies outside [0, 1].
    """

    probabilities: Float[Tensor, " bidders"]

    def __post_init__(self) -> None:
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise ValueError(f"probabilities must lie in [0, 1], got {self.probabilities.tolist()}")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return len(self.probabilities)

    def profiles(self) -> tuple[Bool[Tensor, "profiles bidders"], Float[Tensor, " profiles"]]:
        """Return the profiles of positive probability and their probabilities."""
        present = all_profiles(self.bidders)
        chances = torch.where(present, self.probabilities, 1 - self.probabilities).prod(1)
        return present[chances > 0], chances[chances > 0]

    def sample(self, count: int, generator: Generator) -> Bool[Tensor, "count bidders"]:
        """Draw independent rounds."""
        drawn = torch.rand(count, self.bidders, generator=generator, dtype=torch.float64)
        return drawn < self.probabilities


@final
@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Exchangeable bidders: a distribution of how many come, every group of that size as likely as another.

    Attributes:
        counts: Probability of 0, 1, ..., n present bidders.

    Raises:
        ValueError: If they are no distribution.
    """

    counts: Float[Tensor, " sizes"]

    def __post_init__(self) -> None:
        if len(self.counts) < 2:
            raise ValueError("wanted a probability for 0 and for each number of at least one bidder")
        _check(self.counts)

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return len(self.counts) - 1

    def profiles(self) -> tuple[Bool[Tensor, "profiles bidders"], Float[Tensor, " profiles"]]:
        """Return the profiles of positive probability and their probabilities."""
        present = all_profiles(self.bidders)
        groups = torch.tensor([comb(self.bidders, k) for k in range(self.bidders + 1)], dtype=torch.float64)
        chances = (self.counts / groups)[present.sum(1)]
        return present[chances > 0], chances[chances > 0]

    def sample(self, count: int, generator: Generator) -> Bool[Tensor, "count bidders"]:
        """Draw independent rounds."""
        size = torch.multinomial(self.counts, count, replacement=True, generator=generator)
        rank = torch.rand(count, self.bidders, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
        return rank < size[:, None]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Markov:
    """Bidders that stay and stay away for a while: each a chain of its own, in its stationary distribution.

    Attributes:
        arrive: Probability that an absent bidder is present in the next round.
        leave: Probability that a present bidder is absent in the next round.

    Raises:
        ValueError: If one lies outside [0, 1], or a bidder can neither arrive nor leave.
    """

    arrive: Float[Tensor, " bidders"]
    leave: Float[Tensor, " bidders"]

    def __post_init__(self) -> None:
        both = torch.stack([self.arrive, self.leave])
        if not ((both >= 0) & (both <= 1)).all():
            raise ValueError(f"probabilities must lie in [0, 1], got {both.tolist()}")
        if not (both.sum(0) > 0).all():
            raise ValueError("a bidder that can neither arrive nor leave has no stationary distribution")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return len(self.arrive)

    @property
    def stationary(self) -> Independent:
        """What a single round looks like."""
        return Independent(self.arrive / (self.arrive + self.leave))

    def profiles(self) -> tuple[Bool[Tensor, "profiles bidders"], Float[Tensor, " profiles"]]:
        """Return the profiles of positive probability in a single round and their probabilities."""
        return self.stationary.profiles()

    def sample(self, count: int, generator: Generator) -> Bool[Tensor, "count bidders"]:
        """Draw rounds that lie so far apart that they are independent."""
        return self.stationary.sample(count, generator)

    def path(self, rounds: int, generator: Generator) -> Bool[Tensor, "rounds bidders"]:
        """Draw consecutive rounds, the first from the stationary distribution."""
        drawn = torch.rand(rounds, self.bidders, generator=generator, dtype=torch.float64)
        present = torch.empty(rounds, self.bidders, dtype=torch.bool)
        before = drawn[0] < self.arrive / (self.arrive + self.leave)
        present[0] = before
        for step in range(1, rounds):
            before = torch.where(before, drawn[step] >= self.leave, drawn[step] < self.arrive)
            present[step] = before
        return present


def profile_numbers(present: Bool[Tensor, "batch bidders"]) -> Int[Tensor, " batch"]:
    """Return the number of each participation profile; seat 1 is the highest binary digit (AGG-1)."""
    digits = 2 ** torch.arange(present.shape[1] - 1, -1, -1, device=present.device)
    return (present * digits).sum(1)


def all_profiles(bidders: int) -> Bool[Tensor, "profiles bidders"]:
    """Return all 2^n profiles in the order of their numbers.

    Raises:
        ValueError: If there are more than `MAX_LISTED` bidders.
    """
    if bidders > MAX_LISTED:
        raise ValueError(f"{bidders} bidders have too many profiles to list, at most {MAX_LISTED}")
    digits = torch.arange(bidders - 1, -1, -1)
    return (torch.arange(1 << bidders)[:, None] >> digits) % 2 == 1


def _check(probabilities: Tensor) -> None:
    if not ((probabilities >= 0).all() and abs(float(probabilities.sum()) - 1) <= 1e-9):
        raise ValueError(f"probabilities must be at least 0 and sum to 1, got {probabilities.tolist()}")
