"""RegretNet, local and global misreports, and the auditor that measures what regret is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from credible.cli import run_command
from mechanisms.affine.size_boost import SizeBoosted
from mechanisms.classic import SecondPrice
from mechanisms.evaluation import audit_regret, evaluate, evaluate_exact
from mechanisms.export import differential_check, quantise
from mechanisms.networks.regret_net import RegretNet, regret_layers
from mechanisms.outcome import Outcome, ir_violation, overallocation, utilities
from mechanisms.training import NetworkTraining, Schedule, train
from mechanisms.training import network as training
from mechanisms.training.loop import step_generator
from mechanisms.training.run import RunFolder
from mechanisms.valuations import Uniform
from protocol.artifact import RoundInput, build
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.errors import ArtifactRefusedError


def small(
    bidders: int, items: int, seed: int, *, width: int = 16, demand: str = "additive", **options: Any
) -> NetworkTraining:
    generator = step_generator(seed, 4, 0)
    layers = regret_layers(1, bidders, items, width=width, depth=2, demand=demand, generator=generator)
    given: dict[str, Any] = {"misreport_steps": 5, **options}
    return NetworkTraining(RegretNet, layers, bidders, items, generator, **given)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6), st.sampled_from(["additive", "unit"]))
def test_regretnet_is_feasible_and_individually_rational_whatever_its_weights(
    bidders: int, items: int, seed: int, demand: str
) -> None:
    network = small(bidders, items, seed, demand=demand)
    for tensor in network.layers.values():
        tensor *= 4
    values = Uniform(bidders, items).sample(200, step_generator(seed, 1, 0))
    outcome = network.mechanism().run(values)
    assert overallocation(outcome) < 1e-6
    assert ir_violation(outcome, values) < 1e-6
    assert (outcome.payment >= 0).all()
    if demand == "unit":
        assert float(outcome.allocation.sum(2).max()) <= 1 + 1e-6


def test_a_local_misreport_is_one_step_of_the_rate_from_the_truth_and_a_global_one_is_not() -> None:
    values = Uniform(2, 2).sample(100, step_generator(2, 1, 0)).float() * 0.8 + 0.1
    local = small(2, 2, 3, misreports="truth", misreport_steps=1, misreport_rate=0.05)
    moved = (local.misreport(values, 0.5)[0] - values).abs()
    assert torch.allclose(moved, torch.full_like(moved, 0.05), atol=1e-3)
    far = small(2, 2, 3, misreport_steps=25, misreport_rate=0.1)
    for tensor in far.layers.values():
        tensor *= 6  # steep enough that where a climb ends depends on where it begins
    lies = far.misreport(values, 0.5)
    assert float((lies[0] - values).abs().mean()) > 0.2
    assert torch.equal(lies, far.misreport(values, 0.5))  # a resumed run draws the same
    assert not torch.equal(lies, far.misreport(values, 0.25))
    assert float(far.utilities(values, lies).sum()) > float(far.utilities(values, values[None]).sum())
    assert ((lies >= 0) & (lies <= 1)).all()


def test_the_multiplier_rises_above_the_budget_and_falls_below_it() -> None:
    values = Uniform(1, 1).sample(500, step_generator(4, 1, 0)).float()
    for budget, sign in ((1e-6, 1), (10.0, -1)):
        network = small(1, 1, 5, budget=(budget, budget), multiplier=3.0, dual_rate=0.1)
        network.gradients(values, 1.0, 0.5)
        assert (float(network.multiplier) - 3.0) * sign > 0
    for penalty, moves in (("lagrangian", True), ("fixed", False)):
        network = small(1, 1, 5, penalty=penalty, multiplier=3.0, dual_rate=0.1)
        network.gradients(values, 1.0, 0.5)
        assert (float(network.multiplier) > 3.0) is moves
    early, late = (small(1, 1, 5, budget=(0.1, 0.001), multiplier=3.0, dual_rate=0.1) for _ in range(2))
    early.gradients(values, 1.0, 0.0)
    late.gradients(values, 1.0, 0.9)
    assert float(late.multiplier) > float(early.multiplier)  # the budget has fallen a hundredfold
    shift = 0.1 * float(torch.log(torch.tensor(100.0)))
    assert float(late.multiplier) - float(early.multiplier) == pytest.approx(shift, abs=0.05)


def test_a_trained_network_earns_about_the_optimum_of_one_item_with_little_regret() -> None:
    values = Uniform(1, 1)
    network = small(1, 1, 6, width=24, misreport_steps=10, budget=(0.05, 0.005))
    train(network, values, Schedule(500, 256, 256, 1, 1, 0.01, every=1000), seed=0)
    found = evaluate(network.mechanism(), values, samples=20_000, seed=1, searched=10)
    drawn = values.sample(300, step_generator(7, 0, 0)).float()
    audit = audit_regret(network.mechanism(), drawn, low=torch.zeros(1, 1), high=torch.ones(1, 1))
    assert 0.2 < found.revenue < (0.5 + audit.regret**0.5) ** 2 + 0.01  # rev* >= (sqrt rev - sqrt rgt)^2
    assert audit.regret < 0.03


@pytest.mark.parametrize(("misreports", "penalty"), [("random", "lagrangian"), ("kept", "budget")])
def test_a_resumed_training_is_the_same(
    tmp_path: Any, misreports: str, penalty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "KEPT", 200)
    values, schedule = Uniform(2, 1), Schedule(30, 64, 64, 1, 1, 0.01, every=10)
    options: dict[str, Any] = {"misreports": misreports, "penalty": penalty}
    whole, parts = small(2, 1, 8, **options), small(2, 1, 8, **options)
    train(whole, values, schedule, seed=1, run=RunFolder(tmp_path / "whole", {}))

    class StopTraining(Exception):
        pass

    def stop(step: int, validation: float) -> None:
        if step == 20:
            raise StopTraining

    with pytest.raises(StopTraining):
        train(parts, values, schedule, seed=1, run=RunFolder(tmp_path / "parts", {}), progress=stop)
    again = small(2, 1, 8, **options)
    train(again, values, schedule, seed=1, run=RunFolder(tmp_path / "parts", {}, resume=True))
    for name, tensor in whole.parameters().items():
        assert torch.equal(tensor, again.parameters()[name]), name
    for name, tensor in whole.buffers().items():
        assert torch.equal(tensor, again.buffers()[name]), name


def test_kept_misreports_only_get_better_while_the_network_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEPT", 64)
    network = small(2, 2, 3, misreports="kept", misreport_rate=0.1)
    for tensor in network.layers.values():
        tensor *= 6
    draw = network.source(Uniform(2, 2), 1)
    values, index = draw(64, step_generator(1, 1, 0))
    assert len(set(index.tolist())) == 64  # none twice
    assert torch.equal(network.buffers()["kept"][0, index], values)  # at first they are the truth
    gains = []
    for step in range(30):
        kept = network.buffers()["kept"]
        told = network.utilities(values, values[None])
        gains.append(float((network.utilities(values, kept[:, index]) - told).min()))
        before = network.utilities(values, kept[:, index])
        lies = network.misreport(values, step / 30, kept[:, index])
        assert (network.utilities(values, lies) >= before - 1e-6).all()
        kept[:, index] = lies
    assert min(gains) >= -1e-5
    lies = network.buffers()["kept"][:, index]
    assert ((lies >= 0) & (lies <= 1)).all()
    far = network.utilities(values, lies) - told
    climbed = small(2, 2, 3, misreport_steps=25)
    climbed.layers = network.layers
    once = network.utilities(values, climbed.misreport(values, 0.5)) - told
    assert float(far.mean()) > 0.9 * float(once.mean())  # thirty visits find about what one climb of 25 steps finds


def test_a_network_imitates_a_classic_auction_before_it_is_trained() -> None:
    values, target = Uniform(2, 1), SecondPrice(2, torch.tensor([0.5]))
    network = small(2, 1, 3, width=32, target=target, imitate=300)
    profiles = values.sample(2000, step_generator(2, 0, 0))
    wanted = target.run(profiles)
    before = (network.mechanism().run(profiles).payment - wanted.payment).abs().mean()
    network.source(values, 0)
    after = (network.mechanism().run(profiles).payment - wanted.payment).abs().mean()
    assert float(after) < 0.3 * float(before)
    with pytest.raises(ValueError, match="0 steps of imitation with an auction"):
        small(2, 1, 3, target=target)
    with pytest.raises(ValueError, match="5 steps of imitation without an auction"):
        small(2, 1, 3, imitate=5)


def test_the_monotone_penalty_counts_shares_won_against_the_direction_of_the_lie() -> None:
    values = Uniform(1, 1).sample(300, step_generator(1, 0, 0)).float()
    rising, falling = small(1, 1, 3, monotone=1.0), small(1, 1, 3, monotone=1.0)
    for network, sign in ((rising, 1.0), (falling, -1.0)):
        for tensor in network.layers.values():
            tensor.zero_()
        network.layers["allot_0"][0, 0, 0] = sign
        network.layers["allot_1"][0, 0, 0] = 1.0
        network.layers["allot_2"][0, 0, 0] = 3.0  # more of the item for a higher bid, or for a lower one
    slopes = []
    for network in (rising, falling):
        plain = small(1, 1, 3)
        plain.layers = network.layers
        priced, free = (trained.gradients(values, 1.0, 0.5)[0]["allot_2"][0, 0, 0] for trained in (network, plain))
        slopes.append(float(priced - free))
    assert slopes[0] == 0  # nothing to punish
    assert slopes[1] > 0  # descending lowers the steepness


def test_trainings_refuse_what_they_do_not_know() -> None:
    for options, text in (
        ({"budget": (0.1, 0.2)}, "not rising"), ({"misreport_steps": 0}, "at least 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            small(1, 1, 1, **options)


# --- the auditor -----------------------------------------------------------------------------------------------------


class FirstPrice:
    """The highest bidder of each item wins and pays its bid: the best lie is known."""

    truthful, bidders, items, scale = False, 2, 1, 1.0

    def run(self, valuations: Tensor) -> Outcome:
        wins = valuations == valuations.max(dim=1, keepdim=True).values
        allocation = wins.to(valuations)
        return Outcome(allocation=allocation, payment=(allocation * valuations).sum(2))


class Spike:
    """Pays a bidder that reports within a small square; a search must find it."""

    truthful, bidders, items, scale = False, 1, 2, 1.0

    def run(self, valuations: Tensor) -> Outcome:
        inside = ((valuations[:, 0] - torch.tensor([0.613, 0.287])).abs() < 0.02).all(1)
        return Outcome(allocation=torch.zeros_like(valuations), payment=-inside.to(valuations)[:, None])


def box(bidders: int, items: int) -> dict[str, Any]:
    return {"low": torch.zeros(bidders, items), "high": torch.ones(bidders, items)}


def test_the_auditor_finds_the_known_best_lie_without_gradients() -> None:
    values = Uniform(2, 1).sample(300, step_generator(1, 0, 0)).float()
    audit = audit_regret(FirstPrice(), values, **box(2, 1))
    rivals = values.flip(1)[:, :, 0]
    best = (values[:, :, 0] - rivals).clamp_min(0)  # bid just above the rival
    found = torch.tensor(audit.mean)
    assert (found <= best.mean(0) + 1e-6).all()
    assert (found >= best.mean(0) - 2e-3).all()
    worst = int(best.max(1).values.argmax())
    assert audit.worst.gain == pytest.approx(float(best.max()), abs=2e-3)
    assert audit.worst.profile == values[worst].tolist()
    assert audit.curve[0].mean <= audit.curve[-1].mean


def test_the_auditor_finds_a_needle_and_tells_of_whom() -> None:
    values = Uniform(1, 2).sample(40, step_generator(2, 0, 0)).float()
    audit = audit_regret(Spike(), values, **box(1, 2), drawn=2048)
    assert audit.largest == [1.0]
    assert audit.mean[0] > 0.9  # found by some, tried by all
    report = audit.worst.report
    assert abs(report[0] - 0.613) < 0.02
    assert abs(report[1] - 0.287) < 0.02


@pytest.mark.parametrize("bidders", [1, 2])
def test_the_auditor_finds_as_much_as_a_fine_grid_on_a_network(bidders: int) -> None:
    layers = regret_layers(1, bidders, 2, width=24, depth=2, demand="additive", generator=step_generator(9, 4, 0))
    for tensor in layers.values():
        tensor *= 3
    network = RegretNet(layers, bidders, 2, 1.0)
    values = Uniform(bidders, 2).sample(30, step_generator(3, 0, 0)).float()
    audit = audit_regret(network, values, **box(bidders, 2))
    steps = torch.linspace(0, 1, 101)
    grid = torch.cartesian_prod(steps, steps)
    truthful = utilities(network.run(values), values)
    for bidder in range(bidders):
        bids = values[:, None].expand(-1, len(grid), -1, -1).clone()
        bids[:, :, bidder] = grid
        true = values[:, None].expand(-1, len(grid), -1, -1)
        gains = utilities(network.run(bids.flatten(0, 1)), true.flatten(0, 1))[:, bidder].view(30, -1)
        best = (gains.max(1).values - truthful[:, bidder]).clamp_min(0)
        assert audit.mean[bidder] >= float(best.mean()) - 1e-5
        assert audit.largest[bidder] >= float(best.max()) - 1e-5


@pytest.mark.parametrize("make", ["second", "boosts"])
def test_truthful_mechanisms_have_nothing_to_find(make: str) -> None:
    mechanism: Any
    if make == "second":
        mechanism = SecondPrice(2, torch.tensor([0.5, 0.2], dtype=torch.float64))
    else:
        mechanism = SizeBoosted(
            torch.tensor([0.0, 0.3, 0.5, 0.1, 0.2, 0.4], dtype=torch.float64), torch.ones(2, dtype=torch.float64), 2
        )
    values = Uniform(2, 2).sample(50, step_generator(4, 0, 0))
    low, high = torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    audit = audit_regret(mechanism, values, low=low, high=high)
    assert audit.regret < 1e-9
    assert not audit.unfinished


def test_the_auditor_refuses_what_it_cannot_search() -> None:
    values = Uniform(2, 1).sample(0, step_generator(1, 0, 0)).float()
    with pytest.raises(ValueError, match="0 profiles"):
        audit_regret(FirstPrice(), values, **box(2, 1))


def names(items: Sequence[Any]) -> list[str]:
    return [item.stage for item in items]


def test_only_what_gives_gradients_is_climbed() -> None:
    values = Uniform(2, 1).sample(20, step_generator(1, 0, 0)).float()
    layers = regret_layers(1, 2, 1, width=8, depth=1, demand="additive", generator=step_generator(9, 4, 0))
    climbed = audit_regret(RegretNet(layers, 2, 1, 1.0), values, **box(2, 1))
    assert "ascent" in names(climbed.curve)
    assert climbed.gradients
    still = audit_regret(SecondPrice(2, torch.tensor([0.5])), values, **box(2, 1))
    assert [stage.reports for stage in still.curve] == sorted(stage.reports for stage in still.curve)


# --- the exact artifact ----------------------------------------------------------------------------------------------


def exact(network: RegretNet) -> CheckedArtifact:
    return quantise(network, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6 of value")


@pytest.mark.parametrize(
    ("bidders", "items", "depth", "demand"),
    [(1, 1, 2, "additive"), (2, 2, 2, "additive"), (3, 2, 4, "additive"), (1, 2, 2, "unit"), (2, 3, 3, "unit")],
)
def test_a_network_in_fixed_point_is_the_same_everywhere_and_near_the_floats(
    bidders: int, items: int, depth: int, demand: str
) -> None:
    layers = regret_layers(1, bidders, items, width=20, depth=depth, demand=demand, generator=step_generator(9, 4, 0))
    for tensor in layers.values():
        tensor *= 1.5
    network = RegretNet(layers, bidders, items, 1.0)
    artifact = exact(network)
    values = Uniform(bidders, items).sample(2000, step_generator(3, 0, 0)).numpy()
    checked = differential_check(network, artifact, values, unit=Fraction(1, 10**6), seed=2)  # twin and onnx.reference
    assert checked.other_allocations == 0
    assert checked.revenue_exact == pytest.approx(checked.revenue_float, abs=2e-3)
    certificate = certify(artifact)
    assert not certificate.certified
    assert certificate.theorem is None
    assert certificate.problems == ()
    bids = np.rint(values * 10**6).astype(np.int64)
    engine = Engine(artifact.data)
    some = [RoundInput(bids=row.tolist(), participation=[1] * bidders, context=[]) for row in bids[:3]]
    assert engine.run(some) == engine.judge(some)
    found = evaluate_exact(engine, bids, unit=Fraction(1, 10**6), certified=False, seed=1, searched=100)
    assert found.ir_violation == 0
    assert found.overallocation == 0
    assert found.regret_kind == "searched_lower_bound"


def test_networks_without_an_exact_form_say_so() -> None:
    layers = regret_layers(1, 2, 2, width=8, depth=1, demand="additive", generator=step_generator(9, 4, 0))
    with pytest.raises(ValueError, match="at least 2"):
        exact(RegretNet(layers, 2, 2, 1.0))


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("exp", lambda table: table[::-1].copy(), "rises"),
        ("exp", lambda table: table * 0, "leaves 1"),
        ("logistic", lambda table: table * 2, "leaves 0 to 1"),
        ("activation", lambda table: table[::-1].copy(), "falls"),
        ("shift", lambda shift: shift * 0, "wanted 1 to 40"),
        ("allot_first_bias", lambda bias: bias[:-1], "shape"),
        ("allot_last", lambda weights: weights << 30, "exact only to"),
    ],
)
def test_tables_and_shapes_that_are_not_a_networks_are_refused(name: str, change: Any, text: str) -> None:
    layers = regret_layers(1, 2, 1, width=8, depth=2, demand="additive", generator=step_generator(9, 4, 0))
    artifact = exact(RegretNet(layers, 2, 1, 1.0))
    parameters: dict[str, Any] = {key: np.asarray(value) for key, value in artifact.parameters.items()}
    parameters[name] = change(parameters[name])
    with pytest.raises(ArtifactRefusedError, match=text):
        build.network(bidders=2, items=1, bid_max=10**6, share_bits=16, unit="1", **parameters)


def test_a_trained_network_is_played_audited_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, artifact, session = tmp_path / "run", tmp_path / "net.onnx", tmp_path / "session"
    train_it = ["train", "additive_1x2_uniform_416_47", "--method", "regretnet-local", "--iterations", "60"]
    assert run_command([*train_it, "--out", str(run)]) == 0
    assert run_command(["export", str(run), "-o", str(artifact)]) == 0
    assert run_command(["inspect", str(artifact), "--certify"]) == 4  # its class has no certificate
    capsys.readouterr()
    audits = []
    for source in ([str(run)], [str(artifact), "--setting", "additive_1x2_uniform_416_47"]):
        assert run_command(["evaluate", *source, "--samples", "2000", "--audit", "20", "--json"]) == 0
        audits.append(json.loads(capsys.readouterr().out)["audit"])
    assert audits[0]["gradients"]
    assert not audits[1]["gradients"]  # integers have none: the grid and the balls around the best must do
    assert [audit["reports"] for audit in audits] == ["values", "grid"]
    # values are from 4 up, the artifact's grid is from 0: what no truthful bidder would bid can gain more
    assert audits[1]["mean"][0] >= 0.95 * audits[0]["mean"][0]
    assert run_command(["evaluate", str(run), "--samples", "2000", "--audit", "5"]) == 0
    assert "after structured" in capsys.readouterr().out
    options = ["--rounds", "12", "--q", "1/2", "--seed", "1", "--out"]
    assert run_command(["simulate", str(artifact), *options, str(session)]) == 0
    assert run_command(["audit", str(session)]) == 0
    assert run_command(["verify", str(session), "--trust", f"{session}.trust.json"]) == 0
    crooked = tmp_path / "crooked"
    assert run_command(["simulate", str(artifact), "--auctioneer", "inflate:1", *options, str(crooked)]) == 0
    capsys.readouterr()
    assert run_command(["verify", str(crooked), "--trust", f"{crooked}.trust.json"]) == 1
    assert "7.5" in capsys.readouterr().out
