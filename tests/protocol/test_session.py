"""The rules of rounds and epochs: honest runs are never convicted, each deviation is (spec 3, 5, 6, 7)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import protocol.auctioneer
from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer, RefusedError
from protocol.encoding import Message
from protocol.errors import MalformedError, SignatureError, VerificationError
from protocol.evidence import check_artifact, check_complaints, check_verdicts, recheck
from protocol.manifest import Manifest
from protocol.outcomes import build_matrix
from protocol.session import Session
from protocol.state import Cosigned, encode_mask
from tests.harness import Table, rules_of

BIDS = {0: [500, 0], 1: [300, 700], 2: [50, 40]}
relaxed = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(
    st.integers(0, 50),
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 2), st.lists(st.integers(-5, 1005), min_size=2, max_size=2)),
            st.sets(st.integers(0, 2)),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["expected", "realised"]),
)
def test_an_honest_run_is_never_convicted(
    second_price: CheckedArtifact, seed: int, plans: list[tuple[dict[int, list[int]], set[int]]], charge: str
) -> None:  # A25, hardening A1: any participation, silence, bids outside the support
    table = Table(second_price, rounds=len(plans), seed=seed, charge=charge)
    for index, (bids, silent) in enumerate(plans):
        table.play(index, bids, silent)
    assert table.tier1 == []
    assert table.end() == []
    again = table.read_again()
    rechecked, counts = recheck(again, range(len(plans)), table.engine)
    assert again.findings == []
    assert rechecked == []
    assert check_verdicts(again, rechecked) == []
    assert again.overdue() == ([], [])
    assert again.complete
    assert counts["rounds re-executed"] == len(plans)


@relaxed
@given(st.data())
def test_one_changed_unit_in_any_audited_outcome_is_convicted(
    lottery: CheckedArtifact, data: st.DataObject
) -> None:  # A17, hardening A2: whatever number of the result is off by one
    field = data.draw(st.sampled_from(["allocation", "payment", "won", "charge"]))
    step = data.draw(st.sampled_from([-1, 1]))
    bids = {0: [data.draw(st.integers(0, 100))], 1: [data.draw(st.integers(0, 100))]}
    seat = data.draw(st.integers(0, 1))

    def off_by_one(*arguments: Any) -> m.MatrixBody:
        matrix = build_matrix(*arguments)
        value = getattr(matrix, field)
        if field == "allocation":
            value = [list(row) for row in value]
            value[seat][0] += step
        elif field == "won":
            value = [{-1: 0, 0: 1, 1: 0}[value[0]]]
        else:
            value = list(value)
            value[seat] += step
        return msgspec.structs.replace(matrix, **{field: value})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol.auctioneer, "build_matrix", off_by_one)
        table = Table(lottery, rounds=1)
        table.play(0, bids)
    findings = table.end()
    assert findings
    assert {finding.round for finding in findings} == {0}
    assert rules_of(findings) <= {"7.5", "3.15", "3.16"}
    assert isinstance(table.session.epoch(0).settlement, m.Halt)
    assert table.read_again().findings == []  # the log itself is in order: only re-execution shows it


class Overcharging(Auctioneer):
    def claim(self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes) -> Any:
        output, won = super().claim(round_index, item, output, seed)
        worth = [
            sum(s * b for s, b in zip(row, bid, strict=True))
            for row, bid in zip(output.allocation, item.bids, strict=True)
        ]
        return RoundOutput(allocation=output.allocation, payment=[w + 1 if w else 0 for w in worth]), won


def test_a_charge_above_the_bid_is_seen_without_audit(second_price: CheckedArtifact) -> None:  # A9
    table = Table(second_price, rounds=1, auctioneer=Overcharging)
    table.play(0, BIDS)
    assert rules_of(table.tier1) == {"3.14"}


def test_a_dropped_bid_is_seen_by_its_bidder(second_price: CheckedArtifact) -> None:  # A1
    table = Table(second_price, rounds=1)
    for seat in BIDS:
        table.auctioneer.receive(table.bidders[seat].presence(0), 0)
    table.auctioneer.receive(table.bidders[0].bid(0, BIDS[0]), 0)
    table.bidders[1].bid(0, BIDS[1])  # sent, and never logged
    table.cosign(table.session.deadline(0, "close") - 1)
    table.auctioneer.close(0)
    assert table.bidders[0].check_close(0) == []
    assert rules_of(table.bidders[1].check_close(0)) == {"3.6"}


def test_another_row_than_the_logged_one_is_seen(second_price: CheckedArtifact) -> None:  # A8
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    table.open(0, BIDS)
    rows = {row.party: row.data for row in table.auctioneer.settle(0)}
    first, second = table.bidders[0], table.bidders[1]
    assert rules_of(first.check_row(0, rows[second.party])[0]) == {"3.17"}
    assert rules_of(first.check_row(0, None)[0]) == {"3.17"}
    assert first.check_row(0, rows[first.party])[0] == []


def log_close(table: Table, **changes: Any) -> None:
    close = table.session.round(0).close
    assert close is not None
    table.session.rounds[0].close = None
    table.log_own(msgspec.structs.replace(close, **changes))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"size": 3}, "3.8"),
        ({"root": "00" * 32}, "3.8"),
        ({"coms_count": 2}, "3.8"),
        ({"coms_root": "00" * 32}, "3.8"),
        ({"coms": ["00" * 32] * 3}, "3.8"),
        ({"coms": msgspec.UNSET}, "2.5"),
    ],
)
def test_a_false_close_is_a_deviation(second_price: CheckedArtifact, changes: dict[str, Any], rule: str) -> None:  # A3
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    assert table.session.findings == []
    log_close(table, **changes)
    assert rule in rules_of(table.session.findings)


def test_a_bid_right_after_the_deadlines_checkpoint_does_not_count(second_price: CheckedArtifact) -> None:  # spec 3.8
    table = Table(second_price, rounds=1)
    start, due = table.manifest.round_time(0), table.session.deadline(0, "close")
    for bidder in table.bidders:
        table.send(bidder, bidder.presence(0), start + 10)
    for bidder in table.bidders[:2]:
        table.send(bidder, bidder.bid(0, [300, 200]), start + 60)
    table.cosign(due - 1)
    table.send(table.bidders[2], table.bidders[2].bid(0, [500, 600]), due)  # logged before the close, not in time
    table.auctioneer.close(0)
    close = table.session.round(0).close
    assert close is not None
    assert close.size == table.session.round(0).bids[table.bidders[2].party].index
    assert close.coms_count == 2
    table.open(0, range(2))
    table.settle(0)
    assert table.end() == []
    assert table.judge().findings == []
    outcome = table.session.round(0).outcome
    assert outcome is not None
    assert outcome.mask == encode_mask([1, 1, 0])


def test_masks_are_bits_from_the_left() -> None:  # spec 3.13
    for mask, text in (([], ""), ([1], "80"), ([0, 1], "40"), ([1] * 8, "ff"), ([0] * 8 + [1], "0080"),
                       ([1] + [0] * 14 + [1], "8001"), ([0] * 17, "000000")):  # fmt: skip
        assert encode_mask(mask) == text


def test_an_auditor_may_convict_by_the_log_alone(second_price: CheckedArtifact) -> None:  # spec 7.9, 8.4
    class Misclosing(Auctioneer):
        def _put(self, body: Message) -> int:
            return super()._put(
                msgspec.structs.replace(body, coms_root="00" * 32) if isinstance(body, m.Close) else body
            )

    table = Table(second_price, rounds=1, auctioneer=Misclosing)
    table.play(0, BIDS)
    assert rules_of(table.end()) == {"3.8"}
    shown = table.judge()
    assert {(finding.rule, finding.party) for finding in shown.findings} == {("3.8", "auctioneer")}
    assert shown.waiting == []  # the verdict rests on what everybody sees


def test_bids_after_the_close_do_not_count(second_price: CheckedArtifact) -> None:  # A3, A18
    table = Table(second_price, rounds=1)
    table.auctioneer.receive(table.bidders[2].presence(0), 0)
    table.bid(0, {0: [1, 1]})
    with pytest.raises(RefusedError, match="no effect"):
        table.auctioneer.receive(table.bidders[2].bid(0, [9, 9]), 0)
    entry = table.bidders[1].bid(0, [9, 9])
    index = table.auctioneer.log.append(entry)  # logged all the same
    assert not table.session.apply(index, entry)
    assert table.bidders[1].party not in table.session.committed(0)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("mask", "00", "3.13"),  # A16: a participant is left out
        ("mask", "f0", "3.13"),
        ("mech", "00" * 32, "2.14"),  # A5
        ("close", "00" * 32, "3.17"),
        ("size", 3, "3.10"),
        ("rows", [], "3.17"),
        ("link", "00" * 32, "5.7"),  # A14
        ("matrix", "0", "5.7"),
    ],
)
def test_a_false_outcome_is_a_deviation_in_the_log(
    second_price: CheckedArtifact, field: str, value: Any, rule: str
) -> None:
    class False_(Auctioneer):
        def _put(self, body: Any) -> int:
            if isinstance(body, m.Outcome):
                body = msgspec.structs.replace(body, **{field: value})
            return super()._put(body)

    table = Table(second_price, rounds=1, auctioneer=False_)
    table.bid(0, BIDS)
    table.open(0, BIDS)
    table.auctioneer.settle(0)
    assert rule in rules_of(table.session.findings)


def test_silence_is_void_and_forfeits_once(second_price: CheckedArtifact) -> None:  # A21
    table = Table(second_price, rounds=1)
    table.play(0, BIDS, silent=[1])
    seat_1 = table.bidders[1].party
    assert table.session.round(0).voids == {seat_1: m.NO_OPENING}
    assert table.read_again().counts["without effect"] == 0
    outcome = table.session.round(0).outcome
    assert outcome is not None
    assert outcome.mask == encode_mask([1, 0, 1])
    assert table.end() == []
    settlement = table.session.epoch(0).settlement
    assert isinstance(settlement, m.Settlement)
    forfeit = table.manifest.money.opening_forfeit
    assert {a.account: a.amount for a in settlement.amounts} == {seat_1: -forfeit, "pool": forfeit}


def test_a_deposit_covers_every_open_commitment(second_price: CheckedArtifact) -> None:  # A20
    table = Table(second_price, rounds=3)
    for index in range(3):
        table.play(index, BIDS, silent=[1])
    assert table.out == {1}
    assert [table.bidders[1].party in table.session.round(index).bids for index in range(3)] == [True, False, False]
    assert table.end() == []


def test_a_deposit_that_was_forfeited_covers_nothing(second_price: CheckedArtifact) -> None:  # spec 9.9
    table = Table(second_price, preset="prompt", rounds=2, epoch=1, lag=1, q=Fraction(1))
    table.play(0, BIDS, silent=[1])
    assert table.end(0) == []
    party = table.bidders[1].party
    state = table.session.bidders[party]
    assert state.deposit == state.forfeited == table.manifest.money.opening_forfeit
    table.play(1, BIDS)
    assert table.out == {1}
    assert set(table.session.round(1).bids) == {bidder.party for bidder in table.bidders} - {party}
    assert table.end(1) == []


def test_a_late_opening_never_counts(second_price: CheckedArtifact) -> None:  # A21
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    table.open(0, [0, 2])
    table.auctioneer.receive(table.bidders[1].opening(0), 0)  # logged after the deadline's checkpoint
    table.settle(0)
    assert table.session.round(0).voids == {table.bidders[1].party: m.NO_OPENING}
    assert table.end() == []
    assert table.session.findings == []


def test_calling_a_timely_opening_missing_is_a_deviation(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    table.open(0, BIDS)
    table.log_own(m.Void(session=table.session.id, round=0, bidder=table.bidders[0].party, reason=m.NO_OPENING))
    table.auctioneer.settle(0)
    assert "3.10" in rules_of(table.session.findings)


@pytest.mark.parametrize("garbage", [True, False])
def test_a_dispute_over_an_opening_is_decided_by_anyone(second_price: CheckedArtifact, garbage: bool) -> None:
    """A26: a bidder's garbage convicts nobody; an auctioneer that calls a good opening unreadable is convicted."""
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    bidder = table.bidders[1]
    good = bidder.opening(0)
    if garbage:
        body = m.Statement.decode(good).body
        assert isinstance(body, m.OpeningStatement)
        junk = msgspec.structs.replace(body, ct="ab" * 100)
        table.auctioneer.receive(m.sign_statement(junk, bidder._sign), 0)
    else:
        table.auctioneer.receive(good, 0)
    table.open(0, [0, 2])
    if not garbage:
        table.log_own(m.Void(session=table.session.id, round=0, bidder=bidder.party, reason=m.UNREADABLE))
        original = table.auctioneer._open
        table.auctioneer._put = lambda body, put=table.auctioneer._put: (  # type: ignore[method-assign, misc]
            put(body) if not (isinstance(body, m.Void) and body.bidder == bidder.party) else 0
        )

        def lying(round_index: int, party: str, statement: m.OpeningStatement) -> tuple[str, list[int] | None]:
            return (m.UNREADABLE, None) if party == bidder.party else original(round_index, party, statement)

        table.auctioneer._open = lying  # type: ignore[method-assign]
    table.auctioneer.settle(0)
    table.cosign(table.session.deadline(0, "outcome") - 1)
    assert table.session.round(0).voids == {bidder.party: m.UNREADABLE}
    assert ("3.11" in rules_of(bidder.check_row(0, None)[0])) is True  # it knows that it sent, or meant, a good one
    table.auctioneer.receive(bidder.complaint(0), 0)
    table.cosign(table.session.deadline(0, "complaint") - 1)
    findings = table.end()
    assert rules_of(findings) == (set() if garbage else {"3.11"})


