"""Disclosed rounds, bent in every part; files of a session and a bundle that contradict each other (spec 7, 8)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from credible.simulation.setup import Secrets, draw_up
from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput, build
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer
from protocol.bundle import write_bundle
from protocol.encoding import Message
from protocol.errors import InconclusiveError, MalformedError
from protocol.evidence import check_complaints, recheck
from protocol.keys import SigningKey
from protocol.labels import session_labels
from protocol.log.note import Checkpoint, Note, cosign, sign_checkpoint
from protocol.log.policy import MAX_POLICY, Policy
from protocol.log.tiles import ProofFile
from protocol.log.tree import EMPTY_ROOT
from protocol.manifest import Manifest
from protocol.outcomes import hide, rows_of
from protocol.receipts import verify_receipts
from protocol.session import Session
from protocol.state import Cosigned
from protocol.storage.archive import pack
from protocol.verify import Aids, Head, Trust, load_public, verify_path
from tests.harness import Table
from tests.protocol.test_verify import history, rewrite_history, rolled_back, trust_of

ZERO = "00" * 32
replace = msgspec.structs.replace


@pytest.fixture
def table() -> Table:
    artifact = build.single_item_reserve([0, 2], bidders=3, bid_max=1000, share_bits=8, unit="1")
    table = Table(artifact, rounds=1)
    table.play(0, {0: [5, 6], 1: [7, 3], 2: [1, 1]})
    assert table.end() == []
    return table


def response_of(table: Table) -> m.Response:
    response = table.session.round(0).response
    assert response is not None
    return response


def found(table: Table, **changes: Any) -> set[str]:
    """Return the rules that a bent response of round 0 breaks."""
    session = table.read_again()
    session.round(0).response = replace(response_of(table), **changes)
    findings, _ = recheck(session, [0], table.engine)
    return {finding.rule for finding in findings}


def bent_opening(table: Table, **changes: Any) -> list[m.OpenedBid]:
    first, *rest = response_of(table).openings
    return [replace(first, **changes), *rest]


BENT: dict[str, tuple[str, Callable[[Table], dict[str, Any]]]] = {
    "an opening twice": ("7.5", lambda t: {"openings": [*response_of(t).openings, response_of(t).openings[0]]}),
    "an opening fewer": ("7.4", lambda t: {"openings": response_of(t).openings[1:]}),
    "a nonce that is no hex": ("7.5", lambda t: {"openings": bent_opening(t, nonce="xy")}),
    "another nonce": ("7.5", lambda t: {"openings": bent_opening(t, nonce="11" * 32)}),
    "another's opening": ("7.5", lambda t: {"openings": bent_opening(t, nonce=response_of(t).openings[1].nonce)}),
    "a matrix of other seats": ("7.5", lambda t: {"matrix": replace(response_of(t).matrix, seats=[0, 1])}),
    "a matrix of another round": ("7.5", lambda t: {"matrix": replace(response_of(t).matrix, round=1)}),
    "a matrix of another session": ("7.5", lambda t: {"matrix": replace(response_of(t).matrix, session=ZERO)}),
    "a payment too many": ("7.5", lambda t: {"matrix": replace(response_of(t).matrix, payment=[0, 0, 0, 0])}),
    "a winner too many": ("7.5", lambda t: {"matrix": replace(response_of(t).matrix, won=[0, 0, 0])}),
    "another matrix nonce": ("7.5", lambda t: {"matrix_nonce": "11" * 32}),
    "a matrix nonce that is no hex": ("7.5", lambda t: {"matrix_nonce": "x"}),
    "a row nonce fewer": ("7.5", lambda t: {"row_nonces": response_of(t).row_nonces[1:]}),
    "another row nonce": ("7.5", lambda t: {"row_nonces": ["11" * 32, *response_of(t).row_nonces[1:]]}),
    "a row nonce that is short": ("7.5", lambda t: {"row_nonces": ["11", *response_of(t).row_nonces[1:]]}),
}


@pytest.mark.parametrize("name", BENT)
def test_a_bent_response_convicts(table: Table, name: str) -> None:  # spec 7.4, 7.5
    rule, changes = BENT[name]
    assert found(table) == set()
    assert rule in found(table, **changes(table))


def claimed(table: Table, **changes: Any) -> set[str]:
    """Return the rules that a result breaks which outcome and response agree on."""
    session = table.read_again()
    state, response = session.round(0), response_of(table)
    assert state.outcome is not None
    matrix = replace(response.matrix, **changes)
    nonces = [bytes.fromhex(nonce) for nonce in response.row_nonces]
    state.response = replace(response, matrix=matrix)
    state.outcome = replace(
        state.outcome,
        matrix=hide("matrix", matrix, bytes.fromhex(response.matrix_nonce)),
        rows=[hide("row", row, nonce) for row, nonce in zip(rows_of(matrix), nonces, strict=True)],
    )
    findings, _ = recheck(session, [0], table.engine)
    return {finding.rule for finding in findings}


def test_a_result_that_outcome_and_response_agree_on_is_compared_with_the_mechanism(table: Table) -> None:
    matrix = response_of(table).matrix
    assert claimed(table) == set()
    assert claimed(table, allocation=matrix.allocation[::-1]) == {"7.5"}
    assert claimed(table, payment=[matrix.payment[0] + 1, *matrix.payment[1:]]) == {"7.5"}
    assert claimed(table, won=matrix.won[::-1]) == {"3.15"}
    assert claimed(table, charge=[matrix.charge[0] + 1, *matrix.charge[1:]]) == {"3.16"}
    assert claimed(table, charge=[matrix.charge[0] - 1, *matrix.charge[1:]]) == {"3.16"}


def test_a_void_that_the_support_rule_does_not_give_convicts(table: Table) -> None:  # spec 3.12
    session = table.read_again()
    session.round(0).voids[session.seats[2]] = m.OUTSIDE_SUPPORT
    findings, _ = recheck(session, [0], table.engine)
    assert {finding.rule for finding in findings} >= {"3.12"}


def test_a_response_without_an_outcome_convicts(table: Table) -> None:
    session = table.read_again()
    session.round(0).outcome = None
    findings, _ = recheck(session, [0], table.engine)
    assert [finding.rule for finding in findings] == ["7.4"]


def test_a_runtime_that_the_judge_contradicts_convicts_nobody(table: Table) -> None:  # spec 7.6
    class Broken:
        def run(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
            return [replace(o, payment=[p + 1 for p in o.payment]) for o in table.engine.run(rounds)]

        def judge(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
            return table.engine.judge(rounds)

    with pytest.raises(InconclusiveError, match=r"disagree \(spec 7.6\)"):
        recheck(table.read_again(), [0], Broken())


def test_a_complaint_with_another_opening_proves_nothing(table: Table) -> None:  # spec 3.11
    session = table.read_again()
    first, second, _ = response_of(table).openings
    party = first.body.bidder
    session.round(0).voids[party] = m.UNREADABLE
    for opening, holds in ((first, True), (replace(first, nonce="xy"), False), (second, False),
                           (replace(first, body=replace(first.body, bids=[9, 9])), False)):  # fmt: skip
        session.round(0).complaints = {party: opening}
        assert bool(check_complaints(session, [0])) == holds
    session.round(0).voids.clear()  # nothing was called void: nothing to complain about
    session.round(0).complaints = {party: first}
    assert check_complaints(session, [0]) == []


def test_checkpoints_that_contradict_each_other_are_the_logs_fault(table: Table) -> None:  # spec 4.13
    first = table.session._cosigned[0]
    for second in (
        Cosigned(first.size - 1, ZERO, first.time + 1),
        Cosigned(first.size, ZERO, first.time + 1),
    ):
        session = Session(table.auctioneer.log.entries[0])
        session.add_cosigned([first, second])
        assert [(finding.rule, finding.party) for finding in session.findings] == [("4.13", "log")]
    session = Session(table.auctioneer.log.entries[0])
    session.add_cosigned([first, Cosigned(first.size, first.root, first.time + 1)])
    assert session.findings == []


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def public(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest / "public", tmp_path / "public"))


def test_files_that_are_not_those_of_the_log_are_refused(  # spec 6.1, 4.12
    honest: Path, cheating: Path, public: Path
) -> None:
    another = (cheating / "public" / "manifest.json").read_bytes()
    longer = (public / "policy.txt").read_bytes() + b"# one more line\n"
    for name, changed, text in (("manifest.json", another, "6.1"), ("policy.txt", longer, "the manifest pins")):
        own = (public / name).read_bytes()
        (public / name).write_bytes(changed)
        verdict = verify_path(public)
        assert verdict.status == 1
        assert text in verdict.notes[0]
        (public / name).write_bytes(own)


def test_logs_that_are_empty_torn_or_too_large_are_named(
    honest: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = trust_of(honest)
    surplus = public / "tile" / "0" / "007"
    surplus.write_bytes(bytes(32))
    verdict = verify_path(public, trust)
    assert (verdict.verdict, verdict.notes[0].split(" lies")[0]) == ("inconclusive", "tile/0/007")
    surplus.unlink()
    log = Secrets.seeded(3).auctioneer().log()
    own = (public / "checkpoint").read_bytes()
    (public / "checkpoint").write_bytes(sign_checkpoint(Checkpoint(log.name, 0, EMPTY_ROOT), log).encode())
    assert verify_path(public, trust).notes == ["the log is empty"]
    (public / "checkpoint").write_bytes(own)
    assert verify_path(public, trust).status == 0
    count = len([path for path in public.rglob("*") if path.is_file()])
    monkeypatch.setattr("protocol.verify.MAX_FILES", count + 1)
    assert verify_path(public, trust).status == 0
    monkeypatch.setattr("protocol.verify.MAX_FILES", count - 1)
    verdict = verify_path(public, trust)
    assert verdict.verdict == "malformed"
    assert str(count - 1) in verdict.notes[0]
    monkeypatch.undo()
    (public / "notes" / "deeper").mkdir(parents=True)
    os.mkfifo(public / "notes" / "deeper" / "pipe")
    assert "neither a plain file nor a folder" in verify_path(public, trust).notes[0]


def test_a_link_in_place_of_a_public_folder_is_refused(honest: Path, tmp_path: Path) -> None:  # hardening 1.11
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "public").symlink_to(honest / "public")
    verdict = verify_path(tmp_path / "session", trust_of(honest))
    assert verdict.verdict == "malformed"
    assert "a link, wanted a folder" in verdict.notes[0]


def test_a_checkpoint_beyond_the_log_is_a_sign_of_a_cut(honest: Path, tmp_path: Path) -> None:  # spec 4.13
    target = tmp_path / "old"
    size = rolled_back(honest, target)
    later = [note.data for note in load_public(honest / "public", None).checkpoints if note.checkpoint.size > size]
    rewrite_history(target, [*history(target), later[0]])
    verdict = verify_path(target)
    assert verdict.verdict == "inconclusive"
    assert f"the log ends at {size}" in verdict.notes[0]


@pytest.mark.parametrize(("what", "rule"), [("unit", "2.13"), ("policy", "")])
def test_sessions_that_were_drawn_up_wrongly(
    second_price: CheckedArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, rule: str
) -> None:
    def wrong(*arguments: Any) -> tuple[Manifest, Policy]:
        manifest, policy = draw_up(*arguments)
        if what == "policy":  # it names no log
            policy = Policy.parse(b"\n".join(line for line in policy.text.split(b"\n") if line[:4] != b"log "))
            return replace(manifest, policy=policy.digest), policy
        return replace(manifest, grid=replace(manifest.grid, unit="2 cents")), policy

    monkeypatch.setattr("credible.simulation.table.draw_up", wrong)
    table = Table(second_price, rounds=1)
    table.play(0, {0: [500, 0], 1: [300, 700]})
    table.end()
    trust = table.publish(tmp_path / "log", second_price.data)
    verdict = verify_path(tmp_path / "log", trust)
    if rule:
        assert [(finding.rule, finding.party) for finding in verdict.findings] == [(rule, "auctioneer")]
        assert verdict.checked["rounds re-executed"] == 0
    else:
        assert verdict.verdict == "invalid"
        assert "does not name the session's log" in verdict.notes[0]


def test_what_is_sealed_to_an_auditor_and_does_not_open_convicts_nobody_yet(  # spec 7.7
    second_price: CheckedArtifact, tmp_path: Path
) -> None:
    table = Table(second_price, rounds=1, disclosure="auditor", auditors=2)
    table.play(0, {0: [500, 0], 1: [300, 700]})
    table.end()
    trust = table.publish(tmp_path / "log", second_price.data)
    key = table.secrets.auditor_seal(1)
    whole = verify_path(tmp_path / "log", aids=Aids(trust, seal_key=key))
    assert (whole.verdict, whole.checked["rounds re-executed"]) == ("holds", 1)
    garbled = Table(second_price, rounds=1, disclosure="auditor", auditors=2, auctioneer=Garbling)
    garbled.play(0, {0: [500, 0], 1: [300, 700]})
    garbled.contribute(0)
    garbled.auctioneer.publish(garbled.auditor.challenge(0))
    garbled.auctioneer.respond(0)
    garbled.cosign(garbled.session.epoch_deadline(0, "response") - 1)
    trust = garbled.publish(tmp_path / "garbled", second_price.data)
    verdict = verify_path(tmp_path / "garbled", aids=Aids(trust, seal_key=key))
    assert verdict.verdict == "inconclusive"
    assert any("does not open" in note for note in verdict.notes)


class Garbling(Auctioneer):
    """Seals nonsense to the second auditor."""

    def _put(self, body: Message) -> int:
        if isinstance(body, m.SealedResponse) and body.auditor == self.session.auditors[1].party:
            body = replace(body, ct="00" * (len(body.ct) // 2))
        return super()._put(body)


def test_a_head_that_the_verifier_never_saw_so_is_named(honest: Path) -> None:  # spec 4.13
    loaded = load_public(honest / "public", None)
    session = loaded.session
    trust = Trust(session=session.id, auctioneer=session.manifest.auctioneer, policy=session.manifest.policy)
    for head, status in ((Head(size=3, root=ZERO), 1), (Head(size=10**6, root=ZERO), 4)):
        assert verify_path(honest, replace(trust, checkpoint=head)).status == status


@pytest.mark.parametrize(("field", "value"), [("size", -1), ("root", "ab")])
def test_a_trust_file_with_a_head_that_is_none_is_malformed(tmp_path: Path, field: str, value: Any) -> None:
    key = Secrets.seeded(1).auctioneer().signing().verifier
    head = replace(Head(size=1, root=ZERO), **{field: value})
    path = tmp_path / "trust.json"
    path.write_bytes(Trust(session=ZERO, auctioneer=str(key), policy=ZERO, checkpoint=head).encode())
    with pytest.raises(MalformedError, match="trust"):
        Trust.read(path)


@pytest.fixture
def bundle(honest: Path, tmp_path: Path) -> Path:
    public = honest / "public"
    write_bundle(public, load_public(public, None), 0, tmp_path / "bundle")
    return tmp_path / "bundle"


def renamed_entry(bundle: Path) -> None:
    last = max(int(path.stem) for path in (bundle / "entries").iterdir())
    (bundle / "entries" / f"{last}.json").rename(bundle / "entries" / f"{last + 1}.json")


def swapped_proof(bundle: Path) -> None:
    first, second = (bundle / "proofs" / f"{number}.tlog-proof" for number in (0, 1))
    first.write_bytes(second.read_bytes())


def foreign_head(bundle: Path) -> None:
    path = bundle / "proofs" / "0.tlog-proof"
    proof = ProofFile.decode(path.read_bytes())
    head = Checkpoint.parse(proof.checkpoint.text)
    text = Checkpoint(head.origin, head.size, bytes(32)).text
    path.write_bytes(replace_proof(proof, Note(text, proof.checkpoint.signatures)).encode())


def replace_proof(proof: ProofFile, note: Note) -> ProofFile:
    return ProofFile(proof.index, proof.path, note)


def renamed_checkpoint(bundle: Path) -> None:
    path = sorted((bundle / "checkpoints").iterdir(), key=lambda item: int(item.name))[0]
    path.rename(path.with_name(str(int(path.name) + 1)))


def without_verdict(bundle: Path) -> None:
    last = max(int(path.stem) for path in (bundle / "entries").iterdir())
    (bundle / "entries" / f"{last}.json").unlink()
    (bundle / "proofs" / f"{last}.tlog-proof").unlink()


def without_manifest(bundle: Path) -> None:
    (bundle / "entries" / "0.json").unlink()
    (bundle / "proofs" / "0.tlog-proof").unlink()


def foreign_name(bundle: Path) -> None:
    (bundle / "entries" / "01.json").write_bytes(b"{}")


DAMAGE: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "an entry without its proof": (renamed_entry, 4, "without its proof"),
    "a proof of another entry": (swapped_proof, 1, "is for entry 1"),
    "a proof under a checkpoint that is not there": (foreign_head, 4, "that the bundle lacks"),
    "a checkpoint under another size": (renamed_checkpoint, 1, "holds a checkpoint of size"),
    "no verdict at the end": (without_verdict, 4, "does not end with a verdict"),
    "no manifest": (without_manifest, 4, "no manifest"),
    "a name that is not of the pattern": (foreign_name, 3, "not a file of a bundle"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_convicts_nobody(bundle: Path, name: str) -> None:  # spec 8.1, 8.4, 8.5
    assert verify_path(bundle).notes == verify_path(bundle).notes
    damage, status, text = DAMAGE[name]
    damage(bundle)
    verdict = verify_path(bundle)
    assert verdict.status == status
    assert text in verdict.notes[0]
    assert verdict.findings == []


def test_a_bundle_and_the_head_that_its_reader_remembers(honest: Path, bundle: Path) -> None:  # spec 4.13
    heads = {int(path.name): path.read_bytes() for path in (bundle / "checkpoints").iterdir()}
    size = max(heads)
    head = Checkpoint.parse(Note.decode(heads[size]).text)
    unknown = next(number for number in range(1, size) if number not in heads)
    for seen, status, text in (
        (Head(size=size, root=head.root.hex()), 0, ""),
        (Head(size=size, root=ZERO), 1, "root"),
        (Head(size=unknown, root=ZERO), 4, "nothing at hand shows"),
        (Head(size=size + 1, root=ZERO), 4, "stale"),
    ):
        verdict = verify_path(bundle, replace(trust_of(honest), checkpoint=seen))
        assert verdict.status == status, verdict
        assert text in " ".join(verdict.notes)


def test_a_file_of_an_archive_above_its_limit_is_refused(honest: Path, bundle: Path, tmp_path: Path) -> None:
    names = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    (tmp_path / "bundle.zip").write_bytes(pack(names))
    assert verify_path(tmp_path / "bundle.zip", trust_of(honest)).status == 0
    (tmp_path / "large.zip").write_bytes(pack({**names, "policy.txt": b"#" * (MAX_POLICY + 1)}))
    verdict = verify_path(tmp_path / "large.zip", trust_of(honest))
    assert verdict.verdict == "malformed"
    assert "policy.txt in bytes" in verdict.notes[0]


def test_a_checkpoint_of_another_log_is_refused(honest: Path, public: Path) -> None:  # spec 4.7
    own = Note.decode((public / "checkpoint").read_bytes())
    head = Checkpoint.parse(own.text)
    stranger = SigningKey("stranger/log", bytes(32))
    note = sign_checkpoint(Checkpoint(stranger.name, head.size, head.root), stranger)
    witness = Secrets.seeded(3).witness(0)
    (public / "checkpoint").write_bytes(
        Note(note.text, (*note.signatures, cosign(Checkpoint.parse(note.text), witness, 5))).encode()
    )
    verdict = verify_path(public)
    assert verdict.status == 1
    assert "origin 'stranger/log'" in verdict.notes[0]


def test_receipts_that_are_none_or_do_not_belong_together(honest: Path) -> None:  # spec 3.6, 8.5
    loaded = load_public(honest / "public", None)
    session = loaded.session
    trust = Trust(session=session.id, auctioneer=session.manifest.auctioneer, policy=session.manifest.policy)
    key = Secrets.seeded(3).auctioneer().signing()

    def receipt(statement: str, signer: SigningKey = key) -> bytes:
        body = m.Receipt(
            session=session.id, round=0, bidder=ZERO, statement=statement, received_at=0, appear_by=2_000_000_000
        )
        return m.sign_statement(body, signer)

    assert verify_receipts([], trust, honest).status == 3
    assert verify_receipts([loaded.entries[1][1]], trust, honest).status == 3
    assert verify_receipts([receipt(ZERO), receipt("11" * 32)], trust, honest).status == 1
    stranger = verify_receipts([receipt(ZERO, SigningKey("x", bytes([7]) * 32))], trust, honest)
    assert "neither the auctioneer nor a mailbox" in stranger.notes[0]
    entry = m.Statement.decode(loaded.entries[-1][1]).identity  # logged last, long before the promised time
    assert verify_receipts([receipt(entry)], trust, honest).verdict == "holds"


def test_a_promise_is_judged_by_the_checkpoints_around_the_entry(honest: Path) -> None:  # spec 3.6, 8.4
    loaded = load_public(honest / "public", None)
    session = loaded.session
    trust = Trust(session=session.id, auctioneer=session.manifest.auctioneer, policy=session.manifest.policy)
    key = Secrets.seeded(3).auctioneer().signing()
    index = next(i for i, entry in loaded.entries if isinstance(m.Statement.decode(entry).body, m.Outcome))
    identity = m.Statement.decode(loaded.entries[index][1]).identity
    before = max(note.time for note in loaded.checkpoints if note.checkpoint.size <= index)
    after = min(note.time for note in loaded.checkpoints if note.checkpoint.size > index)
    assert before + 1 < after
    for promised, verdict in ((after, "holds"), (after - 1, "inconclusive"), (before, "inconclusive"),
                              (before - 1, "deviation")):  # fmt: skip
        body = m.Receipt(
            session=session.id, round=0, bidder=ZERO, statement=identity, received_at=0, appear_by=promised
        )
        assert verify_receipts([m.sign_statement(body, key)], trust, honest).verdict == verdict, promised


def test_a_session_says_what_it_is(table: Table) -> None:  # spec 1.6
    fields = msgspec.structs.asdict(table.manifest)

    def labels(**changes: Any) -> list[str]:
        manifest: Any = SimpleNamespace(**{**fields, **changes})
        return session_labels(manifest)

    plain = labels()
    assert plain == session_labels(table.manifest)
    for changes, expected in (
        ({"preset": "record"}, "preset record: no penalty deters, winners of lotteries are not drawn again"),
        ({"profile": "P0"}, "last look possible: the auctioneer can read the bids before the close"),
        ({"mailboxes": ["a", "b"], "faulty_mailboxes": 1}, "mailboxes: 2, of which 1 may fail"),
        ({"beacon": "quicknet"}, "randomness: beacon quicknet"),
    ):
        assert expected in labels(**changes)
        assert expected not in plain
    ex_post = "credible ex post only"
    assert ex_post in plain
    assert ex_post not in labels(mailboxes=["a"])
    assert ex_post in labels(mailboxes=["a"], profile="P0")


def test_an_artifact_that_the_manifest_does_not_fit_is_a_deviation(second_price: CheckedArtifact) -> None:
    from protocol.evidence import check_artifact

    table = Table(second_price, rounds=1)
    header = second_price.header
    assert check_artifact(table.session, header) == []
    for changes in ({"bidders": header.bidders + 1}, {"share_bits": 1}, {"unit": "x"}, {"bid_max": 5}, {"items": 9}):
        assert {f.rule for f in check_artifact(table.session, replace(header, **changes))} == {"2.13"}
