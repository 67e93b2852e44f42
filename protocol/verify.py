"""Judging what somebody hands over: a session's public folder or an epoch's bundle (spec 8).

Nothing handed over is trusted but what the trust file pins; nothing else is read, nothing is written, no clock is
asked.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import messages as m
from protocol.artifact import Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.encoding import Message, canonical, decode, hash_from_hex
from protocol.errors import (
    BindingError,
    InconclusiveError,
    LimitError,
    MalformedError,
    ProtocolError,
    RootMismatchError,
    VerificationError,
)
from protocol.escrow import check_manifest_stakes
from protocol.evidence import Judge, check_artifact
from protocol.keys import VerifierKey
from protocol.labels import mechanism_label, session_labels
from protocol.log.note import MAX_NOTE, Checkpoint, Note, cosignature_times, verify_log_signature
from protocol.log.policy import MAX_POLICY, Policy
from protocol.log.tiles import (
    CHECKPOINT,
    CHECKPOINTS,
    MAX_ENTRY,
    TILE,
    LogStream,
    ProofFile,
    decode_bundle,
    expected_tiles,
    history_width,
    is_tile_path,
    tile_path,
)
from protocol.log.tree import EMPTY_ROOT
from protocol.manifest import Manifest
from protocol.outcomes import unseal_response
from protocol.session import Session
from protocol.state import Cosigned, Finding
from protocol.storage.archive import MAX_ARCHIVE, unpack
from protocol.storage.files import read_file

MAX_FILE: Final = 16 * 1024 * 1024  # spec 12, of a bundle
MAX_FILES: Final = 100_000
SWEEP: Final = 256  # entries between two looks for epochs that can be judged and forgotten
BATCH: Final = 1000  # rounds that are judged at a time while a log is read
MANIFEST_FILE: Final = "manifest.json"
POLICY_FILE: Final = "policy.txt"
ARTIFACT_FILE: Final = "artifact.onnx"
ENTRIES: Final = "entries"
PROOFS: Final = "proofs"
VERDICT_FILE: Final = "verdict.json"
NOT_TRUSTED: Final = "consistent, not trusted: no trust file pins who these keys belong to (spec 8.3)"
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")


class Head(Message, frozen=True):
    """A checkpoint that a verifier has seen before."""

    size: int
    root: str


class Trust(Message, frozen=True):
    """What an outsider pins (spec 8.3): session id, auctioneer, policy digest, last checkpoint seen."""

    session: str
    auctioneer: str
    policy: str
    checkpoint: Head | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def read(cls, path: Path) -> Trust:
        """Read a trust file; raise MalformedError unless it is canonical."""
        trust = decode(read_file(path, MAX_NOTE).rstrip(b"\n"), cls)
        VerifierKey.parse(trust.auctioneer)
        hash_from_hex(trust.session, "trust session")
        hash_from_hex(trust.policy, "trust policy")
        if trust.checkpoint is not msgspec.UNSET:
            hash_from_hex(trust.checkpoint.root, "trust root")
            if trust.checkpoint.size < 0:
                raise MalformedError(f"trust checkpoint: size {trust.checkpoint.size} is negative")
        return trust

    def encode(self) -> bytes:
        """Return the bytes of the trust file."""
        return canonical(self) + b"\n"


@dataclass(slots=True)
class Verdict:
    """What the evidence shows; the statuses are those of spec 8.6.

    Attributes:
        verdict: "holds", "deviation", "invalid", "malformed" or "inconclusive".
        trusted: Whether a trust file pinned session, auctioneer and policy, and they match.
        checked: Counts by kind.
        findings: Broken rules.
        notes: Why it is inconclusive, malformed or invalid, in words.
        labels: What the session says of itself (spec 1.6).
        session: The log's state, if it could be read.
    """

    verdict: str
    trusted: bool = False
    checked: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    session: Session | None = None

    STATUS = {"holds": 0, "deviation": 1, "invalid": 1, "malformed": 3, "inconclusive": 4}  # noqa: RUF012 - a constant

    @property
    def status(self) -> int:
        """Exit status (spec 8.6)."""
        return self.STATUS[self.verdict]


@dataclass(frozen=True, slots=True)
class Aids:
    """What a reader brings along besides the files that it judges.

    Attributes:
        trust: What it pins; without it the best verdict is "inconclusive".
        at: Time to judge freshness by, seconds since 1970; without it nothing is called stale (spec 8.2).
        seal_key: An auditor's X25519 key, to open what is sealed to it (spec 7.7).
        beacons: Signatures by beacon round, from outside the log (spec 5.3).
    """

    trust: Trust | None = None
    at: int | None = None
    seal_key: X25519PrivateKey | None = None
    beacons: Mapping[int, bytes] = field(default_factory=dict)


def verify_path(path: Path, trust: Trust | None = None, at: int | None = None, *, aids: Aids | None = None) -> Verdict:
    """Judge a session folder, its public folder, or an epoch's bundle; never raises on what the files hold.

    Args:
        path: Folder of a session (`public/` inside), of a public log, or of a bundle; or a bundle's archive.
        trust: What the verifier pins; without it the best verdict is "inconclusive".
        at: Time to judge freshness by, seconds since 1970; without it nothing is called stale (spec 8.2).
        aids: Instead of `trust` and `at`: these and more.
    """
    aids = aids or Aids(trust, at)
    if path.is_file():
        return guard(lambda verdict: _verify_bundle(Archive(unpack(read_file(path, MAX_ARCHIVE))), aids, verdict))
    public = path / "public" if (path / "public").is_dir() else path
    if public.is_symlink():
        return Verdict("malformed", notes=[f"{public}: a link, wanted a folder (hardening 1.11)"])
    reader = _verify_bundle if (public / ENTRIES).is_dir() else _verify_public
    return guard(lambda verdict: reader(public, aids, verdict))


def guard(work: Callable[[Verdict], None]) -> Verdict:
    """Return the verdict that the work fills in; what it refuses is a verdict too (spec 8.6)."""
    verdict = Verdict("inconclusive")
    try:
        work(verdict)
    except MalformedError as error:
        verdict.verdict, verdict.notes = "malformed", [str(error)]
    except VerificationError as error:
        verdict.verdict, verdict.notes = "invalid", [str(error)]
    except InconclusiveError as error:
        verdict.verdict, verdict.notes = "inconclusive", [str(error)]
    return verdict


@dataclass(frozen=True, slots=True)
class Archive:
    """A bundle in one file; reads like a folder."""

    files: Mapping[str, bytes]


Source = Path | Archive


def _read(source: Source, name: str, limit: int) -> bytes:
    try:
        if isinstance(source, Path):
            return read_file(source / name, limit)
        data = source.files[name]
    except (FileNotFoundError, KeyError) as error:
        raise InconclusiveError(f"{name} is missing (spec 8.6)") from error
    if len(data) > limit:
        raise LimitError(f"{name} in bytes", len(data), limit)
    return data


def _list_files(source: Source) -> list[str]:
    if isinstance(source, Archive):
        return sorted(source.files)
    folder = source
    names: list[str] = []
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with os.scandir(folder / inner) as items:
            for item in items:
                name = inner + item.name
                if item.is_dir(follow_symlinks=False):
                    waiting.append(name + "/")
                elif item.is_file(follow_symlinks=False):
                    names.append(name)
                else:
                    raise MalformedError(f"{name}: neither a plain file nor a folder (hardening 1.11)")
                if len(names) + len(waiting) > MAX_FILES:
                    raise LimitError("files", len(names) + len(waiting), MAX_FILES)
    return sorted(names)


def _read_setup(folder: Source, trust: Trust | None, first: bytes) -> tuple[Session, Policy, bytes]:
    session = Session(first)
    manifest_data = _read(folder, MANIFEST_FILE, MAX_NOTE)
    if decode(manifest_data.rstrip(b"\n"), Manifest) != session.manifest:
        raise BindingError(f"{MANIFEST_FILE} is not the manifest that the log starts with (spec 6.1)")
    policy = Policy.parse(_read(folder, POLICY_FILE, MAX_POLICY))
    if policy.digest != session.manifest.policy:
        raise BindingError(f"{POLICY_FILE} has SHA-256 {policy.digest}, the manifest pins {session.manifest.policy}")
    if session.log_key not in policy.logs:
        raise BindingError("the policy does not name the session's log (spec 4.12)")
    if trust is not None:
        for what, got, wanted in (
            ("session id", session.id, trust.session),
            ("auctioneer", session.manifest.auctioneer, trust.auctioneer),
            ("policy", policy.digest, trust.policy),
        ):
            if got != wanted:
                raise BindingError(f"the {what} is {got}, the trust file pins {wanted} (spec 8.3)")
    return session, policy, _read(folder, ARTIFACT_FILE, MAX_BYTES)


@dataclass(frozen=True, slots=True)
class CosignedNote:
    """A checkpoint that met the quorum: what it says, when the quorum stood, its bytes."""

    checkpoint: Checkpoint
    time: int
    data: bytes

    @property
    def cosigned(self) -> Cosigned:
        """The checkpoint as a session takes it."""
        return Cosigned(self.checkpoint.size, self.checkpoint.root.hex(), self.time)


def _read_checkpoints(notes: Iterable[tuple[str, bytes]], log: VerifierKey, policy: Policy) -> Iterator[CosignedNote]:
    """Yield the checkpoints of named notes; all must have met the quorum."""
    witnesses = tuple(policy.witnesses.values())
    for name, data in notes:
        note = Note.decode(data)
        checkpoint = _signed_checkpoint(note, log)
        time = policy.quorum_time(cosignature_times(note, witnesses))
        if time is None:
            raise InconclusiveError(f"{name}: checkpoint {checkpoint.size} lacks the witness quorum (spec 4.14)")
        yield CosignedNote(checkpoint, time, data)


def _signed_checkpoint(note: Note, log: VerifierKey) -> Checkpoint:
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise BindingError(f"checkpoint of origin {checkpoint.origin!r}, wanted {log.name!r} (spec 4.7)")
    verify_log_signature(note, log)
    return checkpoint


def _stale(trust: Trust | None, size: int) -> Head | None:
    """Return the verifier's last checkpoint, if it has one; raise InconclusiveError if the log is older (spec 4.13)."""
    if trust is None or trust.checkpoint is msgspec.UNSET:
        return None
    if size < trust.checkpoint.size:
        raise InconclusiveError(
            f"stale: the log ends at {size}, the verifier has seen {trust.checkpoint.size} (spec 4.13)"
        )
    hash_from_hex(trust.checkpoint.root, "trust root")
    return trust.checkpoint


