"""The log's writing end: entries, tree, and one signed root per size (spec 4.1, 4.15)."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.errors import LimitError
from protocol.keys import SigningKey
from protocol.log.note import Checkpoint, Note, sign_checkpoint
from protocol.log.tiles import MAX_ENTRY
from protocol.log.tree import Tree, leaf_hash


class LogWriter:
    """An append-only log in memory; a driver makes what it returns durable before it leaves.

    Args:
        key: The log's signing key; its name is the origin.
        entries: Entries of an earlier run, already durable.
    """

    def __init__(self, key: SigningKey, entries: Iterable[bytes] = ()) -> None:
        self._key = key
        self.entries: list[bytes] = []
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
