"""One bit flipped in any stored file of a session: found, or without any meaning (hardening R4, fault 8)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from credible.cli import run_command
from credible.simulation.market import heads_path, trust_path, vault_path
from protocol.artifact import build
from protocol.verify import Trust, verify_path

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
OPTIONS = ["--rounds", "4", "--q", "1/1", "--epoch", "2", "--seed", "6", "--json"]
PUBLIC_FLIPS, PRIVATE_FLIPS = 80, 40


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flips")
    artifact = build.single_item_reserve([0, 2], bidders=2, bid_max=1000, share_bits=8, unit="1")
    (folder / "a.onnx").write_bytes(artifact.data)
    assert run_command(["simulate", str(folder / "a.onnx"), "--out", str(folder / "s"), *OPTIONS]) == 0
    return folder / "s"


def kinds(public: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the files of a public folder by kind."""
    files: dict[str, list[Path]] = {}
    for path in sorted(public.rglob("*")):
        if path.is_file():
            parts = path.relative_to(public).parts
            files.setdefault("/".join(parts[:2]) if parts[0] == "tile" else parts[0], []).append(path)
    yield from files.items()


def flipped(path: Path, source: random.Random) -> bytes:
    """Flip one bit of a file and return what it was."""
    data = path.read_bytes()
    position = source.randrange(len(data))
    bent = bytes([data[position] ^ 1 << source.randrange(8)])
    path.write_bytes(data[:position] + bent + data[position + 1 :])
    return data


def test_every_flip_in_a_public_file_is_found(session: Path, tmp_path: Path) -> None:
    public = Path(shutil.copytree(session / "public", tmp_path / "public"))
    trust = Trust.read(trust_path(session))
    source, flips = random.Random(8), 0
    for _, paths in kinds(public):
        for _ in range(PUBLIC_FLIPS):
            path = source.choice(paths)
            data = flipped(path, source)
            verdict = verify_path(public, trust)
            assert verdict.status in (1, 3, 4), f"{path}: {verdict}"
            assert not verdict.findings, f"{path}: {verdict.findings}"  # damage accuses nobody
            path.write_bytes(data)
            flips += 1
    assert flips >= 500
    assert verify_path(public, trust).status == 0


@pytest.mark.parametrize("name", ["vault", "heads"])
def test_every_flip_in_a_private_file_is_refused_or_changes_nothing(session: Path, tmp_path: Path, name: str) -> None:
    source = random.Random(9)
    whole = {path.relative_to(session): path.read_bytes() for _, paths in kinds(session / "public") for path in paths}
    statuses = set()
    for number in range(PRIVATE_FLIPS):
        copy = tmp_path / str(number)
        shutil.copytree(session, copy)
        shutil.copy(heads_path(session), heads_path(copy))
        flipped(vault_path(copy) if name == "vault" else heads_path(copy), source)
        artifact = session.parent / "a.onnx"
        status = run_command(["simulate", str(artifact), "--out", str(copy), *OPTIONS, "--resume"])
        statuses.add(status)
        assert status in (0, 1, 2, 3)
        if status == 0:
            now = {p.relative_to(copy): p.read_bytes() for _, paths in kinds(copy / "public") for p in paths}
            assert now == whole
        shutil.rmtree(copy)
    assert statuses & {1, 2, 3}
