"""The same session judged by another release of the runtime and by a processor without AVX2 (hardening 7, exactness).

An honest session must be accused of nothing anywhere, a cheating one of the same everywhere.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from credible.cli import run_command
from credible.simulation.market import trust_path
from protocol.artifact import build
from tests.conftest import ROOT

pytestmark = pytest.mark.long
OTHERS = ("1.31.1", "1.30.0", "1.29.0")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Play an honest and a cheating session of each of three mechanisms; every round is audited."""
    folder = tmp_path_factory.mktemp("machines")
    source = np.random.default_rng(5)
    shares = source.dirichlet(np.ones(4), size=(200, 5))[..., :3].transpose(0, 2, 1)  # (menu, bidders, items)
    menu = np.floor(shares * (1 << 16)).astype(np.int64)
    boosts = source.integers(-(10**9), 10**9, 200)
    artifacts = {
        "menu": build.menu_affine(menu, boosts, [3, 2, 5], bid_max=10**6, share_bits=16, unit="1e-6"),
        "reserve": build.single_item_reserve([5, 900_000], bidders=3, bid_max=10**6, share_bits=16, unit="1e-6"),
    }
    made = {}
    for name, artifact in artifacts.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(artifact.data)
        for auctioneer in ("honest", "inflate:1.0"):
            out = folder / f"{name}-{auctioneer.partition(':')[0]}"
            options = ["simulate", str(path), "--out", str(out), "--rounds", "20", "--q", "1", "--seed", "11"]
            assert run_command([*options, "--auctioneer", auctioneer]) == 0
            made[out.name] = out
    return made


def judged(session: Path, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    arguments = [*command, str(ROOT / "tests" / "machines" / "reaudit.py"), str(session), str(trust_path(session))]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True, timeout=280)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check(sessions: dict[str, Path], command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Judge every session here and there; return what the other machine says of itself."""
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    other: dict[str, Any] = {}
    for name, session in sessions.items():
        own = judged(session, [sys.executable], here)
        other = judged(session, command, environment)
        assert other["rounds"] == own["rounds"] > 0
        assert other["findings"] == own["findings"], name
        assert bool(other["findings"]) == ("inflate" in name), f"{name}: {other['findings'][:3]}"
        assert other["waiting"] == []
    return other


def test_another_release_of_the_runtime_accuses_nobody(sessions: dict[str, Path], tmp_path: Path) -> None:
    release = next(version for version in OTHERS if version != onnxruntime.__version__)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "other")]
    done = subprocess.run([*command, f"onnxruntime=={release}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"onnxruntime {release} cannot be installed here")
    path = f"{tmp_path / 'other'}{os.pathsep}{ROOT}"
    seen = check(sessions, [sys.executable], {"PATH": os.environ["PATH"], "PYTHONPATH": path})
    assert seen["onnxruntime"] == release


def test_a_processor_without_avx2_accuses_nobody(sessions: dict[str, Path]) -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("qemu-x86_64 (package qemu-user) is not here, or this is another kind of processor")
    path = f"{ROOT}{os.pathsep}{sysconfig.get_paths()['purelib']}"
    command = [emulator, "-cpu", "Nehalem", str(Path(sys.executable).resolve())]
    seen = check(sessions, command, {"PATH": os.environ["PATH"], "PYTHONPATH": path})
    assert seen["avx2"] is False