def test_early_late_and_idle_contributions_change_no_seed(second_price: CheckedArtifact) -> None:  # A11, A12
    table = Table(second_price, rounds=2)
    table.play(0, {0: [5, 5], 1: [6, 6]})
    early = table.bidders[0].contribution(0)
    with pytest.raises(RefusedError):
        table.auctioneer.receive(early, 0)  # before the epoch root is fixed
    table.play(1, {0: [5, 5]})
    table.auctioneer.fix_epoch_root(0)
    table.auctioneer.contribute(0)
    table.auctioneer.receive(early, 0)
    with pytest.raises(RefusedError):
        table.auctioneer.receive(table.bidders[2].contribution(0), 0)  # took part in no round
    table.cosign(table.session.epoch_deadline(0, "contribution") - 1)
    table.auctioneer.receive(table.bidders[1].contribution(0), 0)  # logged past the deadline's checkpoint
    table.auctioneer.close_contributions(0)
    assert set(table.session.contributions(0)) == {table.session.auctioneer.party, table.bidders[0].party}
    assert table.session.drawn(0) == table.read_again().drawn(0)
    assert table.read_again().findings == []


def test_the_epoch_root_is_fixed_before_contributions_and_truly(second_price: CheckedArtifact) -> None:  # A34
    table = Table(second_price, rounds=1)
    table.play(0, BIDS)
    root = table.session._cosigned[0]
    table.log_own(m.EpochRoot(session=table.session.id, epoch=0, size=root.size, root=root.root))
    assert "6.6" in rules_of(table.session.findings)
    table = Table(second_price, rounds=1)
    table.play(0, BIDS)
    with pytest.raises(VerificationError):
        table.auctioneer.receive(table.bidders[0].contribution(0), 0)
    table.auctioneer.contribute(0)
    assert "5.6" in rules_of(table.session.findings)


