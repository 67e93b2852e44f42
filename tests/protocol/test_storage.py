"""Hardening 1.1, 4.1, 4.8: atomic files, bounded reads, the vault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from protocol.errors import LimitError, MalformedError
from protocol.storage.files import read_file, write_file
from protocol.storage.vault import Vault


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    for data in (b"one", b"two", b""):
        write_file(path, data)
        assert read_file(path, 10) == data
    assert [item.name for item in path.parent.iterdir()] == ["file"]  # no temporary file stays


def test_what_a_kill_left_between_two_names_is_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"first", new=True)
    os.link(path, tmp_path / f".file.{os.getpid()}.tmp")
    with pytest.raises(FileExistsError):
        write_file(path, b"second", new=True)
    assert path.read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom protocol.storage.files import write_file\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        f"write_file(Path({str(path)!r}), b'x' * 100)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_reads_are_bounded_and_regular(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(LimitError, match="got 11, the limit is 10"):
        read_file(tmp_path / "big", 10)
    with pytest.raises(MalformedError, match="not a regular file"):
        read_file(tmp_path, 10)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MalformedError, match="not a regular file"):
        read_file(tmp_path / "pipe", 10)


def test_the_vault_keeps_entries_and_records(tmp_path: Path) -> None:  # spec 4.16
    path = tmp_path / "private" / "vault.db"
    with Vault.create(path, [("config", "run", b"0")]) as vault:
        assert vault.entries() == []
        assert vault.record("config", "run") == b"0"
        vault.commit(0, [b"a", b"b"], [("secret", "x", b"1")])
        vault.commit(2, [b"c"], [("secret", "x", b"2"), ("secret", "y", b"3")])
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    with Vault(path) as vault:
        assert vault.entries() == [b"a", b"b", b"c"]
        assert vault.records("secret") == {"x": b"2", "y": b"3"}
        assert vault.record("none", "x") is None
        with pytest.raises(MalformedError, match="another process"):
            Vault(path)  # two writers (hardening fault 11)
        with pytest.raises(apsw.ConstraintError):
            vault.commit(1, [b"again"], [("secret", "x", b"9")])
        assert vault.record("secret", "x") == b"2"  # the failed transaction changed nothing
    with pytest.raises(FileExistsError):
        Vault.create(path, [])
    assert [item.name for item in path.parent.iterdir()] == ["vault.db"]  # no temporary file stays
    with Vault(path) as vault:
        assert vault.entries() == [b"a", b"b", b"c"]


def test_other_files_are_no_vault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Vault(tmp_path / "none")
    (tmp_path / "junk").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(MalformedError, match="not a vault"):
        Vault(tmp_path / "junk")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(MalformedError, match="format 0"):
        Vault(tmp_path / "empty")
