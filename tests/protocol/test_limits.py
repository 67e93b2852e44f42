"""Spec 12: every limit of the log's formats, exactly at it and one above."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import LimitError, MalformedError, ProtocolError
from protocol.keys import COSIGNATURE, SigningKey
from protocol.log.equivocation import HEADER, Equivocation, compare
from protocol.log.note import MAX_NOTE, MAX_SIGNATURES, Checkpoint, Note, NoteSignature, cosign, sign_checkpoint
from protocol.log.policy import MAX_MEMBERS, MAX_POLICY, Policy
from protocol.log.tiles import MAX_ENTRY, TILE, ProofFile, TileDirectory, encode_bundle, read_entries
from protocol.log.tree import MAX_PROOF, leaf_hash
from protocol.log.writer import LogWriter
from protocol.witness import build_request, parse_request

KEY = SigningKey("log.example/one", b"\x41" * 32)
HEAD = Checkpoint(KEY.name, 7, b"\x07" * 32)
NOTE = sign_checkpoint(HEAD, KEY)


def witness(number: int) -> SigningKey:
    return SigningKey(f"w{number}", number.to_bytes(32, "big"), COSIGNATURE)


def padded(size: int) -> bytes:
    text = NOTE.encode()
    # an unknown signature line, whose base64 grows by 4 characters; names fill the rest
    rest = size - len(text) - len("— ".encode()) - len(" \n")
    blob = (rest - 8) // 4 * 3
    name = "n" * (rest - blob // 3 * 4)
    return text + NoteSignature(name, bytes(4), bytes(blob - 4)).encode().encode()


def policy(logs: int = 0, witnesses: int = 0, groups: int = 0) -> bytes:
    lines = [f"log {SigningKey(f'log{i}', (i + 1).to_bytes(32, 'big')).verifier}" for i in range(logs)]
    lines += [f"witness w{i} {witness(i + 1).verifier}" for i in range(max(witnesses, groups, 1))]
    lines += [f"group g{i} any w{i}" for i in range(groups)]
    return "\n".join([*lines, "quorum w0", ""]).encode("ascii")


def many_signatures(count: int) -> bytes:
    return Note(NOTE.text, tuple(cosign(HEAD, witness(i + 1), 5) for i in range(count))).encode()


LIMITS: list[tuple[str, Callable[[int], object], int]] = [
    ("note, bytes", lambda size: Note.decode(padded(size)), MAX_NOTE),
    ("note, signatures", lambda count: Note.decode(many_signatures(count)), MAX_SIGNATURES),
    ("policy, bytes", lambda size: Policy.parse(policy() + b"#" * (size - len(policy()) - 1) + b"\n"), MAX_POLICY),
    ("policy, logs", lambda count: Policy.parse(policy(logs=count)), MAX_MEMBERS),
    ("policy, witnesses", lambda count: Policy.parse(policy(witnesses=count)), MAX_MEMBERS),
    ("policy, groups", lambda count: Policy.parse(policy(groups=count)), MAX_MEMBERS),
    ("proof, hashes", lambda count: ProofFile.decode(ProofFile(0, (bytes(32),) * count, NOTE).encode()), MAX_PROOF),
    ("request, hashes", lambda count: parse_request(build_request(1, [bytes(32)] * count, NOTE)), MAX_PROOF),
    ("equivocation, hashes",
     lambda count: Equivocation.decode(Equivocation(NOTE, NOTE, bytes(32), (bytes(32),) * count).encode()), MAX_PROOF),
    ("entry, bytes", lambda size: encode_bundle([bytes(size)]), MAX_ENTRY),
    ("appended entry, bytes", lambda size: LogWriter(KEY).append(bytes(size)), MAX_ENTRY),
]  # fmt: skip


@pytest.mark.parametrize(("name", "read", "limit"), LIMITS, ids=[name for name, _, _ in LIMITS])
def test_at_the_limit_and_above(name: str, read: Callable[[int], object], limit: int) -> None:  # spec 12.1
    read(limit)
    with pytest.raises(LimitError if "hashes" not in name or "proof" in name else MalformedError):
        read(limit + 1)


def test_the_limits_are_those_of_the_specification() -> None:
    assert (MAX_NOTE, MAX_SIGNATURES, MAX_POLICY, MAX_MEMBERS) == (64 * 1024, 64, 64 * 1024, 32)
    assert (MAX_PROOF, MAX_ENTRY, TILE) == (63, 65_535, 256)


def test_files_above_two_notes_are_not_parsed() -> None:
    for read in (ProofFile.decode, parse_request):
        with pytest.raises(LimitError, match=str(2 * MAX_NOTE)):
            read(bytes(2 * MAX_NOTE + 1))
        with pytest.raises(MalformedError):
            read(bytes(2 * MAX_NOTE))
    with pytest.raises(LimitError, match=str(3 * MAX_NOTE)):
        Equivocation.decode(bytes(3 * MAX_NOTE + 1))


def test_a_tile_of_the_longest_entries_is_read(tmp_path: Path) -> None:
    log = LogWriter(KEY, [index.to_bytes(2, "big") + bytes(MAX_ENTRY - 2) for index in range(TILE)])
    TileDirectory(tmp_path).write(log.tree, log.entries, log.checkpoint(), durable=False)
    assert read_entries(tmp_path, TILE)[0] == list(log.entries)


# --- policies ----------------------------------------------------------------------------------------------------

W = [witness(i + 1).verifier for i in range(3)]
NAMED = "\n".join(f"witness w{i} {key}" for i, key in enumerate(W))


@pytest.mark.parametrize(
    "rule",
    [
        "group g any w0\ngroup g any w1\nquorum g",  # two groups of one name
        "group w0 any w1\nquorum w1",  # a group named like a witness
        f"witness w0 {witness(9).verifier}\nquorum w0",  # two witnesses of one name
        "group none any w0\nquorum w0",
        "group g any\nquorum w0",  # no members
        "group g any w0 w1\ngroup h any w1 w2\nquorum g",  # w1 would count twice
        "group g 01 w0\nquorum g",
        "group g 2 w0\nquorum g",
        "quorum",
        "quorum w0 w1",
        f"log\nwitness w9 {witness(9).verifier}\nquorum w0",
        f"log {W[0]}\nquorum w0",  # a witness's key as a log's
        "log a b c d\nquorum w0",
        f"witness w9 {KEY.verifier}\nquorum w9",  # a log's key as a witness's
        "witness w9\nquorum w0",
        "quorum w0\n# a comment may follow\nlog x",
        "quorum w0\x07",
        "quorum w\u00e4",
    ],
)
def test_policies_that_are_refused(rule: str) -> None:  # spec 4.12
    with pytest.raises(MalformedError):
        Policy.parse(f"{NAMED}\n{rule}\n".encode())


def test_policies_that_are_read() -> None:  # spec 4.12
    lines = f"# comment\n\nlog {KEY.verifier} https://log.example/one\n{NAMED} https://w2.example\n"
    one = Policy.parse(f"{lines}group g 1 w0\ngroup all 2 g w1\nquorum all\n# the end\n".encode())
    assert one.logs == (KEY.verifier,)
    assert one.satisfied(["w1", "w2"])
    assert not one.satisfied(["w1", "w3"])
    assert one.quorum_time({"w2": 5, "w1": 9, "w3": 1}) == 9
    none = Policy.parse(f"{lines}quorum none\n".encode())
    assert none.satisfied([])
    none.check_faults(3)  # without witnesses nothing is promised


# --- notes and proofs of equivocation ------------------------------------------------------------------------------


def test_a_checkpoint_is_signed_by_the_key_of_its_origin() -> None:  # spec 4.7
    with pytest.raises(ValueError, match="the origin is"):
        sign_checkpoint(Checkpoint("another.example/log", 7, bytes(32)), KEY)
    with pytest.raises(ValueError, match="type 0x04"):
        cosign(HEAD, KEY, 5)


def equivocation() -> bytes:
    leaves = [leaf_hash(bytes([index])) for index in range(5)]
    log = LogWriter(KEY, [bytes([index]) for index in range(5)])
    proof = compare(sign_checkpoint(Checkpoint(KEY.name, 3, bytes(32)), KEY), log.checkpoint(), KEY.verifier, leaves)
    assert proof is not None
    return proof.encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(HEADER.encode(), b"another header"),
        lambda data: re.sub(rb"note (\d)", rb"note 0\1", data, count=1),  # another encoding of the same
        lambda data: re.sub(rb"\nnote \d+", b"\nnote 9999999", data, count=1),
        lambda data: re.sub(rb"\nnote \d+", b"\nnote -1", data, count=1),
        lambda data: re.sub(rb"(\nnote \d+\nnote )\d+", rb"\g<1>5", data, count=1),  # the second length is not read
        lambda data: data.replace(b"\n\n", b"\n", 1),
        lambda data: HEADER.encode() + b"\nnote 5\nnote 5\n\n" + data.partition(b"\n\n")[2],  # no hash
        lambda data: data.replace(b"note", b"n\xc3\xb6te", 1),
        lambda data: data + b"x",
    ],
)
def test_other_encodings_of_an_equivocation_are_refused(change: Callable[[bytes], bytes]) -> None:  # spec 4.13
    data = equivocation()
    Equivocation.decode(data).verify(KEY.verifier)
    assert change(data) != data
    with pytest.raises(ProtocolError):
        Equivocation.decode(change(data))


def test_heads_are_compared_only_with_the_log_that_they_are_of() -> None:  # spec 4.13
    log = LogWriter(KEY, [bytes([index]) for index in range(5)])
    leaves = [leaf_hash(entry) for entry in log.entries]
    old = sign_checkpoint(Checkpoint(KEY.name, 3, log.tree.root(3)), KEY)
    assert compare(old, log.checkpoint(), KEY.verifier, leaves) is None
    for wrong in (leaves[:4], [*leaves[:4], bytes(32)]):
        with pytest.raises(ProtocolError, match="not those of the larger checkpoint"):
            compare(old, log.checkpoint(), KEY.verifier, wrong)
    other = SigningKey("log.example/two", b"\x42" * 32)
    foreign = sign_checkpoint(Checkpoint(other.name, 3, bytes(32)), other)
    with pytest.raises(ProtocolError):
        compare(foreign, log.checkpoint(), KEY.verifier, leaves)
    empty = sign_checkpoint(Checkpoint(KEY.name, 0, bytes(32)), KEY)  # the empty tree has one root
    with pytest.raises(ProtocolError):
        compare(empty, log.checkpoint(), KEY.verifier, leaves)
