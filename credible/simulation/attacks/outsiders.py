"""What outsiders, auditors, witnesses and thieves may try (docs/spec.md, section 10)."""

from __future__ import annotations

import shutil
from fractions import Fraction
from functools import partial

import msgspec

from credible.simulation.attacks.auctioneers import Overcharging
from credible.simulation.attacks.catalogue import BIDS, CAUGHT, OPEN, PREVENTED, Observed, Stage, attack, refusal
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import NAME
from protocol import messages as m
from protocol.auctioneer import RefusedError
from protocol.auditor import Auditor
from protocol.encoding import hash_of
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SigningKey, verify_signature
from protocol.log.equivocation import compare
from protocol.log.note import Checkpoint, Note, cosign, sign_checkpoint
from protocol.log.tree import leaf_hash
from protocol.randomness.tickets import draw_independent
from protocol.verify import Head, verify_path


@attack(29, "outsider", "serves an old checkpoint")
def stale_view(stage: Stage) -> Observed:
    """A view older than the freshness window, or than what the verifier has seen, is not accepted."""
    table = stage.played()
    trust = table.publish(stage.folder / "stale", stage.artifact.data)
    now = table.session._cosigned[-1].time
    fresh = verify_path(stage.folder / "stale", trust, now + 1)
    late = verify_path(stage.folder / "stale", trust, now + table.manifest.retention + 1)
    size = table.auctioneer.log.tree.size
    newer = msgspec.structs.replace(trust, checkpoint=Head(size=size + 1, root="11" * 32))
    behind = verify_path(stage.folder / "stale", newer)
    if (fresh.status, late.status, behind.status) != (0, 4, 4):
        raise LookupError(f"statuses {fresh.status}, {late.status}, {behind.status}")
    return Observed(CAUGHT, "4.13", f"{late.notes[0]}; {behind.notes[0]}", fresh.status == 0)


@attack(31, "anyone", "steals a key")
def stolen_key(stage: Stage) -> Observed:
    """The registrar revokes by log index and rotates: later use is refused, and nothing is revoked backwards."""
    table = stage.table(rounds=2, registrar=True)
    table.play_round(0, RoundPlan(BIDS))
    victim, registrar = table.bidders[0], table.secrets.registrar()
    old, fresh = victim._sign, SigningKey(f"{NAME}/fresh", b"\x07" * 32)
    size, session = table.auctioneer.log.tree.size, table.session
    backdated = m.Revocation(session=session.id, key=old.party, from_index=size - 5)
    first = refusal(lambda: table.auctioneer.publish(m.sign_statement(backdated, registrar)), RefusedError)
    thief = SigningKey(f"{NAME}/thief", b"\x08" * 32)
    mine = m.Rotation(session=session.id, old=old.party, new=str(thief.verifier))
    refusal(lambda: table.auctioneer.publish(m.sign_statement(mine, thief)), RefusedError)
    revoked = m.Revocation(session=session.id, key=old.party, from_index=size + 1)
    table.auctioneer.publish(m.sign_statement(revoked, registrar))
    second = refusal(lambda: table.auctioneer.receive(victim.presence(1), table.manifest.round_time(1)), RefusedError)
    rotated = m.Rotation(session=session.id, old=old.party, new=str(fresh.verifier))
    table.auctioneer.publish(m.sign_statement(rotated, registrar))
    victim._sign = fresh
    table.play_round(1, RoundPlan(BIDS))
    table.end_epoch(0)
    shown = table.judge()
    if shown.findings or table.tier1 or session.seats[0] != victim.party:
        raise LookupError(f"after the rotation: {shown.findings or table.tier1}")
    return Observed(CAUGHT, "2.10", f"{second}; backdated: {first}", stage.honest)


def _lazy(auditor: Auditor, epoch: int) -> bytes:
    """Say that everything holds, without looking."""
    data, _ = auditor.verdict(epoch)
    body = m.Statement.decode(data).body
    return m.sign_statement(msgspec.structs.replace(body, result="holds", findings=[], findings_count=0), auditor._key)


@attack(32, "auditor", "is bribed or lazy, signs that all is well")
def lazy_auditor(stage: Stage) -> Observed:
    """A canary round in an honest session exposes it, and a second auditor's verdict in a crooked one."""

    def judge(auditor: Auditor, epoch: int) -> bytes:
        return _lazy(auditor, epoch) if auditor.party == table.auditors[1].party else auditor.verdict(epoch)[0]

    texts = []
    for crooked in (False, True):
        table = stage.table(
            *([Overcharging] if crooked else []), auditors=2, disclosure="auditor", canaries=() if crooked else (0,)
        )
        table.play_round(0, RoundPlan(BIDS))
        table.contribute(0)
        table.audit(0, judge)
        table.conclude(0)
        exposed = [finding for finding in table.judge().findings if finding.party == "auditor"]
        if not exposed or any("auditor 0" in finding.text for finding in exposed):
            raise LookupError(f"exposed: {exposed}")
        if isinstance(table.session.epoch(0).settlement, m.Halt) != crooked:
            raise LookupError("the arbiter follows the lazy auditor, or halts for a canary")
        texts.append(exposed[0].text)
    table = stage.table(auditors=2, disclosure="auditor", canaries=(0,))
    table.play_round(0, RoundPlan(BIDS))
    table.end_epoch(0)
    return Observed(CAUGHT, "7.9", "; ".join(texts), not table.judge().findings)


