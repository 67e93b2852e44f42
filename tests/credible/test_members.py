"""Every method from its recipe to an exact artifact: what its file proves, and what a session that runs it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from credible.simulation.market import trust_path
from mechanisms.affine import AffineMaximizer, SizeBoosted, WithFee
from mechanisms.export import differential_check, quantise
from mechanisms.networks import RegretNet
from mechanisms.training import train
from mechanisms.training.loop import step_generator
from protocol.artifact.certify import certify
from protocol.artifact.static import CheckedArtifact
from protocol.verify import Trust, verify_path
from tests.conftest import play
from tests.harness import Table

MEMBERS = [
    ("additive_2x2_uniform", "lottery-ama", "menu-affine"),
    ("additive_2x2_uniform", "menu-network", "menu-affine"),
    ("additive_2x2_uniform", "deterministic-ama", "menu-affine"),
    ("additive_2x2_uniform", "mbarp", "menu-affine"),
    ("additive_2x2_uniform", "vvca", "menu-affine"),
    ("unit_2x2_uniform", "lottery-ama", "menu-affine"),
    ("additive_2x5_uniform", "size-boost", "size-boost"),
    ("dirichlet_05_2x2", "size-boost-fee", "size-boost-fee"),
    ("dirichlet_05_2x2", "lottery-ama-fee", "menu-affine-fee"),
    ("dirichlet_05_2x2", "ca-ama", "menu-affine-fee"),
]


@pytest.mark.parametrize(("name", "method", "kind"), MEMBERS)
def test_members_are_certified_from_their_files_and_lose_only_rounding(name: str, method: str, kind: str) -> None:
    setting = store.load(name)
    values = valuation_model(setting)
    objective = objective_of(setting, method, 0)
    schedule = replace(schedule_of(setting, method), iterations=20, batch_start=64, batch_end=64)
    mechanism = objective.mechanism(train(objective, values, schedule, seed=0).best, values.scale)
    assert isinstance(mechanism, AffineMaximizer | SizeBoosted | WithFee)
    grid = setting.grid_unit()
    artifact = quantise(mechanism, unit=grid.unit, bid_max=grid.bid_max, share_bits=grid.share_bits, name=grid.name)
    assert artifact.header.kind == kind
    assert certify(artifact).certified
    sample = values.sample(3000, step_generator(0, 6, 0)).numpy()
    checked = differential_check(mechanism, artifact, sample, unit=grid.unit, seed=0)
    assert checked.profiles >= 3000
    assert abs(checked.revenue_exact - checked.revenue_float) < 1e-3


@pytest.mark.parametrize(("agent", "status"), [("honest", 0), ("inflate:1.0", 1)])
@pytest.mark.parametrize("name", ["additive_2x2_uniform", "unit_2x2_uniform"])
def test_a_networks_session_verifies_and_says_that_nothing_proves_it_truthful(
    name: str, agent: str, status: int, tmp_path: Path
) -> None:
    setting = store.load(name)
    values = valuation_model(setting)
    mechanism = objective_of(setting, "regretnet", 0).mechanism(0, values.scale)  # as it is before training
    assert isinstance(mechanism, RegretNet)
    grid = setting.grid_unit()
    artifact = quantise(mechanism, unit=grid.unit, bid_max=grid.bid_max, share_bits=grid.share_bits, name=grid.name)
    play(tmp_path / "session", artifact, agent=agent)
    verdict = verify_path(tmp_path / "session", Trust.read(trust_path(tmp_path / "session")))
    assert verdict.status == status
    assert verdict.checked["rounds re-executed"] > 0
    assert f"mechanism: {artifact.header.kind}, not proved truthful" in verdict.labels


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, "proved truthful for additive values"),
        ({"charge": "realised"}, "proved truthful for additive values, to one fine unit"),
        ({"support_rule": "clamp"}, "proved truthful for additive values"),
        (
            {"support_rule": "clamp", "minimum": 20},
            "proved truthful for additive values, not below 20, to which bids are raised",
        ),
    ],
)
def test_a_session_says_what_its_file_proves(
    rules: dict[str, Any], expected: str, second_price: CheckedArtifact, tmp_path: Path
) -> None:  # spec 1.6, 3.16
    table = Table(second_price, **rules)
    table.play(0, {0: [500, 30], 1: [300, 700], 2: [50, 40]})
    verdict = verify_path(tmp_path / "public", table.publish(tmp_path / "public", second_price.data))
    assert f"mechanism: {second_price.header.kind}, {expected}" in verdict.labels