def test_a_late_opening_gives_no_ground_for_a_complaint(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    table.open(0, [0, 2])
    table.auctioneer.receive(table.bidders[1].opening(0), 0)
    table.settle(0)
    table.auctioneer.receive(table.bidders[1].complaint(0), 0)
    assert table.end() == []


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31])
def test_seal_keys_of_low_order_are_refused(second_price: CheckedArtifact, key: str) -> None:  # spec 2.9
    table = Table(second_price, rounds=1, bidders=2)
    session = Session(table.auctioneer.log.entries[0])
    body = m.Statement.decode(table.auctioneer.log.entries[1]).body
    bad = msgspec.structs.replace(body, seal_key=key)
    signer = table.secrets.bidder(0, "bidder-0").signing()
    assert not session.apply(1, m.sign_statement(bad, signer))
    manifest = msgspec.structs.replace(table.manifest, seal_key=key)
    with pytest.raises(SignatureError, match="low order"):
        Session(m.sign_statement(manifest, table.secrets.auctioneer().signing()))


def test_a_receipt_never_promises_later_than_its_kinds_deadline(second_price: CheckedArtifact) -> None:  # spec 3.6
    table = Table(second_price, rounds=1)
    session = table.session
    sent = table.bidders[0].presence(0)
    receipt = table.auctioneer.receive(sent, 0)
    assert table.bidders[0].check_receipt(receipt, sent).appear_by == session.deadline(0, "close")
    sent = table.bidders[0].bid(0, [1, 1])
    with pytest.raises(RefusedError, match="no receipt"):
        table.auctioneer.receive(sent, session.deadline(0, "close") + 1)
    receipt = table.auctioneer.receive(sent, session.deadline(0, "close"))
    body = m.Statement.decode(receipt).body
    later = msgspec.structs.replace(body, appear_by=session.deadline(0, "opening"))
    with pytest.raises(VerificationError, match="the deadline is"):
        table.bidders[0].check_receipt(m.sign_statement(later, table.secrets.auctioneer().signing()), sent)


