"""Values independent across bidders and items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.valuations.model import check_size


@final
@dataclass(frozen=True, slots=True)
class Uniform:
    """Values independent and uniform on [low, high], for every bidder and item.

    Fingerprint of n bidders and m items on [0, 1]: VCG revenue m (n-1)/(n+1), surplus m n/(n+1).

    Raises:
        ValueError: If there is no bidder or item, or the interval is empty or negative.
    """

    bidders: int
    items: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        _check_interval(self.low, self.high)

    @property
    def scale(self) -> float:
        """Sum of the interval's ends: twice the mean."""
        return self.low + self.high

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        return self.low + (self.high - self.low) * unit(count, self.bidders, self.items, generator)


@final
@dataclass(frozen=True, slots=True)
class AsymmetricUniform:
    """Values independent; item j of every bidder uniform on its own interval (Daskalakis et al. 2017: [4,16], [4,7]).

    Raises:
        ValueError: If there is no bidder or item, or an interval is empty or negative.
    """

    bidders: int
    intervals: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        for low, high in self.intervals:
            _check_interval(low, high)

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.intervals)

    @property
    def scale(self) -> float:
        """Mean over the items of the sum of the interval's ends."""
        return sum(low + high for low, high in self.intervals) / self.items

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        ends = torch.tensor(list(self.intervals), dtype=torch.float64)
        return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * unit(count, self.bidders, self.items, generator)


@final
@dataclass(frozen=True, slots=True)
class Exponential:
    """Values independent and exponential; item j has rate `rates[j]`, so mean 1 / rate.

    Fingerprint of n bidders at rate 1: VCG revenue of an item H_n - 1, surplus H_n.

    Raises:
        ValueError: If there is no bidder or item, or a rate is not positive.
    """

    bidders: int
    rates: Sequence[float]

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if not all(rate > 0 and math.isfinite(rate) for rate in self.rates):
            raise ValueError(f"rates {list(self.rates)}, wanted above 0")

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.rates)

    @property
    def scale(self) -> float:
        """Twice the mean over the items."""
        return 2 * sum(1 / rate for rate in self.rates) / self.items

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        drawn = unit(count, self.bidders, self.items, generator)
        values: Tensor = -torch.log1p(-drawn) / torch.tensor(list(self.rates), dtype=torch.float64)
        return values


@final
@dataclass(frozen=True, slots=True)
class Beta:
    """Values independent and Beta(a, b) on [0, 1].

    Raises:
        ValueError: If there is no bidder or item, or a shape is not positive.
    """

    bidders: int
    items: int
    a: float
    b: float

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"shapes {self.a} and {self.b}, wanted above 0")

    @property
    def scale(self) -> float:
        """Twice the mean."""
        return 2 * self.a / (self.a + self.b)

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64: the share of one gamma variable in the sum of two."""
        shape = (count, self.bidders, self.items)
        first, second = gamma(self.a, shape, generator), gamma(self.b, shape, generator)
        return first / (first + second)


@final
@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Values independent with density (k-1)/(1+v)^k on [0, infinity), item j with its own exponent k = `exponents[j]`.

    Source: Daskalakis, Deckelbaum and Tzamos (2017), exponents 6 and 7. By the inverse of F(v) = 1 - (1+v)^(1-k).

    Raises:
        ValueError: If there is no bidder or item, or an exponent is not above 2 (the mean would be infinite).
    """

    bidders: int
    exponents: Sequence[float]

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if not all(exponent > 2 for exponent in self.exponents):
            raise ValueError(f"exponents {list(self.exponents)}, wanted above 2")

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.exponents)

    @property
    def scale(self) -> float:
        """Twice the mean over the items; the mean of one is 1/(k-2)."""
        return 2 * sum(1 / (exponent - 2) for exponent in self.exponents) / self.items

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        exponents = torch.tensor(list(self.exponents), dtype=torch.float64)
        drawn = unit(count, self.bidders, self.items, generator)
        return torch.expm1(-torch.log1p(-drawn) / (exponents - 1))


@final
@dataclass(frozen=True, slots=True)
class HeterogeneousMixture:
    """Every value drawn from U[0.5, 1], U[0, 0.5] or Exp(1), with probability 1/3 each (auction-mech).

    The choice is made anew for every bidder and profile, so values are i.i.d. (2/3) U[0, 1] + (1/3) Exp(1).
    Fingerprint of 4 bidders, one item: VCG revenue 0.700828, surplus 1.320147.
    """

    bidders: int
    items: int

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)

    @property
    def scale(self) -> float:
        """Twice the mean, 4/3."""
        return 4 / 3

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        shape = (count, self.bidders, self.items)
        kind = torch.randint(3, shape, generator=generator)
        drawn = unit(*shape, generator)
        return torch.where(kind == 2, -torch.log1p(-drawn), 0.5 * drawn + 0.5 * (kind == 0))


def _check_interval(low: float, high: float) -> None:
    if not 0 <= low < high < math.inf:
        raise ValueError(f"interval [{low}, {high}], wanted 0 <= low < high")


def unit(count: int, bidders: int, items: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
    """Draw uniform numbers on [0, 1), float64."""
    return torch.rand(count, bidders, items, generator=generator, dtype=torch.float64)


def gamma(shape: float, size: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw Gamma(shape, 1) variables, float64."""
    return torch._standard_gamma(torch.full(size, shape, dtype=torch.float64), generator=generator)
