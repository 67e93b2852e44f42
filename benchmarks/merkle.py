"""The Merkle tree against pymerkle, both in memory, with equal roots and proofs that hold."""

from __future__ import annotations

from pymerkle import InmemoryTree

from benchmarks.timing import medians
from protocol.log.tree import Tree, leaf_hash, verify_consistency, verify_inclusion

LEAVES, PROOFS = 100_000, 2_000


def main() -> None:
    """Print the ratios."""
    entries = [index.to_bytes(128, "big") for index in range(LEAVES)]
    leaves = [leaf_hash(entry) for entry in entries]

    def ours() -> Tree:
        tree = Tree()
        for entry in entries:
            tree.append(leaf_hash(entry))
        return tree

    def theirs() -> InmemoryTree:
        tree = InmemoryTree(algorithm="sha256")
        for entry in entries:
            tree.append_entry(entry)
        return tree

    own, other = ours(), theirs()
    if own.root() != other.get_root():
        raise SystemExit("the roots differ")
    places = range(0, LEAVES, LEAVES // PROOFS)
    sizes = range(1, LEAVES, LEAVES // PROOFS)
    times = medians(
        {
            "append": ours,
            "append, pymerkle": theirs,
            "inclusion": lambda: [own.inclusion(index) for index in places],
            # pymerkle counts from 1, and remembers subroots: emptied, or a second run would only look up
            "inclusion, pymerkle": lambda: [(other.cache_clear(), other.prove_inclusion(i + 1)) for i in places],
            "consistency": lambda: [own.consistency(size) for size in sizes],
            "consistency, pymerkle": lambda: [(other.cache_clear(), other.prove_consistency(s, LEAVES)) for s in sizes],
            "kept": lambda: [other.prove_inclusion(i + 1) for i in places],
        },
        5,
    )
    for index in places:
        verify_inclusion(leaves[index], index, LEAVES, own.inclusion(index), own.root())
    for size in sizes:
        verify_consistency(size, LEAVES, own.consistency(size), own.root(size), own.root())
    for what, unit in (("append", LEAVES), ("inclusion", PROOFS), ("consistency", PROOFS)):
        print(
            f"{what}: {times[what] / unit * 1e6:.2f} us, pymerkle {times[f'{what}, pymerkle'] / unit * 1e6:.2f} us, "
            f"{times[f'{what}, pymerkle'] / times[what]:.1f}x faster ({LEAVES} leaves, equal roots)"
        )
    print(f"inclusion against pymerkle's remembered subroots: {times['kept'] / times['inclusion']:.1f}x faster")


if __name__ == "__main__":
    main()