def test_statements_of_a_round_count_once_its_turn_has_come(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=2)
    for data in (table.bidders[0].presence(1), table.bidders[0].bid(1, [1, 1])):
        with pytest.raises(RefusedError, match="before round 0 has its outcome"):
            table.auctioneer.receive(data, 0)


def test_an_early_bid_locks_nobody_out(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    for seat in (0, 1):  # seat 0 bids before seat 1 has said that it is present
        table.auctioneer.receive(table.bidders[seat].presence(0), 0)
        table.auctioneer.receive(table.bidders[seat].bid(0, [seat, seat]), 0)
    assert all(table.session.round(0).presence[table.bidders[seat].party] for seat in (0, 1))


def test_auditors_cannot_put_junk_or_early_verdicts_into_the_log(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    table.play(0, BIDS)
    size = table.auctioneer.log.tree.size
    with pytest.raises(MalformedError):
        table.auctioneer.publish(b"junk")
    early = m.VerdictStatement(
        session=table.session.id,
        epoch=0,
        rounds=[],
        result="deviation",
        findings=[],
        findings_count=0,
        bundle="00" * 32,
    )
    with pytest.raises(RefusedError, match="before the responses are due"):
        table.auctioneer.publish(m.sign_statement(early, table.secrets.auditor()))
    assert table.auctioneer.log.tree.size == size
    assert table.end() == []


def test_a_verdict_on_silence_that_nothing_at_hand_shows_accuses_nobody(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    table.play(0, BIDS)
    original = table.auditor.verdict

    def seen(epoch: int) -> tuple[bytes, list[Any]]:
        body = m.Statement.decode(original(epoch)[0]).body
        found = [m.FindingBody(rule="7.4", round=0, text="seen under a checkpoint that others lack")]
        claim = msgspec.structs.replace(body, result="deviation", findings=found, findings_count=1)
        return m.sign_statement(claim, table.secrets.auditor()), []

    table.auditor.verdict = seen  # type: ignore[method-assign]
    table.end()
    again = table.read_again()
    assert check_verdicts(again, []) == []
    assert any("rests on rule 7.4" in text for text in again.unproven)


def test_a_proved_false_void_counts_in_undrawn_rounds_too(second_price: CheckedArtifact) -> None:  # spec 3.11
    table = Table(second_price, rounds=1)
    table.bid(0, BIDS)
    bidder = table.bidders[1]
    original = table.auctioneer._open

    def lying(round_index: int, party: str, statement: m.OpeningStatement) -> tuple[str, list[int] | None]:
        return (m.UNREADABLE, None) if party == bidder.party else original(round_index, party, statement)

    table.auctioneer._open = lying  # type: ignore[method-assign]
    table.open(0, BIDS)
    table.settle(0)
    assert check_complaints(table.session, [0]) == []
    table.auctioneer.receive(bidder.complaint(0), 0)
    (finding,) = check_complaints(table.session, [0])
    assert (finding.rule, finding.entries) == ("3.11", (table.session.round(0).outcome_index,))


def test_a_registration_after_the_closing_checkpoint_is_a_fault(second_price: CheckedArtifact) -> None:  # spec 6.3
    table = Table(second_price, rounds=1, bidders=2)
    entries, size = table.auctioneer.log.entries, table.session.bidders[table.bidders[1].party].index
    session = Session(entries[0])
    session.add_cosigned(table.session._cosigned)
    for index, entry in enumerate(entries[1 : size + 1], 1):
        assert session.apply(index, entry)
    third = table.bidders[0].__class__(table.secrets.bidder(2, "late"), table.session)
    assert session.apply(size + 1, third.registration())
    body = m.Statement.decode(entries[size + 1]).body
    assert isinstance(body, m.RegistrationClose)
    seats, root = m.hash_list(session.seats, ordered=True)
    close = msgspec.structs.replace(body, seats=seats, seats_count=3, seats_root=root)
    session.apply(size + 2, m.sign_statement(close, table.secrets.auctioneer().signing()))
    assert rules_of(session.findings) == {"6.3"}


@pytest.mark.parametrize("values", [[], [5], [-1, 0], [5, 2000]])
def test_context_outside_the_grid_is_a_fault(values: list[int]) -> None:
    from protocol.artifact import build

    artifact = build.first_price(bidders=2, bid_max=1000, share_bits=2, unit="1", procurement=True)
    table = Table(artifact, rounds=1)
    with pytest.raises(RefusedError):
        table.auctioneer.receive(table.bidders[0].presence(0), 0)  # the context comes first
    table.auctioneer.announce(0, values)
    assert rules_of(table.session.findings) == {"6.4"}


def statement_of(table: Table, data: bytes, **changes: Any) -> bytes:
    body = m.Statement.decode(data).body
    return m.sign_statement(msgspec.structs.replace(body, **changes), table.bidders[0]._sign)


def test_hostile_bidder_statements_are_refused_and_leave_no_trace(second_price: CheckedArtifact) -> None:  # A23, A24
    table = Table(second_price, rounds=2)
    presence = table.bidders[0].presence(0)
    for bad in (
        statement_of(table, presence, session="00" * 32),
        statement_of(table, presence, round=-1),
        statement_of(table, presence, round=2),
        statement_of(table, presence, bidder=table.bidders[1].party),  # signed by another
        statement_of(table, presence, bidder="zz"),
        presence.replace(b'"present":true', b'"present":false'),  # the signature is for other bytes
    ):
        before = (table.auctioneer.log.tree.size, len(table.session.findings))
        with pytest.raises(VerificationError):
            table.auctioneer.receive(bad, 0)
        assert (table.auctioneer.log.tree.size, len(table.session.findings)) == before
    raw = b'{"body":{},"sigs":[{"key":"\xff","sig":""}],"type":"x"}'  # not UTF-8
    for junk in (raw, b"", b"{}", presence + b" ", presence[:-1], b"\xff" * 10):
        with pytest.raises(MalformedError):
            table.auctioneer.receive(junk, 0)
    receipt, size = table.auctioneer.receive(presence, 0), table.auctioneer.log.tree.size
    assert table.auctioneer.receive(presence, 9) == receipt  # the same again (spec 3.5)
    assert table.auctioneer.log.tree.size == size
    bid = table.bidders[0].bid(0, [1, 1])
    table.auctioneer.receive(bid, 0)
    for bad in (
        statement_of(table, bid, seq=5),  # a second bid of the round
        statement_of(table, bid, round=1, seq=0),  # replayed seq
        statement_of(table, bid, round=1, seq=1, prev="00" * 32),
        statement_of(table, bid, round=1, seq=1, com="xyz"),
    ):
        with pytest.raises(RefusedError):
            table.auctioneer.receive(bad, 0)
    assert table.session.findings == []
    second = table.auctioneer.second_bids  # kept as evidence: the first that was refused
    assert second == {(0, table.bidders[0].party): statement_of(table, bid, seq=5)}


def test_nothing_is_opened_before_the_close(second_price: CheckedArtifact) -> None:  # spec 3.9
    table = Table(second_price, rounds=1)
    table.auctioneer.receive(table.bidders[0].presence(0), 0)
    table.auctioneer.receive(table.bidders[0].bid(0, [1, 1]), 0)
    with pytest.raises(ValueError, match="not closed yet"):
        table.bidders[0].opening(0)


def test_receipts_name_the_statement_and_bind(second_price: CheckedArtifact) -> None:  # spec 3.6
    table = Table(second_price, rounds=1)
    sent = table.bidders[0].presence(0)
    receipt = table.auctioneer.receive(sent, 7)
    assert table.bidders[0].check_receipt(receipt, sent).received_at == 7
    with pytest.raises(VerificationError, match="another statement"):
        table.bidders[0].check_receipt(receipt, table.bidders[0].bid(0, [1, 1]))
    with pytest.raises(VerificationError, match="another statement"):
        table.bidders[1].check_receipt(receipt, sent)
    with pytest.raises(MalformedError, match="wanted a receipt"):
        table.bidders[0].check_receipt(sent, sent)


class Withholding(Auctioneer):
    def respond(self, epoch: int) -> None:
        """Say nothing."""


class Selective(Auctioneer):
    def disclose(self, round_index: int) -> m.Response:
        response = super().disclose(round_index)
        return msgspec.structs.replace(response, openings=response.openings[1:])


class Rebidding(Auctioneer):
    """A7: alters a bid before computing, and discloses the altered one."""

    def disclose(self, round_index: int) -> m.Response:
        response = super().disclose(round_index)
        first = response.openings[0]
        altered = msgspec.structs.replace(first.body, bids=[bid + 1 for bid in first.body.bids])
        opened = [m.OpenedBid(body=altered, nonce=first.nonce), *response.openings[1:]]
        return msgspec.structs.replace(response, openings=opened)


@pytest.mark.parametrize(
    ("cheat", "rules"), [(Withholding, {"7.4"}), (Selective, {"7.4"}), (Rebidding, {"7.5", "7.4"})]
)
def test_denied_and_selective_answers_convict(
    second_price: CheckedArtifact, cheat: type[Auctioneer], rules: set[str]
) -> None:  # A10
    table = Table(second_price, rounds=1, auctioneer=cheat)
    table.play(0, BIDS)
    at = table.session.epoch_deadline(0, "contribution") - 1
    table.auctioneer.fix_epoch_root(0)
    table.auctioneer.contribute(0)
    table.cosign(at)
    table.auctioneer.close_contributions(0)
    table.auctioneer.publish(table.auditor.challenge(0))
    table.auctioneer.respond(0)
    table.cosign(table.session.epoch_deadline(0, "response") + 1)  # the deadline has passed
    assert rules_of(table.auditor.verdict(0)[1]) & rules


class Mute(Auctioneer):
    def contribute(self, epoch: int) -> None:
        """Keep the contribution back."""


@pytest.mark.parametrize(("cheat", "rule"), [(Mute, "5.6"), (Withholding, "7.4")])
def test_silence_ends_in_a_verdict_that_everybody_recomputes(
    second_price: CheckedArtifact, cheat: type[Auctioneer], rule: str
) -> None:
    table = Table(second_price, rounds=1, auctioneer=cheat)
    table.play(0, BIDS)
    table.auctioneer.fix_epoch_root(0)
    table.auctioneer.contribute(0)
    table.auctioneer.receive(table.bidders[0].contribution(0), 0)
    table.cosign(table.session.epoch_deadline(0, "contribution") - 1)
    table.auctioneer.close_contributions(0)
    if table.session.drawn(0) is not None:
        table.auctioneer.publish(table.auditor.challenge(0))
        table.auctioneer.respond(0)
    table.cosign(table.session.epoch_deadline(0, "response") + 1)
    verdict, findings = table.auditor.verdict(0)
    assert rule in rules_of(findings)
    table.auctioneer.publish(verdict)
    table.cosign(table.session.epoch_deadline(0, "whole") + 1)  # nothing is opened after the verdict either
    table.auctioneer.publish(table.auditor.assessment(0))
    table.auctioneer.publish(table.arbiter.settle(0)[0])
    assert isinstance(table.session.epoch(0).settlement, m.Halt)
    again = table.read_again()
    assert rules_of(check_verdicts(again, []), "auditor") == set()


def test_an_auditor_that_signs_what_is_not_so_is_exposed(second_price: CheckedArtifact) -> None:  # A32
    table = Table(second_price, rounds=1, auctioneer=Overcharging)
    table.play(0, BIDS)
    original = table.auditor.verdict

    def lazy(epoch: int) -> tuple[bytes, list[Any]]:
        data, _ = original(epoch)
        body = m.Statement.decode(data).body
        nothing = msgspec.structs.replace(body, result="holds", findings=[], findings_count=0)
        return m.sign_statement(nothing, table.secrets.auditor()), []

    table.auditor.verdict = lazy  # type: ignore[method-assign]
    table.end()
    again = table.read_again()
    rechecked, _ = recheck(again, [0], table.engine)
    assert rules_of(check_verdicts(again, rechecked), "auditor") == {"7.9"}


def test_missing_rounds_convict_once_their_deadline_has_passed(second_price: CheckedArtifact) -> None:  # A15
    table = Table(second_price, rounds=2)
    table.play(0, BIDS)
    assert table.session.overdue()[0] == []
    assert table.session.overdue()[1]
    table.auctioneer.publish(table.bidders[0].presence(1))
    table.cosign(table.session.deadline(1, "outcome") + 1)
    assert rules_of(table.session.overdue()[0]) >= {"6.5"}


def test_what_is_left_out_of_an_epochs_end_convicts_once_it_is_late(second_price: CheckedArtifact) -> None:  # spec 6.6
    table = Table(second_price, rounds=1)
    session, auctioneer = table.session, table.auctioneer
    table.play(0, BIDS)
    assert session.overdue() == ([], ["root of epoch 0 is not there yet", "verdict on epoch 0 is not there yet"])
    table.cosign(session.epoch_deadline(0, "root") - 1, again=True)
    at = session.epoch_deadline(0, "contribution")
    fresh = table.read_again()
    fresh.add_cosigned([Cosigned(auctioneer.log.tree.size, auctioneer.log.tree.root().hex(), at)])
    assert fresh.overdue()[0] == []  # on time to the second
    fresh.add_cosigned([Cosigned(auctioneer.log.tree.size, auctioneer.log.tree.root().hex(), at + 1)])
    assert [(finding.rule, finding.round) for finding in fresh.overdue()[0]] == [("6.6", -1)]
    auctioneer.fix_epoch_root(0)
    table.cosign(at - 1)
    table.cosign(at + 1, again=True)
    assert rules_of(session.overdue()[0]) == {"5.6"}  # its contribution is missing


def test_registration_rules(second_price: CheckedArtifact) -> None:  # spec 5.1, 6.3, 9.9
    table = Table(second_price, rounds=1, bidders=2)
    before = len(table.session.findings)
    third = table.bidders[0].__class__(table.secrets.bidder(2, "late"), table.session)
    with pytest.raises(RefusedError, match="after registration closed"):
        table.auctioneer.receive(third.registration(), 0)
    assert len(table.session.findings) == before
    entries = table.auctioneer.log.entries
    session = Session(entries[0])
    assert session.apply(1, entries[1])
    assert not session.apply(2, entries[1])
    assert rules_of(session.findings) == {"5.1"}
    poor = msgspec.structs.replace(m.Statement.decode(third.registration()).body, deposit=0)
    assert not session.apply(3, m.sign_statement(poor, table.secrets.bidder(2, "late").signing()))
    assert "9.9" in rules_of(session.findings)


def test_a_contribution_to_an_epoch_before_the_first_changes_no_key(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    key = table.session.seal_key(0)
    for epoch in (-1, 1):
        table.log_own(
            m.Contribution(
                session=table.session.id,
                epoch=epoch,
                party=table.session.auctioneer.party,
                link="00" * 32,
                seal_key="11" * 32,
            )
        )
    assert table.session.seal_key(0) == key
    assert rules_of(table.session.findings, "log") == {"5.2"}


def test_a_refused_statement_leaves_the_counts_as_they_were(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    before = dict(table.session.counts)
    late = statement_of(table, table.bidders[0].registration(), deposit=10**9)
    for bad in (statement_of(table, table.bidders[0].presence(0), round=9), late):
        with pytest.raises(RefusedError):
            table.auctioneer.receive(bad, 0)
    assert +table.session.counts == +type(table.session.counts)(before)


def test_every_message_has_one_encoding(second_price: CheckedArtifact) -> None:
    """Round trip of every kind of entry; every key doubled, dropped, added or reordered is refused (hardening 1.4)."""
    import json

    table = Table(second_price, rounds=1)
    table.play(0, BIDS, silent=[2])
    table.end()
    with_rest = Table(second_price, rounds=1, auctioneer=Overcharging)
    with_rest.play(0, BIDS)
    with_rest.end()
    seen = set()
    samples = [*table.auctioneer.log.entries, *with_rest.auctioneer.log.entries, *sample_statements(table)]
    for entry in samples:
        statement = m.Statement.decode(entry)
        if statement.name in seen:
            continue
        seen.add(statement.name)
        assert m.encode_statement(statement.body, statement.signatures) == entry
        body = json.loads(entry)["body"]
        assert list(body) == sorted(body)
        for key in body:
            token = f'"{key}":'.encode()
            twice = entry.replace(token, token + b"0," + token, 1)
            optional = key in (
                "seats",
                "coms",
                "seal_key",
                "ct",
                "ct_key",
            )  # left out where they do not apply
            dropped = body if optional else {name: value for name, value in body.items() if name != key}
            for bad in (twice, wrap(entry, dropped), wrap(entry, dict(reversed(body.items())))):
                if bad != entry:
                    with pytest.raises(MalformedError):
                        m.Statement.decode(bad)
        with pytest.raises(MalformedError):
            m.Statement.decode(wrap(entry, {**body, "zzz": 1}))
    assert seen == set(m.LOGGED)


def sample_statements(table: Table) -> list[bytes]:
    """One of each kind that a plain session does not log."""
    key, session, zero = table.secrets.arbiter(), table.session.id, "00" * 32
    bodies: list[Any] = [
        m.Context(session=session, round=0, values=[1], label="x"),
        m.SealedResponse(session=session, epoch=0, round=0, auditor=zero, content=zero, ct="00"),
        m.Escalation(session=session, epoch=0, rounds=[0]),
        m.Canary(session=session, round=0, nonce=zero),
        m.Beacon(session=session, beacon_round=1, signature="00"),
        m.Rotation(session=session, old=zero, new="x"),
        m.Revocation(session=session, key=zero, from_index=1),
    ]
    return [*(m.sign_statement(body, key) for body in bodies), table.bidders[0].complaint(0)]


def wrap(entry: bytes, body: dict[str, Any]) -> bytes:
    import json

    whole = json.loads(entry)
    return json.dumps({**whole, "body": body}, separators=(",", ":"), ensure_ascii=False).encode()


def test_foreign_and_unsigned_entries_are_the_logs_fault(second_price: CheckedArtifact) -> None:  # spec 2.6, 8.5
    table = Table(second_price, rounds=1)
    other = Table(second_price, rounds=1, seed=6)
    session, size = table.session, table.auctioneer.log.tree.size
    for entry, rule in (
        (b"junk", "2.6"),
        (other.auctioneer.log.entries[1], "8.5"),
        (table.auctioneer.receive(table.bidders[0].presence(0), 0), "3"),  # a receipt is no entry
        (table.auctioneer.log.entries[0], "3"),
    ):
        session.findings.clear()
        assert not session.apply(size, entry)
        assert rules_of(session.findings, "log") == {rule}


def test_the_manifest_is_checked_field_by_field(second_price: CheckedArtifact) -> None:
    table = Table(second_price, rounds=1)
    manifest = table.manifest
    cases: list[dict[str, Any]] = [
        {"format": "x"}, {"profile": "P2"}, {"valuation": "other"}, {"auditor_seals": ["00" * 32]},
        {"faulty_mailboxes": 1}, {"beacon": "mine"}, {"beacon": "quicknet"}, {"beacon_delay": 3},
        {"disclosure": "auditor"}, {"mailbox_margin": 200},
        {"share_bits": 33}, {"rounds": 0}, {"epoch_rounds": 2}, {"items": []},
        {"draw": "bvn"}, {"draw": "recorded"}, {"preset": "record"},
        {"preset": "mine"}, {"charge": "none"}, {"auditors": []}, {"support_rule": "ignore"}, {"period": 0},
        {"money": msgspec.structs.replace(manifest.money, deposit=manifest.money.penalty - 1)},  # A38
        {"grid": msgspec.structs.replace(manifest.grid, minimum=5, maximum=4)},
        {"audit": msgspec.structs.replace(manifest.audit, k=2)},
        {"offsets": msgspec.structs.replace(manifest.offsets, close=manifest.offsets.opening)},
    ]  # fmt: skip
    for changes in cases:
        fields = {**msgspec.structs.asdict(manifest), **changes}
        with pytest.raises(ValueError, match="manifest"):
            Manifest(**fields)
    twice = msgspec.structs.replace(manifest, arbiter=manifest.auctioneer)
    with pytest.raises(MalformedError, match="two roles"):
        Session(m.sign_statement(twice, table.secrets.auctioneer().signing()))
    with pytest.raises(SignatureError):
        Session(m.sign_statement(manifest, table.secrets.arbiter()))
    header = table.engine.artifact.header
    assert check_artifact(table.session, header) == []
    smaller = msgspec.structs.replace(header, bidders=2, bid_max=999, share_bits=7)
    assert len(check_artifact(table.session, smaller)) == 3
    other_unit = msgspec.structs.replace(header, unit="1000000 JPY")
    (finding,) = check_artifact(table.session, other_unit)
    assert "unit" in finding.text