@dataclass(slots=True)
class Loaded:
    """A log whose rules are not judged yet.

    Attributes:
        session: Knows the manifest only.
        entries: With their positions; to be gone through once, and only then is every byte checked.
        checkpoints: Those that met the quorum.
        artifact: The mechanism's bytes.
    """

    session: Session
    entries: Iterable[tuple[int, bytes]]
    checkpoints: Collection[Cosigned]
    artifact: bytes


@dataclass(slots=True)
class PublicLog:
    """A public log, read whole; bytes, hashes and signatures hold."""

    session: Session
    entries: list[tuple[int, bytes]]
    checkpoints: list[CosignedNote]
    artifact: bytes


def load_public(folder: Path, trust: Trust | None) -> PublicLog:
    """Read a public log and check tiles, roots, checkpoints, cosignatures and what the trust file pins (spec 1.1).

    Raises:
        MalformedError: If a file is unreadable or does not belong there.
        VerificationError: If a hash, a signature or a pin does not hold.
        InconclusiveError: If a file or the witness quorum is missing, or the log is older than the verifier's memory.
    """
    notes: dict[Cosigned, CosignedNote] = {}
    loaded = _open_public(folder, trust, lambda note: notes.setdefault(note.cosigned, note))
    return PublicLog(loaded.session, list(loaded.entries), list(notes.values()), loaded.artifact)


