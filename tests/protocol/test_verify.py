"""Spec 8: verdicts over files; flipped bits, missing and foreign files, pins, bundles, receipts."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from credible.simulation.market import trust_path
from protocol import messages as m
from protocol.artifact.static import CheckedArtifact
from protocol.bundle import write_bundle
from protocol.errors import InconclusiveError, MalformedError
from protocol.keys import SigningKey
from protocol.log.tiles import decode_bundle, encode_bundle, expected_tiles, history_path
from protocol.receipts import verify_receipts
from protocol.verify import Head, Trust, _body, load_public, verify_path
from tests.conftest import play
from tests.harness import Table, rules_of


def trust_of(session: Path) -> Trust:
    return Trust.read(trust_path(session))


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Path:
    """A copy of the honest session's public folder, to damage."""
    return Path(shutil.copytree(honest / "public", tmp_path / "public"))


def test_an_honest_session_holds_for_who_pins_it(honest: Path) -> None:  # spec 8.3
    verdict = verify_path(honest, trust_of(honest))
    assert (verdict.verdict, verdict.trusted, verdict.status, verdict.findings) == ("holds", True, 0, [])
    assert verdict.checked["rounds re-executed"] > 0
    # in its own words, or it could write there what only the verifier may say
    assert "the auctioneer says: seeded: no secrecy" in verdict.labels
    assert "seeded: no secrecy" not in verdict.labels
    loaded = load_public(honest / "public", None)
    assert verdict.checked["log entries"] == len(loaded.entries)
    assert verdict.checked["checkpoints"] == len(loaded.checkpoints)
    assert verdict.checked["bid statements"] == sum(isinstance(_body(e), m.Bid) for _, e in loaded.entries)
    without = verify_path(honest)
    assert (without.verdict, without.trusted, without.status) == ("inconclusive", False, 4)
    assert "not trusted" in without.notes[0]


def test_a_cheating_session_is_a_deviation(cheating: Path) -> None:
    for trust in (trust_of(cheating), None):
        verdict = verify_path(cheating, trust)
        assert verdict.status == 1
        assert rules_of(verdict.findings) == {"7.5"}
    assert "pays" in verdict.findings[0].text
    assert verdict.findings[0].round >= 0


