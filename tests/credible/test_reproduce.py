"""The papers' tables: every line can be run, what is printed is what was run."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from credible import reproduce as tables
from credible import settings as store
from credible.cli import run_command
from credible.reproduce import figures
from credible.runs import objective_of, schedule_of
from mechanisms.training import Schedule
from protocol.errors import MalformedError

FIELDS = {
    "table", "setting", "method", "dsic", "revenue", "revenue_se", "regret", "regret_kind", "published_revenue",
    "published_regret", "seconds", "seed",
}  # fmt: skip


@pytest.mark.parametrize("paper", tables.papers())
def test_every_line_names_a_setting_and_a_method_that_fit(paper: str) -> None:
    for line in tables.load(paper).row:
        setting = store.load(line.trained_on or line.setting)
        if line.method not in tables.SPECIAL:
            objective_of(setting, line.method, 0)
        if line.method == tables.PUBLISHED:
            assert line.published_revenue is not None


@pytest.mark.parametrize("paper", tables.papers())
def test_no_line_is_there_twice(paper: str) -> None:
    run = [
        (line.table, line.setting, line.method, line.profile, line.trained_on)
        for line in tables.load(paper).row
        if line.method != "published"
    ]
    assert len(set(run)) == len(run)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    assert run_command(["reproduce", "ca-ama", "--figures", str(tmp_path / "f"), "--csv", str(tmp_path / "c")]) == 2
    line = tables.Published("x", "additive_2x2_uniform", "straight-jacket", "none")
    with pytest.raises(MalformedError, match="one bidder"):
        next(tables.reproduce([line], full=False, seeds=[0]))
    unit = msgspec.structs.replace(store.load("additive_2x2_uniform"), demand="unit")
    with pytest.raises(MalformedError, match="no unit demand"):
        objective_of(unit, "menu-network", 0)


def test_papers_that_are_not_known_are_refused() -> None:
    with pytest.raises(MalformedError, match="wanted one of auction-mech, ca-ama, credible-auctions, lottery-ama"):
        tables.load("regretnet")
    assert run_command(["reproduce", "regretnet"]) == 3
    assert run_command(["reproduce", "ca-ama", "--setting", "nowhere"]) == 2
    assert run_command(["reproduce", "auction-mech", "--figures", "nowhere"]) == 2  # it has none


def test_the_rows_of_a_small_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.csv"
    options = ["--setting", "additive_2x2_uniform", "--method", "mbarp", "--method", "grand-bundle"]
    more = ["--method", "item-wise-myerson", "--method", "published"]
    assert run_command(["reproduce", "lottery-ama", *options, *more, "--csv", str(table), "--json"]) == 0
    got: dict[str, Any] = json.loads(capsys.readouterr().out)
    rows = {row["label"]: row for row in got["rows"]}
    assert all(set(row) >= FIELDS for row in rows.values())
    for label, known in (("Separate Myerson", 5 / 6), ("Grand bundle", 0.839244), ("MBARP", 0.870321)):
        row = rows[label]
        assert abs(row["revenue"] - known) < 4.5 * row["revenue_se"] + 0.001
        assert (row["dsic"], row["regret"], row["regret_kind"]) == ("exact", 0.0, "exact_zero")
    assert rows["MBARP"]["seconds"] > 0
    assert rows["MBARP"]["seed"] == 0
    assert rows["Grand bundle"]["seed"] is None  # nothing was trained
    assert rows["MBARP"]["published_revenue"] == 0.871
    assert rows["RegretNet"]["dsic"] == "approx"
    assert rows["RegretNet"]["revenue"] is None
    with table.open(encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == list(rows)
    assert run_command(["reproduce", "lottery-ama", *options, "--csv", str(table)]) == 2  # nothing is overwritten


def test_rows_are_kept_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "rows.csv"
    run = tables._run

    def fails_at_the_second(line: tables.Published, *args: Any, **options: Any) -> tables.Row:
        if line.method == "mbarp":
            raise KeyboardInterrupt
        return run(line, *args, **options)

    monkeypatch.setattr(tables, "_run", fails_at_the_second)
    options = ["--setting", "additive_2x2_uniform", "--method", "grand-bundle", "--method", "mbarp"]
    assert run_command(["reproduce", "lottery-ama", *options, "--csv", str(table)]) == 130
    with table.open(encoding="utf-8") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["grand-bundle"]


def test_the_table_for_people_says_what_is_exactly_truthful(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["reproduce", "ca-ama", "--setting", "dirichlet_05_2x2", "--method", "vcg"]) == 0
    text = capsys.readouterr().out
    assert "exactly" in text
    assert "DSIC" in text
    assert "table 1: dirichlet_05_2x2" in text
    assert "authors' code" in text
    assert run_command(["reproduce", "lottery-ama", "--setting", "additive_2x2_uniform", "--method", "published"]) == 0
    assert "0.878" in capsys.readouterr().out


def test_the_papers_surrogate_is_trained_and_measured() -> None:
    line = tables.Published("2", "additive_2x2_uniform", "textbook", "theirs", 0.868, 0.0)
    (row,) = tables.reproduce([line], full=False, seeds=[1])
    assert row.revenue is not None
    assert 0.7 < row.revenue < 0.8824
    assert row.seed == 1


def test_several_seeds_have_a_row_each_and_a_worst_and_a_best(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--setting", "additive_2x2_uniform", "--method", "mbarp", "--method", "grand-bundle", "--seeds", "2"]
    assert run_command(["reproduce", "lottery-ama", *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [("grand-bundle", None), ("mbarp", 0), ("mbarp", 1)]
    assert rows[1]["revenue"] != rows[2]["revenue"]
    assert all(row["entries_used"] <= 9 for row in rows)
    assert run_command(["reproduce", "lottery-ama", *options]) == 0
    assert "worst" in capsys.readouterr().out


def test_ca_ama_is_shown_with_and_without_opting_out(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = store.load("dirichlet_05_2x2")
    recipe = msgspec.structs.replace(setting.train["ca-ama"], iterations=400)
    short = msgspec.structs.replace(setting, train={**setting.train, "ca-ama": recipe})
    monkeypatch.setattr(store, "load", lambda name: short)
    lines = [tables.Published("1", setting.name, method, method) for method in ("ca-ama", tables.FORCED)]
    free, forced = tables.reproduce(lines, full=False, seeds=[0])
    assert free.ir_loss == 0.0
    assert forced.ir_loss is not None
    assert forced.ir_loss > 1e-4
    assert forced.revenue is not None
    assert free.revenue is not None
    assert forced.revenue > free.revenue > 0.75
    assert (free.dsic, forced.dsic, free.seconds) == ("exact", "exact", forced.seconds)  # one training for both


def test_a_winning_ticket_is_a_small_menu() -> None:
    line = tables.Published("5", "additive_2x2_uniform", "winning-ticket", "ticket", 0.87, 0.0)
    (row,) = tables.reproduce([line], full=False, seeds=[0])
    assert row.entries_used is not None
    assert 5 <= row.entries_used <= 256
    assert row.revenue is not None
    assert 0.86 < row.revenue < 0.8824


def test_every_figure_is_drawn_with_its_numbers_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(setting: store.Setting, method: str, iterations: int | None = None) -> Schedule:
        return replace(schedule_of(setting, method), iterations=4, batch_start=32, batch_end=32)

    monkeypatch.setattr(figures, "schedule_of", short)
    monkeypatch.setattr(figures, "SAMPLES", 500)
    monkeypatch.setattr(figures, "LEAST", 4)
    for module in ("aggregated", "generator", "size_boost"):
        monkeypatch.setattr(f"mechanisms.training.{module}.POOL", 1024)
    for paper in figures.FIGURES:
        folder = tmp_path / paper
        assert run_command(["reproduce", paper, "--figures", str(folder)]) == 0
        assert run_command(["reproduce", paper, "--figures", str(folder)]) == 2  # nothing is overwritten
        for name in figures.names(paper):
            assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")
            with (folder / f"{name}.csv").open(encoding="utf-8") as file:
                assert list(csv.DictReader(file))


def test_stage_auctions_beside_the_paper_of_aggregated_auctions(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tables.load("credible-auctions").row
    setting = "participation_2x2_uniform_s1"
    lines = [row for row in chosen if row.setting == setting and row.method in ("aggregated", "lemma-a2", "theorem-a3")]
    rows = list(tables.reproduce(lines, full=False, seeds=[0]))
    whole = next(row for row in rows if row.table == "1")
    assert whole.revenue is not None
    assert whole.revenue_se is not None
    assert abs(whole.revenue - 0.513361) < 4.5 * whole.revenue_se  # reference results, section 1
    assert (whole.dsic, whole.regret, whole.regret_kind) == ("exact", 0.0, "exact_zero")
    parts = {row.profile: row for row in rows if row.table == "3"}
    assert {name: row.probability for name, row in parts.items()} == pytest.approx({"11": 0.16, "10": 0.04, "01": 0.64})
    for row in parts.values():
        best = 0.874403 if row.profile == "11" else 0.549201
        assert row.revenue == pytest.approx(best, abs=4.5 * (row.revenue_se or 0) + 0.0005)
    bounds = {(row.method, row.profile): row for row in rows if row.table == "A.3"}
    for profile in parts:  # what the paper prints lies between its own bounds
        low, high = bounds["theorem-a3", profile], bounds["lemma-a2", profile]
        assert low.revenue is not None
        assert high.revenue is not None
        assert low.published_revenue is not None
        assert low.revenue < low.published_revenue < high.revenue
        assert low.dsic == "approx"
    assert run_command(["reproduce", "credible-auctions", "--method", "probability"]) == 0
    text = capsys.readouterr().out
    assert "0.081" in text  # erratum 3
    assert "0.091" in text


def test_an_untweaked_auction_is_trained_where_everybody_comes() -> None:
    line = tables.Published("2", "participation_2x2_uniform_s1", "size-boost", "one", trained_on="additive_2x2_uniform")
    (row,) = tables.reproduce([line], full=False, seeds=[0])
    assert row.revenue == pytest.approx(0.511782, abs=4.5 * (row.revenue_se or 0) + 0.0005)  # reference results
    assert row.trained_on == "additive_2x2_uniform"
    bad = msgspec.structs.replace(line, profile="1")
    with pytest.raises(MalformedError, match="wanted 2 digits"):
        next(tables.reproduce([bad], full=False, seeds=[0]))
