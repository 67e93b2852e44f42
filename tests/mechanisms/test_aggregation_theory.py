"""Credible-repeated-auctions, appendix A.3: its bounds on examples where everything is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from mechanisms.evaluation.bounds import (
    aggregated_revenue,
    profile_regret_ceilings,
    profile_revenue_ceilings,
    profile_revenue_floors,
    profile_revenue_floors_tight,
    revenue_without_regret,
    worst_split,
)

SCENARIO_3 = [0.63, 0.07, 0.27, 0.03]


@st.composite
def aggregates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, optima, regrets and revenues of stage auctions that obey corollary A.0.1."""
    count = draw(st.integers(2, 5))
    unit = st.floats(0.01, 1)
    q = np.array(draw(st.lists(unit, min_size=count, max_size=count)))
    optima = np.array(draw(st.lists(st.floats(0, 6), min_size=count, max_size=count)))
    regrets = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))
    parts = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))
    return q / q.sum(), optima, regrets, parts * (np.sqrt(optima) + np.sqrt(regrets)) ** 2


@given(aggregates())
def test_no_stage_auction_leaves_its_bounds(case: tuple[np.ndarray, ...]) -> None:
    q, optima, regrets, revenues = case
    regret, revenue = float(q @ regrets), aggregated_revenue(q, revenues)
    near = 1e-7 + 1e-7 * optima.max()  # roots of rounding
    assert (regrets <= profile_regret_ceilings(regret, q) + near).all()
    assert (revenues <= profile_revenue_ceilings(regret, q, optima) + near / q).all()
    loose, tight = (
        profile_revenue_floors(revenue, regret, q, optima),
        profile_revenue_floors_tight(revenue, regret, q, optima),
    )
    assert (tight <= revenues + near / q).all()
    assert (loose <= tight + near / q).all()  # the paper: tighter, at the price of a maximisation


@given(aggregates(), st.integers(0, 4))
def test_the_tight_floor_is_reached_where_the_others_split_the_regret_at_worst(
    case: tuple[np.ndarray, ...], profile: int
) -> None:
    q, optima, regrets, _ = case
    assume(profile < len(q))
    assume((q * optima).sum() - q[profile] * optima[profile] > 1e-6)
    regret = float(q @ regrets)
    shares = worst_split(q, optima, profile)
    assert shares.sum() == pytest.approx(1)
    revenues = (np.sqrt(optima) + np.sqrt(shares * regret / q)) ** 2
    revenues[profile] = 0.5
    floor = profile_revenue_floors_tight(aggregated_revenue(q, revenues), regret, q, optima)[profile]
    assert floor == pytest.approx(0.5, abs=1e-6)


def test_the_inner_maximum_is_what_an_optimiser_finds() -> None:
    q, optima, regret = np.array(SCENARIO_3), np.array([0.8765, 0.549201, 0.549201, 0.1]), 0.013

    def others(u: np.ndarray, profile: int) -> float:
        terms = q * (np.sqrt(optima) + np.sqrt(np.maximum(u, 0) * regret / q)) ** 2
        return float(terms.sum() - terms[profile])

    for profile in range(4):
        found = minimize(
            lambda u, profile=profile: -others(u, profile),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda u: u.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert -found.fun == pytest.approx(others(worst_split(q, optima, profile), profile), rel=1e-6)
        floor = profile_revenue_floors_tight(0.765, regret, q, optima)[profile]
        assert floor == pytest.approx((0.765 + found.fun) / q[profile], rel=1e-5)


def test_the_paper_s_figures() -> None:  # tables 1 and 2
    for revenue, regret, printed in ((0.470, 0.005, 0.375), (0.580, 0.009, 0.444), (0.765, 0.013, 0.577)):
        assert revenue_without_regret(revenue, regret) == pytest.approx(printed, abs=0.004)  # they rounded
    assert aggregated_revenue(SCENARIO_3, [0.874403, 0.549201, 0.549201, 0]) == pytest.approx(0.737602, abs=1e-6)


def test_one_bidder_who_pays_part_of_its_surplus_keeps_to_the_corollary() -> None:
    # U[0, 1], price p, and a part e of what the bid exceeds p by: reporting p gains e (v - p)
    for price in np.linspace(0, 1, 21):
        for part in np.linspace(0, 1, 21):
            extra = part * (1 - price) ** 2 / 2
            assert revenue_without_regret(price * (1 - price) + extra, extra) <= 0.25 + 1e-12


def test_the_paper_s_seventh_table_contradicts_one_bidder_s_optimum() -> None:  # erratum 7
    assert revenue_without_regret(4.428, 5e-5) > 4.39  # with one bidder and ten items; SJA earns 3.478


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        aggregated_revenue([0.5, 0.4], [1, 1])
    with pytest.raises(ValueError, match="probability 0"):
        profile_regret_ceilings(0.1, [1.0, 0.0])
    with pytest.raises(ValueError, match="at least 0"):
        revenue_without_regret(-1, 0.1)
    assert revenue_without_regret(0.1, 0.2) == 0
