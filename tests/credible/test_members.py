"""Every member of the family, from its recipe to an exact artifact that is certified from its file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.affine import AffineMaximizer, SizeBoosted, WithFee
from mechanisms.export import differential_check, quantise
from mechanisms.training import train
from mechanisms.training.loop import step_generator
from protocol.artifact.certify import certify

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