@attack(33, "auditor", "leaks opened bids")
def leak(stage: Stage) -> Observed:
    """Auditors read the drawn rounds only: a published share q of each bidder's bids."""
    q, drawn = Fraction(1, 10), 0
    for trial in range(200):
        seed = hash_of("audit", {"epoch": trial})
        drawn += len(draw_independent(seed, range(20), lambda _: (q.numerator, q.denominator)))
    rate, error = drawn / 4000, (0.1 * 0.9 / 4000) ** 0.5
    if abs(rate - 0.1) > 4 * error:
        raise LookupError(f"disclosed share {rate:.4f}")
    return Observed(
        OPEN, "7.7", f"disclosed share of rounds {rate:.4f} +- {error:.4f}, the published q is 0.1", stage.honest,
        {"share": rate},
    )  # fmt: skip


@attack(36, "observer", "reads traffic: who bids when")
def traffic(stage: Stage) -> Observed:
    """The log shows who took part in which round, when, and sizes; never a bid of a round that is not drawn."""
    table = stage.table()
    table.play_round(0, RoundPlan(BIDS))
    text = b"".join(table.auctioneer.log.entries)
    shown = [str(bid).encode() for row in BIDS.values() for bid in row if bid > 99 and b":[%d," % bid in text]
    if shown:
        raise LookupError(f"bids stand in the log: {shown}")
    present = len(table.session.round(0).presence)
    return Observed(OPEN, "1.7", f"visible: {present} bidders present in round 0 and sizes; no bid", stage.honest)


def _read_head(data: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.decode(data).text)


@attack(37, "auctioneer", "sends data on which verifiers disagree")
def parser_split(stage: Stage) -> Observed:
    """One strict reader for each format: every ambiguous form is refused by all entry points alike."""
    table = stage.played()
    entry = table.auctioneer.log.entries[1]
    forms = [
        entry.replace(b'{"body":', b'{ "body":', 1),
        entry.replace(b'"deposit":', b'"deposit":0,"deposit":', 1),
        entry + b"\n",
        entry.replace(b'"session":"', b'"session":"\\u0030', 1),
        entry.replace(b'"deposit":', b'"deposit":-0,"x":', 1),
        b"\xef\xbb\xbf" + entry,
    ]
    for form in forms:
        refusal(partial(m.Statement.decode, form), MalformedError)
    note = next(iter(table.notes.values())).encode()
    for bad in (note.replace(b"\n\n", b"\r\n\r\n", 1), note + b" ", note.replace(b"=\n", b"\n", 1), note[:-1]):
        refusal(partial(_read_head, bad), MalformedError)
    low = bytes.fromhex("01" + "00" * 31)
    text = refusal(lambda: verify_signature(low, b"any", low + bytes(32)), SignatureError)
    return Observed(PREVENTED, "2.3", f"{len(forms) + 4} ambiguous forms refused; {text}", stage.honest)


@attack(39, "log", "deletes entries after the session")
def delete_entries(stage: Stage) -> Observed:
    """The missing tile is named, the session no longer verifies, and any archive restores it."""
    table = stage.played()
    public, archive = stage.folder / "deleted", stage.folder / "archive"
    trust = table.publish(public, stage.artifact.data)
    shutil.copytree(public, archive)
    gone = next((public / "tile" / "entries").rglob("*.p/*"))
    data = gone.read_bytes()
    gone.unlink()
    missing = verify_path(public, trust)
    gone.write_bytes((archive / gone.relative_to(public)).read_bytes())
    restored = verify_path(public, trust)
    if (missing.status, restored.status) != (4, 0) or gone.read_bytes() != data:
        raise LookupError(f"statuses {missing.status} and {restored.status}")
    return Observed(CAUGHT, "4.17", missing.notes[0], restored.status == 0)


@attack(40, "witnesses", "a quorum colludes with the auctioneer")
def corrupt_quorum(stage: Stage) -> Observed:
    """Each party alone sees a consistent log; the two heads together convict the log."""
    table = stage.played(rounds=1)
    key, witness = table.secrets.auctioneer().log(), table.secrets.witness()
    tree, entries = table.auctioneer.log.tree, table.auctioneer.log.entries
    trust = table.publish(stage.folder / "one", stage.artifact.data)
    alone = verify_path(stage.folder / "one", trust)
    fork = Checkpoint(key.name, tree.size, bytes(32))
    note = sign_checkpoint(fork, key)
    shown = Note(note.text, (*note.signatures, cosign(fork, witness, 1)))
    proof = compare(shown, table.notes[max(table.notes)], key.verifier, [leaf_hash(entry) for entry in entries])
    if alone.status != 0 or proof is None:
        raise LookupError(f"status {alone.status}, proof {proof}")
    text = "one party sees a log that holds; once heads are exchanged, they convict it"
    return Observed(OPEN, "4.13", text, stage.honest)
