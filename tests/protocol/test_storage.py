"""Hardening 1.1, 4.1 to 4.8: atomic files, bounded reads, the vault, the second store, a durable log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from protocol.errors import LimitError, MalformedError
from protocol.keys import SigningKey
from protocol.log.note import Checkpoint, Note, sign_checkpoint
from protocol.log.store import VAULT, LogStore, StoppedError
from protocol.log.tiles import CHECKPOINT, MAX_ENTRY
from protocol.storage.files import read_file, write_file
from protocol.storage.heads import HeadStore, RollbackError
from protocol.storage.vault import Vault

KEY = SigningKey("log.example/one", b"\x41" * 32)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    for data in (b"one", b"two", b""):
        write_file(path, data)
        assert read_file(path, 10) == data
    assert [item.name for item in path.parent.iterdir()] == ["file"]  # no temporary file stays


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of paths that fsync is called for."""
    paths: list[str] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return paths


def test_a_durable_file_is_synced_before_it_is_named_and_its_new_folders_after(  # hardening 4.1
    tmp_path: Path, synced: list[str]
) -> None:
    write_file(tmp_path / "a" / "b" / "file", b"x")
    folders = [str(tmp_path / "a"), str(tmp_path)]
    assert synced == [*folders, str(tmp_path / "a" / "b" / f".file.{os.getpid()}.tmp"), str(tmp_path / "a" / "b")]
    synced.clear()
    write_file(tmp_path / "a" / "b" / "file", b"y")
    assert len(synced) == 2
    synced.clear()
    write_file(tmp_path / "a" / "c" / "file", b"x", durable=False)
    assert synced == []


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


# --- the second store and the durable log -----------------------------------------------------------------------


def test_the_second_store_compares_and_swaps(tmp_path: Path) -> None:  # spec 4.15
    path = tmp_path / "heads"
    one, two = Checkpoint("a", 1, b"\x01" * 32), Checkpoint("a", 2, b"\x02" * 32)
    other = Checkpoint("b", 7, b"\x03" * 32)
    with HeadStore(path) as store:
        store.swap(None, one)
        store.swap(None, other)
        with pytest.raises(RollbackError, match="size 1"):
            store.swap(None, two)
        store.swap(one, two)
        for back in (one, Checkpoint("a", 2, b"\x09" * 32)):
            with pytest.raises(RollbackError, match="rolled back or forked"):
                store.swap(two, back)
        with pytest.raises(MalformedError, match="another process"):
            HeadStore(path)
    with HeadStore(path) as store:
        assert (store.last("a"), store.last("b"), store.last("c")) == (two, other, None)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(MalformedError):
            HeadStore(path)


