"""One encoding of a zip archive; every other is refused (hardening 1.12, V6)."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError
from protocol.storage import archive
from protocol.storage.archive import pack, unpack

FILES = {"checkpoints/12": b"note", "entries/0.json": b"{}", "manifest.json": b"x" * 300}
names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,9}(/[a-z0-9][a-z0-9_.-]{0,9}){0,2}", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=50), min_size=1, max_size=6))
def test_an_archive_comes_back_and_other_tools_read_it(files: dict[str, bytes]) -> None:
    data = pack(files)
    assert unpack(data) == files
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert other.testzip() is None
        assert {name: other.read(name) for name in other.namelist()} == files


def test_every_flipped_bit_is_found() -> None:
    data = pack(FILES)
    for position in range(len(data)):
        for bit in range(8):
            bad = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            with pytest.raises(MalformedError):
                unpack(bad)


@given(st.integers(0, len(pack(FILES)) - 1))
def test_every_cut_is_found(length: int) -> None:
    with pytest.raises(MalformedError):
        unpack(pack(FILES)[:length])


def written(name: str, data: bytes = b"x", *, compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        target.writestr(name, data)
        target.comment = comment
    return buffer.getvalue()


def overlapping() -> bytes:
    """Two names for one stretch of bytes, as a zip bomb has them."""
    data = pack({"a": b"x" * 40})
    entry = bytearray(pack({"a": b"x" * 40, "b": b"x" * 40}))
    return data[: data.index(b"PK\x01\x02")] + bytes(entry[entry.index(b"PK\x01\x02") :])


HOSTILE: dict[str, Callable[[], bytes]] = {
    "compressed": lambda: written("a", b"x" * 100, compression=zipfile.ZIP_DEFLATED),
    "by another writer, with a time": lambda: written("a"),
    "with a comment": lambda: written("a", comment=b"hello"),
    "climbing": lambda: written("../../etc/passwd"),
    "absolute": lambda: written("/etc/passwd"),
    "capitals": lambda: written("A"),
    "a folder": lambda: written("a/", b""),
    "overlapping": overlapping,
    "bytes before": lambda: b"#!/bin/sh\n" + pack(FILES),
    "bytes behind": lambda: pack(FILES) + b"\x00",
    "two archives": lambda: pack(FILES) + pack(FILES),
    "empty": lambda: b"",
    "no entries": lambda: struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
    "a size of 4 GiB": lambda: pack(FILES)[:22] + b"\xff\xff\xff\xff" + pack(FILES)[26:],
    "twice the same name": lambda: pack({"a": b"1", "b": b"2"}).replace(b"b2", b"a2"),
    "another order": lambda: pack({"a": b"1", "b": b"1"}).replace(b"a1", b"c1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_fast_and_small(name: str) -> None:
    data = HOSTILE[name]()
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(MalformedError):
        unpack(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert time.perf_counter() - started < 1


def test_limits_are_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:  # spec 12.1
    monkeypatch.setattr(archive, "MAX_ARCHIVE", 200)
    with pytest.raises(MalformedError, match="limit is 200"):
        unpack(pack({"a": b"x" * 10}) + bytes(200))
    with pytest.raises(ValueError, match="more than 200"):
        pack({"a": b"x" * 300})
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_ENTRIES", 2)
    header = pack({"a": b""})[:31]
    with pytest.raises(MalformedError, match="limit is 2 "):
        unpack(header + header.replace(b"a", b"b") + header.replace(b"a", b"c"))
    with pytest.raises(ValueError, match="3 files"):
        pack(dict.fromkeys("abc", b""))
    with pytest.raises(ValueError, match="does not belong"):
        pack({"../a": b""})


def test_random_bytes_are_no_archive() -> None:
    source = random.Random(3)
    for _ in range(2000):
        junk = b"PK\x03\x04" + source.randbytes(source.randrange(80))
        with pytest.raises(MalformedError):
            unpack(junk)
