"""Certified upper bounds of regret: they hold wherever one looks, and close in where the problem is small."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanisms.evaluation import certified, certify_regret, surviving_revenue
from mechanisms.evaluation.certified import Enclosure, uniform_range
from mechanisms.networks.alg_net import AlgNet, alg_layers
from mechanisms.networks.equivariant import EquivariantNet, equivariant_layers
from mechanisms.networks.network import lone_utilities
from mechanisms.networks.regret_net import RegretNet, regret_layers, regret_outcome
from mechanisms.training.loop import step_generator
from mechanisms.valuations import AsymmetricUniform, Exponential, Uniform


def network(bidders: int, items: int, seed: int, steep: float, *, scale: float = 1.0, width: int = 8) -> RegretNet:
    generator = step_generator(seed, 4, 0)
    layers = regret_layers(1, bidders, items, width=width, depth=2, demand="additive", generator=generator)
    return RegretNet({name: tensor * steep for name, tensor in layers.items()}, bidders, items, scale)


def box(bidders: int, items: int) -> dict[str, Any]:
    return {"low": torch.zeros(bidders, items), "high": torch.ones(bidders, items)}


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 10**6), st.sampled_from([1.0, 3.0, 6.0]))
def test_enclosures_hold_the_network_and_its_slopes(bidders: int, items: int, seed: int, steep: float) -> None:
    net, source = network(bidders, items, seed, steep), step_generator(seed, 1, 0)
    inputs, bidder = bidders * items, seed % bidders
    centre = torch.rand(20, inputs, generator=source, dtype=torch.float64)
    half = 0.2 * torch.rand(20, inputs, generator=source, dtype=torch.float64)
    held = Enclosure(net, bidder).over(centre, half)
    layers = {name: tensor.double() for name, tensor in net.layers.items()}
    for _ in range(10):
        bids = centre + half * (torch.rand(20, inputs, generator=source, dtype=torch.float64) * 2 - 1)
        bids.requires_grad_(True)
        allocation, payment = regret_outcome(layers, bids.view(1, 20, bidders, items))
        share = allocation[0, :, bidder]
        part = payment[0, :, bidder] / (share * bids.view(20, bidders, items)[:, bidder]).sum(1)
        for item in range(items):
            (slope,) = torch.autograd.grad(share[:, item].sum(), bids, retain_graph=True)
            assert (slope >= held.share_slope.low[:, item] - 1e-9).all()
            assert (slope <= held.share_slope.high[:, item] + 1e-9).all()
        (slope,) = torch.autograd.grad(part.sum(), bids)
        assert (slope >= held.part_slope.low[:, 0] - 1e-9).all()
        assert (slope <= held.part_slope.high[:, 0] + 1e-9).all()
        assert ((share >= held.share.low - 1e-12) & (share <= held.share.high + 1e-12)).all()
        assert ((part[:, None] >= held.part.low - 1e-12) & (part[:, None] <= held.part.high + 1e-12)).all()


@settings(max_examples=8)
@given(st.integers(1, 2), st.integers(1, 2), st.integers(0, 10**6), st.sampled_from([2.0, 5.0]))
def test_no_lie_gains_more_than_the_bound(bidders: int, items: int, seed: int, steep: float) -> None:
    net, bidder = network(bidders, items, seed, steep), seed % bidders
    certificate = certify_regret(net, bidder, **box(bidders, items), seconds=0.5)
    values = Uniform(bidders, items).sample(2000, step_generator(seed, 1, 0)).float()
    reports = Uniform(bidders, items).sample(2000 * 20, step_generator(seed, 2, 0)).float().view(20, 2000, bidders, -1)
    told = lone_utilities(regret_outcome, net.layers, values, values[None])[0, :, bidder]
    gains = torch.stack([
        lone_utilities(regret_outcome, net.layers, values, lie[None])[0, :, bidder] - told for lie in reports
    ])  # fmt: skip
    assert float(gains.max()) <= certificate.largest + 1e-5
    assert float(gains.amax(0).clamp_min(0).mean()) <= certificate.mean + 1e-5
    assert certificate.found <= certificate.largest
    bounds = [line.largest for line in certificate.log]
    assert bounds == sorted(bounds, reverse=True)
    assert certificate.log[-1].seconds < 30


def test_the_bound_closes_in_on_what_a_grid_finds() -> None:
    net = network(1, 1, 3, 4.0, scale=2.0)
    bids = torch.linspace(0, 2, 801)
    outcome = net.run(bids[:, None, None])
    share, paid = outcome.allocation[:, 0, 0], outcome.payment[:, 0]
    gain = bids[:, None] * share[None] - paid[None]
    gain = gain - gain.diagonal()[:, None]
    largest, mean = float(gain.max()), float(gain.amax(1).mean())
    assert mean > 0.01  # or there was nothing to bound
    certificate = certify_regret(
        net, 0, low=torch.zeros(1, 1), high=torch.full((1, 1), 2.0), seconds=60, found=(mean, largest), tight=1.02
    )
    assert certificate.closed
    assert largest - 1e-5 <= certificate.largest <= 1.02 * largest + 1e-5
    assert mean * 0.99 <= certificate.mean <= 1.02 * mean + 1e-5


@pytest.mark.parametrize("seed", [3, 40, 62])
def test_the_bounds_are_above_a_fine_grid_where_the_first_split_is_of_the_own_value(seed: int) -> None:
    net = network(1, 1, seed, 4.0)
    certificate = certify_regret(net, 0, **box(1, 1), seconds=2)
    bids = torch.linspace(0, 1, 1601)
    outcome = net.run(bids[:, None, None])
    gain = bids[:, None] * outcome.allocation[:, 0, 0][None] - outcome.payment[:, 0][None]
    gain = gain - gain.diagonal()[:, None]
    assert certificate.largest >= float(gain.max()) - 1e-5
    assert certificate.mean >= float(gain.amax(1).mean()) * 0.999 - 1e-5


def test_no_lie_is_lost_when_boxes_are_split() -> None:
    net = network(2, 1, 11, 4.0)
    search = certified._Search(Enclosure(net, 0), torch.zeros(2, 1), torch.ones(2, 1), floor=-9.0)
    for _ in range(5):
        search.refine(search.cells() + 10)  # nothing is pruned
        volume = torch.zeros(len(search.centre), dtype=torch.float64)
        volume.scatter_add_(0, search.cell, 2 * search.lie_half[:, 0])
        assert torch.allclose(volume, torch.ones_like(volume))


def test_networks_too_steep_for_floats_are_bounded_or_said_to_be_unbounded() -> None:
    net = network(2, 2, 1, 1.0, width=64)
    net.layers["allot_2"].mul_(3000.0)
    certificate = certify_regret(net, 0, **box(2, 2), seconds=1)
    assert not math.isnan(certificate.largest)
    assert certificate.largest >= certificate.found


def test_an_equivariantnet_is_bounded_by_its_dense_form() -> None:
    layers = equivariant_layers(1, width=4, depth=2, generator=step_generator(0, 4, 0))
    net = EquivariantNet({name: 4 * tensor for name, tensor in layers.items()}, 2, 1, 1.0)
    certificate = certify_regret(net, 1, **box(2, 1), seconds=3)
    values = Uniform(2, 1).sample(1000, step_generator(0, 1, 0)).float()
    lies = Uniform(2, 1).sample(50_000, step_generator(0, 2, 0)).float().view(50, 1000, 2, 1)
    told = lone_utilities(net.rule, net.layers, values, values[None])[0, :, 1]
    gains = torch.stack([lone_utilities(net.rule, net.layers, values, lie[None])[0, :, 1] - told for lie in lies])
    assert 0.01 < float(gains.max()) <= certificate.largest + 1e-5
    assert float(gains.amax(0).clamp_min(0).mean()) <= certificate.mean + 1e-5
    assert certificate.largest < 2 * float(gains.max())  # and is of this network, not of any


def test_what_cannot_be_certified_is_refused() -> None:
    other = AlgNet(alg_layers(1, 2, 1, width=8, depth=2, generator=step_generator(0, 4, 0)), 2, 1, 1.0)
    with pytest.raises(ValueError, match="with additive bidders only"):
        certify_regret(other, 0, **box(2, 1), seconds=1)
    with pytest.raises(ValueError, match="wanted some width"):
        certify_regret(network(1, 1, 0, 1.0), 0, low=torch.ones(1, 1), high=torch.ones(1, 1), seconds=1)
    assert uniform_range(Exponential(2, [1.0])) is None
    ranged = uniform_range(AsymmetricUniform(2, [(4.0, 16.0), (4.0, 7.0)]))
    assert ranged is not None
    assert ranged[1].tolist() == [[16.0, 7.0], [16.0, 7.0]]


def test_revenue_that_survives_is_that_of_the_theorem() -> None:
    assert surviving_revenue(0.81, 0.01) == pytest.approx(0.64)
    assert surviving_revenue(0.01, 0.04) == 0