def test_storage_that_fails_stops_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # hardening 4.4
    with HeadStore(tmp_path / "heads") as heads, LogStore(tmp_path / "log", KEY, heads) as log:
        log.append([b"one"])
        log.publish()
        sync = os.fsync

        def broken(_: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        log.append([b"two"])
        with pytest.raises(StoppedError, match="Input/output"):
            log.publish()
        monkeypatch.setattr(os, "fsync", sync)
        for action in (log.publish, lambda: log.append([b"three"])):
            with pytest.raises(StoppedError, match="stopped before"):
                action()
    with HeadStore(tmp_path / "heads") as heads, LogStore(tmp_path / "log", KEY, heads) as log:
        assert list(log.entries) == [b"one", b"two"]
        assert Checkpoint.parse(log.publish().text).size == 2
        log.fsck()


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    with HeadStore(tmp_path / "heads") as heads:
        with LogStore(tmp_path / "log", KEY, heads) as log:
            log.append([b"one"])
            log.publish()
        left = tmp_path / "log" / "public" / "tile" / "0" / ".000.99.tmp"
        left.write_bytes(b"half")
        with LogStore(tmp_path / "log", KEY, heads):
            assert not left.exists()


def test_a_lost_or_older_store_is_refused(tmp_path: Path) -> None:  # hardening 4.7
    with HeadStore(tmp_path / "heads") as heads, LogStore(tmp_path / "log", KEY, heads) as log:
        log.append([b"one"])
        log.publish()
    with HeadStore(tmp_path / "new") as heads, pytest.raises(RollbackError, match="second store has none"):
        LogStore(tmp_path / "log", KEY, heads)
    with HeadStore(tmp_path / "heads") as heads:
        heads.swap(heads.last(KEY.name), Checkpoint(KEY.name, 9, b"\x01" * 32))
        with pytest.raises(RollbackError, match="rolled back"):
            LogStore(tmp_path / "log", KEY, heads)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a folder with a log of three entries, two of them under the published checkpoint, and its heads."""
    with HeadStore(tmp_path / "heads") as heads, LogStore(tmp_path / "log", KEY, heads) as log:
        assert log.append([b"one", b"two"]) == range(2)
        log.publish()
        assert log.append([b"three"]) == range(2, 3)
    return tmp_path


def change_entry(folder: Path, position: int, data: bytes) -> None:
    database = apsw.Connection(str(folder / "log" / VAULT))
    database.execute("UPDATE entries SET entry = ? WHERE position = ?", (data, position))
    database.close()


@pytest.mark.parametrize("position", [0, 1])
def test_an_entry_that_the_disk_changed_is_not_signed_over(stored: Path, position: int) -> None:  # spec 4.16
    change_entry(stored, position, b"twe")
    with HeadStore(stored / "heads") as heads, pytest.raises(MalformedError, match=f"entry {position} in the vault"):
        LogStore(stored / "log", KEY, heads)


def test_an_entry_that_the_disk_changed_in_both_places_is_named(stored: Path) -> None:
    change_entry(stored, 1, b"twe")
    bundle = next((stored / "log" / "public" / "tile" / "entries").rglob("2"))
    bundle.write_bytes(bundle.read_bytes().replace(b"two", b"twe"))
    with HeadStore(stored / "heads") as heads, pytest.raises(MalformedError, match="and so are the tiles"):
        LogStore(stored / "log", KEY, heads)


def test_entries_above_the_checkpoint_are_kept_and_published_later(stored: Path) -> None:
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        assert list(log.entries) == [b"one", b"two", b"three"]
        assert log.head is not None
        assert log.head.size == 2
        log.fsck()  # what is published is whole
        assert Checkpoint.parse(log.publish().text).size == 3


def test_the_check_compares_vault_and_tiles(stored: Path) -> None:
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        log._entries[1] = b"another"  # as if memory had changed it
        with pytest.raises(MalformedError, match="not those of the vault"):
            log.fsck()
    with HeadStore(stored / "none") as heads, LogStore(stored / "empty", KEY, heads) as log:
        log.fsck()  # nothing is published yet, so nothing is wrong


def test_what_is_read_back_otherwise_than_written_is_not_signed_over(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        monkeypatch.setattr("protocol.log.store.read_file", lambda path, limit: b"\x00" * limit)
        with pytest.raises(StoppedError, match="read back other bytes"):
            log.publish()
        last = heads.last(KEY.name)
        assert last is not None
        assert last.size == 2


def test_a_published_log_is_on_the_disk(stored: Path, synced: list[str]) -> None:  # hardening 4.2, 4.3
    def files(*names: str) -> list[int]:
        return [max(i for i, path in enumerate(synced) if f"/{name}" in path) for name in names]

    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        log.publish()
    order = files("tile/entries/000.p/.3.", "tile/0/000.p/.3.", ".heads.", "public/.checkpoint.")
    assert max(order[:2]) < order[2] < order[3]  # tiles, then the second store, then the checkpoint
    synced.clear()
    (stored / "log" / "public" / CHECKPOINT).unlink()
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads):
        assert files("tile/entries/000.p/.3.", "tile/0/000.p/.3.", "public/.checkpoint.")


def test_a_kill_between_the_second_store_and_the_publication_is_made_good(stored: Path) -> None:
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        older = (stored / "log" / "public" / CHECKPOINT).read_bytes()
        log.publish()
    (stored / "log" / "public" / CHECKPOINT).write_bytes(older)
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        log.fsck()
        note = Note.decode((stored / "log" / "public" / CHECKPOINT).read_bytes())
        assert Checkpoint.parse(note.text) == log.head
        assert log.head is not None
        assert log.head.size == 3


def test_a_published_checkpoint_of_another_log_is_refused(stored: Path) -> None:  # hardening 4.5
    other = sign_checkpoint(Checkpoint(KEY.name, 2, b"\x05" * 32), KEY)
    (stored / "log" / "public" / CHECKPOINT).write_bytes(other.encode())
    with HeadStore(stored / "heads") as heads, pytest.raises(MalformedError, match="not of this log"):
        LogStore(stored / "log", KEY, heads)


def test_a_long_entry_is_refused_and_nothing_is_stored(stored: Path) -> None:  # hardening 1.2
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        with pytest.raises(LimitError, match="log entry in bytes"):
            log.append([b"four", bytes(MAX_ENTRY + 1)])
        assert log.append([bytes(MAX_ENTRY)]) == range(3, 4)


def test_a_store_of_heads_that_another_moved_stops_nothing_but_the_swap(stored: Path) -> None:  # spec 4.15
    with HeadStore(stored / "heads") as heads, LogStore(stored / "log", KEY, heads) as log:
        heads.swap(log.head, Checkpoint(KEY.name, 3, b"\x07" * 32))
        with pytest.raises(RollbackError, match="not the one expected"):
            log.publish()
