"""Baselines: Myerson with ironing, straight-jacket prices, conditional prices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechanisms.classic import Myerson, SecondPrice, ironed, separate_myerson, straight_jacket, straight_jacket_prices
from mechanisms.evaluation import evaluate
from mechanisms.outcome import revenue, utilities
from mechanisms.training import ConditionalAuction, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import DirichletShare, Exponential, HeterogeneousMixture, Uniform

# Giannakopoulos and Koutsoupias (2018), recomputed to nine digits
JACKET = {
    1: [0.5],
    2: [0.666666667, 0.861928813],
    3: [0.75, 1.146446609, 1.225706606],
    6: [0.857142857, 1.512255205, 1.986118061, 2.286120401, 2.416523333, 2.377360951],
    10: [
        0.909090909, 1.689616949, 2.354802402, 2.909349346, 3.355969394, 3.696489480, 3.932249405, 4.064286428,
        4.093434541, 3.994665129,
    ],
}  # fmt: skip


def test_ironing_is_the_concave_hull_of_the_revenue_curve() -> None:
    # values 1, 2, 9, each with probability 1/3: R = 9, 4, 3; the hull goes 0, 9, 6, 3 and level 4 - 9 is ironed
    knots, levels = ironed(np.array([9.0, 1.0, 2.0]))
    assert knots.tolist() == [1.0, 9.0]
    assert levels.tolist() == [-3.0, 9.0]
    with pytest.raises(ValueError, match="none negative"):
        ironed(np.array([-1.0]))
    with pytest.raises(ValueError, match="levels fall"):
        Myerson(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]))


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (Uniform(4, 1), 0.6125),  # 3/5 + 1/80
        (Exponential(4, [1.0]), 1.127315763078),  # H_4 - sum q^k/k, q = 1 - 1/e
        (HeterogeneousMixture(4, 1), 0.724753),  # irregular: a second price with its best reserve earns 0.716564
        (Exponential(1, [1.0]), 1 / math.e),
    ],
)
def test_myerson_reaches_the_optimum(values: Uniform | Exponential | HeterogeneousMixture, known: float) -> None:
    auction = separate_myerson(values.sample(200_000, step_generator(1, 0, 0)))
    result = evaluate(auction, values, samples=400_000, seed=3, searched=500, draws=10)
    assert abs(result.revenue - known) < 4 * result.revenue_se + 0.001 * known
    assert result.regret_found < 1e-12
    assert result.ir_violation < 1e-12


def test_ironing_beats_every_reserve_where_values_are_irregular() -> None:
    values = HeterogeneousMixture(4, 1)
    fresh = values.sample(400_000, step_generator(5, 0, 0))
    ours = float(revenue(separate_myerson(values.sample(200_000, step_generator(1, 0, 0))).run(fresh)).mean())
    reserves = torch.linspace(0, 1.5, 16, dtype=torch.float64)
    best = max(float(revenue(SecondPrice(4, reserve[None]).run(fresh)).mean()) for reserve in reserves)
    assert ours > best + 0.004


levels = st.lists(st.integers(-3, 6), min_size=1, max_size=4, unique=True).map(sorted)


@given(st.lists(levels, min_size=3, max_size=3), st.lists(st.integers(0, 8), min_size=3, max_size=3), st.integers(0, 2))
def test_no_misreport_gains_in_myersons_auction(rows: list[list[int]], bids: list[int], bidder: int) -> None:
    knots = torch.full((3, 1, 4), torch.inf, dtype=torch.float64)
    height = torch.full((3, 1, 4), torch.inf, dtype=torch.float64)
    for i, row in enumerate(rows):
        knots[i, 0, : len(row)] = torch.arange(len(row), dtype=torch.float64) * 2 + i
        height[i, 0, : len(row)] = torch.tensor(row, dtype=torch.float64)
    auction = Myerson(knots, height)
    profile = torch.tensor(bids, dtype=torch.float64)[None, :, None]
    truthful = utilities(auction.run(profile), profile)
    assert float(truthful.min()) >= 0
    reports = profile.repeat(10, 1, 1)
    reports[:, bidder, 0] = torch.arange(10, dtype=torch.float64)
    outcome = auction.run(reports)
    assert float(outcome.allocation.sum(1).max()) <= 1
    gained = utilities(outcome, profile.expand(10, -1, -1))[:, bidder]
    assert float(gained.max()) <= float(truthful[0, bidder])


@pytest.mark.parametrize("items", sorted(JACKET))
def test_straight_jacket_prices(items: int) -> None:
    prices = straight_jacket_prices(items)
    assert prices.tolist() == pytest.approx(JACKET[items], abs=3e-4)


@pytest.mark.parametrize(("items", "known"), [(2, 0.549201005), (3, 0.875464806)])
def test_the_straight_jacket_auction_earns_what_is_proved(items: int, known: float) -> None:
    result = evaluate(straight_jacket(items), Uniform(1, items), samples=400_000, seed=4, searched=200, draws=5)
    assert abs(result.revenue - known) < 4 * result.revenue_se
    assert result.regret_found < 1e-12
    assert result.ir_violation < 1e-12
    with pytest.raises(ValueError, match="at least 1"):
        straight_jacket_prices(0)


def test_conditional_prices_are_truthful_and_earn_what_item_can_reports() -> None:  # ca-ama, table 1: 0.7874
    values = DirichletShare(2, 2, alpha=0.5)
    objective = ConditionalAuction(2, 2, step_generator(0, 4, 0))
    train(objective, values, Schedule(800, 512, 1024, 20, 500, 0.005, every=10**6), seed=0)
    result = evaluate(objective.mechanism(0, values.scale), values, samples=100_000, seed=4, searched=500, draws=10)
    assert result.revenue > 0.78
    assert result.regret_found < 1e-12
    assert result.ir_violation < 1e-12
    with pytest.raises(ValueError, match="at least 2"):
        ConditionalAuction(1, 1, step_generator(0, 4, 0))
