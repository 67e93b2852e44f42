"""Repaired networks are exactly truthful, individually rational and feasible, whatever the network was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from credible.cli import run_command
from mechanisms.affine import AffineMaximizer
from mechanisms.classic import SecondPrice
from mechanisms.networks.regret_net import RegretNet, regret_layers
from mechanisms.outcome import Mechanism, ir_violation, overallocation, revenue, utilities
from mechanisms.repair import RivalMenus, imitating_maximizer, repaired_menu, repaired_pair, repairs
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform

SETTING = "additive_1x2_uniform_416_47"


def network(bidders: int, items: int, seed: int) -> RegretNet:
    layers = regret_layers(1, bidders, items, width=8, depth=2, demand="additive", generator=step_generator(seed, 4, 0))
    return RegretNet({name: tensor * 4 for name, tensor in layers.items()}, bidders, items, 1.0)


def keeps_the_laws(auction: Mechanism, seed: int) -> None:
    values = Uniform(auction.bidders, auction.items).sample(300, step_generator(seed, 1, 0))
    outcome = auction.run(values)
    assert auction.truthful
    assert overallocation(outcome) < 1e-6
    assert ir_violation(outcome, values) < 1e-9
    for bidder in range(auction.bidders):
        for draw in range(5):
            reports = values.clone()
            reports[:, bidder] = Uniform(1, auction.items).sample(300, step_generator(seed, 2, draw))[:, 0] * 3
            gain = utilities(auction.run(reports), values) - utilities(outcome, values)
            assert float(gain[:, bidder].max()) < 1e-9


@settings(max_examples=8)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 10**6))
def test_the_imitating_maximizer_keeps_the_laws(bidders: int, items: int, seed: int) -> None:
    sample = Uniform(bidders, items).sample(500, step_generator(seed, 3, 0)).float()
    keeps_the_laws(imitating_maximizer(network(bidders, items, seed), sample), seed)


@settings(max_examples=8)
@given(st.integers(1, 2), st.integers(0, 10**6))
def test_the_menu_of_a_single_bidder_keeps_the_laws(items: int, seed: int) -> None:
    sample = Uniform(1, items).sample(500, step_generator(seed, 3, 0))
    low, high = torch.zeros(1, items, dtype=torch.float64), torch.ones(1, items, dtype=torch.float64)
    menu = repaired_menu(network(1, items, seed), sample, side=9, low=low, high=high)
    keeps_the_laws(menu, seed)
    assert float(revenue(menu.run(sample)).mean()) > 0


@settings(max_examples=6)
@given(st.integers(1, 2), st.integers(0, 10**6))
def test_menus_by_rival_keep_the_laws_and_leave_no_conflict(items: int, seed: int) -> None:
    sample = Uniform(2, items).sample(300, step_generator(seed, 3, 0)).float()
    low, high = torch.zeros(2, items, dtype=torch.float64), torch.ones(2, items, dtype=torch.float64)
    auction = repaired_pair(network(2, items, seed), sample, side=4, reports=4, low=low, high=high)
    assert auction.conflicts() == 0
    keeps_the_laws(auction, seed)
    far = 5 * Uniform(2, items).sample(2000, step_generator(seed, 4, 0))  # mostly beyond what menus were read for
    border = (far * 2).round() / 4  # on the corners of boxes
    for values in (far, border):
        outcome = auction.run(values)
        assert overallocation(outcome) < 1e-6
        assert ir_violation(outcome, values) < 1e-9


def test_menus_that_sell_an_item_twice_are_seen() -> None:
    menus = torch.zeros(2, 2, 2, 1, dtype=torch.float64)
    menus[:, :, 1] = 1.0
    prices = torch.zeros(2, 2, 2, dtype=torch.float64)
    prices[:, :, 1] = 0.25
    low, width = torch.zeros(2, 1, dtype=torch.float64), torch.full((2, 1), 0.5, dtype=torch.float64)
    auction = RivalMenus(menus, prices, low, width, 2)
    assert auction.conflicts() == 4  # everybody may buy everywhere
    values = Uniform(2, 1).sample(100, step_generator(0, 1, 0))
    assert overallocation(auction.run(values)) == 1


def test_a_truthful_auction_survives_its_repair() -> None:
    values = Uniform(2, 1)
    auction = SecondPrice(2, torch.tensor([0.5], dtype=torch.float64))
    low, high = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    fresh = values.sample(50_000, step_generator(9, 0, 0))
    wanted = float(revenue(auction.run(fresh)).mean())  # 5/12
    sample = values.sample(5000, step_generator(8, 0, 0)).float()
    imitating = float(revenue(imitating_maximizer(auction, sample).run(fresh)).mean())
    by_rival = repaired_pair(auction, sample, side=64, reports=65, low=low, high=high)
    assert imitating > 0.99 * wanted
    assert float(revenue(by_rival.run(fresh)).mean()) > 0.97 * wanted
    single = SecondPrice(1, torch.tensor([0.5], dtype=torch.float64))
    one = Uniform(1, 1).sample(5000, step_generator(7, 0, 0))
    menu = repaired_menu(single, one, side=101, low=low[:1], high=high[:1])
    assert len(menu.boosts) == 2
    assert float(revenue(menu.run(one)).mean()) >= float(revenue(single.run(one)).mean())


def test_constructions_are_those_that_fit() -> None:
    assert set(repairs(network(1, 1, 0), Uniform(1, 1), seed=0)) == {"imitating maximizer", "menu"}
    assert set(repairs(network(3, 1, 0), Uniform(3, 1), seed=0)) == {"imitating maximizer"}
    low, high = torch.zeros(3, 1), torch.ones(3, 1)
    sample = Uniform(3, 1).sample(10, step_generator(0, 0, 0)).float()
    with pytest.raises(ValueError, match="single bidder"):
        repaired_menu(network(3, 1, 0), sample[:, :1], side=3, low=low, high=high)
    with pytest.raises(ValueError, match="two were wanted"):
        repaired_pair(network(3, 1, 0), sample[:, :2], side=3, reports=3, low=low, high=high)
    assert isinstance(imitating_maximizer(network(3, 1, 0), sample), AffineMaximizer)


def test_a_repaired_run_becomes_a_certified_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, artifact = tmp_path / "run", tmp_path / "auction.onnx"
    assert run_command(["train", SETTING, "--method", "regretnet-local", "--iterations", "60", "--out", str(run)]) == 0
    capsys.readouterr()
    assert run_command(["repair", str(run), "-o", str(artifact), "--samples", "2000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["repair"] for row in found["repairs"]} == {"imitating maximizer", "menu"}
    assert all(row["regret_found"] < 1e-9 and row["overallocation"] == 0 for row in found["repairs"])
    assert found["survives_by_theorem"] < found["revenue"]
    assert run_command(["inspect", str(artifact), "--certify"]) == 0  # truthful by its class
    assert run_command(["repair", str(run), "--samples", "2000"]) == 0
    assert "as trained" in capsys.readouterr().out
    assert run_command(["repair", str(run), "-o", str(artifact)]) == 2  # it exists
    capsys.readouterr()
    options = ["--samples", "2000", "--audit", "20", "--certify", "1"]
    assert run_command(["evaluate", str(run), *options, "--json"]) == 0
    told = capsys.readouterr().out
    certificate = json.loads(told)["certificates"][0]
    assert certificate["found"] <= certificate["largest"]
    figures, page = tmp_path / "figures.json", tmp_path / "page.html"
    figures.write_text(told)
    assert run_command(["report", str(run), "--evaluation", str(figures), "-o", str(page)]) == 0
    shown = page.read_text("utf-8")
    assert f"{certificate['largest']:.6f}" in shown
    assert f"{json.loads(told)['audit']['mean'][0]:.6f}" in shown
    assert shown.count(">Revenue<") == 1  # not measured a second time
    assert run_command(["report", str(artifact), "--evaluation", str(figures), "-o", str(page)]) == 2  # of another
    figures.write_text("{}")
    assert run_command(["report", str(run), "--evaluation", str(figures), "-o", str(page)]) == 3  # not measured instead
    capsys.readouterr()
    assert run_command(["evaluate", str(run), *options]) == 0
    assert "to" in capsys.readouterr().out
    assert run_command(["evaluate", str(run), "--certify", "1"]) == 2
    assert run_command(["evaluate", str(artifact), "--setting", SETTING, *options]) == 2


def test_only_networks_are_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert run_command(["train", SETTING, "--method", "lottery-ama", "--iterations", "5", "--out", str(run)]) == 0
    capsys.readouterr()
    assert run_command(["repair", str(run)]) == 2
    assert "exactly truthful already" in capsys.readouterr().err
    assert run_command(["evaluate", str(run), "--samples", "100", "--audit", "5", "--certify", "1"]) == 2
    assert "needs none" in capsys.readouterr().err
    assert run_command(["repair", str(run / "config.json")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_networks_without_certified_bounds_are_told_before_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, method, text in (
        ("unit_2x2_uniform", "regretnet", "additive bidders only"),
        ("additive_2x2_uniform", "regretformer", "additive bidders only"),
        ("single_4x1_exponential", "regretnet-local", "independent uniform values"),
    ):
        run = tmp_path / setting
        assert run_command(["train", setting, "--method", method, "--iterations", "2", "--out", str(run)]) == 0
        assert "Not truthful by a theorem" in capsys.readouterr().out
        assert run_command(["evaluate", str(run), "--audit", "100000", "--certify", "1"]) == 2
        assert text in capsys.readouterr().err
