"""Every example runs, and what it prints is what it is for; every notebook's cells run in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SAYS = {
    "audit_a_market": ["DEVIATION", "Do not trust this session", "cheating does not pay"],
    "learn_to_bid": ["second price: bids 1.0", "first price: bids 0.5"],
    "one_verified_session": ["verdict holds", "verdict deviation"],
    "own_agent": ["greed earns -", "verdict deviation"],
    "own_bids": ["5 bids read", "round 2, seat 1: wins items [0, 1, 2, 3, 4]"],
    "own_mechanism": ["certified: True", "the best of 676 lies earns 20.00, the truth 20.00"],
    "train_and_certify": ["exact_zero", "certified: True"],
    "verify_as_outsider": ["folder: holds", "inconclusive, status 4", "invalid, status 1"],
}


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_all_examples_are_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SAYS, "make_artifacts"}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name: str) -> None:
    printed = " ".join(run_python(str(EXAMPLES / f"{name}.py")).split())
    for text in SAYS[name]:
        assert text in printed, printed


@pytest.mark.parametrize("path", sorted((EXAMPLES / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_and_still_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    shown = "".join(
        text for cell in cells for output in cell["outputs"] for text in output.get("text", [])
    )  # fmt: skip
    program = tmp_path / "notebook.py"
    program.write_text("\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    assert run_python(str(program)) == shown


@pytest.mark.parametrize("name", ["lottery_2x2", "boosts_2x5", "boosts_3x10"])
def test_shipped_artifacts_are_what_their_cards_say(name: str) -> None:
    artifact = Engine((EXAMPLES / "artifacts" / f"{name}.onnx").read_bytes()).artifact
    card = json.loads((EXAMPLES / "artifacts" / f"{name}.card.json").read_text(encoding="utf-8"))
    assert card["artifact"]["file_sha256"] == artifact.file_sha256
    assert certify(artifact).certified


@pytest.mark.long
def test_artifacts_are_made_by_the_documented_command(tmp_path: Path) -> None:
    run_python(str(EXAMPLES / "make_artifacts.py"), str(tmp_path))
    for made in tmp_path.glob("*.onnx"):
        header = Engine(made.read_bytes()).artifact.header
        shipped = Engine((EXAMPLES / "artifacts" / made.name).read_bytes()).artifact
        assert header == shipped.header
        assert certify(Engine(made.read_bytes()).artifact).certified
    assert len(list(tmp_path.glob("*.onnx"))) == 3
