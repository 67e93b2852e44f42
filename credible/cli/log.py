"""credible log: a public log to look at, prove from, mirror, compare; a log and a witness of your own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, UsageError, need_new, read_input, show
from protocol import messages as m
from protocol.errors import MalformedError, RootMismatchError, VerificationError
from protocol.keys import COSIGNATURE, ED25519, SigningKey, VerifierKey, read_key_file
from protocol.log.equivocation import Equivocation
from protocol.log.equivocation import compare as compare_heads
from protocol.log.note import MAX_NOTE, Checkpoint, Note, verify_log_signature
from protocol.log.store import LogStore
from protocol.log.tiles import CHECKPOINT, MAX_ENTRY, ProofFile, read_entries
from protocol.log.tree import Tree, leaf_hash
from protocol.storage.files import write_file
from protocol.storage.heads import HeadStore
from protocol.verify import MANIFEST_FILE, MAX_FILE, load_public
from protocol.witness import Witness

app = typer.Typer(
    help="Public logs: check, prove, mirror, compare heads; run a log or a witness of your own.", no_args_is_help=True
)

Log = Annotated[Path, typer.Argument(help="Session folder, or its public folder.")]


def _public(path: Path) -> Path:
    return path / "public" if (path / "public").is_dir() else path


def _read_log(path: Path) -> tuple[list[bytes], Checkpoint, int]:
    """Read a session's log, or any other; return entries, head and number of checkpoints, all hashes checked.

    Of a log that is no session nobody says which key is whose; `check`, `compare` and `convict` take the key.
    """
    public = _public(path)
    head = Checkpoint.parse(Note.decode(read_input(public / CHECKPOINT, MAX_NOTE)).text)
    if (public / MANIFEST_FILE).exists():
        loaded = load_public(public, None)
        return [data for _, data in loaded.entries], head, len(loaded.checkpoints)
    entries, tree = read_entries(public, head.size)
    if tree.root() != head.root:
        raise RootMismatchError(tree.root(), head.root)
    return entries, head, 1


@app.command()
def fsck(log: Log, json: Json = False) -> None:
    """Re-hash every entry and tile, check every checkpoint and cosignature."""
    entries, head, checkpoints = _read_log(log)
    root = head.root.hex()
    result = {"entries": len(entries), "checkpoints": checkpoints, "size": head.size, "root": root}
    lines = [f"{log}: {head.size:,} entries under root {root}; {checkpoints:,} checkpoints; all hashes match"]
    show(result, lines, as_json=json)


@app.command()
def show_entry(
    log: Log, entry: Annotated[int, typer.Option(help="Index of the entry, from 0.", min=0)], json: Json = False
) -> None:
    """Print an entry of the log, after checking it against the tree."""
    entries, _, _ = _read_log(log)
    if entry >= len(entries):
        raise UsageError(f"entry {entry}: the log has {len(entries)} entries")
    data = entries[entry]
    try:
        name = m.Statement.decode(data).name
    except MalformedError:
        name = ""  # not a session's entry
    text = data.decode("utf-8", "backslashreplace")
    show({"index": entry, "name": name, "entry": text}, [text], as_json=json)


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
    entries, _, _ = _read_log(log)
    if entry >= len(entries):
        raise UsageError(f"entry {entry}: the log has {len(entries)} entries")
    note = Note.decode(read_input(_public(log) / CHECKPOINT, MAX_NOTE))
    tree = Tree(leaf_hash(data) for data in entries)
    write_file(output, ProofFile(entry, tuple(tree.inclusion(entry)), note).encode())
    beside = output.with_suffix(".entry")
    write_file(beside, entries[entry])
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


Heads = Annotated[
    Path, typer.Option(help="Second store of the last checkpoint: on another disk, never restored from a backup.")
]
KeyFile = Annotated[Path, typer.Option("--key", help="Key file that `credible keys` made.")]
Passphrase = Annotated[Path, typer.Option("--passphrase-file", help="File with the key's passphrase.")]


@app.command()
def append(
    log: Annotated[Path, typer.Argument(help="Folder of a log of your own; made if it is not there.")],
    entries: Annotated[list[Path], typer.Argument(help="Files, each one entry.")],
    key: KeyFile,
    passphrase_file: Passphrase,
    name: Annotated[str, typer.Option(help="Origin of the log: the name of its key.")],
    heads: Heads,
    json: Json = False,
) -> None:
    """Append entries to a log, durably, and publish its signed checkpoint."""
    data = [read_input(path, MAX_ENTRY) for path in entries]
    with HeadStore(heads) as store, LogStore(log, _load(key, passphrase_file, name, ED25519), store) as opened:
        positions = opened.append(data)
        note = opened.publish()
    result = {"first": positions.start, "size": positions.stop, "checkpoint": note.encode().decode("utf-8")}
    show(result, [f"{log}: entries {positions.start} to {positions.stop - 1}, size {positions.stop}"], as_json=json)


@app.command()
def witness(
    request: Annotated[Path, typer.Argument(help="Body of an add-checkpoint request (C2SP tlog-witness).")],
    key: KeyFile,
    passphrase_file: Passphrase,
    name: Annotated[str, typer.Option(help="Name of the witness's key.")],
    vkey: Annotated[list[str], typer.Option(help="Public key of a log that you watch; repeatable.")],
    heads: Heads,
    at: Annotated[int | None, typer.Option(help="Time to stamp, seconds since 1970; now if left out.")] = None,
    json: Json = False,
) -> None:
    """Cosign a checkpoint if it extends the last one that you saw; prints the status of tlog-witness and the line.

    Exit 0 if it was cosigned, 1 if it was refused.
    """
    try:
        logs = [VerifierKey.parse(text) for text in vkey]
    except MalformedError as error:
        raise UsageError(str(error)) from error
    with HeadStore(heads) as store:
        state = Witness(_load(key, passphrase_file, name, COSIGNATURE), logs, store=store)
        status, body = state.answer(read_input(request, 2 * MAX_NOTE), int(time.time()) if at is None else at)
    text = body.decode("utf-8").rstrip("\n")
    lines = [f"{status} {text}".rstrip()]
    show({"status": status, "body": text, "vkey": str(state.verifier)}, lines, as_json=json)
    if status != 200:
        raise typer.Exit(1)


@app.command()
def compare(
    log: Log,
    head: Annotated[Path, typer.Argument(help="A checkpoint of the same log that somebody else was shown.")],
    vkey: Annotated[str, typer.Option(help="The log's public key, which you trust.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="FILE.equivocation to write if the two contradict.")
    ] = None,
    json: Json = False,
) -> None:
    """Exchange heads: exit 0 if this log extends the other checkpoint, 1 with evidence if there are two histories."""
    if output is not None:
        need_new(output)
    try:
        key = VerifierKey.parse(vkey)
    except MalformedError as error:
        raise UsageError(str(error)) from error
    public = _public(log)
    entries, _, _ = _read_log(log)
    own = Note.decode(read_input(public / CHECKPOINT, MAX_NOTE))
    other = Note.decode(read_input(head, MAX_NOTE))
    found = compare_heads(other, own, key, [leaf_hash(data) for data in entries])
    sizes = [Checkpoint.parse(note.text).size for note in (other, own)]
    if found is None:
        show({"consistent": True, "sizes": sizes}, [f"sizes {sizes}: one log"], as_json=json)
        return
    if output is not None:
        write_file(output, found.encode())
    lines = [f"sizes {sizes}: EQUIVOCATION, the log signed two histories (spec 4.13)"]
    show({"consistent": False, "sizes": sizes, "evidence": str(output or "")}, lines, as_json=json)
    raise typer.Exit(1)


@app.command()
def convict(
    evidence: Annotated[Path, typer.Argument(help="FILE.equivocation.")],
    vkey: Annotated[str, typer.Option(help="The log's public key, which you trust.")],
    json: Json = False,
) -> None:
    """Check a proof of equivocation: exit 1 if it convicts the log, 3 if it is no proof (spec 4.13)."""
    try:
        key = VerifierKey.parse(vkey)
    except MalformedError as error:
        raise UsageError(str(error)) from error
    proof = Equivocation.decode(read_input(evidence, 3 * MAX_NOTE))
    try:
        first, second = proof.verify(key)
    except VerificationError as error:
        raise MalformedError(f"{evidence}: proves nothing: {error}") from error
    text = f"{first.origin}: signed two histories, sizes {first.size} and {second.size} (spec 4.13)"
    show({"origin": first.origin, "sizes": [first.size, second.size]}, [text], as_json=json)
    raise typer.Exit(1)


@app.command()
def mirror(
    log: Log,
    archive: Annotated[Path, typer.Argument(help="Own copy of the public folder; made, or brought up to date.")],
    json: Json = False,
) -> None:
    """Copy a public log after checking it; refuses one that does not extend the copy (spec 4.13, 4.17)."""
    public = _public(log)
    entries, head, _ = _read_log(log)
    if (archive / CHECKPOINT).exists():
        kept = Checkpoint.parse(Note.decode(read_input(archive / CHECKPOINT, MAX_NOTE)).text)
        tree = Tree(leaf_hash(data) for data in entries)
        if kept.size > head.size or tree.root(kept.size) != kept.root:
            raise VerificationError(
                f"{log}: size {head.size} does not extend the copy of size {kept.size}; see `credible log compare`"
            )
    names = sorted(path for path in public.rglob("*") if path.is_file() and path.name != CHECKPOINT)
    for path in [*names, public / CHECKPOINT]:  # the checkpoint last: what it covers is there
        write_file(archive / path.relative_to(public), read_input(path, MAX_FILE))
    show({"size": head.size, "files": len(names) + 1}, [f"{archive}: {head.size:,} entries"], as_json=json)


def _load(path: Path, passphrase_file: Path, name: str, kind: int) -> SigningKey:
    passphrase = read_input(passphrase_file, MAX_NOTE).rstrip(b"\n")
    return read_key_file(path, name, passphrase, kind)
