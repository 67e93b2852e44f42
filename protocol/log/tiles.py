"""The public log as a directory of static tiles (C2SP tlog-tiles; spec 4.10, 4.16), and `.tlog-proof` files (4.11)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.encoding import HASH_SIZE
from protocol.errors import InconclusiveError, LimitError, MalformedError, RootMismatchError
from protocol.keys import decode_base64
from protocol.log.note import MAX_NOTE, Note
from protocol.log.tree import EMPTY_ROOT, MAX_PROOF, Tree, leaf_hash, node_hash, verify_inclusion
from protocol.storage.files import read_file, write_file

TILE: Final = 256  # hashes or entries of a full tile
MAX_ENTRY: Final = 65_535  # spec 12, bytes: entries have a uint16 length
CHECKPOINT: Final = "checkpoint"
PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
CHECKPOINTS: Final = "checkpoints"  # all cosigned ones, in tiles like those of the entries
_NUMBER: Final = r"(?:/x[0-9]{3})*/[0-9]{3}(?:\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?\Z"
_TILE_PATH: Final = re.compile(r"tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])" + _NUMBER)
_HISTORY_PATH: Final = re.compile(CHECKPOINTS + _NUMBER)


def tile_path(level: str, index: int, width: int = TILE) -> str:
    """Return the path of a tile: `tile/L/N` or `tile/L/N.p/W`, N in groups of three digits."""
    return _numbered(f"tile/{level}", index, width)


def history_path(index: int, width: int = TILE) -> str:
    """Return the path of a tile of cosigned checkpoints: `checkpoints/N` or `checkpoints/N.p/W` (spec 4.10)."""
    return _numbered(CHECKPOINTS, index, width)


def _numbered(folder: str, index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    path = f"{folder}/" + "/".join(reversed(groups))
    return path if width == TILE else f"{path}.p/{width}"


def is_tile_path(path: str) -> bool:
    """Whether a path has the form of a tile's."""
    return _TILE_PATH.match(path) is not None


def history_width(path: str) -> int | None:
    """Return how many checkpoints a tile of them holds, by its path; None if the path is no such tile's."""
    match = _HISTORY_PATH.match(path)
    return match and int(match[1] or TILE)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return an entry tile: each entry behind its uint16 length."""
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise LimitError("log entry in bytes", len(entry), MAX_ENTRY)
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, count: int, name: str) -> list[bytes]:
    """Parse an entry tile of exactly `count` entries; raise MalformedError for anything else."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 2], "big")
        entry = data[position + 2 : position + 2 + length]
        if position + 2 > len(data) or len(entry) != length:
            raise MalformedError(f"{name}: torn entry {len(entries)} (spec 4.10)")
        entries.append(entry)
        position += 2 + length
    if len(entries) != count:
        raise MalformedError(f"{name}: {len(entries)} entries, wanted {count} (spec 4.10)")
    return entries


