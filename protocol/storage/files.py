"""Atomic file writes and bounded reads (hardening 1.1, 4.1)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protocol.errors import LimitError, MalformedError


def make_folder(folder: Path, *, durable: bool = True, mode: int = 0o777) -> None:
    """Make a folder and those above it; a new folder is durable once the one that names it is synced.

    Args:
        folder: Which; it may exist.
        durable: Whether to fsync what names the new ones before returning.
        mode: Permission bits of the folder itself, less the process's mask.
    """
    made = [item for item in (folder, *folder.parents) if not item.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for item in made if durable else ():
        _sync_folder(item.parent)


def _sync_folder(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_file(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o644, new: bool = False) -> None:
    """Write a file by a temporary one in the same directory, so that readers see the old or the new bytes.

    Args:
        path: Where; missing directories are made.
        data: What.
        durable: Whether to fsync file and directory before returning; False where the vault already holds the data.
        mode: Permission bits of the file.
        new: Whether the file must not exist yet.

    Raises:
        FileExistsError: If `new` and it exists.
    """
    make_folder(path.parent, durable=durable)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)  # left by a kill; it may be a second name of a file in use, so never truncated
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if new:
            os.link(temporary, path)  # unlike a rename, refuses where another process was first
            temporary.unlink()
        else:
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file once, size first (hardening 1.1).

    Raises:
        FileNotFoundError: If there is none.
        LimitError: If it is larger than `limit` bytes.
        MalformedError: If it is no regular file or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MalformedError(f"{path}: cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise MalformedError(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit:
            raise LimitError(f"{path} in bytes", status.st_size, limit)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise LimitError(f"{path} in bytes", len(data), limit)
    return data
