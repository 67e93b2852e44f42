"""Spec 4.1 to 4.4: the RFC 6962 tree and its proofs, against a naive tree and against hostile proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError, ProtocolError
from protocol.log.tree import Tree, leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion

# RFC 6962 reference leaves and the roots of their first 1 to 8 (certificate-transparency reference vectors)
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, 2.1, recursively."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def test_public_roots() -> None:
    assert [root_of(LEAVES[: n + 1]).hex() for n in range(8)] == ROOTS
    assert Tree().root() == hashlib.sha256(b"").digest()


ENTRIES = [b"entry %d" % i for i in range(64)]
TREE = Tree(leaf_hash(entry) for entry in ENTRIES)


@pytest.mark.parametrize("size", range(65))
def test_roots_equal_the_naive_tree(size: int) -> None:  # spec 4.1
    assert TREE.root(size) == naive_root(ENTRIES[:size])


def test_every_honest_proof_is_accepted() -> None:
    for size in range(1, 65):
        root = TREE.root(size)
        for index in range(size):
            verify_inclusion(leaf_hash(ENTRIES[index]), index, size, TREE.inclusion(index, size), root)
        for old in range(1, size + 1):
            verify_consistency(old, size, TREE.consistency(old, size), TREE.root(old), root)


sizes = st.integers(2, 64)


@given(sizes, st.data())
def test_every_mutated_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:  # spec 4.2, 4.3
    index = data.draw(st.integers(0, size - 1))
    proof, root = TREE.inclusion(index, size), TREE.root(size)
    leaf = leaf_hash(ENTRIES[index])
    kind = data.draw(st.sampled_from(["bit", "drop", "add", "index", "leaf", "short", "zero"]))
    if kind == "bit":
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    elif kind == "drop":
        proof.pop(data.draw(st.integers(0, len(proof) - 1)))
    elif kind == "add":
        proof.insert(data.draw(st.integers(0, len(proof))), bytes(32))
    elif kind == "index":
        index = data.draw(st.integers(-1, size + 1).filter(lambda other: other != index))
    elif kind == "leaf":
        leaf = leaf_hash(b"other")
    elif kind == "short":
        proof[0] = proof[0][:31]
    else:
        size = 0
    with pytest.raises(ProtocolError):
        verify_inclusion(leaf, index, size, proof, root)


@given(sizes, st.data())
def test_every_mutated_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:  # spec 4.2, 4.4
    old = data.draw(st.integers(1, size - 1))
    proof, roots = TREE.consistency(old, size), [TREE.root(old), TREE.root(size)]
    kind = data.draw(st.sampled_from(["bit", "drop", "add", "old root", "root", "old size"]))
    if kind == "bit" and proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    elif kind == "drop" and proof:
        proof.pop(data.draw(st.integers(0, len(proof) - 1)))
    elif kind == "add":
        proof.insert(data.draw(st.integers(0, len(proof))), bytes(32))
    elif kind == "old size":
        old = data.draw(st.sampled_from([0, -1, size + 1]))
    else:
        roots[kind != "old root"] = bytes(32)
    with pytest.raises(ProtocolError):
        verify_consistency(old, size, proof, roots[0], roots[1])


def test_equal_sizes_need_equal_roots_and_an_empty_proof() -> None:  # spec 4.2
    root = TREE.root(8)
    verify_consistency(8, 8, [], root, root)
    with pytest.raises(ProtocolError):
        verify_consistency(8, 8, [], root, bytes(32))
    with pytest.raises(MalformedError, match="not empty"):
        verify_consistency(8, 8, [bytes(32)], root, root)
    with pytest.raises(MalformedError, match="at most 63"):
        verify_inclusion(bytes(32), 0, 2, [bytes(32)] * 64, root)


def test_a_node_is_no_leaf() -> None:  # hardening 1.8
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"\x01" + left + right) != node_hash(left, right)
