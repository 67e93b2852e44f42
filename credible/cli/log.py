"""credible log: look at a public log, prove an entry, check a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, UsageError, need_new, read_input, show
from protocol import messages as m
from protocol.errors import MalformedError
from protocol.keys import VerifierKey
from protocol.log.note import MAX_NOTE, Checkpoint, Note, verify_log_signature
from protocol.log.tiles import CHECKPOINT, MAX_ENTRY, ProofFile
from protocol.log.tree import Tree, leaf_hash
from protocol.storage.files import write_file
from protocol.verify import load_public

app = typer.Typer(help="Look at a public log: fsck, prove an entry, check a proof.", no_args_is_help=True)

Log = Annotated[Path, typer.Argument(help="Session folder, or its public folder.")]


def _public(path: Path) -> Path:
    return path / "public" if (path / "public").is_dir() else path


@app.command()
def fsck(log: Log, json: Json = False) -> None:
    """Re-hash every entry and tile, check every checkpoint and cosignature."""
    loaded = load_public(_public(log), None)
    head = max(checkpoint.size for checkpoint, _ in loaded.checkpoints)
    root = next(checkpoint.root.hex() for checkpoint, _ in loaded.checkpoints if checkpoint.size == head)
    result = {"entries": len(loaded.entries), "checkpoints": len(loaded.checkpoints), "size": head, "root": root}
    lines = [f"{log}: {head:,} entries under root {root}; {len(loaded.checkpoints):,} checkpoints; all hashes match"]
    show(result, lines, as_json=json)


@app.command()
def show_entry(
    log: Log, entry: Annotated[int, typer.Option(help="Index of the entry, from 0.", min=0)], json: Json = False
) -> None:
    """Print an entry of the log, after checking it against the tree."""
    loaded = load_public(_public(log), None)
    if entry >= len(loaded.entries):
        raise UsageError(f"entry {entry}: the log has {len(loaded.entries)} entries")
    data = loaded.entries[entry][1]
    statement = m.Statement.decode(data)
    show({"index": entry, "name": statement.name, "entry": data.decode("utf-8")}, [data.decode("utf-8")], as_json=json)


@app.command()
def prove(
    log: Log,
    entry: Annotated[int, typer.Option(help="Index of the entry, from 0.", min=0)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="FILE.tlog-proof to write; FILE.entry goes beside it.")
    ],
    json: Json = False,
) -> None:
    """Write a self-contained proof that an entry lies under the log's checkpoint."""
    need_new(output)
    loaded = load_public(_public(log), None)
    if entry >= len(loaded.entries):
        raise UsageError(f"entry {entry}: the log has {len(loaded.entries)} entries")
    note = Note.decode(read_input(_public(log) / CHECKPOINT, MAX_NOTE))
    tree = Tree(leaf_hash(data) for _, data in loaded.entries)
    write_file(output, ProofFile(entry, tuple(tree.inclusion(entry)), note).encode())
    beside = output.with_suffix(".entry")
    write_file(beside, loaded.entries[entry][1])
    show({"proof": str(output), "entry": str(beside)}, [f"{output}: proof of entry {entry}", f"{beside}"], as_json=json)


@app.command()
def check(
    proof: Annotated[Path, typer.Argument(help="FILE.tlog-proof.")],
    entry: Annotated[Path, typer.Argument(help="The entry's bytes.")],
    vkey: Annotated[str, typer.Option(help="The log's public key, which you trust.")],
    json: Json = False,
) -> None:
    """Check a proof: exit 0 if the entry lies under a checkpoint that this key signed, 1 if not."""
    try:
        key = VerifierKey.parse(vkey)
    except MalformedError as error:
        raise UsageError(str(error)) from error
    parsed = ProofFile.decode(read_input(proof, 2 * MAX_NOTE))
    head = Checkpoint.parse(parsed.checkpoint.text)
    verify_log_signature(parsed.checkpoint, key)
    parsed.verify(read_input(entry, MAX_ENTRY), head.size, head.root)
    result = {"index": parsed.index, "size": head.size, "origin": head.origin}
    show(result, [f"entry {parsed.index} lies in the log {head.origin} of size {head.size}"], as_json=json)
