"""Values correlated across bidders or items, by the names of the literature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.valuations.independent import gamma, unit
from mechanisms.valuations.model import check_size


@final
@dataclass(frozen=True, slots=True)
class DirichletShare:
    """Per item independently a total T ~ U[0.5, 1] that bidders share by w ~ Dirichlet(alpha, ..., alpha) (ca-ama).

    Fingerprint: an item's k-th highest value has mean 0.75 E[G_(k)] / (n alpha), G i.i.d. Gamma(alpha).

    Raises:
        ValueError: If there is no bidder or item, or alpha is not positive.
    """

    bidders: int
    items: int
    alpha: float

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}, wanted above 0")

    @property
    def scale(self) -> float:
        """Twice the mean of a value, 1.5 / n."""
        return 1.5 / self.bidders

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        drawn = gamma(self.alpha, (count, self.bidders, self.items), generator)
        total = 0.5 + 0.5 * unit(count, 1, self.items, generator)
        return total * drawn / drawn.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


@final
@dataclass(frozen=True, slots=True)
class LinearMixture:
    """Two bidders whose values are mixtures of opposite ones (ca-ama), item by item.

    "convex", as the authors' code generates it and their printed VCG revenue shows: with b, u, u' ~ U[0, 1],
    v_1 = alpha b + (1-alpha) u and v_2 = alpha (1-b) + (1-alpha) u'. "bernoulli", as the text has it: v_1 ~ U[0, 1];
    with probability alpha v_2 = 1 - v_1, else v_2 ~ U[0, 1]. "asym" divides v_2 by 4.

    Raises:
        ValueError: If alpha lies outside [0, 1].
    """

    items: int
    alpha: float
    mixture: Literal["convex", "bernoulli"] = "convex"
    asymmetric: bool = False
    bidders: int = 2

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if not 0 <= self.alpha <= 1 or self.bidders != 2:
            raise ValueError(f"alpha {self.alpha} and {self.bidders} bidders, wanted 0 <= alpha <= 1 and 2 bidders")

    @property
    def scale(self) -> float:
        """Twice the mean of a value: 1, asymmetric 5/8."""
        return 0.625 if self.asymmetric else 1.0

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        base, first, second = (unit(count, 1, self.items, generator)[:, 0] for _ in range(3))
        if self.mixture == "convex":
            one = self.alpha * base + (1 - self.alpha) * first
            two = self.alpha * (1 - base) + (1 - self.alpha) * second
        else:
            one, two = base, torch.where(first < self.alpha, 1 - base, second)
        return torch.stack([one, two / 4 if self.asymmetric else two], dim=1)


@final
@dataclass(frozen=True, slots=True)
class EqualRevenue:
    """One item; bidder 1 has the equal-revenue distribution on [eps, 1], the others eps (1 - v_1)/(1 - eps) (ca-ama).

    Bidder 1's density is eps/((1-eps) v^2). Its value is the surplus, of mean eps ln(1/eps)/(1-eps): what an auction
    with a fee that depends on rivals' bids can take, where deterministic affine maximizers take hardly more than eps.

    Raises:
        ValueError: If eps lies outside (0, 1) or there are fewer than 2 bidders.
    """

    epsilon: float
    bidders: int = 2
    items: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1 or self.bidders < 2 or self.items != 1:
            raise ValueError(
                f"eps {self.epsilon}, {self.bidders} bidders, {self.items} items: wanted 0 < eps < 1, 2, 1"
            )

    @property
    def scale(self) -> float:
        """Twice the mean value of bidder 1."""
        return 2 * self.epsilon * math.log(1 / self.epsilon) / (1 - self.epsilon)

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        first = self.epsilon / (1 - unit(count, 1, 1, generator) * (1 - self.epsilon))
        others = self.epsilon * (1 - first) / (1 - self.epsilon)
        return torch.cat([first, others.expand(-1, self.bidders - 1, -1)], dim=1)


@final
@dataclass(frozen=True, slots=True)
class PerfectNegative:
    """Two bidders; v_1 ~ U[0, 1] and v_2 = 1 - v_1 of the same item, or crossed: of the item at the other end (ca-ama).

    Fingerprint of two items: VCG revenue 1/2 and surplus 3/2, crossed 2/3 and 4/3.
    """

    items: int = 2
    crossed: bool = False
    bidders: int = 2

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if self.bidders != 2:
            raise ValueError(f"{self.bidders} bidders, wanted 2")

    @property
    def scale(self) -> float:
        """Twice the mean, 1."""
        return 1.0

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        first = unit(count, 1, self.items, generator)
        second = 1 - first
        return torch.cat([first, second.flip(-1) if self.crossed else second], dim=1)


@final
@dataclass(frozen=True, slots=True)
class MultivariateNormal:
    """Values jointly normal, cut to [0, 1]: irregular, since the cut puts atoms at both ends (ca-ama, figure 5).

    Every pair of bidders has the same correlation per item; items are independent.

    Raises:
        ValueError: If the standard deviation is not positive or the correlation leaves no positive definite matrix.
    """

    bidders: int
    items: int
    mean: float = 0.5
    deviation: float = 0.5
    correlation: float = -0.5

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        lowest = -1 / (self.bidders - 1) if self.bidders > 1 else -1.0
        if not self.deviation > 0 or not lowest <= self.correlation <= 1:
            raise ValueError(f"deviation {self.deviation}, correlation {self.correlation}: wanted > 0, {lowest} to 1")

    @property
    def scale(self) -> float:
        """1: values end there."""
        return 1.0

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        drawn = equicorrelated(count, self.bidders, self.items, self.correlation, generator)
        return (self.mean + self.deviation * drawn).clamp(0, 1)


@final
@dataclass(frozen=True, slots=True)
class LatentFactor:
    """One item; v_i = max(0, w_i z + 0.05 e_i), z and e_i ~ N(0, 1), tastes w_i ~ N(0, 1) drawn once (auction-mech).

    The authors draw the tastes without a seed; here `taste_seed` decides them, so a result can be repeated.

    Attributes:
        bidders: Number of bidders.
        taste_seed: Decides the tastes.
        noise: Standard deviation of what is the bidder's own.
    """

    bidders: int
    taste_seed: int
    noise: float = 0.05
    items: int = 1

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if self.items != 1 or not self.noise >= 0:
            raise ValueError(f"{self.items} items and noise {self.noise}, wanted 1 and no less than 0")

    @property
    def tastes(self) -> Float[Tensor, " bidders"]:
        """Return w, float64."""
        source = Generator()
        source.manual_seed(self.taste_seed)
        return torch.randn(self.bidders, generator=source, dtype=torch.float64)

    @property
    def scale(self) -> float:
        """Twice the mean value, E max(0, N(0, s^2)) = s / sqrt(2 pi), averaged over the bidders."""
        spread = (self.tastes**2 + self.noise**2).sqrt()
        return 2 * float(spread.mean()) / math.sqrt(2 * math.pi)

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        factor = torch.randn(count, 1, generator=generator, dtype=torch.float64)
        own = torch.randn(count, self.bidders, generator=generator, dtype=torch.float64)
        return (self.tastes * factor + self.noise * own).clamp_min(0)[:, :, None]


@final
@dataclass(frozen=True, slots=True)
class LogNormalCopula:
    """Values log-normal, exp(mu + sigma x), x jointly normal with one correlation between bidders of an item.

    Fingerprint of 2 bidders: the spread of the logs is sigma sqrt(2 (1 - rho)), so an item's surplus is
    2 e^(mu + sigma^2/2) Phi(sigma sqrt((1 - rho)/2)) and its VCG revenue 2 e^(mu + sigma^2/2) Phi(-the same).

    Raises:
        ValueError: If sigma is not positive or the correlation leaves no positive definite matrix.
    """

    bidders: int
    items: int
    mu: float = -1.0
    sigma: float = 0.5
    correlation: float = 0.5

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        lowest = -1 / (self.bidders - 1) if self.bidders > 1 else -1.0
        if not self.sigma > 0 or not lowest <= self.correlation <= 1:
            raise ValueError(f"sigma {self.sigma}, correlation {self.correlation}: wanted above 0, and {lowest} to 1")

    @property
    def scale(self) -> float:
        """Twice the mean, e^(mu + sigma^2/2)."""
        return 2 * math.exp(self.mu + self.sigma**2 / 2)

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        drawn = equicorrelated(count, self.bidders, self.items, self.correlation, generator)
        return torch.exp(self.mu + self.sigma * drawn)


@final
@dataclass(frozen=True, slots=True)
class Spherical:
    """Bidders drawn independently from k types: points on the positive unit sphere, scaled (Briest et al. 2010).

    The i-th type has length ratio^i and a probability proportional to ratio^-i: the construction behind lottery-ama's
    "spherical" setting, where lotteries earn more than any deterministic menu. That paper does not print its points;
    here `point_seed` decides them.

    Attributes:
        bidders: Number of bidders.
        items: Number of items.
        point_seed: Decides the points.
        points: How many types k.
        ratio: Length of a type over that of the one before.
    """

    bidders: int
    items: int
    point_seed: int
    points: int = 5
    ratio: float = 2.0

    def __post_init__(self) -> None:
        check_size(self.bidders, self.items)
        if self.points < 1 or not self.ratio > 1:
            raise ValueError(f"{self.points} points and ratio {self.ratio}, wanted at least 1 and above 1")

    @property
    def types(self) -> Float[Tensor, "points items"]:
        """Return the values of each type, float64."""
        source = Generator()
        source.manual_seed(self.point_seed)
        directions: Tensor = torch.randn(self.points, self.items, generator=source, dtype=torch.float64).abs()
        lengths = torch.pow(self.ratio, torch.arange(self.points, dtype=torch.float64))
        scaled: Tensor = directions / directions.norm(dim=1, keepdim=True) * lengths[:, None]
        return scaled

    @property
    def probabilities(self) -> Float[Tensor, " points"]:
        """Return the probability of each type."""
        weights = torch.pow(self.ratio, -torch.arange(self.points, dtype=torch.float64))
        return weights / weights.sum()

    @property
    def scale(self) -> float:
        """Twice the mean value of one item."""
        return 2 * float((self.probabilities @ self.types).mean())

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        chosen = torch.multinomial(self.probabilities, count * self.bidders, replacement=True, generator=generator)
        return self.types[chosen].reshape(count, self.bidders, self.items)


def equicorrelated(
    count: int, bidders: int, items: int, correlation: float, generator: Generator
) -> Float[Tensor, "count bidders items"]:
    """Draw standard normal variables with one correlation between any two bidders of an item, float64."""
    matrix = torch.full((bidders, bidders), correlation, dtype=torch.float64)
    matrix.fill_diagonal_(1.0)
    values, vectors = torch.linalg.eigh(matrix)
    root = vectors * values.clamp_min(0).sqrt()
    drawn = torch.randn(count, bidders, items, generator=generator, dtype=torch.float64)
    mixed: Tensor = torch.einsum("ij,bjm->bim", root, drawn)
    return mixed
