"""The Merkle tree of RFC 6962: roots, inclusion and consistency proofs (spec 4.1 to 4.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from protocol.encoding import HASH_SIZE
from protocol.errors import MalformedError, RootMismatchError

MAX_PROOF: Final = 63  # spec 4.2
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 || entry) (spec 4.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right) (spec 4.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """An append-only tree that keeps every complete node, so that proofs are look-ups."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        self._root = (0, EMPTY_ROOT)  # the last one asked for: a checkpoint is signed, cosigned, published
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Append a leaf hash and return its index."""
        node, level = leaf, 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            nodes = self._levels[level]
            nodes.append(node)
            if len(nodes) % 2:
                return self.size - 1
            node = node_hash(nodes[-2], nodes[-1])
            level += 1

    def level(self, height: int) -> Sequence[bytes]:
        """Return the complete nodes at a height above the leaves."""
        return self._levels[height] if height < len(self._levels) else ()

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves."""
        size = self.size if size is None else size
        self._check_size(size)
        if size != self._root[0]:
            self._root = (size, self._range(0, size) if size else EMPTY_ROOT)
        return self._root[1]

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the audit path of a leaf in the tree of `size` leaves (RFC 6962, 2.1.1)."""
        size = self.size if size is None else size
        self._check_size(size)
        if not 0 <= index < size:
            raise ValueError(f"index {index} is not below size {size}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Return the proof that the tree of `size` leaves extends the tree of `old` leaves (RFC 6962, 2.1.2)."""
        size = self.size if size is None else size
        self._check_size(size)
        if not 1 <= old <= size:
            raise ValueError(f"old size {old} is not within 1 to {size}")
        path: list[bytes] = []
        low, high, whole = 0, size, True
        while old != high:
            middle = low + _split(high - low)
            if old <= middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low, whole = middle, False
        if not whole:
            path.append(self._range(low, high))
        return path[::-1]

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise ValueError(f"size {size} is not within 0 to {self.size}")

    def _range(self, low: int, high: int) -> bytes:
        width = high - low
        if width & (width - 1) == 0:
            height = width.bit_length() - 1
            return self._levels[height][low >> height]
        middle = low + _split(width)
        return node_hash(self._range(low, middle), self._range(middle, high))


def _split(width: int) -> int:
    return 1 << ((width - 1).bit_length() - 1)  # largest power of two below width


def root_of(items: Iterable[bytes]) -> bytes:
    """Return the RFC 6962 root over items, hashed as leaves (spec 2.5)."""
    return Tree(leaf_hash(item) for item in items).root()


def _check_proof(proof: Sequence[bytes], *ends: bytes) -> None:
    if len(proof) > MAX_PROOF:
        raise MalformedError(f"proof has {len(proof)} hashes, at most {MAX_PROOF} (spec 4.2)")
    if any(len(item) != HASH_SIZE for item in (*proof, *ends)):
        raise MalformedError(f"proof holds a hash that has not {HASH_SIZE} bytes (spec 4.2)")


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash lies at `index` of the tree with `size` leaves and this root (spec 4.3).

    Raises:
        MalformedError: If index, size or the number of hashes cannot belong together (spec 4.2).
        RootMismatchError: If the proof leads to another root.
    """
    _check_proof(proof, leaf, root)
    if not 0 <= index < size:
        raise MalformedError(f"index {index} is not below size {size} (spec 4.2)")
    node, position, last, rest = leaf, index, size - 1, list(proof)
    for sibling in rest:
        if last == 0:
            raise MalformedError("inclusion proof has surplus hashes (spec 4.2)")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise MalformedError("inclusion proof has too few hashes (spec 4.2)")
    if node != root:
        raise RootMismatchError(node, root)


def verify_consistency(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Check that the tree of `size` leaves extends the tree of `old` leaves (spec 4.4).

    Raises:
        MalformedError: If the sizes or the number of hashes cannot belong together (spec 4.2).
        RootMismatchError: If the proof leads to another old or new root.
    """
    _check_proof(proof)
    if not 1 <= old <= size:
        raise MalformedError(f"old size {old} is not within 1 to {size} (spec 4.2)")
    if old == size:
        if proof:
            raise MalformedError("consistency proof of equal sizes is not empty (spec 4.2)")
        if old_root != root:
            raise RootMismatchError(old_root, root)
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise MalformedError("consistency proof is empty (spec 4.2)")
    position, last = old - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise MalformedError("consistency proof has surplus hashes (spec 4.2)")
        if position & 1 or position == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise MalformedError("consistency proof has too few hashes (spec 4.2)")
    if first != old_root:
        raise RootMismatchError(first, old_root)
    if second != root:
        raise RootMismatchError(second, root)
