"""`credible log`: a log and a witness of one's own, heads exchanged, an archive kept (spec 4.9, 4.11, 4.13, 4.17)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from credible.cli import run_command
from credible.simulation.setup import Secrets
from protocol.errors import MalformedError
from protocol.keys import COSIGNATURE, SigningKey, write_key_file
from protocol.log.note import Checkpoint, Note, cosignature_times, sign_checkpoint
from protocol.log.tiles import read_entries
from protocol.verify import verify_path
from protocol.witness import build_request, parse_request
from tests.protocol.test_verify import trust_of

KEY = SigningKey("log.example/one", b"\x41" * 32)
WITNESS = SigningKey("witness.example/w", b"\x42" * 32, COSIGNATURE)

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run_command([*arguments, "--json"])
        out = capsys.readouterr().out
        return status, json.loads(out) if out.strip() else {}

    return command


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    (tmp_path / "pass").write_text("secret\n")
    write_key_file(tmp_path / "log.pem", KEY, b"secret")
    write_key_file(tmp_path / "witness.pem", WITNESS, b"secret")
    for number in range(5):
        (tmp_path / f"e{number}").write_bytes(f"entry {number}".encode())
    return ["--passphrase-file", str(tmp_path / "pass")]


def append(run: Run, tmp_path: Path, own: list[str], *numbers: int) -> dict[str, Any]:
    files = [str(tmp_path / f"e{number}") for number in numbers]
    options = ["--key", str(tmp_path / "log.pem"), "--name", KEY.name, "--heads", str(tmp_path / "other" / "heads")]
    status, shown = run("log", "append", str(tmp_path / "log"), *files, *options, *own)
    assert status == 0
    return shown


def test_a_log_of_ones_own_and_its_witness(tmp_path: Path, own: list[str], run: Run) -> None:
    first = append(run, tmp_path, own, 0, 1)
    assert (first["first"], first["size"]) == (0, 2)
    second = append(run, tmp_path, own, 2, 3, 4)
    assert run("log", "fsck", str(tmp_path / "log"))[1]["entries"] == 5
    _, tree = read_entries(tmp_path / "log" / "public", 5)
    notes = [Note.decode(shown["checkpoint"].encode()) for shown in (first, second)]

    def ask(name: str, old: int, proof: list[bytes], note: Note) -> tuple[int, dict[str, Any]]:
        (tmp_path / name).write_bytes(build_request(old, proof, note))
        options = ["--key", str(tmp_path / "witness.pem"), "--name", WITNESS.name, "--vkey", str(KEY.verifier)]
        return run(
            "log",
            "witness",
            str(tmp_path / name),
            *options,
            "--heads",
            str(tmp_path / "w" / "heads"),
            "--at",
            "1000",
            *own,
        )

    status, shown = ask("r1", 0, [], notes[0])
    assert (status, shown["status"]) == (0, 200)
    cosigned = Note.decode((notes[0].encode().decode() + shown["body"] + "\n").encode())
    assert cosignature_times(cosigned, (WITNESS.verifier,)) == {WITNESS.name: 1000}
    assert ask("r2", 0, [], notes[1])[1] == {"status": 409, "body": "2", "vkey": str(WITNESS.verifier)}
    assert ask("r3", 2, [b"\x00" * 32], notes[1])[1]["status"] == 422
    assert ask("r4", 2, tree.consistency(2), notes[1])[0] == 0  # it remembers over processes
    assert ask("r5", 9, [], notes[1])[1]["status"] == 400
    stranger = sign_checkpoint(Checkpoint("x/y", 1, bytes(32)), SigningKey("x/y", b"\x01" * 32))
    assert ask("r6", 0, [], stranger)[1]["status"] == 404
    forged = Note(notes[1].text, (sign_checkpoint(Checkpoint(KEY.name, 5, bytes(32)), KEY).signatures[0],))
    assert ask("r7", 5, [], forged)[1]["status"] == 403
    (tmp_path / "bad").write_bytes(b"old x\n\n")
    with pytest.raises(MalformedError):
        parse_request(b"old 01\n\nx")


def test_heads_are_exchanged(tmp_path: Path, own: list[str], run: Run) -> None:
    shown = append(run, tmp_path, own, 0, 1)
    append(run, tmp_path, own, 2)
    log, vkey = str(tmp_path / "log"), str(KEY.verifier)
    (tmp_path / "head").write_text(shown["checkpoint"])
    assert run("log", "compare", log, str(tmp_path / "head"), "--vkey", vkey)[0] == 0
    fork = sign_checkpoint(Checkpoint(KEY.name, 2, b"\x07" * 32), KEY)
    (tmp_path / "fork").write_bytes(fork.encode())
    evidence = tmp_path / "proof.equivocation"
    status, found = run("log", "compare", log, str(tmp_path / "fork"), "--vkey", vkey, "-o", str(evidence))
    assert (status, found["consistent"], found["sizes"]) == (1, False, [2, 3])
    assert run("log", "convict", str(evidence), "--vkey", vkey)[0] == 1
    other = Secrets.seeded(1).auctioneer().log().verifier
    assert run("log", "convict", str(evidence), "--vkey", str(other))[0] == 3
    evidence.write_bytes(evidence.read_bytes()[:-9])
    assert run("log", "convict", str(evidence), "--vkey", vkey)[0] == 3


def test_proofs_of_any_log(tmp_path: Path, own: list[str], run: Run) -> None:
    append(run, tmp_path, own, 0, 1, 2)
    proof = tmp_path / "p.tlog-proof"
    assert run("log", "prove", str(tmp_path / "log"), "--entry", "1", "-o", str(proof))[0] == 0
    vkey = ["--vkey", str(KEY.verifier)]
    assert run("log", "check", str(proof), str(tmp_path / "e1"), *vkey)[0] == 0
    assert run("log", "check", str(proof), str(tmp_path / "e2"), *vkey)[0] == 1


def test_an_archive_restores_what_was_deleted(tmp_path: Path, honest: Path, run: Run) -> None:  # spec 4.17, A39
    copy, archive = tmp_path / "copy", tmp_path / "archive"
    shutil.copytree(honest / "public", copy)
    assert run("log", "mirror", str(copy), str(archive))[0] == 0
    assert run("log", "mirror", str(copy), str(archive))[0] == 0
    gone = next((copy / "tile" / "entries").rglob("*.p/*"))
    gone.unlink()
    assert verify_path(copy, trust_of(honest)).status == 4
    assert verify_path(archive, trust_of(honest)).status == 0
    assert run("log", "mirror", str(copy), str(archive))[0] == 4  # nothing is overwritten by a damaged one
    assert verify_path(archive, trust_of(honest)).status == 0


def test_a_mirror_refuses_another_history(  # spec 4.13, 4.17
    tmp_path: Path, own: list[str], run: Run
) -> None:
    append(run, tmp_path, own, 0, 1)
    assert run("log", "mirror", str(tmp_path / "log"), str(tmp_path / "archive"))[0] == 0
    shutil.rmtree(tmp_path / "log")
    shutil.rmtree(tmp_path / "other")
    append(run, tmp_path, own, 2, 3, 4)
    assert run("log", "mirror", str(tmp_path / "log"), str(tmp_path / "archive"))[0] == 1
