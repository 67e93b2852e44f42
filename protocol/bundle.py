"""Writing evidence bundles: one epoch of a public log, self-contained (spec 8.1)."""

from __future__ import annotations

from pathlib import Path

from protocol import messages as m
from protocol.errors import InconclusiveError
from protocol.log.note import Note
from protocol.log.tiles import CHECKPOINT, CHECKPOINTS, ProofFile
from protocol.log.tree import Tree, leaf_hash
from protocol.storage.files import read_file, write_file
from protocol.verify import (
    ARTIFACT_FILE,
    ENTRIES,
    MANIFEST_FILE,
    MAX_FILE,
    POLICY_FILE,
    PROOFS,
    PublicLog,
)


def write_bundle(public: Path, loaded: PublicLog, epoch: int, folder: Path) -> int:
    """Write the evidence of an epoch to a new folder and return the number of its entries.

    Args:
        public: Public folder of the session.
        loaded: What `load_public` read from it.
        epoch: Epoch whose verdict is logged.
        folder: Where; made new.

    Raises:
        FileExistsError: If the folder exists.
        InconclusiveError: If the log holds no verdict on the epoch.
    """
    own = loaded.session.auctioneer.party
    bodies = [m.Statement.decode(entry).body for _, entry in loaded.entries]
    setup_end = next((i for i, body in enumerate(bodies) if isinstance(body, m.RegistrationClose)), -1) + 1
    ends = [i for i, b in enumerate(bodies) if isinstance(b, m.VerdictStatement | m.Assessment) and b.epoch == epoch]
    last = ends[-1] if ends else None
    first = setup_end
    if epoch:
        first = next(
            (
                i
                for i, b in enumerate(bodies)
                if isinstance(b, m.Contribution) and (b.epoch, b.party) == (epoch - 1, own)
            ),
            -1,
        )
    if last is None or first < 0 or not setup_end:
        raise InconclusiveError(f"the log holds no verdict on epoch {epoch}")
    folder.mkdir(parents=True)
    tree = Tree(leaf_hash(entry) for _, entry in loaded.entries)
    head = Note.decode(read_file(public / CHECKPOINT, MAX_FILE))
    between = [i for i in range(setup_end, first) if isinstance(bodies[i], m.Rotation | m.Revocation)]
    indices = [*range(setup_end), *between, *range(first, last + 1)]
    for index in indices:
        write_file(folder / ENTRIES / f"{index}.json", loaded.entries[index][1], durable=False)
        proof = ProofFile(index, tuple(tree.inclusion(index)), head)
        write_file(folder / PROOFS / f"{index}.tlog-proof", proof.encode(), durable=False)
    for item in loaded.checkpoints:
        size = item.checkpoint.size
        if size <= setup_end or first < size:
            write_file(folder / CHECKPOINTS / str(size), item.data, durable=False)
    write_file(folder / CHECKPOINTS / str(tree.size), head.encode(), durable=False)
    for name in (MANIFEST_FILE, POLICY_FILE, ARTIFACT_FILE):
        write_file(folder / name, read_file(public / name, MAX_FILE), durable=True)
    return len(indices)
