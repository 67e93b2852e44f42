"""Searching a recipe: it starts from the setting's own, resumes, and refuses another search's file."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import msgspec
import optuna
import pytest

from credible import settings as store
from credible import tuning
from credible.cli import run_command
from credible.settings import Recipe
from credible.tuning import as_toml, search
from protocol.errors import MalformedError


def test_a_search_never_ends_below_the_recipe_it_starts_from_and_resumes(tmp_path: Path) -> None:
    setting = store.load("additive_2x2_uniform")
    file = tmp_path / "tune.db"
    seen: list[int] = []
    first = search(setting, "lottery-ama", file, trials=2, seed=0, iterations=40, finished=lambda n, _: seen.append(n))
    assert first.trials == 2
    assert first.revenue >= first.base > 0.7
    again = search(setting, "lottery-ama", file, trials=4, seed=0, iterations=40, finished=lambda n, _: seen.append(n))
    assert (again.trials, again.base, seen) == (4, first.base, [0, 1, 2, 3])
    assert again.revenue >= first.revenue
    tried = [trial.params for trial in study_of(file).trials]
    own = setting.train["lottery-ama"]
    assert tried[0]["learning_rate"] == own.learning_rate
    assert tried[0]["temperature_last"] == own.temperature[1]
    assert len({trial["learning_rate"] for trial in tried}) == 4  # a search that goes on proposes anew
    assert search(setting, "lottery-ama", file, trials=4, seed=0, iterations=40) == again  # nothing left to do
    with pytest.raises(MalformedError, match="another iterations"):
        search(setting, "lottery-ama", file, trials=4, seed=0, iterations=41)
    with pytest.raises(MalformedError, match="no recipe for item-can"):
        search(setting, "item-can", file, trials=1, seed=0)


def study_of(file: Path) -> optuna.Study:
    return optuna.load_study(study_name="additive_2x2_uniform/lottery-ama", storage=f"sqlite:///{file}")


def test_an_interrupted_first_trial_is_tried_again_and_other_auctions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = store.load("additive_2x2_uniform")
    file = tmp_path / "tune.db"

    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(setting, "lottery-ama", file, trials=2, seed=0, iterations=20)
    found = search(setting, "lottery-ama", file, trials=2, seed=0, iterations=20)
    assert found.trials == 2
    own = [trial for trial in study_of(file).trials if trial.state is optuna.trial.TrialState.COMPLETE]
    assert own[0].params["learning_rate"] == setting.train["lottery-ama"].learning_rate
    assert own[0].value == found.base
    wider = msgspec.structs.replace(setting, values={"kind": "uniform", "high": 7.0})
    with pytest.raises(MalformedError, match="another values"):
        search(wider, "lottery-ama", file, trials=3, seed=0, iterations=20)
    with pytest.raises(MalformedError, match="no folder"):
        search(setting, "lottery-ama", tmp_path / "none" / "t.db", trials=1, seed=0)


def test_penalty_weights_are_searched_side_by_side_and_every_trial_is_written(tmp_path: Path) -> None:
    setting, file = store.load("single_4x1_uniform"), tmp_path / "t.db"
    recipe = msgspec.structs.replace(setting.train["auction-mech"], imitate=20, batch=(32, 32))
    setting = msgspec.structs.replace(setting, train={"auction-mech": recipe})
    told: list[int] = []
    found = search(
        setting, "auction-mech", file, trials=4, seed=0, iterations=15, jobs=2, finished=lambda n, _: told.append(n)
    )
    assert found.trials == 4
    assert sorted(told) == [0, 1, 2, 3]
    as_csv, as_json = found.files
    rows = list(csv.DictReader(as_csv.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 4 == len(json.loads(as_json.read_text(encoding="utf-8"))["trials"])
    for row in rows:
        worth = float(row["revenue"]) - tuning.REGRET_WEIGHT * float(row["regret"])
        assert float(row["value"]) == pytest.approx(worth)
    assert {float(row["multiplier"]) for row in rows} > {recipe.multiplier}
    assert max(float(row["value"]) for row in rows) == found.revenue
    cached = list(tmp_path.glob("t-warm-start-*.safetensors"))
    assert len(cached) == 1  # learned once for all
    again = search(setting, "auction-mech", file, trials=5, seed=0, iterations=15)
    assert again.base == found.base
    longer = msgspec.structs.replace(recipe, imitate=21)
    other = msgspec.structs.replace(setting, train={"auction-mech": longer})
    search(other, "auction-mech", tmp_path / "u.db", trials=1, seed=0, iterations=15)
    assert len(list(tmp_path.glob("*warm-start-*"))) == 2


def test_a_file_that_is_no_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = tmp_path / "junk.db"
    junk.write_text("junk" * 100)
    assert run_command(["tune", "additive_2x2_uniform", "--trials", "1", "--study", str(junk)]) == 3
    assert "not a study" in capsys.readouterr().err


def test_what_is_found_is_a_recipe_to_paste() -> None:
    base = Recipe(iterations=10, batch=(8, 8), temperature=(1.0, 2.0), learning_rate=0.1)
    found = msgspec.structs.replace(base, temperature=(1.5, 30.0), learning_rate=0.0123456)
    table = tomllib.loads(as_toml("size-boost", found, base))
    assert table == {"train": {"size-boost": {"temperature": [1.5, 30.0], "learning_rate": 0.01235}}}


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--trials", "2", "--iterations", "20", "--study", str(tmp_path / "t.db")]
    assert run_command(["tune", "additive_2x2_uniform", *options, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["trials"] == 2
    assert got["revenue"] >= got["base_revenue"]
    assert run_command(["tune", "additive_2x2_uniform", *options]) == 0
    assert "fresh draws" in capsys.readouterr().out
    assert run_command(["tune", "additive_2x2_uniform", "--method", "none"]) == 2
    assert run_command(["tune", "additive_2x2_uniform", "--method", "item-can", *options]) == 3
