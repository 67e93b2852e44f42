"""The second store: the last signed checkpoint by origin, with compare-and-swap (spec 4.9, 4.13, 4.15; hardening 4.7).

It lies on another disk or host than the log, is never restored from a backup, and so notices when the log is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from protocol.errors import MalformedError, VerificationError
from protocol.log.note import Checkpoint
from protocol.storage.files import make_folder, read_file, write_file

HEADER: Final = "credible-heads-v1"
_LIMIT: Final = 1 << 20


class RollbackError(VerificationError):
    """A checkpoint is older than one that was signed before, or contradicts it."""


class HeadStore:
    """One file that one process holds open; every change is durable before it is reported.

    Args:
        path: The file; missing directories are made.

    Raises:
        MalformedError: If another process holds it, or its contents are damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent)
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._heads = self._read()
        except BlockingIOError as error:
            os.close(self._lock)
            raise MalformedError(f"{path}: another process holds this store (hardening 4.8)") from error
        except BaseException:
            os.close(self._lock)
            raise

    def last(self, origin: str) -> Checkpoint | None:
        """Return the last checkpoint of an origin; None if there was none."""
        return self._heads.get(origin)

    def swap(self, old: Checkpoint | None, new: Checkpoint, *, durable: bool = True) -> None:
        """Replace the last checkpoint of an origin if it is still `old`.

        Raises:
            RollbackError: If the stored one is another, or `new` is smaller, or of the same size with another root.
        """
        stored = self._heads.get(new.origin)
        if stored != old:
            text = "none" if stored is None else f"one of size {stored.size}"
            raise RollbackError(f"last checkpoint of {new.origin} is {text}, not the one expected (spec 4.15)")
        if stored is not None and (new.size < stored.size or (new.size == stored.size and new.root != stored.root)):
            raise RollbackError(
                f"checkpoint of size {new.size} after one of size {stored.size}: rolled back or forked (spec 4.15)"
            )
        heads = {**self._heads, new.origin: new}
        body = "".join(heads[origin].text for origin in sorted(heads)).encode("utf-8")
        digest = hashlib.sha256(body).hexdigest()
        write_file(self._path, f"{HEADER}\n{digest}\n".encode("ascii") + body, mode=0o600, durable=durable)
        self._heads = heads

    def _read(self) -> dict[str, Checkpoint]:
        try:
            data = read_file(self._path, _LIMIT)
        except FileNotFoundError:
            return {}
        head, _, rest = data.partition(b"\n")
        digest, _, body = rest.partition(b"\n")
        if head != HEADER.encode("ascii") or hashlib.sha256(body).hexdigest().encode("ascii") != digest:
            raise MalformedError(f"{self._path}: damaged, or no store of checkpoints (hardening 4.5)")
        lines = body.decode("utf-8").split("\n")[:-1]
        heads = [Checkpoint.parse("\n".join(lines[i : i + 3]) + "\n") for i in range(0, len(lines), 3)]
        return {head.origin: head for head in heads}

    def close(self) -> None:
        """Let the file go."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
