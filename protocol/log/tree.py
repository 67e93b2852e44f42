"""The Merkle tree of RFC 6962: roots, inclusion and consistency proofs (spec 4.1 to 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from protocol.encoding import HASH_SIZE
from protocol.errors import MalformedError, RootMismatchError

MAX_PROOF: Final = 63  # spec 4.2
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 || entry) (spec 4.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right) (spec 4.1)."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """An append-only tree that keeps every complete node, so that proofs are look-ups."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        self._edge_size = 0
        self._edge_hashes: dict[int, bytes] = {}
        self.extend(leaves)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Append a leaf hash and return its index."""
        levels, height = self._levels, 0
        nodes = levels[0]
        nodes.append(leaf)
        count = size = len(nodes)
        while not count & 1:
            node = sha256(b"\x01" + nodes[-2] + nodes[-1]).digest()
            count, height = count >> 1, height + 1
            if height == len(levels):
                levels.append([])
            nodes = levels[height]
            nodes.append(node)
        return size - 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes, level by level."""
        nodes, height = self._levels[0], 0
        nodes.extend(leaves)
        while len(nodes) > 1:
            height += 1
            if height == len(self._levels):
                self._levels.append([])
            above = self._levels[height]
            first = 2 * len(above)
            if first + 1 >= len(nodes):
                return
            for index in range(first, len(nodes) - 1, 2):
                above.append(sha256(b"\x01" + nodes[index] + nodes[index + 1]).digest())
            nodes = above

    def peaks(self) -> list[bytes]:
        """Return the roots of the complete subtrees that make up the tree, from the left."""
        return [
            nodes[(self.size >> height) - 1]
            for height, nodes in reversed(list(enumerate(self._levels)))
            if self.size >> height & 1
        ]

    def level(self, height: int) -> Sequence[bytes]:
        """Return the complete nodes at a height above the leaves."""
        return self._levels[height] if height < len(self._levels) else ()

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves."""
        size = self.size if size is None else size
        return self._edge(size)[0] if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the audit path of a leaf in the tree of `size` leaves (RFC 6962, 2.1.1)."""
        size = len(self._levels[0]) if size is None else size
        edge = self._edge(size)
        if not 0 <= index < size:
            raise ValueError(f"index {index} is not below size {size}")
        return self._path(index, 0, size, edge)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Return the proof that the tree of `size` leaves extends the tree of `old` leaves (RFC 6962, 2.1.2)."""
        size = self.size if size is None else size
        edge = self._edge(size)
        if not 1 <= old <= size:
            raise ValueError(f"old size {old} is not within 1 to {size}")
        if old == size:
            return []
        height = (old & -old).bit_length() - 1  # of the last complete subtree of the old tree
        index = (old - 1) >> height
        path = self._path(index, height, size, edge)
        return path if index == 0 else [self._levels[height][index], *path]

    def _path(self, index: int, height: int, size: int, edge: dict[int, bytes]) -> list[bytes]:
        """Return the siblings on the way from a complete node up to the root.

        With `fork` the highest binary digit in which leaf and size differ, the leaf lies in a complete subtree of that
        height. Below, every sibling is complete; there, it is what is left of the tree, if anything; above, siblings
        are the complete ones on the left.
        """
        levels = self._levels
        fork = (index << height ^ size).bit_length() - 1
        path: list[bytes] = []
        add = path.append
        for nodes in levels[height:fork]:
            add(nodes[index ^ 1])
            index >>= 1
        rest = size >> fork << fork
        if rest != size:
            add(edge[rest])
        index >>= 1
        for nodes in levels[fork + 1 : size.bit_length()]:
            if index & 1:
                add(nodes[index - 1])
            index >>= 1
        return path

    def _edge(self, size: int) -> dict[int, bytes]:
        """Return the hashes over the leaves from `start` to `size`, for each start of a complete subtree at the edge.

        The complete subtrees that make up a size follow its binary digits; the last size asked for is remembered,
        since a checkpoint is signed, proved from and published.
        """
        if size != self._edge_size:
            if not 0 <= size <= self.size:
                raise ValueError(f"size {size} is not within 0 to {self.size}")
            self._edge_size, self._edge_hashes = size, {}
            rest, node = size, b""
            while rest:
                height = (rest & -rest).bit_length() - 1
                rest -= 1 << height
                peak = self._levels[height][rest >> height]
                node = node_hash(peak, node) if node else peak
                self._edge_hashes[rest] = node
        return self._edge_hashes


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
