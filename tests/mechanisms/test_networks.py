"""Networks but for RegretNet, and the generator of stage auctions: laws by construction, exact forms, training."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechanisms.evaluation import evaluate
from mechanisms.export import differential_check, quantise
from mechanisms.networks import EquivariantNet, FractionNet, MyersonNet, RegretFormer, RegretNet
from mechanisms.networks.alg_net import alg_layers, alg_outcome
from mechanisms.networks.equivariant import attention_layers, equivariant_layers
from mechanisms.networks.fraction_net import fraction_layers
from mechanisms.networks.myerson_net import bids_of, virtual_values
from mechanisms.networks.network import Network
from mechanisms.networks.regret_net import regret_layers
from mechanisms.outcome import ir_violation, overallocation, revenue, utilities
from mechanisms.participation import Independent, Profiles, WithParticipation, all_profiles
from mechanisms.training import (
    AggregatedSizeBoosts,
    AlgNetTraining,
    MyersonNetTraining,
    NetworkTraining,
    Objective,
    ProfileGenerator,
    Schedule,
    alg,
    train,
)
from mechanisms.training.loop import step_generator
from mechanisms.training.run import RunFolder
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import Uniform
from protocol.artifact.certify import certify


def small_alg(bidders: int, items: int, seed: int, *, reach: float = 1.0, **options: int) -> AlgNetTraining:
    """A small network and its misreporter."""
    given = {"width": 16, "depth": 3, "misreport_steps": 5, **options}
    return AlgNetTraining(bidders, items, step_generator(seed, 4, 0), misreport_rate=0.01, reach=reach, **given)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_algnet_is_feasible_and_individually_rational_whatever_its_weights(bidders: int, items: int, seed: int) -> None:
    network = small_alg(bidders, items, seed)
    for tensor in network.layers.values():
        tensor *= 4
    values = WithParticipation(
        Uniform(bidders, items), Independent(torch.full((bidders,), 0.6, dtype=torch.float64))
    ).sample(200, step_generator(seed, 1, 0))
    outcome = network.mechanism().run(values)
    assert overallocation(outcome) < 1e-6
    assert ir_violation(outcome, values) < 1e-6
    assert (outcome.payment >= 0).all()
    assert not outcome.payment[(values == 0).all(2)].any()  # who is absent pays nothing


ALIKE = ["equivariant", "attention", "equivariant unit", "attention unit"]


def drawn_network(kind: str, bidders: int, items: int, seed: int) -> Network:
    """A network of random weights, four times as steep as at the start of a training."""
    generator = step_generator(seed, 4, 0)
    if kind == "fraction":
        layers = fraction_layers(1, bidders, generator)
        network: type[Network] = FractionNet
    else:
        alike = kind.startswith("equivariant")
        draw, network = equivariant_layers if alike else attention_layers, EquivariantNet if alike else RegretFormer
        layers = draw(1, width=8, depth=2, demand="unit" if "unit" in kind else "additive", generator=generator)
    return network({name: tensor * 4 for name, tensor in layers.items()}, bidders, items, 1.0)


@settings(max_examples=40)
@given(
    st.sampled_from(["fraction", *ALIKE]), st.integers(1, 4), st.integers(1, 3), st.integers(0, 10**6),
)  # fmt: skip
def test_all_networks_are_feasible_and_individually_rational_whatever_their_weights(
    kind: str, bidders: int, items: int, seed: int
) -> None:
    items = 1 if kind == "fraction" else items
    values = Uniform(bidders, items).sample(100, step_generator(seed, 1, 0))
    outcome = drawn_network(kind, bidders, items, seed).run(values)
    assert overallocation(outcome) < 1e-6
    assert ir_violation(outcome, values) < 1e-6
    assert (outcome.payment >= 0).all()
    if kind.endswith("unit"):
        assert float(outcome.allocation.sum(2).max()) < 1 + 1e-6


@settings(max_examples=20)
@given(st.sampled_from(ALIKE), st.integers(0, 10**6), st.permutations(range(3)))
def test_swapping_bidders_or_items_swaps_their_outcomes(kind: str, seed: int, order: list[int]) -> None:
    values = Uniform(3, 3).sample(20, step_generator(seed, 1, 0)).float()
    network = drawn_network(kind, 3, 3, seed)
    outcome = network.run(values)
    by_bidder, by_item = network.run(values[:, order]), network.run(values[:, :, order])
    assert torch.allclose(by_bidder.allocation, outcome.allocation[:, order], atol=1e-4)
    assert torch.allclose(by_bidder.payment, outcome.payment[:, order], atol=1e-4)
    assert torch.allclose(by_item.allocation, outcome.allocation[:, :, order], atol=1e-4)
    assert torch.allclose(by_item.payment, outcome.payment, atol=1e-4)


@settings(max_examples=20)
@given(
    st.sampled_from(["equivariant", "equivariant unit"]), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6)
)
def test_an_equivariantnet_is_a_regretnet_spelled_out(kind: str, bidders: int, items: int, seed: int) -> None:
    network = drawn_network(kind, bidders, items, seed)
    assert isinstance(network, EquivariantNet)
    biased = {name: tensor + 0.3 * torch.randn(tensor.shape) for name, tensor in network.layers.items()}
    network = EquivariantNet(biased, bidders, items, 2.0)
    values = 2 * Uniform(bidders, items).sample(50, step_generator(seed, 1, 0))
    outcome, dense = network.run(values), network.dense().run(values)
    assert torch.allclose(outcome.allocation, dense.allocation, atol=1e-4)
    assert torch.allclose(outcome.payment, dense.payment, atol=1e-4)
    exactly = EquivariantNet({name: tensor.double() for name, tensor in biased.items()}, bidders, items, 2.0)
    assert torch.allclose(exactly.run(values).payment, dense.payment, atol=1e-12)  # certified bounds rest on it


@pytest.mark.parametrize(
    ("kind", "bidders", "items"),
    [
        ("equivariant", 1, 2),
        ("equivariant", 2, 2),
        ("equivariant", 3, 2),
        ("equivariant unit", 2, 3),
        ("fraction", 1, 1),
        ("fraction", 4, 1),
    ],
)
def test_networks_in_fixed_point_are_the_same_everywhere_and_near_the_floats(
    kind: str, bidders: int, items: int
) -> None:
    network = drawn_network(kind, bidders, items, 5)
    layers = {name: 0.4 * tensor + (0.05 if name.endswith("bias") else 0) for name, tensor in network.layers.items()}
    network = type(network)(layers, bidders, items, 3.0)
    unit = Fraction(3, 10**6)
    artifact = quantise(network, unit=unit, bid_max=10**6, share_bits=16, name="3e-6 of value")
    values = 3 * Uniform(bidders, items).sample(2000, step_generator(3, 0, 0)).numpy()
    checked = differential_check(network, artifact, values, unit=unit, seed=2)  # twin and onnx.reference, every bit
    assert checked.other_allocations == 0
    assert checked.payment_difference < 3e-3
    assert checked.revenue_exact == pytest.approx(checked.revenue_float, abs=1e-3)
    certificate = certify(artifact)
    kind = "network-unit-demand" if "unit" in kind else "network"
    assert (certificate.kind, certificate.certified, certificate.problems) == (kind, False, ())


@pytest.mark.parametrize("bias", [0.0, -0.5, -1.5, -2.0, -4.0, -100.0])
@pytest.mark.parametrize("layer", ["trunk_0_bias", "trunk_1_bias", "trunk_2_bias"])
def test_neurons_that_hardly_ever_or_never_wake_have_an_exact_form_too(bias: float, layer: str) -> None:
    layers = fraction_layers(1, 2, step_generator(0, 4, 0))
    layers[layer] += bias
    network = FractionNet(layers, 2, 1, 1.0)
    artifact = quantise(network, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6 of value")
    values = Uniform(2, 1).sample(2000, step_generator(3, 0, 0)).numpy()
    checked = differential_check(network, artifact, values, unit=Fraction(1, 10**6), seed=2)
    assert checked.other_allocations == 0
    assert checked.payment_difference < 1e-3


def test_a_grid_far_above_the_values_costs_little_precision() -> None:
    network = FractionNet(fraction_layers(1, 3, step_generator(1, 4, 0)), 3, 1, 1.0)
    unit, values = Fraction(1, 10**5), Uniform(3, 1).sample(2000, step_generator(3, 0, 0)).numpy()
    artifact = quantise(network, unit=unit, bid_max=20 * 10**5, share_bits=16, name="1e-5 of value")
    checked = differential_check(network, artifact, values, unit=unit, seed=2)
    assert checked.other_allocations == 0
    assert checked.payment_difference < 3e-3
    assert checked.revenue_exact == pytest.approx(checked.revenue_float, abs=2e-4)


def test_networks_without_an_exact_form_say_so() -> None:
    with pytest.raises(ValueError, match="RegretFormer has no exact form"):
        quantise(drawn_network("attention", 2, 2, 1), unit=Fraction(1, 100), bid_max=100, share_bits=8, name="1")


def test_attention_wants_a_width_that_its_heads_divide() -> None:
    with pytest.raises(ValueError, match="width 7, wanted a multiple of 2"):
        attention_layers(1, width=7, depth=1, generator=step_generator(0, 4, 0))


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 10**6))
def test_myersonnet_is_truthful_individually_rational_and_feasible_whatever_its_pieces(
    bidders: int, items: int, seed: int
) -> None:
    generator = step_generator(seed, 4, 0)
    shape = (bidders, items, 3, 4)
    slopes = torch.randn(shape, generator=generator, dtype=torch.float64)
    shifts = torch.randn(shape, generator=generator, dtype=torch.float64)
    network = MyersonNet(slopes, shifts)
    values = Uniform(bidders, items).sample(100, generator)
    lies = 1.5 * Uniform(bidders, items).sample(100, generator)
    outcome = network.run(values)
    assert overallocation(outcome) == 0
    assert ir_violation(outcome, values) < 1e-9  # an inverse in floats
    assert (outcome.payment >= 0).all()
    for bidder in range(bidders):
        reports = values.clone()
        reports[:, bidder] = lies[:, bidder]
        gain = utilities(network.run(reports), values) - utilities(outcome, values)
        assert float(gain[:, bidder].max()) < 1e-9
    bids = Uniform(bidders, items).sample(50, generator)
    assert torch.allclose(bids_of(slopes, shifts, virtual_values(slopes, shifts, bids)), bids, atol=1e-9)


def test_myersonnet_learns_myersons_reserve() -> None:
    objective = MyersonNetTraining(3, 1, step_generator(0, 4, 0), groups=3, pieces=3)
    result = train(objective, Uniform(3, 1), Schedule(500, 512, 512, 20, 200, 0.03, every=10**6), seed=0)
    found = evaluate(objective.mechanism(result.best), Uniform(3, 1), samples=200_000, seed=1, searched=10)
    assert 0.527 < found.revenue < 17 / 32 + 3 * found.revenue_se  # Vickrey 1/2, Myerson 17/32


def test_misreporters_start_differently_for_every_seed_and_alike_for_the_same() -> None:
    values = Uniform(2, 2).sample(20, step_generator(1, 1, 0)).float()
    lies = [small_alg(2, 2, seed).misreport(values, 0.5) for seed in (1, 1, 2)]
    assert torch.equal(lies[0], lies[1])
    first, third = small_alg(2, 2, 1), small_alg(2, 2, 2)
    third.layers = first.layers
    assert not torch.equal(first.misreport(values, 0.5), third.misreport(values, 0.5))


@pytest.mark.parametrize("kind", ["algnet", "regretnet", "equivariantnet", "regretformer"])
def test_each_bidder_lies_alone(kind: str) -> None:
    generator = step_generator(1, 4, 0)
    kinds: dict[str, tuple[type[Network], dict[str, Tensor]]] = {
        "regretnet": (
            RegretNet, regret_layers(1, 3, 2, width=16, depth=2, demand="additive", generator=generator)
        ),
        "equivariantnet": (EquivariantNet, equivariant_layers(1, width=8, depth=2, generator=generator)),
        "regretformer": (RegretFormer, attention_layers(1, width=8, depth=1, generator=generator)),
    }  # fmt: skip
    network = small_alg(3, 2, 1) if kind == "algnet" else NetworkTraining(*kinds[kind], 3, 2, generator)
    values = Uniform(3, 2).sample(50, step_generator(1, 1, 0)).float()
    lies = Uniform(3, 2).sample(50, step_generator(1, 2, 0)).float()
    together = network.utilities(values, lies[None])[0]
    for bidder in range(3):
        reports = values.clone()
        reports[:, bidder] = lies[:, bidder]
        alone = utilities(network.mechanism().run(reports), values)[:, bidder]
        assert torch.allclose(together[:, bidder], alone, atol=1e-5)


def test_several_networks_are_each_their_own() -> None:
    layers = alg_layers(3, 2, 2, width=8, depth=3, generator=step_generator(2, 4, 0))
    bids = Uniform(2, 2).sample(20, step_generator(2, 1, 0)).float()
    allocation, payment = alg_outcome(layers, bids.expand(3, -1, -1, -1))
    for start in range(3):
        own = {name: tensor[start : start + 1] for name, tensor in layers.items()}
        shares, due = alg_outcome(own, bids[None])
        assert torch.allclose(allocation[start], shares[0], atol=1e-6)
        assert torch.allclose(payment[start], due[0], atol=1e-6)


def test_the_misreporter_finds_more_than_the_truth_and_starts_anew_every_step() -> None:
    network = small_alg(2, 1, 3, misreport_steps=60)
    values = Uniform(2, 1).sample(400, step_generator(3, 1, 0)).float()
    truth = network.utilities(values, values[None]).sum()
    first, again = network.misreport(values, 0.5), network.misreport(values, 0.5)
    assert torch.equal(first, again)  # a resumed run draws the same misreporter
    assert not torch.equal(first, network.misreport(values, 0.25))
    assert float(network.utilities(values, first).sum()) > float(truth)
    assert ((first >= 0) & (first <= values)).all()


@pytest.mark.parametrize(("patience", "steps"), [(0, 40), (3, 4)])
def test_early_stopping_stops_where_regret_stands_still(
    patience: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small_alg(1, 1, 4, misreport_steps=40, patience=patience)
    values = Uniform(1, 1).sample(50, step_generator(4, 1, 0)).float()
    for tensor in network.layers.values():
        tensor.zero_()
    network.layers["sell_2_bias"] -= 200  # sells nothing: no report matters
    taken = 0

    def counted(*args: Any) -> Any:
        nonlocal taken
        taken += 1
        return autograd(*args)

    monkeypatch.setattr(alg, "autograd", counted)
    network.misreport(values, 0.1)
    assert taken == steps


def test_the_loss_punishes_regret() -> None:  # NET-4: printed, its last term rewards it
    values = Uniform(1, 1)
    network = small_alg(1, 1, 5, misreport_steps=30, reach=2.0)
    train(network, values, Schedule(250, 256, 256, 1, 1, 0.01, every=1000), seed=0)
    result = evaluate(network.mechanism(), values, samples=20_000, seed=1, searched=1000, draws=50)
    assert result.regret_kind == "searched_lower_bound"
    assert 0.17 < result.revenue < 0.35  # the optimum is 0.25, a regret below r allows up to (0.5 + sqrt r)^2
    assert result.regret < 0.05


def test_unusable_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, 2, 1"):
        small_alg(1, 1, 0, depth=1)
    with pytest.raises(ValueError, match="at most 12"):
        ProfileGenerator(13, 1, step_generator(0, 4, 0), reserve=0.5, hidden=4)


@pytest.mark.parametrize("exchangeable", [True, False])
def test_generated_stage_auctions_are_near_the_best_of_every_profile_even_those_never_seen(exchangeable: bool) -> None:
    seen = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    model = Profiles(seen, torch.tensor([0.3, 0.2, 0.2, 0.1, 0.19, 0.01], dtype=torch.float64))
    values = WithParticipation(Uniform(3, 1), model)
    generator = ProfileGenerator(3, 1, step_generator(6, 4, 0), reserve=0.3, hidden=16, exchangeable=exchangeable)
    train(generator, values, Schedule(400, 1024, 1024, 5, 300, 0.01, every=1000), seed=0)
    auction = generator.mechanism()
    assert auction.truthful
    draws = Uniform(3, 1).sample(60_000, step_generator(6, 1, 0))
    for here in all_profiles(3)[1:]:
        best = {1: 1 / 4, 2: 5 / 12, 3: 17 / 32}[int(here.sum())]  # Myerson, reserve 1/2
        outcome = auction.run(draws, here.expand(len(draws), -1))
        known = bool((seen == here).all(1).any()) or exchangeable
        assert float(revenue(outcome).mean()) > (0.98 if known else 0.9) * best


def test_alike_bidders_have_alike_stage_auctions() -> None:
    generator = ProfileGenerator(3, 2, step_generator(7, 4, 0), reserve=0.5, hidden=8)
    for tensor in generator.layers.values():
        tensor += torch.randn(tensor.shape, generator=step_generator(7, 5, 0))
    boosts = generator.boosts()
    vectors = generator.vectors.tolist()
    number = {tuple(row): index for index, row in enumerate(vectors)}
    for row in vectors:  # profile 111: any order of the same sizes
        assert torch.isclose(boosts[7, number[tuple(row)]], boosts[7, number[tuple(sorted(row))]], atol=1e-5)
    assert len(generator.mechanism().stages) == 3


@pytest.mark.parametrize("exchangeable", [True, False])
def test_the_generator_s_slopes_are_those_of_the_surrogate_written_out(exchangeable: bool) -> None:  # AMA-5
    model = Independent(torch.tensor([0.5, 0.5], dtype=torch.float64))
    generator = ProfileGenerator(2, 2, step_generator(8, 4, 0), reserve=0.4, hidden=4, exchangeable=exchangeable)
    numbers, tables = generator.source(WithParticipation(Uniform(2, 2), model), 0)(512, step_generator(8, 1, 0))
    slopes, merit = generator.gradients((numbers, tables), 10.0)
    leaves = [tensor.requires_grad_(True) for tensor in generator.layers.values()]
    with torch.enable_grad():
        boosts = generator.boosts()[numbers]
        welfare, total = tables[:, 0] + boosts, torch.zeros(512)
        chosen = torch.softmax(10 * welfare, dim=1)
        here = all_profiles(2)[numbers]
        for bidder in range(2):
            without = torch.logsumexp(10 * (tables[:, 1 + bidder] + boosts), dim=1) / 10
            total = total + here[:, bidder] * without
        # R = sum over those present of W_-i = (k - 1) W + b, entry by entry
        total = total - (chosen * ((here.sum(1)[:, None] - 1) * welfare + boosts)).sum(1)
        wanted = torch.autograd.grad(-total.mean(), leaves)
    assert float(merit) == pytest.approx(float(total.mean().detach()), abs=1e-5)
    for name, slope in zip(generator.layers, wanted, strict=True):
        assert torch.allclose(slopes[name], slope, atol=1e-6), name
        assert slope.abs().max() > 1e-5 or name == "boost_1_bias"  # a constant added to all boosts changes nothing


@pytest.mark.parametrize("kind", ["aggregated", "generator", "algnet"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    values = WithParticipation(Uniform(2, 1), Independent(torch.tensor([0.5, 0.9], dtype=torch.float64)))
    schedule = Schedule(10, 64, 64, 5, 60, 0.01, every=5)

    def made() -> Objective:
        if kind == "aggregated":
            return AggregatedSizeBoosts(2, 1, [0.3, 0.6])
        if kind == "generator":
            return ProfileGenerator(2, 1, step_generator(0, 4, 0), reserve=0.5, hidden=4)
        return small_alg(2, 1, 0)

    def kill(step: int, revenue: float) -> None:
        if step > 5:  # after the checkpoint of step 5 was written
            raise KeyboardInterrupt

    whole, resumed = made(), made()
    train(whole, values, schedule, seed=3)
    with pytest.raises(KeyboardInterrupt):
        train(made(), values, schedule, seed=3, run=RunFolder(tmp_path / "run", {}), progress=kill)
    train(resumed, values, schedule, seed=3, run=RunFolder(tmp_path / "run", {}, resume=True))
    for name, tensor in whole.parameters().items():
        assert torch.equal(tensor, resumed.parameters()[name])
