"""The log's writing end: entries, tree, and one signed root per size (spec 4.1, 4.15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

from protocol.errors import LimitError
from protocol.keys import SigningKey
from protocol.log.note import Checkpoint, Note, sign_checkpoint
from protocol.log.tiles import MAX_ENTRY
from protocol.log.tree import Tree, leaf_hash

T = TypeVar("T")


class Tail(Sequence[T]):
    """Items by position, the first of which may be let go; whoever asks for those then gets an error."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(items)
        self._gone = 0

    def append(self, item: T) -> None:
        """Add an item at the end."""
        self._items.append(item)

    def forget(self, before: int) -> None:
        """Let go of the items at positions below `before`."""
        count = max(0, min(before - self._gone, len(self._items)))
        del self._items[:count]
        self._gone += count

    def __len__(self) -> int:
        return self._gone + len(self._items)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        wanted = range(len(self))[place]
        if isinstance(wanted, int):
            return self._items[self._kept(wanted)]
        if wanted.step != 1:
            raise ValueError(f"slices have step 1, got {wanted.step}")
        return self._items[self._kept(wanted.start) : wanted.stop - self._gone] if wanted else []

    def _kept(self, position: int) -> int:
        if position < self._gone:
            raise ValueError(f"position {position} is no longer in memory, those below {self._gone} were let go")
        return position - self._gone


class LogWriter:
    """An append-only log in memory; a driver makes what it returns durable before it leaves.

    Args:
        key: The log's signing key; its name is the origin.
        entries: Entries of an earlier run, already durable.
    """

    def __init__(self, key: SigningKey, entries: Iterable[bytes] = ()) -> None:
        self._key = key
        self.entries: Tail[bytes] = Tail()
        self.tree = Tree()
        for entry in entries:
            self.append(entry)

    def append(self, entry: bytes) -> int:
        """Append an entry and return its position; raise LimitError above 65,535 bytes."""
        if len(entry) > MAX_ENTRY:
            raise LimitError("log entry in bytes", len(entry), MAX_ENTRY)
        self.entries.append(entry)
        return self.tree.append(leaf_hash(entry))

    def checkpoint(self) -> Note:
        """Return the signed checkpoint of the current size."""
        return sign_checkpoint(Checkpoint(self._key.name, self.tree.size, self.tree.root()), self._key)
