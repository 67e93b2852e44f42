"""Parsers of untrusted bytes under mutation: every input ends in a value or in the package's own error (hardening V7).

`make fuzz` feeds each for FUZZ_SECONDS, 60 unless said; the seeds are real files of a session and of the vectors.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from credible.simulation.attacks.auctioneers import Overcharging
from protocol import messages as m
from protocol.artifact.header import Header
from protocol.artifact.static import CheckedArtifact, check
from protocol.commitment import Opening
from protocol.encoding import canonical
from protocol.errors import ProtocolError
from protocol.keys import VerifierKey
from protocol.log.equivocation import Equivocation
from protocol.log.note import Checkpoint, Note, sign_checkpoint
from protocol.log.policy import Policy
from protocol.log.tiles import ProofFile, decode_bundle, encode_bundle
from protocol.session import Session
from protocol.verify import Trust
from protocol.witness import build_request, parse_request
from tests.harness import Table

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1200)]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
BIDS = {0: [500, 0], 1: [300, 700], 2: [50, 40]}
TOKENS = [
    b"null", b"NaN", b"-0", b"1e999", b"9" * 50, b'""', b"{}", b"[]", b"\\ud800", b"\xef\xbb\xbf", b"\x00", b"\n\n",
    b"\xff", b"true", b"18446744073709551616", b"9007199254740992", b",", b":", b"[" * 40, b"\xef\xbc\x91", b"=",
    b"\xe2\x80\x94 ",
]  # fmt: skip


def mutate(data: bytes, corpus: list[bytes], source: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4, 16))):
        kind, at = source.randrange(7), source.randrange(len(out) + 1)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << source.randrange(8)
        elif kind == 1:
            out[at:at] = source.choice(TOKENS)
        elif kind == 2:
            del out[at : at + source.randrange(1, 40)]
        elif kind == 3:
            out[at : at + source.randrange(1, 9)] = source.choice(TOKENS)
        elif kind == 4:
            other = source.choice(corpus)
            start = source.randrange(len(other) + 1)
            out[at : at + source.randrange(60)] = other[start : start + source.randrange(60)]
        elif kind == 5:
            out[at:at] = out[at : at + source.randrange(1, 200)]
        else:
            del out[at:]
    return bytes(out)


def feed(parse: Callable[[bytes], object], corpus: list[bytes]) -> None:
    source, runs, end = random.Random(17), 0, time.monotonic() + SECONDS
    slowest = 0.0
    while time.monotonic() < end:
        data = mutate(source.choice(corpus), corpus, source)
        started = time.process_time()  # a neighbour may stop the clock on the wall for seconds
        with contextlib.suppress(ProtocolError):
            parse(data)
        slowest = max(slowest, time.process_time() - started)
        runs += 1
    print(f"{runs:,} runs, the slowest took {slowest:.3f} s")  # noqa: T201
    assert slowest < 1
    assert runs > 100


@pytest.fixture(scope="module")
def session(second_price: CheckedArtifact) -> Table:
    table = Table(second_price, rounds=2, auctioneer=Overcharging, registrar=True, gains="returned")
    table.play(0, BIDS)
    table.play(1, BIDS, silent=[2])
    table.end()
    return table


def test_statements(session: Table) -> None:
    feed(m.Statement.decode, list(session.auctioneer.log.entries))


def test_sessions_take_any_entry(session: Table) -> None:
    entries = list(session.auctioneer.log.entries)
    fresh, left = [Session(entries[0])], [400]

    def apply(data: bytes) -> None:
        if not left[0]:
            fresh[0], left[0] = Session(entries[0]), 400
        left[0] -= 1
        if left[0] % 20 == 0:
            fresh[0].apply(400 - left[0], entries[(400 - left[0]) // 20 % len(entries)])
        fresh[0].apply(400 - left[0], data)
        fresh[0].overdue()

    feed(apply, entries)


def test_notes_and_checkpoints(session: Table) -> None:
    feed(lambda data: Checkpoint.parse(Note.decode(data).text), [note.encode() for note in session.notes.values()])


def test_policies(session: Table) -> None:
    feed(Policy.parse, [session.policy.text, session.policy.text.replace(b"quorum w1", b"group g 1 w1\nquorum g")])


def test_proofs_requests_and_equivocations(session: Table) -> None:
    tree, note = session.auctioneer.log.tree, session.notes[max(session.notes)]
    size = max(session.notes)
    key = session.secrets.auctioneer().log()
    fork = sign_checkpoint(Checkpoint(key.name, 3, bytes(32)), key)
    proof = Equivocation(fork, note, tree.root(3), tuple(tree.consistency(3, size)))
    corpora: list[tuple[Callable[[bytes], Any], list[bytes]]] = [
        (ProofFile.decode, [ProofFile(2, tuple(tree.inclusion(2, size)), note).encode()]),
        (parse_request, [build_request(3, tree.consistency(3, size), note)]),
        (lambda data: Equivocation.decode(data).verify(key.verifier), [proof.encode()]),
    ]

    def every(data: bytes) -> None:
        for parse, _ in corpora:
            try:
                parse(data)
            except ProtocolError:
                continue

    feed(every, [seed for _, seeds in corpora for seed in seeds])


def test_keys_trust_openings_headers_tiles(session: Table, second_price: CheckedArtifact, tmp_path: Path) -> None:
    trust = Trust(session=session.session.id, auctioneer=session.manifest.auctioneer, policy=session.policy.digest)
    opening = session.bidders[0]._openings[1].encode()
    entries = list(session.auctioneer.log.entries[:3])
    file = tmp_path / "trust.json"

    def read_trust(data: bytes) -> None:
        file.write_bytes(data)
        Trust.read(file)

    def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: parse(data.decode("utf-8", "surrogateescape"))

    parsers: list[Callable[[bytes], object]] = [
        read_trust, text(VerifierKey.parse), Opening.decode, text(Header.decode),
        lambda data: decode_bundle(data, 3, "tile"),
    ]  # fmt: skip

    def every(data: bytes) -> None:
        for parse in parsers:
            try:
                parse(data)
            except ProtocolError:
                continue

    seeds = [trust.encode(), session.manifest.auctioneer.encode(), opening, canonical(second_price.header)]
    feed(every, [*seeds, encode_bundle(entries)])


def test_artifacts(second_price: CheckedArtifact, lottery: CheckedArtifact) -> None:
    feed(check, [second_price.data, lottery.data])
