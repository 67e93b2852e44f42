"""Rival-only fees: the paper's two stages, its theory on finite supports, its bounds."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechanisms.affine import AffineMaximizer, FeeNetwork
from mechanisms.affine.members import deterministic_menu
from mechanisms.classic import vcg
from mechanisms.evaluation.bounds import fee_lipschitz, largest_fees, loss_bound, revenue_with_largest_fees
from mechanisms.export import quantise
from mechanisms.outcome import revenue, utilities, welfare
from mechanisms.training import CorrelationAwareAMA, FeeAMA, LotteryAMA, Schedule, TextbookAMA, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import DirichletShare, Uniform


def objective(base: type[LotteryAMA] = LotteryAMA, *, gamma: float = 3.0, mutual: float = 0.5) -> CorrelationAwareAMA:
    menus = base(2, 2, 16, 3.0, step_generator(0, 4, 0))
    return CorrelationAwareAMA(menus, step_generator(0, 4, 1), hidden=16, gamma=gamma, mutual=mutual)


def test_the_softened_outcome_of_the_textbook_is_as_printed() -> None:  # ca-ama, equation 3
    base = TextbookAMA(2, 2, 5, 1.0, step_generator(0, 4, 0))
    values = Uniform(2, 2).sample(20, step_generator(0, 1, 0)).float()
    utility, payment = base.soft_outcome(values, 8.0)
    menu = base.mechanism().menu.float()
    for b, profile in enumerate(values):
        own = torch.stack([(menu[:, i] * profile[i]).sum(1) for i in range(2)])
        total = own.sum(0)
        for i in range(2):
            others = total - own[i]
            paid = (torch.softmax(8.0 * others, 0) * others).sum() - (torch.softmax(8.0 * total, 0) * others).sum()
            assert float(payment[0, b, i]) == pytest.approx(float(paid), abs=1e-5)
            gained = (torch.softmax(8.0 * total, 0) * own[i]).sum() - paid
            assert float(utility[0, b, i]) == pytest.approx(float(gained), abs=1e-5)


@pytest.mark.parametrize("base", [LotteryAMA, TextbookAMA])
def test_softened_outcomes_become_exact_as_they_harden(base: type[LotteryAMA]) -> None:
    menus = base(3, 2, 20, 2.0, step_generator(0, 4, 0), starts=2)
    values = Uniform(3, 2).sample(300, step_generator(0, 1, 0))
    utility, payment = menus.soft_outcome(values.float(), 1e6)
    for start in range(2):
        hard = menus.mechanism(start).run(values)
        assert torch.allclose(payment[start].double(), hard.payment, atol=1e-4)
        assert torch.allclose(utility[start].double(), utilities(hard, values), atol=1e-4)


def test_gamma_follows_the_losses_and_post_training_leaves_the_menu_alone() -> None:
    one = objective()
    draw = one.source(Uniform(2, 2), 0)
    slopes, _ = one.gradients(draw(256, step_generator(0, 1, 0)), 50.0, 0.0)
    assert bool(slopes["logits"].abs().max() > 0)
    one.layers["third"].zero_()
    one.layers["third_bias"].fill_(0.5)  # a fee that nearly everybody loses by
    for _ in range(50):
        one.gradients(draw(256, step_generator(0, 1, 0)), 50.0, 0.0)
    expected = 3.0 + 50 * 0.01 * math.log(0.6 / 0.001)  # the mean loss is about 0.6
    assert float(one.gamma[0]) == pytest.approx(expected, rel=0.1)
    one.layers["third_bias"].fill_(-5.0)  # no fee at all: nobody loses
    one.gradients(draw(256, step_generator(0, 1, 0)), 50.0, 0.9)
    assert float(one.gamma[0]) == 1.0
    one.layers["third"].fill_(0.1)
    one.layers["third_bias"].fill_(0.1)
    slopes, _ = one.gradients(draw(256, step_generator(0, 1, 0)), 50.0, 0.9)
    assert not bool(slopes["logits"].any())
    assert not bool(slopes["boosts"].any())
    assert bool(slopes["fee_third"].abs().max() > 0)


@pytest.mark.parametrize("kind", [CorrelationAwareAMA, FeeAMA])
def test_fees_on_menus_earn_more_than_the_menus_where_values_correlate(kind: type[FeeAMA]) -> None:
    values = DirichletShare(2, 2, alpha=0.5)
    schedule = Schedule(500, 256, 512, 20, 500, 0.01, every=10**6)
    menus = LotteryAMA(2, 2, 32, 3.0, step_generator(0, 4, 0))
    train(menus, values, schedule, seed=0)
    fees = kind(LotteryAMA(2, 2, 32, 3.0, step_generator(0, 4, 0)), step_generator(0, 4, 1))
    train(fees, values, schedule, seed=0)
    fresh = values.sample(50_000, step_generator(9, 9, 0))
    with_opt_out = fees.mechanism(0, values.scale)
    free = replace(with_opt_out, opt_out=False)
    plain = float(revenue(menus.mechanism(0, values.scale).run(fresh)).mean())
    # published: 0.748 without, 0.8532 with the fee, 0.8261 with opting out
    assert float(revenue(with_opt_out.run(fresh)).mean()) > plain + 0.02
    assert float(revenue(free.run(fresh)).mean()) > float(revenue(with_opt_out.run(fresh)).mean())
    assert float(utilities(with_opt_out.run(fresh), fresh).min()) > -1e-9
    assert float(utilities(free.run(fresh), fresh).min()) < -1e-3
    with pytest.raises(ValueError, match="not individually rational"):
        quantise(free, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1/1000000 of value")


def equal_revenue_support(count: int) -> torch.Tensor:
    """Profiles of the equal-revenue example: the second value falls as the first rises."""
    first = torch.linspace(0.1, 1.0, count, dtype=torch.float64)
    return torch.stack([first, (1 - first) / 9], dim=1)[:, :, None]


def test_the_largest_fees_take_the_whole_surplus_where_rivals_tell_all() -> None:  # ca-ama, theorem 3.3
    support = equal_revenue_support(50)
    probabilities = torch.full((50,), 0.02, dtype=torch.float64)
    auction = vcg(2, 1)
    fees = largest_fees(auction, support)
    assert torch.allclose(fees, utilities(auction.run(support), support))
    surplus = float((probabilities * welfare(auction.run(support), support)).sum())
    assert revenue_with_largest_fees(auction, support, probabilities) == pytest.approx(surplus)
    assert float(revenue(auction.run(support)).mean()) < surplus / 5


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=30, unique_by=tuple))
def test_the_largest_fees_are_the_largest_and_no_own_report_moves_them(rows: list[list[int]]) -> None:
    support = torch.tensor(rows, dtype=torch.float64).view(-1, 2, 2) / 3
    mechanism = AffineMaximizer(
        menu=deterministic_menu(2, 2, "additive"),
        boosts=torch.linspace(0.3, 0.0, 9, dtype=torch.float64),
        weights=torch.tensor([1.0, 1.5], dtype=torch.float64),
    )
    fees = largest_fees(mechanism, support)
    left = utilities(mechanism.run(support), support) - fees
    assert float(left.min()) >= -1e-12
    for i in range(2):
        for a in range(len(support)):
            same = (support[:, 1 - i] == support[a, 1 - i]).all(1)
            assert bool((fees[same, i] == fees[a, i]).all())
            assert float(left[same, i].min()) == pytest.approx(0.0, abs=1e-12)  # a larger fee would cost somebody


def test_the_largest_fee_is_as_smooth_as_theorem_4_1_says() -> None:
    generator = step_generator(3, 4, 0)
    mechanism = AffineMaximizer(
        menu=deterministic_menu(2, 2, "additive"),
        boosts=torch.rand(9, generator=generator, dtype=torch.float64) * 0.3,
        weights=torch.tensor([1.0, 2.0], dtype=torch.float64),
    )
    # bidder 0's two possible rows move twice as much as bidder 1's row: C_H = 2
    rival = torch.rand(60, 2, generator=generator, dtype=torch.float64) / 2
    rows = torch.stack([2 * rival, 1 - 2 * rival], dim=1)  # (rivals, possible rows, items)
    support = torch.stack([rows.flatten(0, 1), rival.repeat_interleave(2, 0)], dim=1)
    fees = largest_fees(mechanism, support)[::2, 0]
    bound = fee_lipschitz(mechanism.weights, 0, 2.0)
    assert bound == 12.0
    moves = (rival[:, None] - rival[None]).abs().sum(2)
    assert bool(((fees[:, None] - fees[None]).abs() <= bound * moves + 1e-12).all())


def network(hidden: int, *, biases: float, scale: float = 1.0) -> FeeNetwork:
    generator = step_generator(1, 4, 0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 3

    return FeeNetwork(
        first=drawn(2, 3, hidden), first_bias=biases * drawn(2, hidden), second=drawn(2, hidden, hidden),
        second_bias=biases * drawn(2, hidden), third=drawn(2, hidden), third_bias=biases * drawn(2), scale=scale,
    )  # fmt: skip


def test_the_generalisation_bounds_are_those_of_theorem_c1() -> None:
    fees = network(5, biases=1.0)
    bound = loss_bound(fees, 3, 10_000, 0.05)
    reports = torch.rand(2000, 2, 3, generator=step_generator(2, 4, 0), dtype=torch.float64)
    assert float(fees.fees(reports).max()) <= bound.fee
    assert bound.confidence == pytest.approx(2 * bound.fee * math.sqrt(math.log(40) / 20_000))
    assert bound.capacity == pytest.approx(2 * 2 * bound.fee * math.sqrt(2 * math.log(12)) / 100)
    assert bound.uniform == bound.capacity + bound.confidence
    assert bound.fixed == bound.confidence
    assert loss_bound(fees, 3, 40_000, 0.05).uniform == pytest.approx(bound.uniform / 2)
    assert loss_bound(network(5, biases=1.0, scale=7.0), 3, 10_000, 0.05).fee == pytest.approx(7 * bound.fee)
    with pytest.raises(ValueError, match="at least 1"):
        loss_bound(fees, 3, 0, 0.05)
    with pytest.raises(ValueError, match="wanted 2"):
        loss_bound(fees, 2, 10, 0.05)


def test_the_bounds_are_of_stated_norms_and_no_looser_than_the_inputs_make_them() -> None:
    fees = network(5, biases=1.0)
    stated = loss_bound(fees, 3, 100, 0.05, norms=(9.0, 9.0, 9.0))
    assert stated.fee == pytest.approx(math.sqrt(4) * 729)
    with pytest.raises(ValueError, match="norms"):
        loss_bound(fees, 3, 100, 0.05, norms=(0.1, 9.0, 9.0))
    flat = replace(
        fees, first=0 * fees.first, first_bias=0 * fees.first_bias, second=0 * fees.second,
        second_bias=0 * fees.second_bias, third=0 * fees.third, third_bias=0 * fees.third_bias + 0.3,
    )  # fmt: skip
    assert loss_bound(flat, 3, 100, 0.05).fee == pytest.approx(math.sqrt(4) * 0.3)  # the fee is 0.3 everywhere