@pytest.mark.parametrize("batch", [1, 5])
def test_epochs_that_are_judged_while_the_log_is_read_change_no_verdict(
    honest: Path, cheating: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (honest, cheating):
        whole = verify_path(folder, trust_of(folder))
        monkeypatch.setattr("protocol.verify.SWEEP", 1)
        monkeypatch.setattr("protocol.verify.BATCH", batch)
        part = verify_path(folder, trust_of(folder))
        monkeypatch.undo()
        assert (part.verdict, part.findings, part.notes) == (whole.verdict, whole.findings, whole.notes)
        assert part.checked == whole.checked
        assert whole.session is not None
        assert part.session is not None
        assert whole.session.forgotten == 0
        assert (part.session.forgotten > 0) == (folder == honest)  # an epoch with a verdict of deviation stays


def test_only_the_public_files_are_read(honest: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(honest / "public", tmp_path / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in sorted(alone.rglob("*"))}
    assert verify_path(alone, trust_of(honest)).status == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(alone.rglob("*"))} == before  # never writes


def kinds(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            relative = path.relative_to(folder).parts
            yield ("/".join(relative[:2]) if relative[0] == "tile" else relative[0]), path


@pytest.mark.parametrize("batch", [1, 1000])  # rounds judged while the log is read, and only then
def test_every_flipped_bit_in_every_kind_of_file_is_found(  # hardening R4, fault 8
    honest: Path, copy: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.verify.SWEEP", 1)
    monkeypatch.setattr("protocol.verify.BATCH", batch)
    trust = trust_of(honest)
    source = random.Random(4)
    files: dict[str, list[Path]] = {}
    for kind, path in kinds(copy):
        files.setdefault(kind, []).append(path)
    assert set(files) == {
        "checkpoint", "checkpoints", "manifest.json", "policy.txt", "artifact.onnx", "tile/0", "tile/entries",
    }  # fmt: skip
    for kind, paths in files.items():
        for _ in range(4 if kind == "artifact.onnx" else 8):
            path = source.choice(paths)
            data = path.read_bytes()
            position = source.randrange(len(data))
            path.write_bytes(
                data[:position] + bytes([data[position] ^ 1 << source.randrange(8)]) + data[position + 1 :]
            )
            verdict = verify_path(copy, trust)
            assert verdict.status in (1, 3, 4), f"{path} bit in byte {position}: {verdict}"
            assert verdict.findings == []  # nobody is accused by a log that is damaged
            assert (verdict.trusted, verdict.session) == (False, None) or verdict.status == 4
            path.write_bytes(data)
    assert verify_path(copy, trust).status == 0


def test_a_truncated_session_is_inconclusive(honest: Path, copy: Path) -> None:
    trust = trust_of(honest)
    for kind, path in kinds(copy):
        if kind in ("checkpoint", "manifest.json", "policy.txt", "artifact.onnx") or kind.startswith("tile"):
            data = path.read_bytes()
            path.unlink()
            verdict = verify_path(copy, trust)
            assert verdict.status == 4 and path.name.split(".")[0] in verdict.notes[0], f"{path}: {verdict}"
            path.write_bytes(data)
    notes = history(copy)
    rewrite_history(copy, notes[:-1])
    assert verify_path(copy, trust).status == 0  # the head is in `checkpoint` too


def test_a_missing_checkpoint_file_convicts_nobody(honest: Path, copy: Path) -> None:  # spec 8.4
    trust = trust_of(honest)
    statuses = set()
    notes = history(copy)
    for number in range(len(notes)):
        rewrite_history(copy, notes[:number] + notes[number + 1 :])
        verdict = verify_path(copy, trust)
        assert verdict.findings == [], f"{number}: {verdict.findings}"
        statuses.add(verdict.status)
    shutil.rmtree(copy / "checkpoints")
    assert verify_path(copy, trust).status == 4
    assert statuses == {0, 4}  # those that a close, an outcome or an epoch names are missed


def test_a_second_later_cosignature_of_a_head_convicts_nobody(second_price: CheckedArtifact) -> None:
    from protocol.session import Session
    from protocol.state import Cosigned

    table = Table(second_price, rounds=1)
    table.play(0, {0: [1, 1], 1: [2, 2]})
    assert table.end() == []
    close = table.session.round(0).close
    assert close is not None
    later = table.session.deadline(0, "close") + 1
    stamped = [c if c.size != close.size else Cosigned(c.size, c.root, later) for c in table.session._cosigned]
    again = Session(table.auctioneer.log.entries[0])
    again.add_cosigned(stamped)
    for index, entry in enumerate(table.auctioneer.log.entries[1:], 1):
        again.apply(index, entry)
    assert again.findings == []
    assert any(str(close.size) in text for text in again.unproven)


def history(folder: Path) -> list[bytes]:
    """Return the notes of a small session's history of checkpoints."""
    (path,) = (folder / "checkpoints" / "000.p").iterdir()
    return decode_bundle(path.read_bytes(), int(path.name), path.name)


def rewrite_history(folder: Path, notes: list[bytes]) -> None:
    shutil.rmtree(folder / "checkpoints")
    path = folder / history_path(0, len(notes))
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_bundle(notes))


def rolled_back(honest: Path, target: Path) -> int:
    """Write an older state of the log, as a rollback or a cut would leave it; return its size."""
    from protocol.log.note import Note
    from protocol.log.tiles import TileDirectory
    from protocol.log.tree import Tree, leaf_hash

    public = honest / "public"
    loaded = load_public(public, None)
    notes = sorted(loaded.checkpoints, key=lambda item: item.checkpoint.size)
    middle = len(notes) // 2
    size = notes[middle].checkpoint.size
    entries = [entry for _, entry in loaded.entries[:size]]
    target.mkdir()
    kept = [item.data for item in notes[: middle + 1]]
    tree = Tree(map(leaf_hash, entries))
    TileDirectory(target).write(tree, entries, Note.decode(kept[-1]), durable=False, history=kept)
    for name in ("manifest.json", "policy.txt", "artifact.onnx"):
        shutil.copy(public / name, target)
    assert expected_tiles(size)
    return size


def test_a_rolled_back_log_is_stale_for_who_remembers_and_incomplete_for_who_does_not(
    honest: Path, tmp_path: Path
) -> None:  # spec 4.13, A29
    target = tmp_path / "old"
    rolled_back(honest, target)
    pinned = trust_of(honest)
    verdict = verify_path(target, pinned)
    assert verdict.status == 4
    assert "stale" in verdict.notes[0]
    forgetful = Trust(session=pinned.session, auctioneer=pinned.auctioneer, policy=pinned.policy)
    verdict = verify_path(target, forgetful)
    assert verdict.status == 4
    assert "incomplete" in verdict.notes[0]
    assert verdict.findings == []


def test_freshness_is_judged_by_the_stated_time_only(honest: Path) -> None:  # spec 8.2
    last = max(item.time for item in load_public(honest / "public", None).checkpoints)
    assert verify_path(honest, trust_of(honest), at=last + 5).status == 0
    late = verify_path(honest, trust_of(honest), at=last + 400 * 86_400)
    assert late.status == 4
    assert "stale" in late.notes[0]


@pytest.mark.parametrize("field", ["session", "auctioneer", "policy"])
def test_what_the_trust_file_pins_must_match(honest: Path, cheating: Path, field: str) -> None:
    pinned = trust_of(honest)
    import msgspec

    value = getattr(trust_of(cheating), field)
    if value == getattr(pinned, field):  # one seed, one auctioneer: take another key
        from protocol.keys import SigningKey

        value = str(SigningKey("x", bytes(32)).verifier)
    if field == "policy":
        value = "00" * 32
    other = msgspec.structs.replace(pinned, **{field: value})
    verdict = verify_path(honest, other)
    assert verdict.verdict == "invalid"
    assert "pins" in verdict.notes[0]


def test_a_head_that_the_verifier_saw_must_be_extended(honest: Path) -> None:
    import msgspec

    pinned = trust_of(honest)
    assert isinstance(pinned.checkpoint, Head)
    forked = msgspec.structs.replace(pinned, checkpoint=Head(size=5, root="00" * 32))
    assert verify_path(honest, forked).verdict == "invalid"


@pytest.mark.parametrize("name", ["extra.txt", "tile/9/zzz", "checkpoints/abc", "tile/0/000.p/0"])
def test_files_that_do_not_belong_are_refused(honest: Path, copy: Path, name: str) -> None:  # hardening 1.11
    path = copy / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert verify_path(copy, trust_of(honest)).status in (3, 4)


def test_links_are_refused(honest: Path, copy: Path) -> None:
    (copy / "policy.txt").unlink()
    (copy / "policy.txt").symlink_to(honest / "public" / "policy.txt")
    verdict = verify_path(copy, trust_of(honest))
    assert verdict.verdict == "malformed"
    assert "neither a plain file" in verdict.notes[0]


def test_another_artifact_under_the_name_is_refused(honest: Path, copy: Path, lottery: CheckedArtifact) -> None:  # A5
    (copy / "artifact.onnx").write_bytes(lottery.data)
    assert verify_path(copy, trust_of(honest)).verdict == "malformed"


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"x" * 100_000, b'{"session":1}'])
def test_malformed_trust_files(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(text)
    with pytest.raises(MalformedError):
        Trust.read(path)


def test_bundles_of_every_epoch_verify_alone(honest: Path, cheating: Path, tmp_path: Path) -> None:  # spec 8.1
    for session, status in ((honest, 0), (cheating, 1)):
        public = session / "public"
        loaded = load_public(public, None)
        epochs = 3 if status == 0 else 1
        for epoch in range(epochs):
            folder = tmp_path / f"{status}-{epoch}"
            assert write_bundle(public, loaded, epoch, folder) > 5
            verdict = verify_path(folder, trust_of(session))
            assert verdict.status == status, f"epoch {epoch}: {verdict}"
            with pytest.raises(FileExistsError):
                write_bundle(public, loaded, epoch, folder)
        with pytest.raises(InconclusiveError, match="no verdict on epoch 9"):
            write_bundle(public, loaded, 9, tmp_path / "nine")


def test_nothing_is_trusted_before_it_is_read(tmp_path: Path) -> None:
    verdict = verify_path(tmp_path)
    assert (verdict.verdict, verdict.trusted, verdict.session) == ("inconclusive", False, None)


def test_a_bundle_brings_the_keys_that_its_entries_are_signed_with(  # spec 2.10, 8.1
    second_price: CheckedArtifact, tmp_path: Path
) -> None:
    table = Table(second_price, preset="prompt", rounds=3, epoch=1, lag=1, q=Fraction(1))
    for epoch in range(3):
        table.play(epoch, {0: [500, 0], 1: [300, 700], 2: [50, 40]})
        if epoch == 0:
            table.auctioneer.publish(table.bidders[1].rotate(SigningKey("next", b"\x21" * 32)))
        table.end(epoch)
    trust = table.publish(tmp_path / "session", second_price.data)
    write_bundle(tmp_path / "session", load_public(tmp_path / "session", None), 2, tmp_path / "bundle")
    assert verify_path(tmp_path / "bundle", trust).status == 0
    place = next(i for i, e in enumerate(table.auctioneer.log.entries) if isinstance(_body(e), m.Rotation))
    (tmp_path / "bundle" / "entries" / f"{place}.json").unlink()
    (tmp_path / "bundle" / "proofs" / f"{place}.tlog-proof").unlink()
    verdict = verify_path(tmp_path / "bundle", trust)
    assert verdict.verdict == "inconclusive"
    assert "that the bundle does not introduce" in verdict.notes[0]


def test_a_bundle_with_a_hole_or_another_proof_proves_nothing(honest: Path, tmp_path: Path) -> None:
    """A bundle maker who leaves out a bid must not convict the honest (spec 8.4)."""
    public = honest / "public"
    folder = tmp_path / "bundle"
    write_bundle(public, load_public(public, None), 1, folder)
    trust = trust_of(honest)
    names = sorted(int(path.stem) for path in (folder / "entries").iterdir())
    for index in (names[3], names[-8], names[-1]):
        entry, proof = folder / "entries" / f"{index}.json", folder / "proofs" / f"{index}.tlog-proof"
        kept = entry.read_bytes(), proof.read_bytes()
        entry.unlink()
        assert verify_path(folder, trust).status == 4
        proof.unlink()
        assert verify_path(folder, trust).status == 4
        entry.write_bytes(kept[0].replace(b"a", b"b", 1))
        proof.write_bytes(kept[1])
        verdict = verify_path(folder, trust)
        assert (verdict.verdict, verdict.findings) == ("invalid", [])
        entry.write_bytes(kept[0])
        proof.write_bytes((folder / "proofs" / f"{names[1]}.tlog-proof").read_bytes())
        verdict = verify_path(folder, trust)
        assert (verdict.verdict, verdict.findings) == ("invalid", [])
        proof.write_bytes(kept[1])
    assert verify_path(folder, trust).status == 0


def test_receipts_are_judged_against_the_log(second_price: CheckedArtifact, honest: Path, tmp_path: Path) -> None:  # A1
    from credible.simulation.setup import Secrets
    from protocol import messages as m

    loaded = load_public(honest / "public", None)
    trust = trust_of(honest)
    key = Secrets.seeded(3).auctioneer().signing()
    logged = next(m.Statement.decode(e) for _, e in loaded.entries if isinstance(m.Statement.decode(e).body, m.Bid))

    def receipt(identity: str, session: str = trust.session, by: int = 2_000_000_000) -> bytes:
        body = m.Receipt(
            session=session, round=0, bidder=logged.signer, statement=identity, received_at=0, appear_by=by
        )
        return m.sign_statement(body, key)

    early = loaded.checkpoints[-1].time - 1
    assert verify_receipts([receipt(logged.identity)], trust, honest).verdict == "holds"
    assert verify_receipts([receipt("00" * 32, by=early)], trust, honest).verdict == "deviation"
    assert verify_receipts([receipt("00" * 32, by=4_000_000_000)], trust, honest).verdict == "inconclusive"
    assert verify_receipts([receipt(logged.identity)], trust, None).verdict == "inconclusive"
    assert verify_receipts([receipt(logged.identity, session="00" * 32)], trust, honest).verdict == "invalid"
    forged = m.sign_statement(
        m.Statement.decode(receipt(logged.identity)).body, Secrets.seeded(4).auctioneer().signing()
    )
    assert verify_receipts([forged], trust, honest).verdict == "invalid"
    assert verify_receipts([b"junk"], trust, honest).verdict == "malformed"


def test_sessions_of_one_seed_have_the_same_bytes(
    second_price: CheckedArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("credible.simulation.market.PUBLISH_SECONDS", 0)  # what is published may be let go
    whole = play(tmp_path / "a", second_price, rounds=60, epoch=2, keep=True)
    short = play(tmp_path / "b", second_price, rounds=60, epoch=2)
    assert whole.session.forgotten == 0
    assert len(whole.auctioneer.matrices) == 60
    assert short.session.forgotten >= 28
    assert len(short.auctioneer.matrices) <= 4
    with pytest.raises(ValueError, match="no longer in memory"):
        short.auctioneer.log.entries[255]
    assert short.summary.rounds == 60
    assert (short.summary.audited, short.summary.revenue) == (whole.summary.audited, whole.summary.revenue)
    names = [
        path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a" / "public").rglob("*")) if path.is_file()
    ]
    assert names
    for path in names:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
