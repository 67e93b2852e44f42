"""Every setting that comes with the package: its values, its grid and its recipes fit together."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from credible import settings as store
from credible.records.values import drawn_rounds, valuation_model
from credible.runs import objective_of
from mechanisms.training.loop import step_generator
from protocol.errors import MalformedError


@pytest.mark.parametrize("name", store.names())
def test_a_setting_fits_together(name: str) -> None:
    setting = store.load(name)
    assert setting.name == name
    model = valuation_model(setting)
    assert (model.bidders, model.items) == (setting.bidders, setting.items)
    grid = setting.grid_unit()
    sample = model.sample(4000, step_generator(0, 7, 0))
    assert float((sample / float(grid.unit) > grid.bid_max).double().mean()) < 2e-4  # the grid holds the values
    for method in setting.train:
        objective = objective_of(setting, method, 0)
        assert all(len(tensor) == objective.starts for tensor in objective.parameters().values())
        assert (objective.bidders, objective.items) == (setting.bidders, setting.items)


def test_profiles_for_a_simulation_are_drawn_on_the_grid() -> None:
    rounds = drawn_rounds(store.load("dirichlet_05_3x10"), b"some secret")
    assert len(rounds) > 1000
    assert all(0 <= v <= 10**6 for row in rounds[0] if row is not None for v in row)
    mean = sum(v for profile in rounds for row in profile if row is not None for v in row) / (len(rounds) * 30)
    assert math.isclose(mean, 250_000, rel_tol=0.02)


GOOD = """
name = "x"
about = "x"
bidders = 2
items = 2
[values]
kind = "uniform"
[grid]
unit = "1/1000"
bid_max = 1000
share_bits = 8
[train.size-boost]
reserves = [0.5]
iterations = 5
batch = [8, 8]
temperature = [1.0, 2.0]
learning_rate = 0.1
"""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("bidders = 2", "bidders = 0", "0 bidders"),
        ('kind = "uniform"', "kind = 3", "name of a valuation model"),
        ('kind = "uniform"', 'kind = "tsuchiura"', "a field `record`"),
        ("[train.size-boost]", "[train.guess]", "recipe for 'guess', wanted one of lottery-ama"),
        ('unit = "1/1000"', 'unit = "0"', "wanted above 0"),
        ("learning_rate", "learning_speed", "learning_speed"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD)
    store.load(str(path))
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(MalformedError, match=text):
        store.load(str(path))


def test_values_and_recipes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace('kind = "uniform"', 'kind = "gaussian"'))
    with pytest.raises(MalformedError, match="not known"):
        valuation_model(store.load(str(path)))
    path.write_text(GOOD)
    with pytest.raises(MalformedError, match="no recipe for lottery-ama, only for size-boost"):
        objective_of(store.load(str(path)), "lottery-ama", 0)
    path.write_text(GOOD.replace("reserves = [0.5]", "reserves = []"))
    with pytest.raises(MalformedError, match="no starting reserve"):
        objective_of(store.load(str(path)), "size-boost", 0)
