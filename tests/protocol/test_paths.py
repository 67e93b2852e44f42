"""The paths that a plain session does not take: profiles, mailboxes, beacon, disclosure, escalation, returns, draws."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credible.simulation.attacks.auctioneers import Overcharging, Withholding
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets, draw_up
from credible.simulation.table import Table as Seats
from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput, build
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer, RefusedError
from protocol.encoding import hash_of
from protocol.errors import InconclusiveError, ProtocolError, SignatureError, VerificationError
from protocol.escrow import check_manifest_stakes
from protocol.evidence import Judge
from protocol.keys import SigningKey
from protocol.log.equivocation import Equivocation, compare
from protocol.log.note import Checkpoint, sign_checkpoint
from protocol.log.tree import Tree, leaf_hash
from protocol.mailbox import MailboxRefusalError, forced
from protocol.manifest import Manifest
from protocol.penalties import audit_chance, gain_bound
from protocol.randomness.beacon import GENESIS, beacon_round
from protocol.randomness.lottery import assignment
from protocol.receipts import verify_receipts
from protocol.verify import Aids, verify_path
from tests.harness import Table, rules_of

BIDS = {0: [500, 0], 1: [300, 700], 2: [50, 40]}
QUICKNET = {
    1000: "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
    657413: "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
}


def clean(table: Seats) -> bool:
    shown = table.judge()
    return not (table.tier1 or shown.findings or shown.waiting)


# --- profile P0 (spec 3.9) ---------------------------------------------------------------------------------------


def test_p0_brings_the_opening_with_the_bid_and_is_labelled(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, rounds=2, profile="P0")
    table.play(0, BIDS)
    with pytest.raises(ValueError, match="came with the bids"):
        table.bidders[0].opening(0)
    table.play(1, {0: [5000, 0], 1: [300, 700]})
    assert table.session.round(1).voids == {table.session.seats[0]: m.OUTSIDE_SUPPORT}
    assert table.end() == []
    assert clean(table)
    trust = table.publish(tmp_path / "p0", second_price.data)
    verdict = verify_path(tmp_path / "p0", trust)
    assert verdict.status == 0
    assert any("last look possible" in label for label in verdict.labels)
    assert "credible ex post only" in verdict.labels  # spec 1.6


@pytest.mark.parametrize("profile", ["P0", "P1"])
def test_a_bid_with_the_parts_of_the_other_profile_is_no_bid(second_price: CheckedArtifact, profile: str) -> None:
    table, other = Table(second_price, profile=profile), Table(second_price, profile="P0" if profile == "P1" else "P1")
    table.auctioneer.receive(table.bidders[0].presence(0), 0)
    body = m.Statement.decode(other.bidders[0].bid(0, [1, 2])).body
    moved = msgspec.structs.replace(body, session=table.session.id)
    with pytest.raises(RefusedError):
        table.auctioneer.receive(m.sign_statement(moved, table.bidders[0]._sign), 0)


# --- beacon (spec 5.3, 5.4) --------------------------------------------------------------------------------------


def beacon_table(artifact: CheckedArtifact, **more: Any) -> Table:
    """One round whose lottery takes quicknet round 1000, and whose audit takes round 657413."""
    start = GENESIS + 3 * 989 - 240  # the opening deadline falls into round 990, the delay is ten rounds
    gap = GENESIS + 3 * 657_402 - 180 - start - 600
    signatures = {number: bytes.fromhex(text) for number, text in QUICKNET.items()}
    return Table(artifact, rounds=1, beacon="quicknet", start=start, period=600 + gap, beacons=signatures, **more)


def test_a_session_with_a_real_beacon(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = beacon_table(second_price)
    assert (table.manifest.beacon_of_round(0), table.manifest.beacon_of_epoch(0)) == (1000, 657413)
    table.play(0, BIDS)
    assert table.end() == []
    assert clean(table)
    trust = table.publish(tmp_path / "beacon", second_price.data)
    assert verify_path(tmp_path / "beacon", trust).status == 0


def test_the_coin_waits_for_the_beacon(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = beacon_table(second_price)
    table.bid(0, BIDS)
    table.open(0, BIDS)
    with pytest.raises(ValueError, match="not logged yet"):
        table.auctioneer.settle(0)
    table.cosign(table.session.deadline(0, "outcome") + 1, again=True)
    shown = table.judge()  # a beacon that nobody brought convicts nobody
    assert shown.findings == []
    assert any("beacon round 1000" in text for text in shown.waiting)
    fresh = table.read_again()
    fresh.supply_beacon(1000, bytes.fromhex(QUICKNET[1000]))  # with its bytes at hand, silence does
    assert rules_of(Judge(fresh, table.engine).conclude().findings) == {"6.5"}
    with pytest.raises(SignatureError):
        fresh.supply_beacon(1001, bytes.fromhex(QUICKNET[1000]))
    trust = table.publish(tmp_path / "waits", second_price.data)
    assert verify_path(tmp_path / "waits", trust).status == 4
    aids = Aids(trust, beacons={1000: bytes.fromhex(QUICKNET[1000])})
    assert rules_of(verify_path(tmp_path / "waits", aids=aids).findings) == {"6.5"}


def test_false_beacons_and_outcomes_before_the_beacon(second_price: CheckedArtifact) -> None:
    table = beacon_table(second_price)
    key = table.secrets.arbiter()
    for number, text in ((1001, QUICKNET[1000]), (1000, "00" * 48), (1000, "zz"), (0, QUICKNET[1000])):
        false = m.Beacon(session=table.session.id, beacon_round=number, signature=text)
        with pytest.raises(RefusedError, match=r"5\.3|hex"):
            table.auctioneer.publish(m.sign_statement(false, key))
    stranger = m.Beacon(session=table.session.id, beacon_round=1000, signature=QUICKNET[1000])
    with pytest.raises(RefusedError, match="nobody known"):
        table.auctioneer.publish(m.sign_statement(stranger, SigningKey("x", b"\x09" * 32)))
    plain = Table(second_price, rounds=1)
    plain.play(0, BIDS)
    outcome = plain.session.round(0).outcome
    assert outcome is not None
    table.bid(0, BIDS)
    table.open(0, BIDS)
    early = msgspec.structs.replace(outcome, session=table.session.id)
    table.log_own(early)
    assert "5.4" in rules_of(table.session.findings)


def test_beacon_rounds_follow_their_deadlines(second_price: CheckedArtifact) -> None:
    manifest = beacon_table(second_price).manifest
    deadline = manifest.round_time(0, manifest.offsets.opening)
    assert manifest.beacon_of_round(0) >= beacon_round(deadline) + 10
    for changes in ({"beacon_delay": 9}, {"start": 5}, {"beacon_delay": 10**5}):
        with pytest.raises(ValueError, match="manifest"):
            Manifest(**{**msgspec.structs.asdict(manifest), **changes})


# --- mailboxes (spec 3.7) ----------------------------------------------------------------------------------------


def test_mailboxes_stamp_what_is_open_and_in_time(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=2, mailboxes=3, faulty_mailboxes=1)
    box, bidder = table.mailboxes[0], table.bidders[0]
    due = table.session.deadline(0, "close") - table.manifest.mailbox_margin
    receipt = box.stamp(bidder.presence(0), due)
    assert m.Statement.decode(receipt).signer == table.secrets.mailbox(0).party
    for data, time in (
        (bidder.presence(0), due + 1),  # late
        (bidder.presence(1), 0),  # its round has not begun
        (bidder.presence(7), 0),
        (bidder.contribution(0), 0),  # the epoch root is not fixed
        (bidder.registration(), 0),
        (Table(second_price, seed=9, mailboxes=1).bidders[0].presence(0), 0),  # another session
    ):
        with pytest.raises(MailboxRefusalError):
            box.stamp(data, time)
    forged = m.sign_statement(m.Statement.decode(bidder.presence(0)).body, SigningKey("x", b"\x01" * 32))
    with pytest.raises(SignatureError):
        box.stamp(forged, 0)
    table.play(0, BIDS)
    table.play(1, BIDS)
    assert table.end() == []
    assert clean(table)


def test_enough_receipts_force_inclusion_and_too_few_do_not(second_price: CheckedArtifact) -> None:
    table = Table(second_price, mailboxes=3, faulty_mailboxes=1)
    table.auctioneer.receive(table.bidders[0].presence(0), 0)
    data = table.bidders[0].bid(0, [1, 2])
    statement = m.Statement.decode(data)
    receipts = [box.stamp(data, 0) for box in table.mailboxes]
    assert forced(table.session, statement, receipts[:2])
    assert not forced(table.session, statement, receipts[:1])
    assert not forced(table.session, statement, [receipts[0]] * 5)  # one mailbox is one mailbox
    other = m.Statement.decode(table.bidders[1].presence(0))
    assert not forced(table.session, other, receipts)
    late = table.session.due(statement.body) - table.manifest.mailbox_margin + 1
    body = m.receipt_for(statement, table.session.id, late, table.session.due(statement.body))
    stamped_late = [m.sign_statement(body, table.secrets.mailbox(n)) for n in range(3)]
    assert not forced(table.session, statement, [*stamped_late, b"junk"])
    with pytest.raises(RefusedError, match="too few"):
        table.auctioneer.force(data, receipts[:1])
    index = table.auctioneer.force(data, receipts[:2])
    assert index is not None
    assert table.auctioneer.force(data, receipts) is None  # it is there
    assert table.session.round(0).bids
    void = table.bidders[0].bid(0, [3, 4])  # of no effect, and logged all the same
    assert table.auctioneer.force(void, [box.stamp(void, 0) for box in table.mailboxes]) == index + 1
    assert rules_of(table.session.findings, "log") | rules_of(table.session.findings) == set()


def test_a_contribution_that_mailboxes_stamped_must_not_be_missing(  # spec 5.6
    second_price: CheckedArtifact, tmp_path: Path
) -> None:
    table = Table(second_price, rounds=1, mailboxes=2, faulty_mailboxes=0)
    table.play(0, BIDS)
    table.auctioneer.fix_epoch_root(0)
    table.auctioneer.contribute(0)
    data = table.bidders[0].contribution(0)
    at = table.session.epoch_deadline(0, "contribution")
    receipts = [box.stamp(data, at - table.manifest.mailbox_margin) for box in table.mailboxes]
    table.cosign(at - 1)
    table.auctioneer.close_contributions(0)
    table.cosign(at + 5)
    trust = table.publish(tmp_path / "log", second_price.data)
    verdict = verify_receipts([data, receipts[0]], trust, tmp_path / "log")
    assert (verdict.verdict, [f.rule for f in verdict.findings]) == ("deviation", ["3.7"])
    assert verify_receipts([receipts[0]], trust, tmp_path / "log").verdict == "inconclusive"


# --- keys (spec 2.10) --------------------------------------------------------------------------------------------


def test_every_role_may_rotate_its_key_and_keeps_its_identity(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=2, registrar=True)
    table.play(0, BIDS)
    table.auctioneer.rotate(SigningKey("next", b"\x21" * 32))
    table.auctioneer.publish(table.bidders[1].rotate(SigningKey("next-bidder", b"\x22" * 32)))
    fresh = SigningKey("next-auditor", b"\x23" * 32)
    body = m.Rotation(session=table.session.id, old=table.auditor.party, new=str(fresh.verifier))
    table.auctioneer.publish(m.sign_statement(body, table.secrets.auditor()))
    table.auditor._key = fresh
    table.play(1, BIDS)
    assert table.end() == []
    assert clean(table)
    assert table.session.seats[1] == table.bidders[1].party


def test_rotations_that_are_refused(second_price: CheckedArtifact) -> None:
    table = Table(second_price, registrar=True)
    key, session = table.bidders[0]._sign, table.session.id
    fresh, thief = SigningKey("f", b"\x31" * 32), SigningKey("t", b"\x32" * 32)
    old = key.party
    for body, signer in (
        (m.Rotation(session=session, old=old, new=str(fresh.verifier)), thief),
        (m.Rotation(session=session, old=old, new=str(table.bidders[1]._sign.verifier)), key),  # in use
        (m.Rotation(session=session, old=old, new=str(table.secrets.registrar().verifier)), key),  # a role's
        (m.Rotation(session=session, old=old, new=str(table.secrets.witness().verifier)), key),  # a cosignature key
        (m.Rotation(session=session, old=thief.party, new=str(fresh.verifier)), thief),
        (m.Rotation(session=session, old=old, new="nonsense"), key),
        (m.Revocation(session=session, key=old, from_index=table.auctioneer.log.tree.size), key),  # its own index
        (m.Revocation(session=session, key=old, from_index=10**6), thief),
        (m.Revocation(session=session, key=thief.party, from_index=10**6), key),
    ):
        with pytest.raises(RefusedError):
            table.auctioneer.publish(m.sign_statement(body, signer))
    table.auctioneer.publish(table.bidders[0].rotate(fresh))
    with pytest.raises(RefusedError):  # the old key signs no more
        table.auctioneer.receive(m.sign_statement(m.Statement.decode(table.bidders[0].presence(0)).body, key), 0)
    table.auctioneer.receive(table.bidders[0].presence(0), 0)


def test_a_receipt_under_a_reported_key_proves_nothing(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, registrar=True)
    table.auctioneer.receive(table.bidders[0].presence(0), 0)
    data = table.bidders[0].bid(0, [1, 2])
    statement = m.Statement.decode(data)
    forged = m.sign_statement(
        m.receipt_for(statement, table.session.id, 0, table.session.due(statement.body)),
        table.secrets.auctioneer().signing(),
    )
    table.cosign(table.session.deadline(0, "close") + 1)
    trust = table.publish(tmp_path / "before", second_price.data)
    assert verify_receipts([forged], trust, tmp_path / "before").verdict == "deviation"
    old = table.session.auctioneer.party
    body = m.Revocation(session=table.session.id, key=old, from_index=table.auctioneer.log.tree.size + 1)
    table.auctioneer.publish(m.sign_statement(body, table.secrets.registrar()))
    table.cosign(table.session.deadline(0, "close") + 2)
    trust = table.publish(tmp_path / "after", second_price.data)
    assert verify_receipts([forged], trust, tmp_path / "after").verdict == "inconclusive"


def test_a_receipt_under_the_auctioneers_next_key_binds_it_too(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price)
    table.auctioneer.rotate(SigningKey("next", b"\x21" * 32))
    table.auctioneer.publish(table.bidders[1].rotate(SigningKey("next-bidder", b"\x22" * 32)))
    table.auctioneer.receive(table.bidders[0].presence(0), 0)
    statement = m.Statement.decode(table.bidders[0].bid(0, [1, 2]))
    body = m.receipt_for(statement, table.session.id, 0, table.session.due(statement.body))
    table.cosign(table.session.deadline(0, "close") + 1)
    trust = table.publish(tmp_path / "log", second_price.data)
    for signer, verdict in ((table.auctioneer._sign, "deviation"), (table.bidders[1]._sign, "invalid")):
        assert verify_receipts([m.sign_statement(body, signer)], trust, tmp_path / "log").verdict == verdict


def test_stakes_that_do_not_deter_are_a_deviation(  # spec 9.9, A38
    second_price: CheckedArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poor(*arguments: Any) -> tuple[Manifest, Any]:
        manifest, policy = draw_up(*arguments)
        return msgspec.structs.replace(
            manifest, money=msgspec.structs.replace(manifest.money, penalty=manifest.money.penalty - 1)
        ), policy

    monkeypatch.setattr("credible.simulation.table.draw_up", poor)
    table = Table(second_price, rounds=1)
    table.play(0, BIDS)
    table.end()
    trust = table.publish(tmp_path / "log", second_price.data)
    verdict = verify_path(tmp_path / "log", trust)
    assert [(finding.rule, finding.entries) for finding in verdict.findings] == [("9.9", (0,))]


# --- draws of audits (spec 7.2, 7.8, 9.10) -----------------------------------------------------------------------


def test_auditors_escalate_within_the_published_limit(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=4, k=1, escalation=2)
    for index in range(4):
        table.play(index, BIDS)
    table.contribute(0)
    for count in (1, 4):  # not more than drawn, and more than allowed
        with pytest.raises(RefusedError, match=r"wanted the first 2 to 3"):
            table.auctioneer.publish(table.auditor.escalate(0, count))
    shuffled = m.Statement.decode(table.auditor.escalate(0, 3)).body
    assert isinstance(shuffled, m.Escalation)
    wrong = msgspec.structs.replace(shuffled, rounds=shuffled.rounds[::-1])
    with pytest.raises(RefusedError):
        table.auctioneer.publish(m.sign_statement(wrong, table.secrets.auditor()))
    table.auctioneer.publish(table.auditor.escalate(0, 3))
    assert len(table.session.audited(0) or []) == 3
    assert table.audit(0) == []
    table.conclude(0)
    assert clean(table)
    assert table.judge().counts["rounds re-executed"] == 3
    with pytest.raises(RefusedError):  # after the verdict
        table.auctioneer.publish(table.auditor.escalate(0, 3))


def test_an_unanswered_escalation_convicts(second_price: CheckedArtifact) -> None:
    class Half(Auctioneer):
        def respond(self, epoch: int) -> None:
            for index in self.session.drawn(epoch) or ():
                self._put(self.disclose(index))

        def open_epoch(self, epoch: int) -> None:
            """Stay silent."""

    table = Table(second_price, rounds=3, k=1, escalation=1, auctioneer=Half)
    for index in range(3):
        table.play(index, BIDS)
    table.contribute(0)
    table.auctioneer.publish(table.auditor.challenge(0))
    table.auctioneer.publish(table.auditor.escalate(0, 2))
    table.auctioneer.respond(0)
    table.cosign(table.session.epoch_deadline(0, "response") + 1)
    with pytest.raises(InconclusiveError):
        table.auditor.verdict(0)
    table.cosign(table.session.epoch_deadline(0, "verdict") + 1, again=True)
    verdict, findings = table.auditor.verdict(0)
    assert rules_of(findings) == {"7.4"}
    table.auctioneer.publish(verdict)
    table.cosign(table.session.epoch_deadline(0, "whole") + 1)
    assert {"7.4", "7.8"} <= rules_of(table.judge().findings)


def test_audits_by_exposure(second_price: CheckedArtifact) -> None:
    table = Table(second_price, preset="prompt", rounds=4, k=1, epoch=4, lag=4, exposures=(1000, 100))
    exposures = table.manifest.audit.exposures
    assert exposures[0].num / exposures[0].den > 9 * exposures[1].num / exposures[1].den
    check_manifest_stakes(table.manifest)
    assert table.manifest.maximum(1) == table.manifest.maximum(3) == 100
    for index in range(4):
        table.play(index, BIDS)
    voids = table.session.round(1).voids  # bids above the round's own support
    assert {table.session.bidders[party].seat for party in voids} == {0, 1}
    assert table.end() == []
    assert clean(table)
    weak = msgspec.structs.replace(exposures[0], num=exposures[0].num // 2)
    audit = msgspec.structs.replace(table.manifest.audit, exposures=[weak, exposures[1]])
    with pytest.raises(VerificationError, match=r"9\.10"):
        check_manifest_stakes(msgspec.structs.replace(table.manifest, audit=audit))
    with pytest.raises(VerificationError, match=r"9\.10"):
        check_manifest_stakes(msgspec.structs.replace(table.manifest, aborting=1))


@given(st.integers(1, 10**6), st.integers(0, 20), st.fractions(Fraction(1, 50), 1), st.fractions(0, 1))
def test_no_round_is_more_attractive_than_another(g: int, lag: int, q: Fraction, part: Fraction) -> None:  # spec 9.10
    penalty = int((1 / q + lag) * g) + 1
    exposure = int(part * g)
    if penalty <= (lag + 1) * g:
        return
    chance = audit_chance(exposure, penalty, lag, g)
    assert 0 < chance <= 1
    assert exposure < chance * (penalty - lag * g)


# --- disclosure to auditors, canaries (spec 7.7, 7.9) ------------------------------------------------------------


def test_disclosure_to_auditors_shows_the_public_nothing(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, rounds=2, auditors=2, disclosure="auditor")
    table.play(0, BIDS)
    table.play(1, BIDS)
    assert table.end() == []
    assert clean(table)
    assert all(state.response is None for state in table.session.rounds.values())
    trust = table.publish(tmp_path / "sealed", second_price.data)
    outsider = verify_path(tmp_path / "sealed", trust)
    assert outsider.status == 4
    assert any("sealed to the auditors" in text for text in outsider.notes)
    for number in (0, 1):
        insider = verify_path(tmp_path / "sealed", aids=Aids(trust=trust, seal_key=table.secrets.auditor_seal(number)))
        assert (insider.status, insider.checked["rounds re-executed"]) == (0, 2)
    stranger = verify_path(tmp_path / "sealed", aids=Aids(trust=trust, seal_key=table.secrets.auditor_seal(7)))
    assert stranger.status == 4


def test_a_deviation_opens_the_whole_epoch_in_clear(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, rounds=3, k=1, auditors=2, disclosure="auditor", auctioneer=Overcharging)
    for index in range(3):
        table.play(index, BIDS)
    assert rules_of(table.end()) == {"7.5"}
    assert all(state.response is not None for state in table.session.rounds.values())
    trust = table.publish(tmp_path / "opened", second_price.data)
    verdict = verify_path(tmp_path / "opened", trust)
    assert verdict.status == 1
    assert {finding.round for finding in verdict.findings if finding.rule == "7.5"} == {0, 1, 2}
    assert {finding.party for finding in verdict.findings} == {"auctioneer"}


class Garbling(Auctioneer):
    """Seals nonsense to the first auditor."""

    def _put(self, body: Any) -> int:
        if isinstance(body, m.SealedResponse) and body.auditor == self.session.auditors[0].party:
            body = msgspec.structs.replace(body, ct="00" * (len(body.ct) // 2))
        return super()._put(body)


def test_who_lied_about_a_sealed_response_shows(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1, auditors=2, disclosure="auditor", auctioneer=Garbling)
    table.play(0, BIDS)
    assert rules_of(table.end()) == {"7.7"}
    assert isinstance(table.session.epoch(0).settlement, m.Halt)
    shown = table.judge().findings
    assert ("7.7", "auctioneer") in {(f.rule, f.party) for f in shown}
    liar = Table(second_price, rounds=1, auditors=2, disclosure="auditor")
    liar.play(0, BIDS)

    def lie(auditor: Any, epoch: int) -> bytes:
        data, _ = auditor.verdict(epoch)
        if auditor.party != liar.auditors[0].party:
            return bytes(data)
        body: Any = m.Statement.decode(data).body
        finding = m.FindingBody(rule="7.7", round=0, text="cannot be read")
        return m.sign_statement(
            msgspec.structs.replace(body, result="deviation", findings=[finding], findings_count=1), auditor._key
        )

    liar.contribute(0)
    liar.audit(0, lie)
    liar.conclude(0)
    assert isinstance(liar.session.epoch(0).settlement, m.Settlement)  # the arbiter recomputed it
    assert {(f.rule, f.party) for f in liar.judge().findings} == {("7.9", "auditor")}


def test_two_auditors_are_wanted_for_sealed_disclosure(second_price: CheckedArtifact) -> None:
    with pytest.raises(ValueError, match="auditors"):
        Table(second_price, auditors=1, disclosure="auditor")


@pytest.mark.parametrize("disclosure", ["public", "auditor"])
def test_canaries_convict_nobody(second_price: CheckedArtifact, disclosure: str) -> None:
    table = Table(second_price, rounds=2, auditors=2, disclosure=disclosure, canaries=(1,))
    table.play(0, BIDS)
    table.play(1, BIDS)
    assert rules_of(table.end()) == {"7.5"}  # the auditor cannot know
    assert isinstance(table.session.epoch(0).settlement, m.Settlement)
    assert clean(table)


def test_a_canary_is_no_cover_for_cheating(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=2, canaries=(1,), auctioneer=Overcharging)
    table.play(0, BIDS)
    table.play(1, BIDS)
    table.end()
    found = table.judge().findings
    assert {(f.rule, f.round) for f in found if f.party == "auctioneer"} >= {("7.5", 0), ("7.9", 1)}


def test_canaries_that_the_manifest_does_not_name(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=2, canaries=(1,))
    for index, nonce, key in (
        (0, table.secrets.canary(1), table.secrets.arbiter()),
        (1, table.secrets.canary(0), table.secrets.arbiter()),
        (1, table.secrets.canary(1), table.secrets.auditor()),
        (9, table.secrets.canary(1), table.secrets.arbiter()),
    ):
        body = m.Canary(session=table.session.id, round=index, nonce=nonce.hex())
        with pytest.raises(RefusedError):
            table.auctioneer.publish(m.sign_statement(body, key))


# --- gains (spec 9.2), the whole epoch (6.6, 7.8) ----------------------------------------------------------------


@pytest.mark.parametrize("gains", ["kept", "returned"])
def test_gains_are_returned_out_of_escrow(second_price: CheckedArtifact, gains: str) -> None:
    table = Table(second_price, rounds=3, k=1, gains=gains, auctioneer=Overcharging)
    honest = Table(second_price, rounds=3, k=1)
    for each in (table, honest):
        for index in range(3):
            each.play(index, BIDS)
        each.end()
        each.release()
    halt = table.session.epoch(0).settlement
    assert isinstance(halt, m.Halt)
    above = table.revenue - honest.revenue
    assert above > 0
    moved = {item.account: item.amount for item in halt.amounts}
    assert moved.get("escrow", 0) == (-above if gains == "returned" else 0)
    assert moved[table.session.auctioneer.party] == -table.manifest.money.penalty
    assert table.book.total() == 0
    assert {f.party for f in table.judge().findings} == {"auctioneer"}


@pytest.mark.parametrize(
    "changes", [{"rounds": [0]}, {"returns": []}, {"withheld": [1]}, {"returns": [m.Amount(account="x", amount=5)]}]
)
def test_a_false_assessment_is_exposed_or_refused(second_price: CheckedArtifact, changes: dict[str, Any]) -> None:
    table = Table(second_price, rounds=2, k=1, gains="returned", auctioneer=Overcharging)
    original = table.auditor.assessment

    def false(epoch: int) -> bytes:
        body: Any = m.Statement.decode(original(epoch)).body
        return m.sign_statement(msgspec.structs.replace(body, **changes), table.secrets.auditor())

    table.auditor.assessment = false  # type: ignore[method-assign]
    for index in range(2):
        table.play(index, BIDS)
    if "withheld" in changes or changes.get("returns"):
        with pytest.raises(RefusedError):
            table.end()
        return
    table.end()
    assert ("6.6", "auditor") in {(f.rule, f.party) for f in table.judge().findings}


def test_the_arbiter_halts_only_where_the_evidence_convicts(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1, auctioneer=Overcharging)
    table.play(0, BIDS)
    table.contribute(0)
    table.audit(0)
    with pytest.raises(InconclusiveError, match="not opened"):
        table.arbiter.settle(0)
    table.auctioneer.open_epoch(0)
    table.auctioneer.publish(table.auditor.assessment(0))
    verdict = next(iter(table.session.epoch(0).verdicts.values()))[1]
    lenient = m.Settlement(session=table.session.id, epoch=0, verdict=hash_of("verdict", verdict).hex(), amounts=[])
    table.auctioneer.publish(m.sign_statement(lenient, table.secrets.arbiter()))
    assert ("6.6", "arbiter") in {(f.rule, f.party) for f in table.judge().findings}


def test_withholding_after_a_deviation(second_price: CheckedArtifact) -> None:
    class Closed(Overcharging, Withholding):
        def respond(self, epoch: int) -> None:
            Auctioneer.respond(self, epoch)

    table = Table(second_price, rounds=3, k=1, auctioneer=Closed)
    for index in range(3):
        table.play(index, BIDS)
    table.contribute(0)
    table.audit(0)
    with pytest.raises(RefusedError, match=r"7\.8|whole"):
        table.auctioneer.publish(table.auditor.assessment(0))
    table.cosign(table.session.epoch_deadline(0, "whole") + 1)
    table.auctioneer.publish(table.auditor.assessment(0))
    table.auctioneer.publish(table.arbiter.settle(0)[0])
    found = table.judge().findings
    assert len([f for f in found if f.rule == "7.8"]) == 2


# --- unit demand (spec 3.14, 3.15) -------------------------------------------------------------------------------


@st.composite
def allocations(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    seats, items, bits = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 5))
    whole = 1 << bits
    rows = [[0] * items for _ in range(seats)]
    for _ in range(draw(st.integers(0, 8))):
        seat, item = draw(st.integers(0, seats - 1)), draw(st.integers(0, items - 1))
        room = min(whole - sum(rows[seat]), whole - sum(row[item] for row in rows))
        rows[seat][item] += draw(st.integers(0, room))
    return rows, bits


@settings(max_examples=60)
@given(allocations())
def test_the_joint_draw_meets_every_share_and_gives_nobody_two_items(case: tuple[list[list[int]], int]) -> None:
    rows, bits = case
    counts = [[0] * len(rows[0]) for _ in rows]
    for u in range(1 << bits):
        won = assignment(rows, bits, u)
        sold = [seat for seat in won if seat >= 0]
        assert len(sold) == len(set(sold))
        for item, seat in enumerate(won):
            if seat >= 0:
                counts[seat][item] += 1
    assert counts == rows  # exactly: u is uniform on 2^share_bits


@pytest.mark.parametrize("rows", [[[3, 2]], [[3], [2]], [[-1, 0]]])
def test_allocations_above_one_item_are_not_drawn(rows: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"3\.14"):
        assignment(rows, 2, 0)


@pytest.fixture(scope="module")
def matching() -> CheckedArtifact:
    """A menu for two bidders of unit demand and two items, with a lottery."""
    menu = [[[0, 0], [0, 0]], [[256, 0], [0, 256]], [[0, 256], [256, 0]], [[128, 128], [128, 128]], [[256, 0], [0, 0]]]
    return build.menu_affine(menu, [0, 0, 0, 900, 0], [1, 1], bid_max=100, share_bits=8, unit="1 cent")


def test_a_session_of_unit_demand(matching: CheckedArtifact) -> None:
    table = Table(matching, rounds=3, valuation="unit_demand")
    assert table.manifest.draw == "bvn"
    for index, bids in enumerate(([[50, 49], [48, 50]], [[50, 10], [10, 50]], [[30, 30], [30, 30]])):
        table.play(index, dict(enumerate(bids)))
    assert table.end() == []
    assert clean(table)
    for matrix in table.auctioneer.matrices.values():
        sold = [seat for seat in matrix.won if seat >= 0]
        assert len(sold) == len(set(sold))


def test_other_winners_than_the_joint_draw_convict(matching: CheckedArtifact) -> None:
    class Swapping(Auctioneer):
        def claim(self, r: int, item: RoundInput, output: RoundOutput, seed: bytes) -> tuple[RoundOutput, list[int]]:
            output, won = super().claim(r, item, output, seed)
            return output, won[::-1]

    table = Table(matching, rounds=1, valuation="unit_demand", auctioneer=Swapping)
    table.play(0, {0: [30, 30], 1: [30, 30]})
    assert rules_of(table.end()) == {"3.15"}


def test_a_mechanism_that_gives_two_items_breaks_unit_demand(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1, valuation="unit_demand")
    with pytest.raises(ValueError, match=r"3\.14"):
        table.play(0, {0: [500, 500]})

    class Additive(Auctioneer):
        def claim(self, r: int, item: RoundInput, output: RoundOutput, seed: bytes) -> tuple[RoundOutput, list[int]]:
            return output, [0, 0]

    class Drawing(Additive):
        def settle(self, round_index: int) -> list[Any]:
            original = Auctioneer.claim
            Auctioneer.claim = Additive.claim  # type: ignore[method-assign, assignment]
            try:
                return super().settle(round_index)
            finally:
                Auctioneer.claim = original  # type: ignore[method-assign]

    forced_on = Table(second_price, rounds=1, valuation="unit_demand", auctioneer=Drawing)
    forced_on.play(0, {0: [500, 500]})
    assert rules_of(forced_on.tier1) == {"3.14"}
    assert "3.14" in rules_of(forced_on.end())


# --- witnesses, heads (spec 4.12 to 4.14) ------------------------------------------------------------------------


def test_a_quorum_of_witnesses_decides(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, rounds=1, witnesses=5, faulty_witnesses=1)
    assert table.policy.text.decode().splitlines()[-2].startswith("group witnesses 4 ")
    table.play(0, BIDS)
    table.end()
    assert clean(table)
    trust = table.publish(tmp_path / "five", second_price.data)
    assert verify_path(tmp_path / "five", trust).status == 0
    shutil.rmtree(tmp_path / "five" / "checkpoints")
    path = tmp_path / "five" / "checkpoint"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:-3], b""]))  # two cosignatures fewer than five: three of four
    assert verify_path(tmp_path / "five", trust).status == 4


@given(st.integers(1, 12), st.data())
def test_heads_that_contradict_each_other_convict(size: int, data: st.DataObject) -> None:
    key = Secrets.seeded(1).auctioneer().log()
    entries = [bytes([index]) for index in range(size)]
    leaves = [leaf_hash(entry) for entry in entries]
    tree = Tree(leaves)
    small = data.draw(st.integers(0, size))
    true = sign_checkpoint(Checkpoint(key.name, size, tree.root()), key)
    same = sign_checkpoint(Checkpoint(key.name, small, tree.root(small)), key)
    assert compare(same, true, key.verifier, leaves) is None
    if small == 0:
        return
    forked = Tree([leaf_hash(b"other"), *leaves[1:small]])
    fork = sign_checkpoint(Checkpoint(key.name, small, forked.root()), key)
    proof = compare(fork, true, key.verifier, leaves)
    assert proof is not None
    again = Equivocation.decode(proof.encode())
    assert again == proof
    assert again.verify(key.verifier)[0].size == small
    with pytest.raises(ProtocolError):
        Equivocation(same, true, tree.root(small), proof.proof).verify(key.verifier)
    with pytest.raises(ProtocolError):
        Equivocation(fork, true, bytes(32), proof.proof).verify(key.verifier)
    with pytest.raises(SignatureError):
        again.verify(Secrets.seeded(2).auctioneer().log().verifier)
    encoded = proof.encode()
    position = data.draw(st.integers(0, len(encoded) - 1))
    flipped = bytearray(encoded)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError):
        Equivocation.decode(bytes(flipped)).verify(key.verifier)


def test_setup_refuses_a_quorum_that_permits_a_split_view(second_price: CheckedArtifact) -> None:
    for witnesses, faulty in ((3, 1), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match=r"4\.14"):
            draw_up(
                Rules("prompt", 10, witnesses=witnesses, faulty_witnesses=faulty),
                second_price.header,
                second_price.file_sha256,
                Secrets.seeded(1),
            )


def test_stakes_follow_gains_and_coins(second_price: CheckedArtifact) -> None:  # spec 5.8, 7.3, 9.2
    g = gain_bound(2, 1000, 8)
    penalties = [
        Table(second_price, rounds=4, k=k, gains=gains).manifest.money.penalty
        for gains, k in (("kept", 1), ("returned", 1), ("returned", 2), ("returned", 4))
    ]
    assert penalties == [4 * g + 1, 3 * g + 1, g + 1, 1]
    assert all(a >= b for a, b in pairwise(penalties))
    manifest = Table(second_price, rounds=4, k=1, gains="returned").manifest
    kept = msgspec.structs.replace(manifest.money, gains="kept")
    with pytest.raises(VerificationError):
        check_manifest_stakes(msgspec.structs.replace(manifest, money=kept))


def test_a_table_in_memory_is_a_session_on_disk(second_price: CheckedArtifact, tmp_path: Path) -> None:
    table = Table(second_price, rounds=2)
    plan = RoundPlan(BIDS)
    table.play_round(0, plan)
    table.play_round(1, plan)
    table.end()
    trust = table.publish(tmp_path / "log", second_price.data)
    assert verify_path(tmp_path / "log", trust).status == 0
