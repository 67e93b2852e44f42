"""Float mechanisms: laws, known answers with their sources, naive references (reference values: docs/notation.md)."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mechanisms.affine import AffineMaximizer, FeeNetwork, IntegerAffineMaximizer, SizeBoosted, WithFee
from mechanisms.affine.members import deterministic_menu, grand_bundle
from mechanisms.affine.size_boost import programme
from mechanisms.classic import FirstPrice, SecondPrice, best_reserves, myerson_uniform, myerson_uniform_revenue, vcg
from mechanisms.evaluation import evaluate
from mechanisms.evaluation.measures import mean_and_error, search_regret
from mechanisms.outcome import Outcome, ir_violation, overallocation, revenue, utilities, welfare
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Empirical, Uniform

eighths = st.integers(0, 16).map(lambda k: k / 8)


@st.composite
def affine_maximizers(draw: st.DrawFn) -> AffineMaximizer:
    """Menus in eighths, boosts in eighths, power-of-two weights: float64 is exact on them."""
    entries, bidders, items = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    menu = torch.zeros(entries, bidders, items, dtype=torch.float64)
    for k in range(entries):
        for j in range(items):
            left = 8
            for i in range(bidders):
                share = draw(st.integers(0, left))
                menu[k, i, j], left = share / 8, left - share
    boosts = torch.tensor(draw(st.lists(st.integers(-16, 16), min_size=entries, max_size=entries))) / 8
    weights = torch.tensor(draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=bidders, max_size=bidders)))
    return AffineMaximizer(menu=menu, boosts=boosts.double(), weights=weights.double())


def draw_lie(data: st.DataObject, auction: AffineMaximizer | WithFee) -> tuple[Tensor, int, Tensor]:
    """Values in eighths, a bidder, and the same profile with other values reported by it."""
    cells = auction.bidders * auction.items
    values = torch.tensor(data.draw(st.lists(eighths, min_size=cells, max_size=cells)), dtype=torch.float64)
    values = values.reshape(1, auction.bidders, auction.items)
    bidder = data.draw(st.integers(0, auction.bidders - 1))
    misreport = values.clone()
    misreport[0, bidder] = torch.tensor(
        data.draw(st.lists(eighths, min_size=auction.items, max_size=auction.items)), dtype=torch.float64
    )
    return values, bidder, misreport


@given(affine_maximizers(), st.data())
def test_no_misreport_beats_the_truth(auction: AffineMaximizer, data: st.DataObject) -> None:
    values, bidder, misreport = draw_lie(data, auction)
    truthful = utilities(auction.run(values), values)[0, bidder]
    # The strategies draw eighths and power-of-two weights: float64 is exact, so no tolerance.
    assert utilities(auction.run(misreport), values)[0, bidder] <= truthful
    outcome = auction.run(values)
    assert ir_violation(outcome, values) == 0
    assert overallocation(outcome) == 0
    assert (outcome.payment >= 0).all()


@given(affine_maximizers(), st.data())
def test_float_and_integer_twins_agree_where_floats_are_exact(auction: AffineMaximizer, data: st.DataObject) -> None:
    cells = auction.bidders * auction.items
    grid = data.draw(st.lists(st.integers(0, 16), min_size=cells, max_size=cells))
    bids = np.array(grid).reshape(1, auction.bidders, auction.items)
    # grid unit 1, shares in eighths; weights doubled to integers, boosts with them
    weights = (auction.weights * 2).long().numpy()
    twin = IntegerAffineMaximizer(
        (auction.menu * 8).long().numpy(), (auction.boosts * 2 * 8).long().numpy(), weights, bid_max=16
    )
    allocation, payment = twin.run(bids)
    outcome = auction.run(torch.from_numpy(bids).double())
    assert (outcome.allocation.numpy() * 8 == allocation).all()
    assert (payment == np.floor(outcome.payment.numpy() * 8)).all()


@st.composite
def fee_auctions(draw: st.DrawFn) -> WithFee:
    """An affine maximizer with a small fee network, numbers in eighths."""
    base: AffineMaximizer | SizeBoosted = draw(affine_maximizers().filter(lambda auction: auction.bidders > 1))
    if draw(st.booleans()):
        states = math.comb(base.items + base.bidders, base.bidders)
        boosts = torch.tensor(draw(st.lists(st.integers(-16, 16), min_size=states, max_size=states))) / 8
        base = SizeBoosted(boosts=boosts.double(), weights=base.weights, items=base.items)
    n, inputs = base.bidders, (base.bidders - 1) * base.items

    def numbers(*shape: int) -> Tensor:
        count = math.prod(shape)
        drawn = draw(st.lists(st.integers(-4, 8), min_size=count, max_size=count))
        return torch.tensor(drawn, dtype=torch.float64).reshape(shape) / 8

    shapes = {
        "first": (n, inputs, 2), "first_bias": (n, 2), "second": (n, 2, 2), "second_bias": (n, 2),
        "third": (n, 2), "third_bias": (n,),
    }  # fmt: skip
    layers: dict[str, Any] = {name: numbers(*shape) for name, shape in shapes.items()}
    return WithFee(base, FeeNetwork(**layers))


@given(fee_auctions(), st.data())
def test_fees_leave_truth_dominant_and_nobody_with_a_loss(auction: WithFee, data: st.DataObject) -> None:
    values, bidder, misreport = draw_lie(data, auction)
    outcome, below = auction.run(values), auction.base.run(values)
    truthful = utilities(outcome, values)[0]
    assert utilities(auction.run(misreport), values)[0, bidder] <= truthful[bidder]
    fees = auction.network.fees(values)[0]
    assert torch.equal(fees[bidder], auction.network.fees(misreport)[0, bidder])
    assert torch.equal(truthful, torch.clamp(utilities(below, values)[0] - fees, min=0.0))
    assert (outcome.payment >= 0).all()
    assert ir_violation(outcome, values) == 0
    assert torch.equal(auction.opting_out(values)[0], utilities(below, values)[0] < fees)


@given(affine_maximizers(), st.integers(0, 2**32 - 1))
def test_size_boosts_equal_a_menu_of_all_allocations(auction: AffineMaximizer, seed: int) -> None:
    source = np.random.default_rng(seed)
    n, m, weights = auction.bidders, auction.items, auction.weights
    boosts = torch.from_numpy(source.integers(-16, 17, math.comb(n + m, n))).double() / 8
    sizes = SizeBoosted(boosts=boosts, weights=weights, items=m)
    number = {tuple(vector): k for k, vector in enumerate(programme(n, m).vectors.tolist())}
    words = torch.tensor(list(product(range(n + 1), repeat=m)))
    held = torch.stack([words == i + 1 for i in range(n)], dim=1).double()
    chosen = torch.tensor([number[tuple(vector)] for vector in held.sum(2).long().tolist()])
    menu = AffineMaximizer(menu=held, boosts=boosts[chosen], weights=weights)
    values = torch.from_numpy(source.integers(0, 9, (50, n, m))).double() / 8
    got, wanted = sizes.run(values), menu.run(values)
    assert torch.equal(got.allocation, wanted.allocation)
    assert torch.equal(got.payment, wanted.payment)


@pytest.mark.parametrize(
    ("boosts", "weights", "text"), [([0.0] * 5, [1.0, 1.0], "5 boosts, wanted 6"), ([0.0] * 6, [1.0, 0.0], "positive")]
)
def test_size_boosts_check_what_truthfulness_rests_on(boosts: Any, weights: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SizeBoosted(boosts=torch.tensor(boosts), weights=torch.tensor(weights), items=2)


def test_fees_refuse_one_bidder_and_other_sizes() -> None:
    base = SizeBoosted(boosts=torch.zeros(6), weights=torch.ones(2), items=2)
    layers: dict[str, Any] = {
        "first": torch.zeros(2, 3, 1), "first_bias": torch.zeros(2, 1), "second": torch.zeros(2, 1, 1),
        "second_bias": torch.zeros(2, 1), "third": torch.zeros(2, 1), "third_bias": torch.zeros(2),
    }  # fmt: skip
    with pytest.raises(ValueError, match="first layer has shape"):
        WithFee(base, FeeNetwork(**layers))
    alone = SizeBoosted(boosts=torch.zeros(3), weights=torch.ones(1), items=2)
    with pytest.raises(ValueError, match="at least 2 bidders"):
        WithFee(alone, FeeNetwork(**layers))


@pytest.mark.parametrize(
    ("menu", "weights", "text"),
    [([[[1.0], [0.5]]], [1.0, 1.0], "more than once"), ([[[1.0], [0.0]]], [0.0, 1.0], "weights must be positive"),
     ([[[-0.5], [0.0]]], [1.0, 1.0], "negative share")],
)  # fmt: skip
def test_construction_checks_what_truthfulness_rests_on(menu: Any, weights: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AffineMaximizer(menu=torch.tensor(menu), boosts=torch.zeros(1), weights=torch.tensor(weights))


def draw(model: Any, count: int = 200_000, seed: int = 0) -> Tensor:
    sample: Tensor = model.sample(count, step_generator(seed, 7, 0))
    return sample


@pytest.mark.parametrize("bidders", [1, 2, 3, 5])
def test_known_revenue_of_myerson_and_second_price(bidders: int) -> None:  # docs/notation.md, VAL
    values = draw(Uniform(bidders, 1))
    exact = [Fraction(1, 4), Fraction(5, 12), Fraction(17, 32), Fraction(49, 80), Fraction(43, 64)][bidders - 1]
    assert myerson_uniform_revenue(bidders) == exact
    for mechanism, expected in (
        (myerson_uniform(bidders, 1), float(exact)),
        (vcg(bidders, 1), (bidders - 1) / (bidders + 1)),
    ):
        mean, error = mean_and_error(revenue(mechanism.run(values)))
        assert abs(mean - expected) < 4 * error + 1e-12


def test_fingerprint_of_uniform_values() -> None:  # docs/notation.md, VAL
    model = Uniform(3, 10)
    values = draw(model, 50_000)
    outcome = vcg(3, 10).run(values)
    for sample, expected in ((revenue(outcome), 5.0), (welfare(outcome, values), 7.5)):
        mean, error = mean_and_error(sample)
        assert abs(mean - expected) < 4 * error
    assert model.scale == 1.0


def test_fixture_of_the_boosted_2x2_auction() -> None:  # docs/notation.md, VAL
    table = {(0, 0): 1.137, (0, 1): 0.501, (0, 2): 0.227, (1, 1): 0.0}
    menu, boosts = [], []
    for owners in product(range(3), repeat=2):  # owner 2 is nobody
        menu.append([[float(owner == i) for owner in owners] for i in range(2)])
        sizes = tuple(sorted(sum(owner == i for owner in owners) for i in range(2)))
        boosts.append(table[sizes])  # type: ignore[index]
    auction = AffineMaximizer(
        menu=torch.tensor(menu, dtype=torch.float64),
        boosts=torch.tensor(boosts, dtype=torch.float64),
        weights=torch.ones(2, dtype=torch.float64),
    )
    mean, error = mean_and_error(revenue(auction.run(draw(Uniform(2, 2), 400_000))))
    assert abs(mean - 0.874402993684) < 4 * error
    profile = torch.tensor([[[0.9, 0.0], [0.0, 0.60]], [[0.9, 0.0], [0.0, 0.62]]], dtype=torch.float64)
    paid = auction.run(profile).payment[:, 0]
    assert torch.allclose(paid, torch.tensor([0.537, 0.517], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("bidders", "items", "reserve"), [(2, 2, 0.0), (2, 2, 0.9), (3, 2, 1.3)])
def test_the_grand_bundle_is_second_price_on_sums(bidders: int, items: int, reserve: float) -> None:
    values = draw(Uniform(bidders, items), 2000)
    outcome = grand_bundle(bidders, items, reserve).run(values)
    sums = SecondPrice(bidders, torch.tensor([reserve], dtype=torch.float64)).run(values.sum(2, keepdim=True))
    assert torch.allclose(outcome.payment, sums.payment)
    assert torch.equal(outcome.allocation, sums.allocation.expand(-1, -1, items))


def test_vcg_of_unit_demand_has_the_known_revenue_and_surplus() -> None:  # 2 x 2 uniform: 1/10 and 37/30
    values = draw(Uniform(2, 2), 200_000)
    outcome = vcg(2, 2, "unit").run(values)
    for sample, expected in ((revenue(outcome), 1 / 10), (welfare(outcome, values), 37 / 30)):
        mean, error = mean_and_error(sample)
        assert abs(mean - expected) < 4 * error
    assert float(outcome.allocation.sum(2).max()) == 1.0


def test_deterministic_menus_are_all_allocations_in_order() -> None:
    assert len(deterministic_menu(2, 3)) == 27
    assert len(deterministic_menu(2, 2, "unit")) == 7
    assert deterministic_menu(1, 2).tolist() == [[[0.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]]
    with pytest.raises(ValueError, match="at most 65536"):
        deterministic_menu(3, 10)


def test_second_price_ties_and_reserves() -> None:
    auction = SecondPrice(3, torch.tensor([0.5]))
    bids = torch.tensor([[0.7, 0.7, 0.1], [0.2, 0.6, 0.1], [0.2, 0.3, 0.1]])[:, :, None]
    outcome = auction.run(bids)
    assert outcome.allocation[:, :, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert torch.allclose(outcome.payment.sum(1), torch.tensor([0.7, 0.5, 0.0]))
    with pytest.raises(ValueError, match="negative"):
        SecondPrice(1, torch.tensor([-1.0]))


def test_first_price_shares_ties_and_respects_the_context() -> None:
    bids = torch.tensor([[5.0, 5.0, 7.0], [9.0, 1.0, 1.0]])[:, :, None]
    context = torch.tensor([[20.0, 14.0], [20.0, 12.0]])  # discounts of at most 6 and 8
    outcome = FirstPrice(3, procurement=True).run(bids, context)
    assert outcome.allocation[:, :, 0].tolist() == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    assert outcome.payment.tolist() == [[2.5, 2.5, 0.0], [0.0, 0.5, 0.5]]
    forward = FirstPrice(3).run(bids, torch.tensor([[6.0], [10.0]]))
    assert forward.payment.tolist() == [[0.0, 0.0, 7.0], [0.0, 0.0, 0.0]]


def test_best_reserves_finds_myersons() -> None:
    reserves = best_reserves(draw(Uniform(3, 2), 60_000))
    assert torch.allclose(reserves, torch.full((2,), 0.5, dtype=torch.float64), atol=0.06)


def test_empirical_values_come_from_the_record() -> None:
    record = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 3.0], [0.0, 0.0]]], dtype=torch.float64)
    model = Empirical(record)
    sample = model.sample(500, step_generator(0, 7, 0))
    seen = {tuple(sorted(map(tuple, profile))) for profile in sample.tolist()}
    assert seen == {((0.0, 2.0), (1.0, 0.0)), ((0.0, 0.0), (3.0, 3.0))}
    assert model.scale == pytest.approx(2 * (1 + 2 + 3 + 3) / 4)
    assert Empirical(record, shuffle=False).sample(9, step_generator(0, 7, 1)).shape == (9, 2, 2)
    for bad in (-record, record * math.inf, record[0]):
        with pytest.raises((ValueError, TypeError)):
            Empirical(bad)


def test_generators_differ_by_seed_purpose_and_step() -> None:  # a 32-bit engine must not make them equal
    firsts = {
        float(torch.rand(1, generator=step_generator(*key))) for key in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]
    }
    assert len(firsts) == 4


class Cheatable:
    """A first-price auction for one item that claims nothing: its regret must be found."""

    bidders, items, truthful = 2, 1, False

    def run(self, valuations: Tensor) -> Outcome:
        return FirstPrice(2).run(valuations)


def test_the_misreport_search_finds_the_regret_of_first_price() -> None:
    values = Uniform(2, 1)
    result = evaluate(Cheatable(), values, samples=2000, seed=1)
    assert result.regret_kind == "searched_lower_bound"
    assert result.regret > 0.05
    sample = values.sample(500, step_generator(1, 7, 0))
    assert (search_regret(vcg(2, 1), sample, values, draws=5, seed=1) <= 1e-12).all()
    truthful = evaluate(vcg(2, 1), values, samples=2000, seed=1)
    assert truthful.regret == 0.0
    assert truthful.regret_kind == "exact_zero"
    assert truthful.regret_found < 1e-12
