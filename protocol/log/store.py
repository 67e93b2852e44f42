"""A log that survives crashes: what is acknowledged is durable, what is damaged is named (hardening 4.2 to 4.7)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from protocol.errors import LimitError, MalformedError, ProtocolError
from protocol.keys import SigningKey
from protocol.log.note import MAX_NOTE, Checkpoint, Note, sign_checkpoint, verify_log_signature
from protocol.log.tiles import CHECKPOINT, MAX_ENTRY, TileDirectory, read_entries
from protocol.log.tree import Tree, leaf_hash
from protocol.storage.files import read_file
from protocol.storage.heads import HeadStore, RollbackError
from protocol.storage.vault import Vault

VAULT: Final = "private/log.db"
PUBLIC: Final = "public"


class StoppedError(ProtocolError):
    """Storage failed: nothing more is written until the log is opened again (hardening 4.4)."""


class LogStore:
    """Entries in a vault, tiles in a public folder, the last checkpoint in a second store; one writer.

    The order is that of hardening 4.2: entries are durable before they are acknowledged, tiles before the checkpoint
    that covers them, the second store before the signature leaves.

    Args:
        folder: The log's folder.
        key: The log's key; its name is the origin.
        heads: The second store.

    Raises:
        MalformedError: If another process has the log open, or what is stored is damaged: the place is named.
        RollbackError: If the log is older than its last signed checkpoint, or another one.
    """

    def __init__(self, folder: Path, key: SigningKey, heads: HeadStore) -> None:
        self.public = folder / PUBLIC
        self._key, self._heads = key, heads
        self._stopped = ""
        with ExitStack() as resources:
            path = folder / VAULT
            self._vault = resources.enter_context(Vault(path) if path.exists() else Vault.create(path, []))
            self._entries = self._vault.entries()
            self.tree = Tree(leaf_hash(entry) for entry in self._entries)
            self._tiles = TileDirectory(self.public)
            self.head = self._recover()
            self._resources = resources.pop_all()

    def append(self, entries: Sequence[bytes]) -> range:
        """Store entries in one durable transaction and return their positions; they are acknowledged by returning.

        Raises:
            LimitError: If an entry is longer than 65,535 bytes; nothing is stored.
            StoppedError: If storage fails, now or before.
        """
        self._check_running()
        for entry in entries:
            if len(entry) > MAX_ENTRY:
                raise LimitError("log entry in bytes", len(entry), MAX_ENTRY)
        first = self.tree.size
        try:
            self._vault.commit(first, entries, [])
        except OSError as error:
            raise self._stop(f"entries were not stored: {error}") from error
        for entry in entries:
            self.tree.append(leaf_hash(entry))
        self._entries += entries
        return range(first, self.tree.size)

    def publish(self) -> Note:
        """Write the tiles, read them back, swap the second store, sign and publish the checkpoint; return it.

        Raises:
            StoppedError: If storage fails, now or before.
            RollbackError: If the second store holds another checkpoint than the last of this log.
        """
        self._check_running()
        head = Checkpoint(self._key.name, self.tree.size, self.tree.root())
        try:
            written = self._tiles.write_tiles(self.tree, self._entries, durable=True)
            for path, data in written:
                if read_file(path, len(data)) != data:
                    raise self._stop(f"{path}: read back other bytes than were written")
            self._heads.swap(self.head, head)
            self.head = head
            note = sign_checkpoint(head, self._key)
            self._tiles.write_checkpoint(note, durable=True)
        except (OSError, MalformedError) as error:
            raise self._stop(f"the log was not published: {error}") from error
        return note

    def fsck(self) -> None:
        """Check that vault, tiles and published checkpoint are one log.

        Raises:
            ProtocolError: That names what is missing or damaged.
        """
        if self.head is None or self.head.size == 0:
            return
        entries, tree = read_entries(self.public, self.head.size)
        if tree.root() != self.head.root or entries != self._entries[: self.head.size]:
            raise MalformedError("the public entries are not those of the vault (hardening 4.5)")

    @property
    def entries(self) -> Sequence[bytes]:
        """All entries, acknowledged."""
        return self._entries

    def _recover(self) -> Checkpoint | None:
        """Check what is stored against the last signed checkpoint (spec 4.16); finish what an interruption left."""
        last, origin = self._heads.last(self._key.name), self._key.name
        published = self._published()
        if last is None:
            if published is not None:
                raise RollbackError(f"{origin}: a checkpoint is published, the second store has none (spec 4.15)")
            return None
        if last.size > self.tree.size:
            raise RollbackError(f"the log has {self.tree.size} entries, {last.size} were signed: rolled back (4.7)")
        if self.tree.root(last.size) != last.root:
            raise MalformedError(self._damage(last))
        if published is not None and self.tree.root(min(published.size, self.tree.size)) != published.root:
            raise MalformedError("the published checkpoint is not of this log (hardening 4.5)")
        if published is None or published.size < last.size:  # killed between the second store and the publication
            self._tiles.write_tiles(self._tree_of(last.size), self._entries[: last.size], durable=True)
            self._tiles.write_checkpoint(sign_checkpoint(last, self._key), durable=True)
        return last

    def _damage(self, last: Checkpoint) -> str:
        """Say which entry below the last signed checkpoint is not what it was."""
        try:
            entries, _ = read_entries(self.public, last.size)
        except ProtocolError as error:
            return f"entries below the checkpoint of size {last.size} are damaged, and so are the tiles: {error}"
        pairs = zip(entries, self._entries[: last.size], strict=True)
        wrong = next((index for index, (tile, own) in enumerate(pairs) if tile != own), -1)
        return f"entry {wrong} in the vault is damaged; the public tiles have it (hardening 4.5)"

    def _published(self) -> Checkpoint | None:
        try:
            note = Note.decode(read_file(self.public / CHECKPOINT, MAX_NOTE))
        except FileNotFoundError:
            return None
        verify_log_signature(note, self._key.verifier)
        return Checkpoint.parse(note.text)

    def _tree_of(self, size: int) -> Tree:
        return Tree(leaf_hash(entry) for entry in self._entries[:size])

    def _stop(self, text: str) -> StoppedError:
        # the kernel marks pages clean after a failed fsync: a second try would succeed without them (hardening 4.4)
        self._stopped = text
        return StoppedError(f"{text}; nothing more is written until the log is opened again (hardening 4.4)")

    def _check_running(self) -> None:
        if self._stopped:
            raise StoppedError(f"stopped before: {self._stopped} (hardening 4.4)")

    def close(self) -> None:
        """Let vault and files go; the second store is its owner's."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
