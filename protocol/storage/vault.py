"""The private vault: log entries and secrets of one session in SQLite through APSW (spec 4.16, hardening 4.8)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw

from protocol.encoding import hash_of
from protocol.errors import InconclusiveError, MalformedError
from protocol.storage.files import make_folder, write_file

FORMAT: Final = 2
MINIMUM_SQLITE: Final = (3, 51, 3)  # earlier ones may corrupt a WAL database on reset (hardening 3)
STORE_RECORD: Final = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"

_DISK: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NoMemError,
)


class Vault:
    """Entries of the log in order, and named records by kind; one writer, WAL, synchronous=FULL.

    Args:
        path: The database file, made by `Vault.create`.

    Raises:
        FileNotFoundError: If there is none.
        MalformedError: If the file is no vault of this format, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        _check_library()
        self._path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no vault here")
        try:
            self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            found = self._db.pragma("user_version")
            self._db.execute("BEGIN IMMEDIATE; COMMIT")  # takes the lock now, so that a second writer is refused
        except apsw.BusyError as error:
            raise MalformedError(f"{path}: another process has this vault open") from error
        except apsw.Error as error:
            raise MalformedError(f"{path}: not a vault: {error}") from error
        if found != FORMAT:
            raise MalformedError(f"{path}: vault format {found}, wanted {FORMAT} (hardening 4.10)")
        try:
            self._check_records()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, records: Iterable[tuple[str, str, bytes]]) -> Self:
        """Make a new vault with its first records and open it.

        The file appears whole or not at all: however early a kill comes, a vault that exists holds what it began with.

        Args:
            path: The database file, mode 0600; missing directories are made with mode 0700.
            records: Kind, name and value of each record.

        Raises:
            FileExistsError: If the file exists.
        """
        _check_library()
        make_folder(path.parent, mode=0o700)
        memory = apsw.Connection(":memory:")
        memory.execute(
            "CREATE TABLE entries (position INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;"
            "CREATE TABLE records (kind TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, digest BLOB NOT NULL,"
            " PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;"
            f"PRAGMA user_version={FORMAT};"
        )
        memory.executemany(STORE_RECORD, _digested(records))
        data = memory.serialize("main")
        memory.close()
        write_file(path, data, mode=0o600, new=True)
        return cls(path)

    def commit(self, first: int, entries: Iterable[bytes], records: Iterable[tuple[str, str, bytes]]) -> None:
        """Store entries from position `first` on and replace records, in one durable transaction.

        Raises:
            OSError: If nothing was stored, for want of space or because the disk failed (hardening 4.4).
        """
        try:
            with self._db:
                self._db.executemany(
                    "INSERT INTO entries VALUES (?, ?)", ((first + i, entry) for i, entry in enumerate(entries))
                )
                self._db.executemany(STORE_RECORD, _digested(records))
        except _DISK as error:
            raise OSError(errno.EIO, f"nothing was stored: {error}", str(self._path)) from error

    def entries(self) -> list[bytes]:
        """Return all log entries in order.

        Raises:
            MalformedError: If a position is missing; what is read is hashed against the tree by the caller (spec 4.16).
        """
        rows = self._read("SELECT position, entry FROM entries ORDER BY position")
        if [position for position, _ in rows] != list(range(len(rows))):
            raise MalformedError("vault: log positions are not consecutive")
        return [bytes(entry) for _, entry in rows]

    def record(self, kind: str, name: str) -> bytes | None:
        """Return a record, or None."""
        for (value,) in self._read("SELECT value FROM records WHERE kind = ? AND name = ?", (kind, name)):
            return bytes(value)
        return None

    def records(self, kind: str) -> dict[str, bytes]:
        """Return all records of a kind by name."""
        rows = self._read("SELECT name, value FROM records WHERE kind = ? ORDER BY name", (kind,))
        return {str(name): bytes(value) for name, value in rows}

    def _check_records(self) -> None:
        """Check every record against its digest: no tree covers them, and the disk may have changed one (4.16)."""
        for kind, name, value, digest in self._read("SELECT kind, name, value, digest FROM records"):
            if _digest(str(kind), str(name), bytes(value)) != digest:
                raise MalformedError(f"{self._path}: record {name!r} of kind {kind!r} is damaged (hardening 4.5)")

    def _read(self, query: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return list(self._db.execute(query, values))
        except apsw.Error as error:
            raise MalformedError(f"{self._path}: damaged: {error} (hardening 4.5)") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _digested(records: Iterable[tuple[str, str, bytes]]) -> Iterator[tuple[str, str, bytes, bytes]]:
    return ((kind, name, value, _digest(kind, name, value)) for kind, name, value in records)


def _digest(kind: str, name: str, value: bytes) -> bytes:
    return hash_of("record", {"kind": kind.encode().hex(), "name": name.encode().hex(), "value": value.hex()})


def _check_library() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < MINIMUM_SQLITE:
        raise InconclusiveError(f"SQLite {apsw.sqlite_lib_version()}: 3.51.3 or newer is wanted (hardening 3)")