def _open_public(
    folder: Path, trust: Trust | None, keep: Callable[[CosignedNote], object] = lambda note: None
) -> Loaded:
    """Read all of a public log but its entries, which are read as they are gone through; raises as `load_public`."""
    names = _list_files(folder)
    if CHECKPOINT not in names:
        raise InconclusiveError(f"{CHECKPOINT} is missing: no log here (spec 8.6)")
    known = {CHECKPOINT, MANIFEST_FILE, POLICY_FILE, ARTIFACT_FILE}
    history = {name: width for name in names if (width := history_width(name)) is not None}
    for name in names:
        if name not in known and name not in history and not is_tile_path(name):
            raise MalformedError(f"{name}: not a file of a public log (spec 4.10)")
    head_note = _read(folder, CHECKPOINT, MAX_NOTE)
    head = Checkpoint.parse(Note.decode(head_note).text)
    if not head.size:
        raise InconclusiveError("the log is empty")
    expected = {tile_path(level, index, width) for level, _, index, width in expected_tiles(head.size)}
    surplus = [name for name in names if is_tile_path(name) and name not in expected]
    if surplus:
        raise InconclusiveError(f"{surplus[0]} lies beyond the checkpoint of size {head.size}: torn or rolled back")
    stream = LogStream(folder, head.size)
    entries = enumerate(stream)
    _, first = next(entries)
    session, policy, artifact = _read_setup(folder, trust, first)

    def notes() -> Iterator[tuple[str, bytes]]:
        yield CHECKPOINT, head_note
        for name, width in history.items():
            for note in decode_bundle(_read(folder, name, TILE * (MAX_ENTRY + 2)), width, name):
                yield name, note

    checkpoints: set[Cosigned] = set()  # a partial tile that is being replaced repeats what the next one holds
    for note in _read_checkpoints(notes(), session.log_key, policy):
        if note.checkpoint.size > head.size:
            raise InconclusiveError(
                f"a checkpoint of size {note.checkpoint.size} is there, the log ends at {head.size}"
            )
        checkpoints.add(note.cosigned)
        keep(note)
    roots = {(item.size, item.root) for item in checkpoints}
    if seen := _stale(trust, head.size):
        roots.add((seen.size, seen.root))
    marks = sorted(roots, reverse=True)

    def checked() -> Iterator[tuple[int, bytes]]:
        for index, entry in chain([(0, first)], entries):
            while marks and marks[-1][0] <= index + 1:
                size, root = marks.pop()
                shown = stream.root() if size else EMPTY_ROOT
                if shown.hex() != root:
                    raise RootMismatchError(shown, bytes.fromhex(root))
            yield index, entry

    return Loaded(session, checked(), checkpoints, artifact)


