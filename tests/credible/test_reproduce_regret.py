"""`reproduce regretnet-local`: networks measured by the auditor, beside an exactly truthful row."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from credible import settings as store
from credible.cli import run_command


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of a few steps."""
    load = store.load

    def short(name: str) -> store.Setting:
        setting = load(name)
        recipes = {
            method: msgspec.structs.replace(recipe, iterations=min(recipe.iterations, 40))
            for method, recipe in setting.train.items()
        }
        return msgspec.structs.replace(setting, train=recipes)

    monkeypatch.setattr(store, "load", short)


@pytest.mark.parametrize(
    ("setting", "exact"), [("additive_1x2_uniform_416_47", "lottery-ama"), ("unit_2x2_uniform", "lottery-ama")]
)
def test_rows_tell_regret_by_the_auditor(
    setting: str, exact: str, brief: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["reproduce", "regretnet-local", "--setting", setting, "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    more = "equivariantnet" if setting == "unit_2x2_uniform" else "repaired"
    assert [row["method"] for row in rows] == ["regretnet", "regretnet-kept", more, exact]
    for row in rows:
        if row["method"] not in ("repaired", exact):
            continue
        assert row["dsic"] == "exact"
        assert row["regret"] == 0
    for row in rows[:2]:
        assert row["dsic"] == "approx"
        assert row["regret_kind"] == "searched_lower_bound"
        assert "auditor" in row["regret_search"]
        assert row["regret_largest"] >= row["regret"] >= 0
        assert row["published_revenue"] > 0


def test_auction_mech_prints_the_right_baselines_beside_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--setting",
        "single_4x1_uniform",
        "--method",
        "vcg",
        "--method",
        "ironed-myerson",
        "--method",
        "published",
        "--method",
        "never-withheld",
    ]
    assert run_command(["reproduce", "auction-mech", *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    by_label = {row["label"]: row for row in rows}
    vickrey, learned = by_label["Vickrey"], by_label["their learned network"]
    assert vickrey["dsic"] == "exact"
    assert vickrey["regret"] == 0
    assert vickrey["revenue"] == pytest.approx(0.6, abs=0.003)
    assert vickrey["published_regret"] == 0.198  # of another quantity: the note says so
    assert vickrey["regret_as_printed"] == pytest.approx(0.2, abs=0.012)  # a grid of 11 reports loses a little
    unwithheld = by_label["'Myerson' that never withholds"]
    assert unwithheld["revenue"] == pytest.approx(0.64375, abs=0.002)
    assert unwithheld["ir_loss"] == pytest.approx(0.5**5 / 5, rel=0.1)  # E (1/2 - max)+
    assert unwithheld["dsic"] == "approx"
    assert "E[second - third]" in vickrey["note"]
    assert by_label["Myerson, ironed, from a sample"]["revenue"] == pytest.approx(0.6125, abs=0.003)
    assert learned["dsic"] == "approx"
    assert learned["revenue"] is None
    assert by_label["'Myerson' that never withholds"]["published_revenue"] > 0.6125 + 0.03