def expected_tiles(size: int) -> list[tuple[str, int, int, int]]:
    """Return (level, height above the leaves, tile index, width) of all tiles of a tree; level "entries" included."""
    tiles = []
    height, count, level = 0, size, 0
    while count:
        for index in range((count + TILE - 1) // TILE):
            width = min(TILE, count - index * TILE)
            tiles.append((str(level), height, index, width))
            if level == 0:
                tiles.append(("entries", 0, index, width))
        height, count, level = height + 8, count >> 8, level + 1
    return tiles


class TileDirectory:
    """Writes a log's tiles; the vault holds the truth, so the directory can always be written again (spec 4.16)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for left in root.rglob(".*.tmp"):  # by a kill in the middle of a write; this is the only writer
            left.unlink()
        self._written = 0  # entries whose tiles are on disk
        self._noted = 0  # cosigned checkpoints on disk
        self._obsolete: list[Path] = []  # partial tiles that the next checkpoint no longer needs

    def write(
        self, tree: Tree, entries: Sequence[bytes], checkpoint: Note, *, durable: bool, history: Sequence[bytes] = ()
    ) -> None:
        """Bring the tiles up to the tree's size, then the checkpoint (hardening 4.2: tiles first).

        Args:
            tree: The log's tree.
            entries: All its entries.
            checkpoint: Of the tree's size.
            durable: Whether every file is on the disk when this returns.
            history: All notes that met the quorum, by size; only ever extended.
        """
        self.write_tiles(tree, entries, durable=durable)
        self._write_history(history, durable=durable)
        self.write_checkpoint(checkpoint, durable=durable)

    def _write_history(self, notes: Sequence[bytes], *, durable: bool) -> None:
        for index in range(self._noted // TILE, (len(notes) + TILE - 1) // TILE):
            part = notes[index * TILE : (index + 1) * TILE]
            if (index * TILE + len(part)) > self._noted:
                path = self.root / history_path(index, len(part))
                write_file(path, encode_bundle(part), durable=durable)
                self._outdate(self.root / (history_path(index) + ".p"), len(part))
        self._noted = len(notes)

    def write_checkpoint(self, checkpoint: Note, *, durable: bool) -> None:
        """Publish a checkpoint whose tiles are there, then remove the partial tiles that only older ones needed."""
        write_file(self.root / CHECKPOINT, checkpoint.encode(), durable=durable)
        for old in self._obsolete:
            old.unlink(missing_ok=True)
            if old.parent.name.endswith(".p") and not any(old.parent.iterdir()):
                old.parent.rmdir()
        self._obsolete = []

    def write_tiles(self, tree: Tree, entries: Sequence[bytes], *, durable: bool) -> list[tuple[Path, bytes]]:
        """Bring the tiles up to the tree's size; return the files written and their bytes.

        Narrower partial tiles stay until the new checkpoint is published: a kill before that leaves the old log whole.
        """
        written = []
        self._obsolete = []
        for level, height, index, width in expected_tiles(tree.size):
            first_leaf, last_leaf = (index * TILE) << height, ((index * TILE + width) << height)
            if last_leaf <= self._written and width == TILE:
                continue
            path = self.root / tile_path(level, index, width)
            if level == "entries":
                data = encode_bundle(entries[first_leaf:last_leaf])
            else:
                data = b"".join(tree.level(height)[index * TILE : index * TILE + width])
            write_file(path, data, durable=durable)
            written.append((path, data))
            self._outdate(self.root / (tile_path(level, index) + ".p"), width)
        self._written = tree.size
        return written

    def _outdate(self, partial: Path, width: int) -> None:
        if partial.is_dir():
            self._obsolete += [old for old in partial.iterdir() if width == TILE or _narrower(old.name, width)]


def _narrower(name: str, width: int) -> bool:
    return not name.isdigit() or int(name) < width  # what is no number was left by a kill


def read_entries(root: Path, size: int) -> tuple[list[bytes], Tree]:
    """Return all entries of a log of `size` entries, checked as by `LogStream`, and the tree over them."""
    entries = list(LogStream(root, size))
    return entries, Tree(leaf_hash(entry) for entry in entries)


class LogStream:
    """Reads a log from its first entry to its last and keeps no more than one tile of each level.

    Args:
        root: Public folder.
        size: Entries of the log.
    """

    def __init__(self, root: Path, size: int) -> None:
        self._folder, self._size = root, size
        self._levels: list[tuple[Tree, int]] = []  # what is begun of each level's last tile, and that tile's number

    def root(self) -> bytes:
        """Return the Merkle root over the entries that were read."""
        node = b""
        for begun, _ in self._levels:  # the peaks of the whole tree from the right: lower levels lie to the right
            for peak in reversed(begun.peaks()):
                node = node_hash(peak, node) if node else peak
        return node or EMPTY_ROOT

    def __iter__(self) -> Iterator[bytes]:
        """Yield each entry, checking every tile against the tree over them; to be done once.

        Raises:
            InconclusiveError: If a tile is missing; the text names it (spec 8.6).
            MalformedError: If a tile is torn or has another number of entries.
            RootMismatchError: If a hash tile differs from the tree that the entries make.
        """
        for index in range((self._size + TILE - 1) // TILE):
            width = min(TILE, self._size - index * TILE)
            name = tile_path("entries", index, width)
            for entry in decode_bundle(_read_tile(self._folder, name, TILE * (MAX_ENTRY + 2)), width, name):
                self._add(leaf_hash(entry), 0)
                yield entry
        for level, (begun, index) in enumerate(self._levels):
            if begun.size:
                self._check(level, begun, index)

    def _add(self, node: bytes, level: int) -> None:
        if level == len(self._levels):
            self._levels.append((Tree(), 0))
        begun, index = self._levels[level]
        begun.append(node)
        if begun.size == TILE:
            self._check(level, begun, index)
            self._levels[level] = (Tree(), index + 1)
            self._add(begun.root(), level + 1)

    def _check(self, level: int, begun: Tree, index: int) -> None:
        data = _read_tile(self._folder, tile_path(str(level), index, begun.size), TILE * HASH_SIZE)
        if data != b"".join(begun.level(0)):
            raise RootMismatchError(data[:HASH_SIZE], begun.level(0)[0])


def _read_tile(root: Path, name: str, limit: int) -> bytes:
    try:
        return read_file(root / name, limit)
    except FileNotFoundError as error:
        raise InconclusiveError(f"{name} is missing (spec 8.6)") from error


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A self-contained inclusion proof: index, path and signed checkpoint (spec 4.11)."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: Note

    def encode(self) -> bytes:
        """Return the bytes of a `.tlog-proof` file."""
        lines = [PROOF_HEADER, f"index {self.index}"]
        lines += [base64.b64encode(item).decode("ascii") for item in self.path]
        return ("\n".join(lines) + "\n\n").encode("ascii") + self.checkpoint.encode()

    @classmethod
    def decode(cls, data: bytes) -> ProofFile:
        """Parse untrusted bytes; an `extra` line is ignored, as it is not authenticated."""
        if len(data) > 2 * MAX_NOTE:
            raise LimitError("proof file in bytes", len(data), 2 * MAX_NOTE)
        head, separator, rest = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("proof file: not ASCII (spec 4.11)") from error
        if not separator or lines[0] != PROOF_HEADER:
            raise MalformedError("proof file: wanted the header c2sp.org/tlog-proof@v1 (spec 4.11)")
        if len(lines) > 1 and lines[1].startswith("extra "):
            del lines[1]
        if len(lines) < 2 or not re.match(r"index (?:0|[1-9][0-9]{0,15})\Z", lines[1]):
            raise MalformedError("proof file: no index line (spec 4.11)")
        if len(lines) - 2 > MAX_PROOF:
            raise LimitError("hashes of a proof", len(lines) - 2, MAX_PROOF)
        path = tuple(decode_base64(line, "proof hash") for line in lines[2:])
        return cls(int(lines[1][6:]), path, Note.decode(rest))

    def verify(self, entry: bytes, size: int, root: bytes) -> None:
        """Check that an entry lies under a checkpoint; raise RootMismatchError or MalformedError if not (spec 4.3)."""
        verify_inclusion(leaf_hash(entry), self.index, size, self.path, root)