def _verify_public(folder: Path, aids: Aids, verdict: Verdict) -> None:
    _judge(_open_public(folder, aids.trust), aids, verdict)


def _judge(loaded: Loaded, aids: Aids, verdict: Verdict, epoch: int | None = None) -> None:
    with Sandbox(loaded.artifact, loaded.session.manifest.mech, wait=False) as runner:  # it loads while the log is read
        _judge_with(runner, loaded, aids, verdict, epoch)


def _judge_with(runner: Sandbox, loaded: Loaded, aids: Aids, verdict: Verdict, epoch: int | None) -> None:
    trust, at = aids.trust, aids.at
    session = loaded.session
    manifest, count = session.manifest, 0
    session.add_cosigned(loaded.checkpoints)
    for beacon_round, signature in aids.beacons.items():
        session.supply_beacon(beacon_round, signature)
    judge = Judge(session, runner)
    broken: list[Finding] | None = None  # an artifact that does not fit the manifest decides nothing
    for index, entry in loaded.entries:
        count += 1
        if index:
            session.apply(index, entry)
        if epoch is None and not broken and index % SWEEP == 0 and judge.ready(index + 1, BATCH):
            broken = _check_runner(runner, session) if broken is None else broken
            if not broken:
                judge.advance()
    # only now every byte is checked: nothing is said of a log before
    verdict.checked.update({"log entries": count, "checkpoints": len(loaded.checkpoints)})
    verdict.labels = session_labels(manifest)
    verdict.trusted = trust is not None
    verdict.session = session
    verdict.checked.update({f"{name} statements": count for name, count in session.counts.items()})
    judged = range(manifest.rounds) if epoch is None else manifest.rounds_of(epoch)
    responses, unread = _open_sealed(session, judged, aids.seal_key)
    try:
        check_manifest_stakes(manifest)
    except VerificationError as error:
        session.findings.append(Finding("9.9", -1, "auctioneer", str(error), (0,)))
    broken = _check_runner(runner, session) if broken is None else broken
    verdict.labels.append(mechanism_label(manifest, runner.summary, runner.header.kind))
    if broken:
        verdict.findings, waiting = [*session.findings, *broken], []
    else:
        shown = judge.conclude(epoch=epoch, responses=responses, unread=unread)
        verdict.findings, waiting = shown.findings, shown.waiting
        verdict.checked.update(shown.counts)
    last = max((item.time for item in loaded.checkpoints), default=0)
    if verdict.findings:
        verdict.verdict = "deviation"
        if trust is None:
            verdict.notes.append("the keys that signed this are not pinned by a trust file (spec 8.3)")
        return
    if at is not None and at - last > manifest.retention:
        waiting = [
            f"stale: the last cosignature is {at - last} s old, the window is {manifest.retention} s (spec 4.13)"
        ]
    if waiting:
        verdict.notes = [f"incomplete: {text}" for text in waiting[:5]]
    elif trust is None:
        verdict.notes = [NOT_TRUSTED]
    else:
        verdict.verdict = "holds"


