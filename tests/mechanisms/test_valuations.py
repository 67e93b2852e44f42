"""Valuation models against closed forms or quadrature of their VCG revenue and surplus (docs/notation.md, VAL)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.integrate import quad
from scipy.special import betainc, gammainc
from scipy.stats import norm

from mechanisms.evaluation.measures import mean_and_error
from mechanisms.training.loop import step_generator
from mechanisms.valuations import (
    NAMES,
    AsymmetricUniform,
    Beta,
    DirichletShare,
    EqualRevenue,
    Exponential,
    HeterogeneousMixture,
    LatentFactor,
    LinearMixture,
    LogNormalCopula,
    MultivariateNormal,
    PerfectNegative,
    PowerLaw,
    Spherical,
    Uniform,
    ValuationModel,
    named,
)

Array = npt.NDArray[np.float64]


def order_statistics(distribution: Callable[[float], float], bidders: int, top: float) -> tuple[float, float]:
    """Mean second highest and highest of independent draws: integrals of 1 - F^n - n F^(n-1) (1 - F) and 1 - F^n."""

    def above(x: float) -> float:
        return 1 - distribution(x) ** bidders

    def second(x: float) -> float:
        f = distribution(x)
        return 1 - f**bidders - bidders * f ** (bidders - 1) * (1 - f)

    return quad(second, 0, top, limit=400)[0], quad(above, 0, top, limit=400)[0]


def per_item(distributions: Sequence[Callable[[float], float]], bidders: int, top: float) -> tuple[float, float]:
    pairs = [order_statistics(distribution, bidders, top) for distribution in distributions]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


def uniform_on(low: float, high: float) -> Callable[[float], float]:
    return lambda x: min(max((x - low) / (high - low), 0.0), 1.0)


def gamma_shares(alpha: float, bidders: int, items: int) -> tuple[float, float]:
    """Shares are independent of the sum of the gammas: E[T w_(k)] = 0.75 E[G_(k)] / (n alpha)."""
    second, first = order_statistics(lambda x: float(gammainc(alpha, x)), bidders, 60.0)
    return 0.75 * items * second / (bidders * alpha), 0.75 * items * first / (bidders * alpha)


def hetero(x: float) -> float:
    return 2 / 3 * min(x, 1.0) + 1 / 3 * -math.expm1(-x)


def cut_normal(model: MultivariateNormal) -> tuple[float, float]:
    """Two bidders, by a fine grid over two independent normals."""
    axis = np.linspace(-7, 7, 2801)
    weight = norm.pdf(axis) * (axis[1] - axis[0])
    one = axis[:, None]
    two = model.correlation * one + math.sqrt(1 - model.correlation**2) * axis[None, :]
    first, second = (np.clip(model.mean + model.deviation * z, 0, 1) for z in (one, two))
    mass = weight[:, None] * weight[None, :]
    return tuple(model.items * float((mass * f(first, second)).sum()) for f in (np.minimum, np.maximum))  # type: ignore[return-value]


def latent(model: LatentFactor) -> tuple[float, float]:
    """Given the factor bidders are independent: integrate over it and over the value."""
    factors = np.linspace(-7, 7, 701)
    grid = np.linspace(0, 16, 16_001)
    totals = np.zeros(2)
    for z in factors:
        below = norm.cdf((grid[None, :] - model.tastes.numpy()[:, None] * z) / model.noise)
        all_below = below.prod(axis=0)
        one_above = sum((1 - below[i]) * np.delete(below, i, axis=0).prod(axis=0) for i in range(model.bidders))
        means = [np.trapezoid(1 - all_below - one_above, grid), np.trapezoid(1 - all_below, grid)]
        totals += np.array(means) * norm.pdf(z) * (factors[1] - factors[0])
    return float(totals[0]), float(totals[1])


def finite(model: Spherical) -> tuple[float, float]:
    """Every profile of types."""
    second = first = 0.0
    for chosen in product(range(model.points), repeat=model.bidders):
        chance = math.prod(float(model.probabilities[k]) for k in chosen)
        values = np.sort(model.types.numpy()[list(chosen)], axis=0)
        second += chance * float(values[-2].sum()) if model.bidders > 1 else 0.0
        first += chance * float(values[-1].sum())
    return second, first


def fractions(vcg: str, surplus: str) -> tuple[float, float]:
    return float(Fraction(vcg)), float(Fraction(surplus))


def mixture(alpha: float) -> tuple[float, float]:
    """LinearMixture, convex, symmetric, alpha > 1/2: E|v_1 - v_2| = alpha/2 + (1-alpha)^2/(12 alpha)."""
    gap = alpha / 2 + (1 - alpha) ** 2 / (12 * alpha)
    return 5 * (0.5 - gap / 2), 5 * (0.5 + gap / 2)


INTERVALS = [(4.0, 16.0), (4.0, 7.0)]
NORMAL = MultivariateNormal(2, 2)
TASTE = LatentFactor(4, 7)
SPHERE, ALONE = Spherical(2, 4, 0), Spherical(1, 3, 5)
COPULA = LogNormalCopula(2, 3)
SPREAD = COPULA.sigma * math.sqrt((1 - COPULA.correlation) / 2)
LEVEL = 2 * COPULA.items * math.exp(COPULA.mu + COPULA.sigma**2 / 2)

FINGERPRINTS: list[tuple[str, ValuationModel, tuple[float, float]]] = [
    ("uniform 2x5", Uniform(2, 5), (5 / 3, 10 / 3)),
    ("uniform on [2, 3]", Uniform(3, 2, 2.0, 3.0), (2 * 2.5, 2 * 2.75)),
    ("asymmetric uniform", AsymmetricUniform(1, INTERVALS), (0.0, 15.5)),
    ("asymmetric, two bidders", AsymmetricUniform(2, INTERVALS), per_item([uniform_on(*i) for i in INTERVALS], 2, 16)),
    ("exponential", Exponential(4, [1.0]), (13 / 12, 25 / 12)),
    ("exponential, two rates", Exponential(3, [1.0, 2.0]), (1.5 * (5 / 6), 1.5 * (11 / 6))),
    ("beta", Beta(2, 2, 1, 2), per_item([lambda x: float(betainc(1, 2, x))] * 2, 2, 1.0)),
    ("power law", PowerLaw(2, [6, 7]), per_item([lambda x: 1 - (1 + x) ** -5, lambda x: 1 - (1 + x) ** -6], 2, np.inf)),
    ("heterogeneous", HeterogeneousMixture(4, 1), order_statistics(hetero, 4, 60.0)),
    ("dirichlet 0.5 2x2", DirichletShare(2, 2, 0.5), (1.5 * (0.5 - 1 / math.pi), 1.5 * (0.5 + 1 / math.pi))),
    ("dirichlet 0.5 3x10", DirichletShare(3, 10, 0.5), gamma_shares(0.5, 3, 10)),
    ("dirichlet 0.5 5x5", DirichletShare(5, 5, 0.5), gamma_shares(0.5, 5, 5)),
    ("dirichlet 2 2x5", DirichletShare(2, 5, 2.0), (3.75 * 5 / 16, 3.75 * 11 / 16)),
    ("dirichlet 2 3x10", DirichletShare(3, 10, 2.0), (7.5 * 197 / 648, 7.5 * 347 / 648)),
    ("dirichlet 2 5x5", DirichletShare(5, 5, 2.0), gamma_shares(2.0, 5, 5)),
    ("mixture 0.6, code", LinearMixture(5, 0.6), mixture(0.6)),
    ("mixture 0.8, code", LinearMixture(5, 0.8), mixture(0.8)),
    ("mixture 0.6, code, asymmetric", LinearMixture(5, 0.6, asymmetric=True), fractions("433/720", "1817/720")),
    ("mixture 0.8, code, asymmetric", LinearMixture(5, 0.8, asymmetric=True), fractions("277/480", "1223/480")),
    ("mixture 0.6, text", LinearMixture(5, 0.6, "bernoulli"), fractions("17/12", "43/12")),
    ("mixture 0.8, text", LinearMixture(5, 0.8, "bernoulli"), fractions("4/3", "11/3")),
    ("mixture 0.6, text, asymmetric", LinearMixture(5, 0.6, "bernoulli", True), fractions("127/240", "623/240")),
    ("mixture 0.8, text, asymmetric", LinearMixture(5, 0.8, "bernoulli", True), fractions("247/480", "1253/480")),
    ("perfect negative", PerfectNegative(), (0.5, 1.5)),
    ("perfect negative, crossed", PerfectNegative(crossed=True), (2 / 3, 4 / 3)),
    ("cut normal", NORMAL, cut_normal(NORMAL)),
    ("latent factor", TASTE, latent(TASTE)),
    ("log-normal copula", COPULA, (LEVEL * norm.cdf(-SPREAD), LEVEL * norm.cdf(SPREAD))),
    ("spherical, two bidders", SPHERE, finite(SPHERE)),
    ("spherical, one bidder", ALONE, finite(ALONE)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), [row[1:] for row in FINGERPRINTS], ids=[row[0] for row in FINGERPRINTS])
def test_fingerprint(model: ValuationModel, expected: tuple[float, float]) -> None:
    sample = model.sample(120_000, step_generator(3, 7, 0))
    assert sample.shape == (120_000, model.bidders, model.items)
    assert sample.dtype == torch.float64
    assert (sample >= 0).all()
    ordered = sample.sort(dim=1).values
    second = ordered[:, -2].sum(1) if model.bidders > 1 else torch.zeros(len(sample), dtype=torch.float64)
    for got, want in ((second, expected[0]), (ordered[:, -1].sum(1), expected[1])):
        mean, error = mean_and_error(got)
        assert abs(mean - want) < 4.5 * error + 1e-9, (mean, error, want)
    assert 2 * float(sample.mean()) == pytest.approx(model.scale, rel=0.02) or isinstance(model, MultivariateNormal)
    assert torch.equal(sample[:9], model.sample(120_000, step_generator(3, 7, 0))[:9])


@pytest.mark.parametrize("epsilon", [0.01, 0.02, 0.05, 0.1])
def test_equal_revenue_surplus(epsilon: float) -> None:
    model = EqualRevenue(epsilon, bidders=3)
    sample = model.sample(400_000, step_generator(3, 7, 0))
    mean, error = mean_and_error(sample.amax(1)[:, 0])
    assert abs(mean - epsilon * math.log(1 / epsilon) / (1 - epsilon)) < 4 * error
    assert float(sample[:, 0].min()) >= epsilon
    assert torch.allclose(sample[:, 1], epsilon * (1 - sample[:, 0]) / (1 - epsilon))
    for price in (
        2 * epsilon,
        0.5,
    ):  # a price p sells with probability eps (1/p - 1)/(1 - eps): revenue hardly depends on it
        sold, spread = mean_and_error((sample[:, 0, 0] >= price).double())
        assert abs(sold - epsilon * (1 / price - 1) / (1 - epsilon)) < 4 * spread


def test_known_numbers_of_the_literature() -> None:
    assert order_statistics(hetero, 4, 60.0) == pytest.approx((0.700828, 1.320147), abs=1e-6)
    assert gamma_shares(0.5, 3, 10) == pytest.approx((1.761359, 5.256644), abs=2e-5)
    assert gamma_shares(2.0, 5, 5) == pytest.approx((0.938525, 1.428102), abs=1e-6)
    assert mixture(0.6) == pytest.approx((61 / 36, 119 / 36))
    assert mixture(0.8) == pytest.approx((143 / 96, 337 / 96))


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("gaussian", {}, "not known, wanted one of uniform"),
        ("uniform", {"mean": 1}, "no parameter 'mean', wanted: high, low"),
        ("uniform", {"low": 2, "high": 1}, "wanted 0 <= low < high"),
        ("dirichlet_share", {}, "alpha"),
        ("dirichlet_share", {"alpha": 0}, "wanted above 0"),
        ("asymmetric_uniform", {"intervals": [[0, 1]]}, "for 1 items, the setting has 2"),
        ("exponential", {"rates": [1, -1]}, "wanted above 0"),
        ("beta", {"a": 0, "b": 1}, "wanted above 0"),
        ("power_law", {"exponents": [2, 3]}, "wanted above 2"),
        ("linear_mixture", {"alpha": 1.5}, "0 <= alpha <= 1"),
        ("equal_revenue", {"epsilon": 1}, "0 < eps < 1"),
        ("multivariate_normal", {"correlation": -2}, "correlation -2"),
        ("log_normal_copula", {"sigma": 0}, "wanted above 0"),
        ("latent_factor", {"taste_seed": 1}, "2 items"),
        ("spherical", {"point_seed": 1, "ratio": 1}, "above 1"),
    ],
)  # fmt: skip
def test_models_by_name_refuse_clearly(name: str, parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        named(name, 2, 2, parameters)


def test_models_by_name() -> None:
    assert named("linear_mixture", 2, 5, {"alpha": 0.6, "asymmetric": True}) == LinearMixture(5, 0.6, asymmetric=True)
    assert {type(model) for _, model, _ in FINGERPRINTS} | {EqualRevenue} == set(NAMES.values())
    for bidders, items in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least one of each"):
            Uniform(bidders, items)
    with pytest.raises(ValueError, match="wanted 2"):
        named("perfect_negative", 3, 2, {})
