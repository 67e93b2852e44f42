"""Faults of the machine while a log is written: nothing acknowledged is lost, nothing damaged is served (hardening 5).

`make faults` runs these; they need Linux, strace and root for the file system of two megabytes.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import MalformedError, ProtocolError
from protocol.log.tree import EMPTY_ROOT, Tree, leaf_hash
from protocol.storage.heads import RollbackError
from tests.faults.writer import entry, opened

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("CREDIBLE_KILLS", "500"))
WRITER = [sys.executable, "-m", "tests.faults.writer"]
STRACE = shutil.which("strace")
# The calls of an append by which bytes or names reach the disk
CALLS = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "link",
    "linkat",
    "unlink",
    "mkdir",
    "ftruncate",
)


def run(folder: Path, count: int, *prefix: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*prefix, *WRITER, str(folder), str(count)], cwd=ROOT, capture_output=True, timeout=120, check=False, **options
    )


def acknowledged(output: bytes) -> tuple[int, int]:
    """Return how many entries were acknowledged and the largest size that was published."""
    seen = {"a": 0, "p": 0}
    for kind, number in re.findall(rb"^([ap]) (\d+)$", output, re.MULTILINE):
        seen[kind.decode()] = max(seen[kind.decode()], int(number))
    return seen["a"], seen["p"]


def check(folder: Path, output: bytes) -> int:
    """Reopen, and check that the log is a prefix of what was written that holds all that was acknowledged."""
    durable, published = acknowledged(output)
    log, heads = opened(folder)
    with heads, log:
        size = log.tree.size
        assert size >= durable
        assert list(log.entries) == [entry(number) for number in range(size)]
        assert log.tree.root() == (Tree(leaf_hash(entry(n)) for n in range(size)).root() if size else EMPTY_ROOT)
        assert (log.head.size if log.head else 0) >= published
        log.fsck()
    return size


def test_kills_at_any_time_lose_nothing(tmp_path: Path) -> None:  # fault 1
    source, folder, size = random.Random(7), tmp_path / "k", 0
    for _ in range(KILLS):
        with subprocess.Popen([*WRITER, str(folder), "3000"], cwd=ROOT, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            if source.random() < 0.8:
                child.stdout.readline()  # let it write; else kill while it starts
            time.sleep(source.random() * 0.03)
            child.send_signal(signal.SIGKILL)
            output = child.stdout.read()
        now = check(folder, output)
        assert now >= size
        size = now
        if size > 20_000:
            shutil.rmtree(folder)
            size = 0
    print(f"{KILLS} kills, {size} entries, none acknowledged lost")


def test_every_system_call_of_an_append_may_fail(tmp_path: Path) -> None:  # faults 2, 4
    if STRACE is None:
        pytest.skip("strace is not installed: apt-get install strace")
    trace = tmp_path / "trace"
    whole = run(tmp_path / "count", 6, STRACE, "-f", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS)}")
    assert whole.returncode == 0
    calls = [re.search(r"\b(\w+)\(", line) for line in trace.read_text().splitlines()]
    counted = {name: sum(1 for call in calls if call and call[1] == name) for name in CALLS}
    runs = failed = 0
    for name, count in counted.items():
        first = 1
        if name == "openat":  # those that load the interpreter are not the log's
            lines = [line for line in trace.read_text().splitlines() if "openat(" in line]
            first = next(number for number, line in enumerate(lines, 1) if str(tmp_path / "count") in line)
        for number in range(first, count + 1):
            for fault in ("error=EIO", "error=ENOSPC", "signal=KILL"):
                folder = tmp_path / f"{name}-{number}-{fault[-3:]}"
                inject = f"inject={name}:{fault}:when={number}"
                done = run(folder, 6, STRACE, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)
                runs += 1
                failed += done.returncode != 0
                assert done.returncode in (0, 1, 7, -9, 137), (name, number, fault, done.stderr)
                if b"Traceback" in done.stderr:
                    assert b"ImportError" in done.stderr or b"OSError" in done.stderr, done.stderr.decode()
                check(folder, done.stdout)
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{runs} runs over {counted}, {failed} ended early, none lost an acknowledged entry")
    assert failed > runs / 3


def test_writes_reach_the_disk_in_the_order_of_the_rules(tmp_path: Path) -> None:  # hardening 4.1, 4.2
    if STRACE is None:
        pytest.skip("strace is not installed: apt-get install strace")
    trace, folder = tmp_path / "trace", tmp_path / "order"
    assert run(folder, 3).returncode == 0
    done = run(
        folder, 3, STRACE, "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=fsync,fdatasync,rename,write,pwrite64"
    )
    assert done.returncode == 0
    lines = trace.read_text().splitlines()

    def first(pattern: str, start: int = 0) -> int:
        return next(i for i, line in enumerate(lines) if i >= start and re.search(pattern, line))

    stored = first(r"(fsync|fdatasync)\(\d+<.*log\.db-wal>")
    receipt = first(r"write\(1<.*\"a \d+")
    tile = first(r"fsync\(\d+<.*tile/entries.*tmp>", receipt)
    named = first(r"rename\(.*tile/entries", tile)
    swapped = first(r"rename\(.*second/heads\"", named)
    shown = first(r"rename\(.*public/checkpoint\"", swapped)
    assert stored < receipt < tile < named < swapped < shown
    assert first(r"fsync\(\d+<.*public>\)", shown) > shown  # the directory, after the name


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:  # fault 6
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system here: {mounted.stderr.decode().strip()}")
    try:
        done = run(disk, 60_000)
        assert done.returncode == 7
        assert b"nothing more is written" in done.stderr or b"No space left" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        size = check(disk, done.stdout)
        assert run(disk, 30).returncode == 0  # goes on without repair
        assert check(disk, b"") >= size + 30
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("limit", [1 << 14, 1 << 16, 1 << 18])
def test_a_file_size_limit_is_a_clean_refusal(tmp_path: Path, limit: int) -> None:  # fault 7
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run(tmp_path / "f", 60_000, preexec_fn=small)
    assert done.returncode == 7, done.stderr
    check(tmp_path / "f", done.stdout)


def test_few_handles_are_a_clean_refusal(tmp_path: Path) -> None:  # fault 7
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))

    done = run(tmp_path / "n", 6, preexec_fn=few)
    assert done.returncode in (0, 1, 7)
    check(tmp_path / "n", done.stdout)


def test_clocks_that_jump_change_no_byte(tmp_path: Path) -> None:  # fault 17
    tool = shutil.which("faketime")
    if tool is None:
        pytest.skip("faketime is not installed: apt-get install faketime")
    logs = []
    for number, jump in enumerate(("+0", "+1h", "-1d", "+20y", "-30y x0.1", "+0 x100")):
        folder = tmp_path / str(number)
        assert run(folder, 30, tool, "-f", jump).returncode == 0
        assert check(folder, b"") == 30
        logs.append((folder / "log" / "public" / "checkpoint").read_bytes())
    assert len(set(logs)) == 1


def flip(path: Path, source: random.Random) -> Callable[[], None]:
    data = path.read_bytes()
    position, bit = source.randrange(len(data)), 1 << source.randrange(8)
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])

    def undo() -> None:
        path.write_bytes(data)
        path.chmod(mode)

    return undo


def test_flipped_bits_are_found_or_harmless(tmp_path: Path) -> None:  # fault 8
    source, folder = random.Random(11), tmp_path / "b"
    assert run(folder, 600).returncode == 0
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size and path.name != "heads.lock"
    ]
    found = 0
    for number in range(600):
        undo = flip(files[number % len(files)], source)
        try:
            check(folder, b"a 600\np 600\n")
        except (ProtocolError, OSError, UnicodeDecodeError, AssertionError) as error:
            assert not isinstance(error, AssertionError), "the log is served with other entries"
            found += 1
        undo()
    check(folder, b"a 600\np 600\n")
    print(f"{found} of 600 flips found, the rest left the log as it was")
    assert found > 300


def test_every_missing_or_cut_file_is_named(tmp_path: Path) -> None:  # fault 9
    folder = tmp_path / "m"
    assert run(folder, 300).returncode == 0
    for path in [p for p in sorted((folder / "log" / "public").rglob("*")) if p.is_file()]:
        data = path.read_bytes()
        for left in (None, b"", data[: len(data) // 2]):
            if left is None:
                path.unlink()
            else:
                path.write_bytes(left)
            try:
                check(folder, b"")
                assert path.name == "checkpoint"  # written again from the vault and the second store
            except ProtocolError as error:
                assert str(error)
            path.write_bytes(data)
    check(folder, b"a 300\np 300\n")


def test_an_older_copy_is_refused(tmp_path: Path) -> None:  # fault 10
    folder = tmp_path / "r"
    for _ in range(20):
        assert run(folder, 3).returncode == 0
        shutil.copytree(folder / "log", tmp_path / "copy")
        assert run(folder, 3).returncode == 0
        shutil.rmtree(folder / "log")
        shutil.copytree(tmp_path / "copy", folder / "log")
        with pytest.raises(RollbackError, match="rolled back"):
            opened(folder)
        shutil.rmtree(tmp_path / "copy")
        shutil.rmtree(folder)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:  # fault 11
    folder = tmp_path / "w"
    assert run(folder, 3).returncode == 0
    log, heads = opened(folder)
    with heads, log:
        with pytest.raises(MalformedError, match="another process"):
            opened(folder)
        assert run(folder, 3).returncode == 7
    racers = [
        subprocess.Popen([*WRITER, str(folder), "300"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [racer.communicate()[0] for racer in racers]
    assert any(racer.returncode == 0 for racer in racers)
    check(folder, b"".join(outputs))