def _check_runner(runner: Sandbox, session: Session) -> list[Finding]:
    runner.ready()
    return check_artifact(session, runner.header)


def _open_sealed(
    session: Session, rounds: Iterable[int], key: X25519PrivateKey | None
) -> tuple[dict[int, m.Response], list[int]]:
    """Open what is sealed to the reader; return it, and the rounds that stay closed (spec 7.7)."""
    responses: dict[int, m.Response] = {}
    unread: list[int] = []
    own = key.public_key().public_bytes_raw().hex() if key else ""
    parties = [
        a.party for a, text in zip(session.auditors, session.manifest.auditor_seals, strict=False) if text == own
    ]
    for index in rounds:
        state = session.rounds.get(index)
        if state is None or not state.sealed or state.response is not None:
            continue
        sealed = next((state.sealed[party] for party in parties if party in state.sealed), None)
        if key is None or sealed is None:
            unread.append(index)
            continue
        try:
            responses[index] = unseal_response(session, sealed, key)
        except ProtocolError as error:
            # no finding: who lied shows only once the round is opened in clear, which a verdict of deviation calls for
            session.unproven.append(f"round {index}: what is sealed to the reader does not open: {error}")
    return responses, unread


def _verify_bundle(folder: Source, aids: Aids, verdict: Verdict) -> None:
    trust = aids.trust
    names = _list_files(folder)
    numbers: dict[str, list[int]] = {CHECKPOINTS: [], ENTRIES: [], PROOFS: []}
    suffixes = {CHECKPOINTS: "", ENTRIES: ".json", PROOFS: ".tlog-proof"}
    for name in names:
        kind, _, rest = name.partition("/")
        if name in (MANIFEST_FILE, POLICY_FILE, ARTIFACT_FILE, VERDICT_FILE):
            continue
        stem = rest.removesuffix(suffixes.get(kind, ""))
        if kind not in numbers or not _NUMBER.match(stem) or rest != stem + suffixes[kind]:
            raise MalformedError(f"{name}: not a file of a bundle (spec 8.1)")
        numbers[kind].append(int(stem))
    indices = sorted(numbers[ENTRIES])
    if not indices or indices[0] != 0:
        raise InconclusiveError(f"{ENTRIES}/0.json is missing: no manifest (spec 8.1)")
    if sorted(numbers[PROOFS]) != indices:
        raise InconclusiveError("an entry comes without its proof, or a proof without its entry (spec 8.1)")
    entries = [(index, _read(folder, f"{ENTRIES}/{index}.json", MAX_FILE)) for index in indices]
    session, policy, artifact = _read_setup(folder, trust, entries[0][1])
    cosigned = [f"{CHECKPOINTS}/{size}" for size in sorted(numbers[CHECKPOINTS])]
    notes = [(name, _read(folder, name, MAX_NOTE)) for name in cosigned]
    checkpoints = list(_read_checkpoints(notes, session.log_key, policy))
    for name, note in zip(cosigned, checkpoints, strict=True):
        if name != f"{CHECKPOINTS}/{note.checkpoint.size}":
            raise BindingError(f"{name} holds a checkpoint of size {note.checkpoint.size}")
    heads = {item.checkpoint.text: item.checkpoint for item in checkpoints}
    for index, entry in entries:
        proof = ProofFile.decode(_read(folder, f"{PROOFS}/{index}.tlog-proof", 2 * MAX_NOTE))
        head = heads.get(proof.checkpoint.text)
        if head is None:
            raise InconclusiveError(
                f"the proof of entry {index} is under a checkpoint that the bundle lacks (spec 8.1)"
            )
        if proof.index != index:
            raise BindingError(f"the proof of entry {index} is for entry {proof.index} (spec 8.5)")
        proof.verify(entry, head.size, head.root)
    roots = {item.checkpoint.size: item.checkpoint.root.hex() for item in checkpoints}
    if seen := _stale(trust, max(roots)):
        root = roots.get(seen.size)
        if root is None:
            raise InconclusiveError(
                f"nothing at hand shows that the log extends the head of size {seen.size} (spec 4.13)"
            )
        if root != seen.root:
            raise RootMismatchError(bytes.fromhex(root), bytes.fromhex(seen.root))
    epoch = _bundle_epoch(session, entries)
    session.first_epoch = epoch
    # later checkpoints prove the entries; what they show of later times is not this bundle's matter
    last, _ = entries[-1]
    within = {item.cosigned for item in checkpoints if item.checkpoint.size <= last + 1}
    _judge(Loaded(session, entries, within, artifact), aids, verdict, epoch)


