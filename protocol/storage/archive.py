"""Evidence bundles as one file: a zip archive with one encoding, like every other format here (hardening 1.12).

Files are stored, not compressed, in order of their names, without times, flags, comments or extra fields. A reader
walks the local headers, writes the archive again and compares: whatever else a zip file can hold - overlapping entries,
a directory that says other things than the headers, bytes before, between or behind, false checksums - is not equal.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from typing import Final

from protocol.errors import LimitError, MalformedError

MAX_ARCHIVE: Final = 1 << 30  # bytes
MAX_ENTRIES: Final = 65_535  # more would need the 64-bit format
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]*(?:/[a-z0-9][a-z0-9_.-]*)*\Z")
_MAX_NAME: Final = 200
_DATE: Final = 33  # 1980-01-01, the least date of the format


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of files by name.

    Raises:
        ValueError: If a name is not of the pattern, or there are too many files or bytes.
    """
    if not 0 < len(files) <= MAX_ENTRIES:
        raise ValueError(f"{len(files)} files, wanted 1 to {MAX_ENTRIES}")
    parts, directory, position = [], [], 0
    for name in sorted(files):
        if not _NAME.match(name) or len(name) > _MAX_NAME:
            raise ValueError(f"file name {name[:60]!r} does not belong into an archive")
        data, text = files[name], name.encode("ascii")
        sizes = (zlib.crc32(data), len(data), len(data), len(text), 0)
        parts += [_LOCAL.pack(b"PK\x03\x04", 10, 0, 0, 0, _DATE, *sizes), text, data]
        directory += [_CENTRAL.pack(b"PK\x01\x02", 10, 10, 0, 0, 0, _DATE, *sizes, 0, 0, 0, 0, position), text]
        position += _LOCAL.size + len(text) + len(data)
        if position > MAX_ARCHIVE:
            raise ValueError(f"the archive would have more than {MAX_ARCHIVE} bytes")
    listed = b"".join(directory)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), len(listed), position, 0)
    return b"".join([*parts, listed, end])


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive by name.

    Raises:
        LimitError: If it has too many bytes or entries.
        MalformedError: If it is not exactly what `pack` writes.
    """
    if len(data) > MAX_ARCHIVE:
        raise LimitError("archive in bytes", len(data), MAX_ARCHIVE)
    files: dict[str, bytes] = {}
    position = 0
    while data[position : position + 4] == b"PK\x03\x04":
        if len(files) == MAX_ENTRIES:
            raise LimitError("files of an archive", MAX_ENTRIES + 1, MAX_ENTRIES)
        if position + _LOCAL.size > len(data):
            raise MalformedError("archive: torn header (hardening 1.12)")
        fields = _LOCAL.unpack_from(data, position)
        size, length = fields[7], fields[9]
        start = position + _LOCAL.size
        name = data[start : start + length].decode("ascii", "replace")
        position = start + length + size
        if position > len(data) or not _NAME.match(name) or name in files:
            raise MalformedError(f"archive: entry {name[:60]!r} is torn, repeated or badly named (hardening 1.12)")
        files[name] = data[start + length : position]
    try:
        same = pack(files) == data
    except ValueError as error:
        raise MalformedError(f"archive: {error} (hardening 1.12)") from error
    if not same:
        raise MalformedError("archive: not the one encoding of its files (hardening 1.12)")
    return files
