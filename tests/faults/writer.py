"""A child that appends to a log and prints every acknowledgement: what it printed must survive whatever kills it.

    python -m tests.faults.writer FOLDER COUNT [GROUP]

Prints `a N` once the entries below N are durable, `p N` once a checkpoint of size N is published. A failure of storage
ends it with status 7 and no further acknowledgement.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from protocol.errors import ProtocolError
from protocol.keys import SigningKey
from protocol.log.store import LogStore
from protocol.storage.heads import HeadStore

KEY = SigningKey("fault.example/log", b"\x05" * 32)


def entry(number: int) -> bytes:
    """Return the entry of a position: anyone can tell what it has to be."""
    return f"entry {number} ".encode() + hashlib.sha256(number.to_bytes(8, "big")).digest() * (number % 7)


def opened(folder: Path) -> tuple[LogStore, HeadStore]:
    """Open log and second store."""
    heads = HeadStore(folder / "second" / "heads")
    try:
        return LogStore(folder / "log", KEY, heads), heads
    except BaseException:
        heads.close()
        raise


def say(text: str) -> None:
    """Print past every buffer."""
    os.write(1, f"{text}\n".encode())


def main(folder: Path, count: int, group: int) -> int:
    """Append `count` entries in groups, publishing after each."""
    try:
        log, _ = opened(folder)
        start = log.tree.size
        for first in range(start, start + count, group):
            log.append([entry(number) for number in range(first, first + group)])
            say(f"a {log.tree.size}")
            log.publish()
            say(f"p {log.tree.size}")
    except (ProtocolError, OSError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3))
