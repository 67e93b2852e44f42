"""Reading CSV tables from others: named columns, plain integers, errors that name file and line (hardening 1)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import MalformedError
from protocol.storage.files import read_file

MAX_TABLE: Final = 256 * 1024 * 1024
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}\Z")


class Row:
    """One row of a table: text by column, and where it stands."""

    def __init__(self, path: Path, line: int, cells: dict[str, str]) -> None:
        self._path, self._line, self._cells = path, line, cells

    def text(self, column: str) -> str:
        """Return a cell."""
        return self._cells[column]

    def integer(self, column: str) -> int:
        """Return a cell as a plain decimal integer; raise MalformedError for anything else."""
        text = self._cells[column]
        if not _INTEGER.match(text):
            raise self.error(f"column {column}: wanted an integer, got {text[:40]!r}")
        return int(text)

    def optional(self, column: str) -> int | None:
        """Return a cell as an integer, None if it is empty."""
        return self.integer(column) if self._cells[column] else None

    def error(self, text: str) -> MalformedError:
        """Return the error that names this row."""
        return MalformedError(f"{self._path}, line {self._line}: {text}")


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Read a UTF-8 CSV file that has at least the named columns.

    Raises:
        MalformedError: If there is no such file, it is not UTF-8, lacks a column, or a row has another number of cells.
    """
    try:
        text = read_file(path, MAX_TABLE).decode("utf-8")
    except FileNotFoundError as error:
        raise MalformedError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"{path}: not UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [column for column in columns if column not in header]
        if missing or len(set(header)) != len(header):
            raise MalformedError(f"{path}: columns are {header[:20]}, wanted {list(columns)} each once")
        for cells in reader:
            if len(cells) != len(header):
                raise MalformedError(f"{path}, line {reader.line_num}: {len(cells)} cells, wanted {len(header)}")
            yield Row(path, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise MalformedError(f"{path}, line {reader.line_num}: {error}") from error
