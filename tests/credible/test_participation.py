"""Participation through the command line and the protocol: who comes, who cheats when few do, who is caught."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from credible import settings as store
from credible.cli import run_command
from credible.records.values import drawn_presence, participation_model, valuation_model
from credible.simulation.agents import Values, auctioneer_agent
from credible.simulation.draws import Draws
from mechanisms.participation import Markov
from protocol.errors import MalformedError

SETTING = "participation_2x2_uniform_s1"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """Run a command with --json and return its object."""
    capsys.readouterr()
    assert run_command([*map(str, arguments), "--json"]) == status
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained aggregated auction."""
    folder = tmp_path_factory.mktemp("aggregated")
    trained = str(folder / "run")
    assert run_command(["train", SETTING, "--method", "aggregated", "--iterations", "30", "--out", trained]) == 0
    assert run_command(["export", trained, "-o", str(folder / "auction.onnx")]) == 0
    return folder / "auction.onnx"


def test_one_file_for_all_profiles_is_certified_and_earns(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = run(capsys, "inspect", artifact, "--certify")
    assert (seen["class"], seen["certified"]) == ("aggregated", True)
    found = run(capsys, "evaluate", artifact, "--setting", SETTING, "--samples", "20000")
    assert found["regret_kind"] == "exact_zero"
    assert found["regret_found"] == 0
    assert 0.4 < found["revenue"] < 0.52


@pytest.mark.parametrize("preset", ["prompt", "published"])
def test_cheating_in_rare_profiles_is_convicted_when_drawn(
    preset: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = tmp_path / preset
    options = ["--q", "1/2", "--epoch", "5"] if preset == "prompt" else ["--k", "60"]
    played = run(
        capsys, "simulate", artifact, "--setting", SETTING, "--rounds", "120", "--preset", preset, *options,
        "--auctioneer", "rare:10:2", "--seed", "6", "--out", session,
    )  # fmt: skip
    assert played["deviations_made"] in ((1, 2) if preset == "prompt" else (2,))  # a halt may come before the second
    assert played["deviations_found"] >= 1
    assert played["penalty_executed"] > 0 or preset == "published"
    assert run_command(["audit", str(session)]) in (0, 1)
    capsys.readouterr()
    assert run_command(["verify", str(session), "--trust", f"{session}.trust.json"]) == 1
    assert "7.5" in capsys.readouterr().out


def test_an_honest_session_of_few_bidders_holds(artifact: Path, tmp_path: Path) -> None:
    session = tmp_path / "honest"
    options = ["--setting", SETTING, "--rounds", "30", "--q", "1/2", "--seed", "2", "--out", str(session)]
    assert run_command(["simulate", str(artifact), *options]) == 0
    assert run_command(["audit", str(session)]) == 0
    assert run_command(["verify", str(session), "--trust", f"{session}.trust.json"]) == 0


def test_a_setting_that_says_who_comes_takes_no_other_chance(artifact: Path, tmp_path: Path) -> None:
    options = ["--setting", SETTING, "--participation", "0.5", "--out", str(tmp_path / "s")]
    assert run_command(["simulate", str(artifact), *options]) == 2
    assert not (tmp_path / "s").exists()
    assert run_command(["simulate", str(artifact), "--auctioneer", "rare:1x:3", "--out", str(tmp_path / "s")]) == 2


def test_presence_of_a_setting_is_drawn_by_the_secret(tmp_path: Path) -> None:
    scenario = store.load(SETTING)
    drawn = drawn_presence(scenario, 4000, b"\x01" * 32)
    assert drawn == drawn_presence(scenario, 4000, b"\x01" * 32)
    assert drawn != drawn_presence(scenario, 4000, b"\x02" * 32)
    assert drawn is not None
    for seat, chance in enumerate((0.2, 0.8)):
        assert abs(sum(row[seat] for row in drawn) / 4000 - chance) < 4.5 * (chance * (1 - chance) / 4000) ** 0.5
    assert drawn_presence(store.load("additive_2x2_uniform"), 10, b"\x01" * 32) is None
    text = Path(store.FOLDER / f"{SETTING}.toml").read_text(encoding="utf-8")
    chain = tmp_path / "chain.toml"
    start = text.index("[participation]")
    end = text.index("[grid]")
    chain.write_text(
        text[:start] + '[participation]\nkind = "markov"\narrive = [0.01, 0.01]\nleave = [0.01, 0.01]\n' + text[end:]
    )
    assert isinstance(participation_model(store.load(str(chain))), Markov)
    path = drawn_presence(store.load(str(chain)), 2000, b"\x01" * 32)
    assert path is not None
    moves = sum(before[0] != after[0] for before, after in pairwise(path))
    assert moves < 60  # about 20 of 2,000: rounds in a row are alike


def test_settings_with_impossible_participation_are_refused(tmp_path: Path) -> None:
    text = Path(store.FOLDER / f"{SETTING}.toml").read_text(encoding="utf-8")
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("probabilities = [0.2, 0.8]", "probabilities = [0.2, 0.8, 0.1]"))
    with pytest.raises(MalformedError, match="for 3 bidders, the setting has 2"):
        valuation_model(store.load(str(bad)))
    bad.write_text(text.replace('kind = "independent"', "kind = 7"))
    with pytest.raises(MalformedError, match=r"participation\.kind is 7"):
        store.load(str(bad))


def test_absent_seats_have_no_values() -> None:
    path = np.array([[True, False, True], [False, True, True]])
    pool, seated = np.array([[[1, 2], [3, 4], [0, 0]]]), np.array([[True, True, False]])
    values = Values(3, 2, 9, pool=pool, seated=seated, path=path)
    drawn = [values.draw(Draws(b"\0" * 32, "values", 0, 50), index) for index in (0, 1)]
    for rows, present in drawn:
        assert present.tolist() == [[row[0].any(), row[1].any(), False] for row in rows]
        assert set(map(tuple, present.tolist())) == {(True, False, False), (False, True, False)}
    assert (drawn[0][1] != drawn[1][1]).any(axis=1).all()  # each market goes on along the path


def test_auctioneers_of_rare_profiles_by_name() -> None:
    auctioneer_agent("rare:101:3")
    for text in ("rare", "rare:101", "rare:12:3", "rare:101:x", "rare:101:0"):
        with pytest.raises(ValueError, match="wanted rare:PROFILE:ROUNDS"):
            auctioneer_agent(text)


def test_profiles_that_do_not_fit_the_artifact_are_refused(artifact: Path, tmp_path: Path) -> None:
    options = ["--setting", SETTING, "--rounds", "3", "--auctioneer", "rare:110:5", "--out", str(tmp_path / "s")]
    assert run_command(["simulate", str(artifact), *options]) == 2
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("probabilities = [0.2, 0.8]", 'kind = "profiles"\nprofiles = [[1, 1], [0, 1]]\nprobabilities = [0.2, 0.8]'),
        ("probabilities = [0.2, 0.8]", 'kind = "profiles"\nprofiles = ["11", "01"]\nprobabilities = [nan, 0.8]'),
    ],
)
def test_nonsense_in_a_setting_is_malformed(old: str, new: str, tmp_path: Path) -> None:
    text = (store.FOLDER / f"{SETTING}.toml").read_text(encoding="utf-8").replace('kind = "independent"\n', "")
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace(old, new))
    options = ["train", str(bad), "--method", "aggregated", "--iterations", "2", "--out", str(tmp_path / "run")]
    assert run_command(options) == 3


def test_a_recipe_without_reserves_is_malformed(tmp_path: Path) -> None:
    text = (store.FOLDER / f"{SETTING}.toml").read_text(encoding="utf-8")
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("reserves = [0.5]\n", ""))
    for method in ("aggregated", "aggregated-generator"):
        options = ["train", str(bad), "--method", method, "--iterations", "2", "--out", str(tmp_path / "run")]
        assert run_command(options) == 3