def _bundle_epoch(session: Session, entries: list[tuple[int, bytes]]) -> int:
    """Return the epoch that a bundle is about, after checking that no entry was left out that could matter to it.

    A bundle holds the log from the start to the close of registration, and from the auctioneer's contribution to the
    epoch before (or from there on, for epoch 0) to the verdict, without gaps: a gap could hide a bid and convict the
    honest.

    Raises:
        InconclusiveError: If it holds no verdict, or has a gap.
    """
    bodies = [(index, _body(entry)) for index, entry in entries]
    last_index, last = bodies[-1]
    if not isinstance(last, m.VerdictStatement | m.Assessment):
        raise InconclusiveError("the bundle does not end with a verdict or an assessment (spec 8.1)")
    epoch = last.epoch
    if not 0 <= epoch < session.manifest.epochs:
        raise InconclusiveError(f"the bundle ends with a verdict on epoch {epoch} (spec 8.1)")
    closed = [index for index, body in bodies if isinstance(body, m.RegistrationClose)]
    own = session.auctioneer.party
    start = [
        index
        for index, body in bodies
        if isinstance(body, m.Contribution) and body.epoch == epoch - 1 and body.party == own
    ]
    if not closed or (epoch > 0 and not start):
        raise InconclusiveError(f"the bundle lacks the setup or the start of epoch {epoch} (spec 8.1)")
    setup_end = closed[0] + 1
    first = start[0] if epoch > 0 else setup_end
    wanted = [*range(setup_end), *range(first, last_index + 1)]
    keys = {index for index, body in bodies if isinstance(body, m.Rotation | m.Revocation)}  # of whatever time
    if [index for index, _ in bodies if index in wanted or index not in keys] != wanted:
        raise InconclusiveError(
            f"the bundle has a gap: wanted entries 0 to {setup_end - 1} and {first} to {last_index}"
        )
    return epoch


def _body(entry: bytes) -> Message | None:
    try:
        return m.Statement.decode(entry).body
    except MalformedError:
        return None  # malformed bytes inside the log are evidence, judged with the rest (spec 8.4)
