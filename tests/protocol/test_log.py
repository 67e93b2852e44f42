"""Spec 4.5 to 4.16: notes, checkpoints, cosignatures, policies, witnesses, tiles, proof files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import InconclusiveError, MalformedError, ProtocolError, RootMismatchError, SignatureError
from protocol.keys import COSIGNATURE, SigningKey, VerifierKey
from protocol.log.note import (
    Checkpoint,
    Note,
    cosign,
    cosignature_times,
    sign_checkpoint,
    verify_log_signature,
)
from protocol.log.policy import Policy, group_policy
from protocol.log.tiles import (
    LogStream,
    ProofFile,
    TileDirectory,
    decode_bundle,
    encode_bundle,
    history_width,
    is_tile_path,
    read_entries,
    tile_path,
)
from protocol.log.tree import leaf_hash
from protocol.log.writer import LogWriter, Tail
from protocol.witness import Witness, WitnessRefusalError

LOG = SigningKey("example.com/log", b"\1" * 32)
WITNESSES = [SigningKey(f"w{i}.example", bytes([10 + i]) * 32, COSIGNATURE) for i in range(5)]

# The worked example of C2SP signed-note, the PeterNeumann key
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_public_signed_note_verifies_and_every_byte_matters() -> None:  # spec 4.5, 11
    key = VerifierKey.parse(PETER)
    data = PETER_NOTE.encode()
    verify_log_signature(Note.decode(data), key)
    assert Note.decode(data).encode() == data
    for position in range(len(data)):
        bad = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(ProtocolError):
            verify_log_signature(Note.decode(bad), key)


def checkpoint(size: int = 3) -> Checkpoint:
    return Checkpoint(LOG.name, size, b"\5" * 32)


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_round_trip(size: int, root: bytes) -> None:
    note = sign_checkpoint(Checkpoint(LOG.name, size, root), LOG)
    assert Checkpoint.parse(Note.decode(note.encode()).text) == Checkpoint(LOG.name, size, root)
    verify_log_signature(Note.decode(note.encode()), LOG.verifier)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n3\n", "\n03\n"),
        lambda t: t.replace("\n3\n", "\n-3\n"),
        lambda t: t.replace("\n3\n", "\n+3\n"),
        lambda t: t.replace("\n3\n", "\n\uff13\n"),
        lambda t: t.replace("\n3\n", "\n9007199254740992\n"),
        lambda t: t + "extension\n",
        lambda t: t.replace(LOG.name, ""),
        lambda t: t.replace("BQUF", "BQU"),
        lambda t: t.rstrip("\n"),
    ],
)
def test_other_checkpoint_texts_are_refused(change) -> None:  # type: ignore[no-untyped-def] # spec 4.7
    text = change(checkpoint().text)
    with pytest.raises(MalformedError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAA",
        b"text\n\n- name AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 name A AAAAAAA\n",
        b"te\x00xt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"t\n\n" + b"\xe2\x80\x94 name AAAAAAAA\n" * 65,
        b"x" * 70_000,
    ],
)
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Note.decode(data)


def test_cosignatures_count_once_known_and_valid() -> None:  # spec 4.8
    note = sign_checkpoint(checkpoint(), LOG)
    known = tuple(w.verifier for w in WITNESSES[:2])
    signatures = [cosign(checkpoint(), w, 100 + i) for i, w in enumerate(WITNESSES[:3])]
    full = Note(note.text, (*note.signatures, *signatures))
    assert cosignature_times(full, known) == {WITNESSES[0].name: 100, WITNESSES[1].name: 101}
    forged = cosign(checkpoint(4), WITNESSES[0], 100)  # over another checkpoint
    with pytest.raises(SignatureError):
        cosignature_times(Note(note.text, (*note.signatures, forged)), known)
    late = cosign(checkpoint(), WITNESSES[0], 100)
    moved = type(late)(late.name, late.key_id, (99).to_bytes(8, "big") + late.signature[8:])  # another time
    with pytest.raises(SignatureError):
        cosignature_times(Note(note.text, (*note.signatures, moved)), known)


def policy(rule: str, count: int = 5) -> Policy:
    lines = [f"log {LOG.verifier}"] + [f"witness w{i} {w.verifier}" for i, w in enumerate(WITNESSES[:count])]
    return Policy.parse("\n".join([*lines, rule, ""]).encode("ascii"))


def test_quorum_counts_witnesses_and_groups() -> None:  # spec 4.12
    rule = policy("group g 4 w0 w1 w2 w3 w4\nquorum g")
    names = [w.name for w in WITNESSES]
    assert rule.satisfied(names[:4])
    assert not rule.satisfied(names[:3])
    assert rule.quorum_time({n: 10 * i for i, n in enumerate(names)}) == 30
    assert rule.quorum_time({names[0]: 1}) is None
    nested = policy("group a any w0 w1\ngroup b all w2 w3\ngroup c all a b\nquorum c")
    assert nested.satisfied([names[1], names[2], names[3]])
    assert not nested.satisfied([names[0], names[1], names[2]])
    assert policy("quorum none").quorum_time({}) == 0


def test_policies_that_allow_a_split_view_are_refused() -> None:  # spec 4.14
    policy("group g 4 w0 w1 w2 w3 w4\nquorum g").check_faults(1)
    group_policy(LOG.verifier, [WITNESSES[0].verifier], 1).check_faults(0)
    for rule, faulty in (
        ("group g 3 w0 w1 w2 w3 w4\nquorum g", 1),
        ("group g 5 w0 w1 w2 w3 w4\nquorum g", 1),
        ("quorum w0", 0),
    ):
        with pytest.raises(ValueError, match="split view"):
            policy(rule).check_faults(faulty)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "quorum w9",
        "group g 6 w0 w1\nquorum g",
        "group g 0 w0 w1\nquorum g",
        "group g any w0 w0\nquorum g",
        "group w0 any w1\nquorum w0",
        "quorum w0\nquorum w0",
        "quorum w0\nwitness x y",
        "wibble",
        "witness none x",
    ],
)
def test_malformed_policies_are_refused(rule: str) -> None:
    with pytest.raises(MalformedError):
        policy(rule)
    with pytest.raises(MalformedError, match="one key stands for two"):
        Policy.parse(f"witness a {WITNESSES[0].verifier}\nwitness b {WITNESSES[0].verifier}\nquorum a\n".encode())


def grown(count: int) -> LogWriter:
    return LogWriter(LOG, [b"entry %d" % i for i in range(count)])


def test_the_witness_gives_the_status_codes_of_tlog_witness() -> None:  # spec 4.9
    witness = Witness(WITNESSES[0], [LOG.verifier])
    log = grown(5)
    first = log.checkpoint()
    witness.add_checkpoint(0, [], first, 1)
    log.append(b"more")
    good = log.checkpoint()
    proof = log.tree.consistency(5)
    other = SigningKey("other.example", b"\2" * 32)

    def status(*arguments: object) -> int:
        with pytest.raises(WitnessRefusalError) as caught:
            witness.add_checkpoint(*arguments)  # type: ignore[arg-type]
        return caught.value.status

    assert status(5, proof, sign_checkpoint(Checkpoint(other.name, 6, log.tree.root()), other), 2) == 404
    assert status(5, proof, Note(good.text, sign_checkpoint(checkpoint(), LOG).signatures), 2) == 403
    assert status(7, proof, good, 2) == 400
    assert status(4, log.tree.consistency(4), good, 2) == 409
    assert status(5, [bytes(32), *proof[1:]], good, 2) == 422
    assert status(5, [], sign_checkpoint(Checkpoint(LOG.name, 5, bytes(32)), LOG), 2) == 422
    assert witness.heads[LOG.name].size == 5
    signature = witness.add_checkpoint(5, proof, good, 7)
    assert cosignature_times(Note(good.text, (*good.signatures, signature)), (witness.verifier,)) == {"w0.example": 7}
    fresh = Witness(WITNESSES[1], [LOG.verifier])
    with pytest.raises(WitnessRefusalError, match="422"):
        fresh.add_checkpoint(0, [], sign_checkpoint(Checkpoint(LOG.name, 0, bytes(32)), LOG), 1)


def test_tile_paths() -> None:  # spec 4.10
    assert tile_path("0", 1234067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 5, 12) == "tile/entries/005.p/12"
    for path in (tile_path("0", 999_999), tile_path("63", 0, 255), tile_path("entries", 7)):
        assert is_tile_path(path)
    for path in (
        "tile/64/000",
        "tile/0/0",
        "tile/0/000.p/0",
        "tile/0/000.p/1000",
        "tile/0/../x",
        "tile/x/000",
        "tile/0/000\n",
    ):
        assert not is_tile_path(path)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_entry_bundles_round_trip(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert decode_bundle(data, len(entries), "t") == entries
    if data:
        with pytest.raises(MalformedError):
            decode_bundle(data[:-1], len(entries), "t")
    with pytest.raises(MalformedError):
        decode_bundle(data, len(entries) + 1, "t")


@settings(max_examples=10)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_tiles_read_back_after_every_growth(steps: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        directory = TileDirectory(Path(name))
        log = grown(0)
        for step in steps:
            for _ in range(step):
                log.append(b"entry %d" % log.tree.size)
            directory.write(log.tree, log.entries, log.checkpoint(), durable=False)
            entries, tree = read_entries(Path(name), log.tree.size)
            assert entries == list(log.entries)
            assert tree.root() == log.tree.root()
        partial = list(Path(name).rglob("*.p/*"))
        assert len(partial) <= 4  # only the tiles of the last size


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 1023])
def test_a_log_read_as_a_stream_has_every_root_on_the_way(tmp_path: Path, size: int) -> None:
    log = grown(size)
    TileDirectory(tmp_path).write(log.tree, log.entries, log.checkpoint(), durable=False)
    stream = LogStream(tmp_path, size)
    assert stream.root() == log.tree.root(0)
    for index, entry in enumerate(stream):
        assert entry == log.entries[index]
        assert stream.root() == log.tree.root(index + 1)


def test_a_stream_crosses_levels(tmp_path: Path) -> None:
    size = 256 * 256 + 3
    log = LogWriter(LOG, [b""] * size)
    TileDirectory(tmp_path).write(log.tree, log.entries, log.checkpoint(), durable=False)
    stream = LogStream(tmp_path, size)
    assert sum(1 for _ in stream) == size
    assert stream.root() == log.tree.root()
    for name in ("tile/0/000", "tile/0/256.p/3", "tile/1/000", "tile/2/000.p/1"):
        path = tmp_path / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(RootMismatchError):
            list(LogStream(tmp_path, size))
        path.write_bytes(data)


@pytest.mark.parametrize("steps", [[3, 600], [255, 256, 257], [1, 256, 511, 513]])
def test_cosigned_checkpoints_lie_in_tiles(tmp_path: Path, steps: list[int]) -> None:  # spec 4.10
    directory, log = TileDirectory(tmp_path), grown(1)
    notes = [b"note %d" % number for number in range(max(steps))]
    for step in steps:
        directory.write(log.tree, log.entries, log.checkpoint(), durable=False, history=notes[:step])
        paths = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
        found: dict[str, list[bytes]] = {}
        for path in paths:
            name = path.relative_to(tmp_path).as_posix()
            width = history_width(name)
            assert width is not None
            found[name] = decode_bundle(path.read_bytes(), width, name)
        whole = sorted(name for name, part in found.items() if len(part) == 256)
        assert [note for name in whole for note in found[name]] == notes[: step // 256 * 256]
        last = [part for name, part in found.items() if name.endswith(f"{step // 256:03d}.p/{step % 256}")]
        assert last == ([notes[step // 256 * 256 : step]] if step % 256 else [])
        assert len(found) == len(whole) + len(last)  # what the next tile repeats is removed


def test_damaged_and_missing_tiles_are_named(tmp_path: Path) -> None:  # hardening 4.5, fault 9
    log = grown(300)
    TileDirectory(tmp_path).write(log.tree, log.entries, log.checkpoint(), durable=True)
    for path in sorted(tmp_path.rglob("*")):
        if not path.is_file() or path.name == "checkpoint":
            continue
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(InconclusiveError, match=str(path.relative_to(tmp_path))):
            read_entries(tmp_path, 300)
        path.write_bytes(data[:-1])
        with pytest.raises(ProtocolError):
            read_entries(tmp_path, 300)
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(ProtocolError):
            read_entries(tmp_path, 300)
        path.write_bytes(data)
    read_entries(tmp_path, 300)


def test_proof_files_round_trip_and_bind_their_entry() -> None:  # spec 4.11
    log = grown(11)
    proof = ProofFile(6, tuple(log.tree.inclusion(6)), log.checkpoint())
    parsed = ProofFile.decode(proof.encode())
    assert parsed == proof
    parsed.verify(b"entry 6", 11, log.tree.root())
    with pytest.raises(RootMismatchError):
        parsed.verify(b"entry 7", 11, log.tree.root())
    extra = proof.encode().replace(b"@v1\n", b"@v1\nextra AAAA\n", 1)
    assert ProofFile.decode(extra) == proof  # not authenticated: ignored
    for bad in (
        b"",
        b"x" * 200_000,
        proof.encode().replace(b"index 6", b"index 06"),
        proof.encode().replace(b"@v1", b"@v2"),
    ):
        with pytest.raises(MalformedError):
            ProofFile.decode(bad)
    assert leaf_hash(b"entry 6") == log.tree.level(0)[6]


@given(st.lists(st.integers(0, 99), max_size=20), st.integers(0, 25), st.integers(0, 25), st.integers(0, 25))
def test_a_tail_is_a_list_of_which_the_beginning_is_gone(items: list[int], gone: int, first: int, last: int) -> None:
    tail = Tail(items[:10])
    for item in items[10:]:
        tail.append(item)
    tail.forget(gone)
    tail.forget(gone // 2)  # once gone, gone
    kept = min(gone, len(items))
    assert len(tail) == len(items)
    assert tail[kept:] == items[kept:]
    assert [tail[position] for position in range(kept, len(items))] == items[kept:]
    if not items[first:last] or first >= kept:
        assert tail[first:last] == items[first:last]
    else:
        with pytest.raises(ValueError, match="no longer in memory"):
            tail[first:last]
    if kept:
        for wrong in (lambda: tail[0], lambda: tail[kept - 1 - len(items)], lambda: list(tail)):
            with pytest.raises(ValueError, match="no longer in memory"):
                wrong()
    with pytest.raises(IndexError):
        tail[len(items)]
    with pytest.raises(ValueError, match="step 1"):
        tail[::2]
