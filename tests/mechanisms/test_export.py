"""From float to exact: quantisation, the differential check, exact evaluation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from mechanisms.affine import AffineMaximizer, FeeNetwork, IntegerAffineMaximizer, SizeBoosted, WithFee
from mechanisms.evaluation import evaluate_exact
from mechanisms.export import differential_check, quantise
from mechanisms.export.differential import DifferentialError, adversarial_bids, twin
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine

UNIT = Fraction(1, 10**6)


def random_auction(seed: int, bidders: int = 3, items: int = 2, entries: int = 40) -> AffineMaximizer:
    generator = step_generator(seed, 8, 0)
    shares = torch.softmax(
        torch.randn(entries, bidders + 1, items, generator=generator, dtype=torch.float64) * 3, dim=1
    )
    return AffineMaximizer(
        menu=shares[:, :bidders],
        boosts=torch.randn(entries, generator=generator, dtype=torch.float64) * 0.2,
        weights=torch.rand(bidders, generator=generator, dtype=torch.float64) + 0.5,
    )


@pytest.mark.parametrize("seed", range(3))
def test_quantised_auctions_are_certified_and_close(seed: int) -> None:
    auction = random_auction(seed)
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    assert certify(artifact).certified
    values = Uniform(3, 2).sample(3000, step_generator(seed, 7, 0)).numpy()
    checked = differential_check(auction, artifact, values, unit=UNIT, seed=seed)
    assert abs(checked.revenue_float - checked.revenue_exact) < 2e-3  # weights of 10 bits move payments by 1e-3
    assert checked.other_allocations <= 30
    assert checked.profiles > 3000


def random_fee(base: AffineMaximizer | SizeBoosted, seed: int, scale: float = 1.0) -> WithFee:
    generator, n, inputs = step_generator(seed, 8, 1), base.bidders, (base.bidders - 1) * base.items

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.4

    network = FeeNetwork(
        draw(n, inputs, 8), draw(n, 8), draw(n, 8, 8), draw(n, 8), draw(n, 8), draw(n).abs() * 0.2, scale=scale
    )
    return WithFee(base, network)


@pytest.mark.parametrize("scale", [0.5, 1.0, 12.0])
@pytest.mark.parametrize("kind", ["menu", "sizes"])
def test_quantised_fees_are_certified_and_close(kind: str, scale: float) -> None:
    base: AffineMaximizer | SizeBoosted = random_auction(5)
    if kind == "sizes":
        boosts = torch.rand(10, generator=step_generator(5, 8, 2), dtype=torch.float64)
        base = SizeBoosted(boosts=boosts, weights=torch.tensor([1.0, 0.7, 1.3], dtype=torch.float64), items=2)
    auction = random_fee(base, 5, scale)
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    assert certify(artifact).certified
    assert artifact.max_bits <= 53
    values = Uniform(3, 2).sample(3000, step_generator(5, 7, 0)).numpy()
    checked = differential_check(auction, artifact, values, unit=UNIT, seed=5)
    assert abs(checked.revenue_float - checked.revenue_exact) < 3e-3
    assert checked.other_allocations <= 30
    assert checked.payment_difference < 3e-3


def test_a_quantised_size_boost_loses_only_rounding() -> None:
    boosts = torch.rand(21, generator=step_generator(3, 8, 2), dtype=torch.float64)
    auction = SizeBoosted(boosts=boosts, weights=torch.ones(2, dtype=torch.float64), items=5)
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    assert certify(artifact).certified
    values = Uniform(2, 5).sample(3000, step_generator(3, 7, 0)).numpy()
    checked = differential_check(auction, artifact, values, unit=UNIT, seed=3)
    assert checked.payment_difference < 1e-8
    assert checked.other_allocations == 0


@pytest.mark.parametrize(
    ("bidders", "items", "nodes", "elements"), [(5, 10, 555, 222_145), (2, 20, 659, 22_612)]
)  # what docs/adr/0007 states
def test_the_programme_reaches_the_sizes_that_it_states(bidders: int, items: int, nodes: int, elements: int) -> None:
    states = math.comb(items + bidders, bidders)
    boosts = torch.rand(states, generator=step_generator(4, 8, 2), dtype=torch.float64)
    auction = SizeBoosted(boosts=boosts, weights=torch.ones(bidders, dtype=torch.float64), items=items)
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    assert certify(artifact).certified
    assert (len(artifact.model.graph.node), artifact.elements) == (nodes, elements)
    assert artifact.max_bits <= 41
    bids = np.random.default_rng(4).integers(0, 10**6, (3, bidders, items))
    arrays = Engine(artifact.data).run_arrays(bids)
    allocation, payment = twin(artifact).run(bids)
    assert (arrays["allocation"] == allocation).all()
    assert (arrays["payment"] == payment).all()


def test_equal_weights_lose_only_rounding() -> None:
    auction = random_auction(1)
    auction = AffineMaximizer(
        menu=auction.menu, boosts=auction.boosts, weights=torch.full((3,), 2.0, dtype=torch.float64)
    )
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    assert artifact.parameters["weights"].tolist() == [1, 1, 1]
    values = Uniform(3, 2).sample(3000, step_generator(1, 7, 0)).numpy()
    assert differential_check(auction, artifact, values, unit=UNIT, seed=1).payment_difference < 1e-4


def test_shares_that_round_to_too_much_are_repaired() -> None:
    menu = torch.tensor([[[0.5], [0.5]], [[1 / 3], [2 / 3]]], dtype=torch.float64)
    auction = AffineMaximizer(
        menu=menu, boosts=torch.zeros(2, dtype=torch.float64), weights=torch.ones(2, dtype=torch.float64)
    )
    artifact = quantise(auction, unit=Fraction(1), bid_max=9, share_bits=0, name="1")
    assert artifact.parameters["menu"].sum(axis=1).max() <= 1
    menu = torch.full((1, 7, 1), 1 / 7, dtype=torch.float64)  # seven shares of 0.57 units of a quarter
    zero = torch.zeros(1, dtype=torch.float64)
    auction = AffineMaximizer(menu=menu, boosts=zero, weights=torch.ones(7, dtype=torch.float64))
    shares = quantise(auction, unit=Fraction(1), bid_max=9, share_bits=2, name="1").parameters["menu"]
    assert shares.min() >= 0
    assert shares.sum() == 4


def test_a_wrong_twin_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    auction = random_auction(2)
    artifact = quantise(auction, unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    run = IntegerAffineMaximizer.run
    monkeypatch.setattr(IntegerAffineMaximizer, "run", lambda self, bids: (run(self, bids)[0], run(self, bids)[1] + 1))
    values = Uniform(3, 2).sample(10, step_generator(0, 7, 0)).numpy()
    with pytest.raises(DifferentialError, match="integer twin"):
        differential_check(auction, artifact, values, unit=UNIT, seed=0)


def test_exact_evaluation_is_in_integers() -> None:
    artifact = quantise(random_auction(0), unit=UNIT, bid_max=10**6, share_bits=16, name="1e-6")
    bids = np.rint(Uniform(3, 2).sample(2000, step_generator(0, 7, 0)).numpy() * 1e6).astype(np.int64)
    result = evaluate_exact(Engine(artifact.data), bids, unit=UNIT, certified=True, seed=0, searched=300)
    assert result.regret == 0
    assert result.regret_kind == "exact_zero"
    assert result.regret_found == 0
    assert result.ir_violation == 0
    assert result.overallocation == 0
    assert 0 < result.revenue <= result.welfare
    searched = evaluate_exact(Engine(artifact.data), bids, unit=UNIT, certified=False, seed=0, searched=50)
    assert searched.regret_kind == "searched_lower_bound"


def test_adversarial_bids_hold_ties_and_edges() -> None:
    bids = adversarial_bids(2, 2, 10, np.random.default_rng(0))
    assert bids.min() < 0
    assert bids.max() > 10
    assert (bids[64:96] == bids[64:96, :1, :1]).all()
