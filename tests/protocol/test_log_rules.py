"""Every entry that a party could bend, bent: an honest log up to a place, one false statement, the rule that it breaks.

Each case is a mutation of a message that an honest session holds; the unbent session passes (spec 3 to 9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from credible.simulation.attacks.auctioneers import Overcharging
from credible.simulation.scenario import RoundPlan
from protocol import messages as m
from protocol.artifact import build
from protocol.artifact.static import CheckedArtifact
from protocol.auditor import Auditor
from protocol.encoding import Message, hash_of
from protocol.evidence import Judge
from protocol.keys import COSIGNATURE, SigningKey
from protocol.randomness.tickets import by_ticket
from protocol.session import Session
from protocol.state import Cosigned
from tests.harness import Table

LOW_ORDER = "01" + "00" * 31
ZERO = "00" * 32
Changes = dict[str, Any] | Callable[["Log", Any], dict[str, Any]]


class Log:
    """A session's log, from which prefixes are read again."""

    def __init__(self, table: Table) -> None:
        self.table, self.secrets = table, table.secrets
        self.entries = list(table.auctioneer.log.entries)
        self.statements = [m.Statement.decode(entry) for entry in self.entries]

    def prefix(self, size: int) -> Session:
        """Return a newcomer's session after the first `size` entries, with the checkpoints of those sizes."""
        session = Session(self.entries[0])
        session.add_cosigned([item for item in self.table.session._cosigned if item.size <= size])
        for index in range(1, size):
            session.apply(index, self.entries[index])
        assert session.findings == [], session.findings
        return session

    def place(self, kind: type[Message], number: int = 0) -> int:
        """Return the index of the n-th entry of a kind."""
        places = [index for index, item in enumerate(self.statements) if isinstance(item.body, kind)]
        return places[number]

    def signer(self, name: str) -> SigningKey:
        """Return a role's key by a short name."""
        role, _, number = name.partition("-")
        secrets, seat = self.secrets, int(number or 0)
        keys: dict[str, Callable[[], SigningKey]] = {
            "auctioneer": lambda: secrets.auctioneer().signing(),
            "auditor": lambda: secrets.auditor(seat),
            "arbiter": secrets.arbiter,
            "registrar": secrets.registrar,
            "bidder": lambda: secrets.bidder(seat, f"bidder-{seat}").signing(),
            "stranger": lambda: SigningKey("stranger", bytes([9]) * 32),
            "cosigner": lambda: SigningKey("cosigner", bytes([8]) * 32, COSIGNATURE),
        }
        return keys[role]()

    def owner(self, index: int) -> SigningKey:
        """Return the key that signed an entry."""
        names = ("auctioneer", "auditor-0", "auditor-1", "arbiter", "bidder-0", "bidder-1", "bidder-2")
        wanted = self.statements[index].signer
        return next(key for key in map(self.signer, names) if key.party == wanted)


def played(artifact: CheckedArtifact, **rules: Any) -> Log:
    context = rules.pop("values", [])
    table = Table(artifact, **rules)
    manifest = table.manifest
    items = len(manifest.items)
    for index in range(manifest.rounds):
        bids = {seat: [3 + seat + index] * items for seat in range(len(table.bidders))}
        table.play_round(index, RoundPlan(bids, context=context))
        if index == manifest.rounds_of(manifest.epoch_of(index))[-1]:
            table.end_epoch(manifest.epoch_of(index))
            if table.session.halted_epoch is not None:
                break
    return Log(table)


@pytest.fixture(scope="module")
def artifact() -> CheckedArtifact:
    return build.single_item_reserve([0, 2], bidders=3, bid_max=1000, share_bits=8, unit="1")


@pytest.fixture(scope="module")
def logs(artifact: CheckedArtifact) -> dict[str, Log]:
    two_epochs: dict[str, Any] = {"preset": "prompt", "rounds": 2, "epoch": 1, "lag": 1, "q": Fraction(1)}
    priced = build.first_price(bidders=2, bid_max=50, share_bits=8, unit="1", procurement=True)
    return {
        "plain": played(artifact, bidders=2, **two_epochs),
        "full": played(artifact, rounds=1),
        "sealed": played(artifact, rounds=2, bidders=2, k=1, disclosure="auditor", auditors=2),
        "asked": played(artifact, rounds=3, bidders=2, k=1, escalation=1, canaries=[1], registrar=True),
        "guilty": played(artifact, rounds=2, k=1, bidders=2, auditors=2, auctioneer=Overcharging),
        "context": played(priced, rounds=1, values=[40, 0]),
        "early": played(artifact, rounds=1, bidders=2, profile="P0"),
    }


@dataclass(frozen=True)
class Case:
    """One bent statement.

    Attributes:
        name: What is bent.
        kind: Message that is bent.
        changes: Fields of the honest message that are replaced, or a function of the log and that message.
        expected: Rule and party of the finding; None if the statement is void of effect and breaks no rule.
        log: Which session.
        number: Which message of its kind.
        fresh: Whether the honest log holds none of the kind, so that one is made up.
        again: Whether it comes right after the honest one, instead of in its place.
        before: A message in whose place it comes.
        after: A message right after which it comes.
        nth: Which message of that kind.
        signer: Who signs; else who signed the honest one.
        late: A deadline, of its round or epoch, that a checkpoint proves passed before it comes.
    """

    name: str
    kind: type[Message]
    changes: Changes
    expected: tuple[str, str] | None
    log: str = "plain"
    number: int = 0
    fresh: bool = False
    again: bool = False
    before: type[Message] | None = None
    after: type[Message] | None = None
    nth: int = 0
    signer: str = ""
    late: str = ""


def close_changes(count: int) -> Changes:
    return lambda log, body: {"coms_count": len(body.coms) + count}


def new_bidder(log: Log, body: m.Registration, key: SigningKey | None = None) -> dict[str, Any]:
    key = key or log.signer("bidder-2")
    return {"vkey": str(key.verifier), "lottery_head": "ab" * 32, "audit_head": "cd" * 32}


def first_registration(log: Log) -> m.Registration:
    body = log.statements[log.place(m.Registration)].body
    assert isinstance(body, m.Registration)
    return body


AUCTIONEER, LOG, AUDITOR, ARBITER = "auctioneer", "log", "auditor", "arbiter"
CASES = [
    # registration (6.2, 6.3, 5.1, 9.9, 2.10)
    Case("a key that is none", m.Registration, {"vkey": "x+y+z"}, ("6.2", LOG)),
    Case("a seal key of low order", m.Registration, {"seal_key": LOW_ORDER}, ("6.2", LOG)),
    Case("a lottery head that is no hash", m.Registration, {"lottery_head": "ab"}, ("6.2", LOG)),
    Case("another's signature", m.Registration, {}, ("6.2", LOG), signer="stranger"),
    Case("registration after the close", m.Registration, new_bidder, ("6.3", AUCTIONEER),
         after=m.RegistrationClose, signer="bidder-2"),
    Case("a witness's key", m.Registration, lambda log, body: new_bidder(log, body, log.signer("cosigner")),
         ("2.10", LOG), signer="cosigner"),
    Case("registered twice", m.Registration, {}, ("5.1", AUCTIONEER), again=True),
    Case("one head for both chains", m.Registration, lambda log, body: {"audit_head": body.lottery_head},
         ("5.1", AUCTIONEER)),
    Case("the auctioneer's head", m.Registration, lambda log, body: {"audit_head": log.table.manifest.audit_head},
         ("5.1", AUCTIONEER)),
    Case("a rival's head", m.Registration, lambda log, body: {
        **new_bidder(log, body), "lottery_head": first_registration(log).lottery_head},
         ("5.1", AUCTIONEER), again=True, signer="bidder-2"),
    Case("too small a deposit", m.Registration, lambda log, body: {
        "deposit": log.table.manifest.money.bidder_deposit - 1}, ("9.9", AUCTIONEER)),
    Case("a role's key", m.Registration, lambda log, body: new_bidder(log, body, log.signer("auditor")),
         ("2.10", AUCTIONEER), signer="auditor"),
    Case("more bidders than seats", m.Registration, lambda log, body: new_bidder(log, body, log.signer("stranger")),
         ("6.3", AUCTIONEER), log="full", before=m.RegistrationClose, signer="stranger"),
    # registration close (6.3)
    Case("closed by a stranger", m.RegistrationClose, {}, ("2.6", LOG), signer="stranger"),
    Case("closed twice", m.RegistrationClose, {}, ("6.3", AUCTIONEER), again=True),
    Case("seats in another order", m.RegistrationClose, lambda log, body: {"seats": body.seats[::-1]},
         ("6.3", AUCTIONEER)),
    Case("another number of seats", m.RegistrationClose, lambda log, body: {"seats_count": body.seats_count + 1},
         ("6.3", AUCTIONEER)),
    Case("another root of seats", m.RegistrationClose, {"seats_root": ZERO}, ("6.3", AUCTIONEER)),
    Case("another root at the close of registration", m.RegistrationClose, {"root": ZERO}, ("6.3", AUCTIONEER)),
    # context (6.4)
    Case("context twice", m.Context, {}, ("6.4", AUCTIONEER), log="context", again=True),
    Case("context after a bid", m.Context, {}, ("6.4", AUCTIONEER), log="context", after=m.Bid),
    Case("context of another length", m.Context, {"values": [1]}, ("6.4", AUCTIONEER), log="context"),
    Case("context below the grid", m.Context, {"values": [-1, 0]}, ("6.4", AUCTIONEER), log="context"),
    Case("context above the grid", m.Context, {"values": [51, 0]}, ("6.4", AUCTIONEER), log="context"),
    Case("context by a stranger", m.Context, {}, ("2.6", LOG), log="context", signer="stranger"),
    Case("a round closed without its context", m.Close, {}, ("6.4", AUCTIONEER), log="context", before=m.Context),
    # presence and bids (3.5, 3.8, 3.13)
    Case("presence before the context", m.Presence, {}, None, log="context", before=m.Context),
    Case("presence after the own bid", m.Presence, {"present": False}, None, after=m.Bid),
    Case("presence twice", m.Presence, {"present": False}, None, again=True),
    Case("presence after the close", m.Presence, {"present": False}, None, after=m.Close),
    Case("presence by a stranger", m.Presence, {}, ("2.6", LOG), signer="stranger"),
    Case("presence of nobody registered", m.Presence, {"bidder": ZERO}, ("6.3", LOG)),
    Case("presence in a later round", m.Presence, {"round": 1}, ("6.6", LOG)),
    Case("presence in a round below the first", m.Presence, {"round": -1}, ("6.4", LOG)),
    Case("presence in a round past the last", m.Presence, {"round": 2}, ("6.4", LOG)),
    Case("presence before registration is closed", m.Presence, {}, ("6.4", LOG), before=m.RegistrationClose),
    Case("a commitment that is no hash", m.Bid, {"com": "ab"}, None),
    Case("a bid with an opening, under P1", m.Bid, {"ct": "ab", "ct_key": "cd", "link": "ef"}, None),
    Case("a bid without its opening, under P0", m.Bid, {"link": msgspec.UNSET}, None, log="early"),
    Case("a bid sealed to another key, under P0", m.Bid, {"ct_key": ZERO}, None, log="early"),
    Case("a bid with a false link, under P0", m.Bid, {"link": ZERO}, None, log="early"),
    Case("a second bid", m.Bid, lambda log, body: {"seq": body.seq + 1, "com": ZERO}, None, again=True),
    Case("a bid after the close", m.Bid, {}, None, after=m.Close),
    Case("a bid with an old seq", m.Bid, lambda log, body: {"seq": 0}, None, number=2),
    Case("a bid that follows another", m.Bid, {"prev": "11" * 32}, None),
    Case("a bid by a stranger", m.Bid, {}, ("2.6", LOG), signer="stranger"),
    # close and openings (3.8, 3.10, 2.5)
    Case("closed by a stranger", m.Close, {}, ("2.6", LOG), signer="stranger"),
    Case("closed twice", m.Close, {}, ("3.8", AUCTIONEER), again=True),
    Case("a bid more than logged", m.Close, close_changes(1), ("3.8", AUCTIONEER)),
    Case("a bid fewer than logged", m.Close, close_changes(-1), ("3.8", AUCTIONEER)),
    Case("a list with a foreign bid", m.Close, lambda log, body: {"coms": [ZERO, *body.coms[1:]]},
         ("3.8", AUCTIONEER)),
    Case("another root of bids", m.Close, {"coms_root": ZERO}, ("3.8", AUCTIONEER)),
    Case("a list left out", m.Close, {"coms": msgspec.UNSET}, ("2.5", AUCTIONEER)),
    Case("another root at the close", m.Close, {"root": ZERO}, ("3.8", AUCTIONEER)),
    Case("a size larger than at the deadline", m.Close, lambda log, body: {"size": body.size + 1}, None),
    Case("an opening of nothing", m.OpeningStatement, {"com": ZERO}, None),
    Case("an opening before the close", m.OpeningStatement, {}, None, before=m.Close),
    Case("an opening twice", m.OpeningStatement, {}, None, again=True),
    Case("an opening sealed to another key", m.OpeningStatement, {"ct_key": ZERO}, None),
    Case("an opening that is no hex", m.OpeningStatement, {"ct": "xy"}, None),
    Case("an opening with a false link", m.OpeningStatement, {"link": ZERO}, None),
    Case("an opening with a link that is no hash", m.OpeningStatement, {"link": "ab"}, None),
    Case("an opening by a stranger", m.OpeningStatement, {}, ("2.6", LOG), signer="stranger"),
    # outcome (3.10, 3.13, 3.17, 2.14, 5.7, 6.4)
    Case("outcome by a stranger", m.Outcome, {}, ("2.6", LOG), signer="stranger"),
    Case("outcome twice", m.Outcome, {}, ("6.4", AUCTIONEER), again=True),
    Case("outcome before the close", m.Outcome, {}, ("6.4", AUCTIONEER), before=m.Close),
    Case("another mask", m.Outcome, {"mask": "80"}, ("3.13", AUCTIONEER)),
    Case("a row fewer", m.Outcome, lambda log, body: {"rows": body.rows[1:]}, ("3.17", AUCTIONEER)),
    Case("another mechanism", m.Outcome, {"mech": ZERO}, ("2.14", AUCTIONEER)),
    Case("another close", m.Outcome, {"close": ZERO}, ("3.17", AUCTIONEER)),
    Case("a row that is no hash", m.Outcome, lambda log, body: {"rows": ["ab", *body.rows[1:]]}, ("5.7", AUCTIONEER)),
    Case("a matrix that is no hash", m.Outcome, {"matrix": "ab"}, ("5.7", AUCTIONEER)),
    Case("a false link of the auctioneer", m.Outcome, {"link": ZERO}, ("5.7", AUCTIONEER)),
    Case("another root of openings", m.Outcome, {"root": ZERO}, ("3.10", AUCTIONEER)),
    Case("openings cut off earlier", m.Outcome, lambda log, body: {
        "size": log.place(m.OpeningStatement, 1)}, ("3.10", AUCTIONEER)),
    Case("an opening after its deadline", m.OpeningStatement, {}, None, late="opening"),
    Case("a void by a stranger", m.Void, lambda log, body: {}, ("2.6", LOG), fresh=True, before=m.Outcome,
         signer="stranger"),
    Case("a void after the outcome", m.Void, lambda log, body: {}, ("3.10", AUCTIONEER), fresh=True, after=m.Outcome,
         signer="auctioneer"),
    Case("a void for no reason", m.Void, lambda log, body: {"reason": "whim"}, ("3.10", AUCTIONEER), fresh=True,
         before=m.Outcome, signer="auctioneer"),
    Case("a void of no bid", m.Void, lambda log, body: {"bidder": ZERO}, ("3.10", AUCTIONEER), fresh=True,
         before=m.Outcome, signer="auctioneer"),
    Case("a void before the close", m.Void, lambda log, body: {}, ("3.10", AUCTIONEER), fresh=True,
         before=m.Close, signer="auctioneer"),
    Case("a complaint by a stranger", m.Complaint, lambda log, body: {}, ("2.6", LOG), fresh=True, after=m.Outcome,
         signer="stranger"),
    Case("a complaint after its deadline", m.Complaint, lambda log, body: {}, None, fresh=True, after=m.Outcome,
         signer="bidder-0", late="complaint"),
    # epoch root and contributions (6.6, 5.2, 5.6)
    Case("root of an epoch past the last", m.EpochRoot, {"epoch": 2}, ("6.6", LOG)),
    Case("root of an epoch below the first", m.EpochRoot, {"epoch": -1}, ("6.6", LOG)),
    Case("root by a stranger", m.EpochRoot, {}, ("2.6", LOG), signer="stranger"),
    Case("a second root", m.EpochRoot, {}, ("6.6", AUCTIONEER), again=True),
    Case("another root of the epoch", m.EpochRoot, {"root": ZERO}, ("6.6", AUCTIONEER)),
    Case("a root before the outcome", m.EpochRoot, {}, ("6.6", AUCTIONEER), before=m.Outcome),
    Case("close of contributions of another epoch", m.ContributionClose, {"epoch": 2}, ("5.2", LOG)),
    Case("close of contributions by a stranger", m.ContributionClose, {}, ("2.6", LOG), signer="stranger"),
    Case("close of contributions before the root", m.ContributionClose, {}, ("5.2", AUCTIONEER), before=m.EpochRoot),
    Case("contributions closed twice", m.ContributionClose, {}, ("5.2", AUCTIONEER), again=True),
    Case("closed without the auctioneer's own", m.ContributionClose, {}, ("5.6", AUCTIONEER), before=m.Contribution),
    Case("another root of contributions", m.ContributionClose, {"root": ZERO}, ("5.2", AUCTIONEER)),
    Case("contribution to no epoch", m.Contribution, {"epoch": 7}, ("5.2", LOG)),
    Case("contribution of nobody", m.Contribution, {"party": ZERO}, ("5.2", LOG)),
    Case("contribution by a stranger", m.Contribution, {}, ("2.6", LOG), signer="stranger"),
    Case("contribution before the root", m.Contribution, {}, ("5.6", AUCTIONEER), before=m.EpochRoot),
    Case("contribution twice", m.Contribution, {}, ("5.6", AUCTIONEER), again=True),
    Case("no key for the next epoch", m.Contribution, {"seal_key": msgspec.UNSET}, ("5.6", AUCTIONEER)),
    Case("a key of low order for the next epoch", m.Contribution, {"seal_key": LOW_ORDER}, ("5.6", AUCTIONEER)),
    Case("a false contribution", m.Contribution, {"link": ZERO}, ("5.6", AUCTIONEER)),
    Case("a bidder's false contribution", m.Contribution, {"link": ZERO}, None, number=1),
    Case("a bidder's contribution twice", m.Contribution, {}, None, number=1, again=True),
    # challenge and responses (6.6, 7.1, 7.2, 7.4, 7.7)
    Case("challenge of no epoch", m.Challenge, {"epoch": 7}, ("7.1", AUDITOR)),
    Case("challenge by no auditor", m.Challenge, {}, ("7.9", LOG), signer="stranger"),
    Case("challenge under another root", m.Challenge, {"root": ZERO}, ("6.6", AUDITOR)),
    Case("challenge under another size", m.Challenge, lambda log, body: {"size": body.size - 1}, ("6.6", AUDITOR)),
    Case("challenge of undrawn rounds", m.Challenge, {"rounds": []}, ("7.2", AUDITOR)),
    Case("challenge before the draw", m.Challenge, {}, ("6.6", AUDITOR), before=m.EpochRoot),
    Case("response under another epoch", m.Response, {"epoch": 1}, ("8.5", AUCTIONEER)),
    Case("a second response", m.Response, {}, ("6.6", AUCTIONEER), again=True),
    Case("response after its deadline", m.Response, {}, ("6.6", AUCTIONEER), late="response"),
    Case("response in clear where it is sealed", m.Response, lambda log, body: {}, ("7.7", AUCTIONEER), log="sealed",
         fresh=True, before=m.SealedResponse, signer="auctioneer"),
    Case("sealed response after its deadline", m.SealedResponse, {}, ("6.6", AUCTIONEER), log="sealed",
         late="response"),
    Case("response by a stranger", m.Response, {}, ("2.6", LOG), signer="stranger"),
    Case("a sealed response in a public session", m.SealedResponse, lambda log, body: {}, ("7.7", AUCTIONEER),
         after=m.Challenge, fresh=True, signer="auctioneer"),
    Case("sealed under another epoch", m.SealedResponse, {"epoch": 1}, ("8.5", AUCTIONEER), log="sealed"),
    Case("sealed to nobody", m.SealedResponse, {"auditor": ZERO}, ("7.7", AUCTIONEER), log="sealed"),
    Case("sealed twice to one", m.SealedResponse, {}, ("6.6", AUCTIONEER), log="sealed", again=True),
    Case("sealed without a digest", m.SealedResponse, {"content": "ab"}, ("7.7", AUCTIONEER), log="sealed"),
    Case("sealed text that is no hex", m.SealedResponse, {"ct": "xy"}, ("7.7", AUCTIONEER), log="sealed"),
    Case("two auditors get different responses", m.SealedResponse, {"content": ZERO}, ("7.7", AUCTIONEER),
         log="sealed", number=1),
    Case("sealed response by a stranger", m.SealedResponse, {}, ("2.6", LOG), log="sealed", signer="stranger"),
    # verdicts, assessment, settlement (7.4, 7.8, 7.9, 6.6, 9.2, 9.14)
    Case("a verdict before the responses", m.VerdictStatement, {}, ("7.4", AUDITOR), before=m.Response),
    Case("a verdict by nobody", m.VerdictStatement, {}, ("7.9", LOG), signer="arbiter"),
    Case("a second verdict", m.VerdictStatement, {"result": "deviation"}, None, again=True),
    Case("a verdict after the settlement", m.VerdictStatement, {"result": "deviation"}, None, after=m.Settlement),
    Case("settled by a stranger", m.Settlement, {}, ("2.6", LOG), signer="stranger"),
    Case("settled before a verdict", m.Settlement, {}, ("9.14", ARBITER), before=m.VerdictStatement),
    Case("settled twice", m.Settlement, {}, ("9.14", ARBITER), again=True),
    Case("an epoch of nothing settled", m.Settlement, {"epoch": 5}, ("9.14", ARBITER)),
    Case("another verdict settled", m.Settlement, {"verdict": ZERO}, ("9.14", ARBITER)),
    Case("other amounts", m.Settlement, {"amounts": [m.Amount(account="x", amount=1)]}, ("9.14", ARBITER)),
    Case("settled before both auditors spoke", m.Settlement, {}, ("7.9", ARBITER), log="sealed",
         after=m.VerdictStatement),
    Case("assessment without a deviation", m.Assessment, lambda log, body: {}, ("6.6", AUDITOR), log="plain",
         before=m.Settlement, fresh=True, signer="auditor-0"),
    Case("assessment by no auditor", m.Assessment, {}, ("7.9", LOG), log="guilty", signer="stranger"),
    Case("assessment before the epoch is open", m.Assessment, {}, ("7.8", AUDITOR), log="guilty",
         after=m.VerdictStatement, nth=1),
    Case("assessment that calls open rounds withheld", m.Assessment, {"withheld": [0]}, ("7.8", AUDITOR),
         log="guilty"),
    Case("gains returned that stay", m.Assessment, lambda log, body: {
        "returns": [m.Amount(account=log.table.session.seats[0], amount=1)]}, ("9.2", AUDITOR), log="guilty"),
    Case("a second assessment", m.Assessment, {"rounds": []}, None, log="guilty", again=True),
    Case("halt before the assessment", m.Halt, {}, ("6.6", ARBITER), log="guilty", before=m.Assessment),
    Case("settled after a deviation with rounds that are not open", m.Settlement, lambda log, body: {},
         ("6.6", ARBITER), log="guilty", fresh=True, after=m.VerdictStatement, nth=1, signer="arbiter"),
    # escalation and canaries (7.8, 7.9)
    Case("escalation after the response deadline", m.Escalation, lambda log, body: {}, ("7.8", AUDITOR), log="asked",
         fresh=True, after=m.Challenge, signer="auditor-0", late="response"),
    Case("escalation by no auditor", m.Escalation, lambda log, body: {}, ("7.9", LOG), log="asked", fresh=True,
         after=m.Challenge, signer="stranger"),
    Case("escalation before the draw", m.Escalation, lambda log, body: {}, ("7.8", AUDITOR), log="asked", fresh=True,
         before=m.ContributionClose, signer="auditor-0"),
    Case("escalation after the verdict", m.Escalation, lambda log, body: {}, ("7.8", AUDITOR), log="asked",
         fresh=True, after=m.VerdictStatement, signer="auditor-0"),
    Case("escalation to all rounds", m.Escalation, lambda log, body: {"rounds": ordered(log)}, ("7.8", AUDITOR),
         log="asked", fresh=True, after=m.Challenge, signer="auditor-0"),
    Case("escalation to other rounds", m.Escalation, lambda log, body: {"rounds": ordered(log)[1:]},
         ("7.8", AUDITOR), log="asked", fresh=True, after=m.Challenge, signer="auditor-0"),
    Case("escalation to what is drawn", m.Escalation, lambda log, body: {"rounds": ordered(log)[:1]},
         ("7.8", AUDITOR), log="asked", fresh=True, after=m.Challenge, signer="auditor-0"),
    Case("a canary by nobody", m.Canary, {}, ("2.6", ARBITER), log="asked", signer="stranger"),
    Case("a canary past the last round", m.Canary, {"round": 3}, ("7.9", ARBITER), log="asked"),
    Case("a canary below the first round", m.Canary, {"round": -1}, ("7.9", ARBITER), log="asked"),
    Case("a canary twice", m.Canary, {}, ("7.9", ARBITER), log="asked", again=True),
    Case("a canary without a nonce", m.Canary, {"nonce": "ab"}, ("7.9", ARBITER), log="asked"),
    Case("another round's canary", m.Canary, {"round": 0}, ("7.9", ARBITER), log="asked"),
    # keys and beacons (2.10, 5.3)
    Case("a rotation to no key", m.Rotation, lambda log, body: {"new": "x"}, ("2.10", LOG), log="asked", fresh=True,
         after=m.RegistrationClose, signer="auctioneer"),
    Case("a rotation to a role's key", m.Rotation, lambda log, body: {
        "new": str(log.signer("auditor").verifier)}, ("2.10", LOG), log="asked", fresh=True,
         after=m.RegistrationClose, signer="auctioneer"),
    Case("a rotation to a witness's key", m.Rotation, lambda log, body: {
        "new": str(log.signer("cosigner").verifier)}, ("2.10", LOG), log="asked", fresh=True,
         after=m.RegistrationClose, signer="auctioneer"),
    Case("a rotation of nobody's key", m.Rotation, lambda log, body: {"old": ZERO}, ("2.10", LOG), log="asked",
         fresh=True, after=m.RegistrationClose, signer="auctioneer"),
    Case("a rotation by a third party", m.Rotation, lambda log, body: {}, ("2.10", LOG), log="asked", fresh=True,
         after=m.RegistrationClose, signer="arbiter"),
    Case("a revocation of the past", m.Revocation, lambda log, body: {"from_index": 1}, ("2.10", LOG), log="asked",
         fresh=True, after=m.RegistrationClose, signer="registrar"),
    Case("a revocation of nobody's key", m.Revocation, lambda log, body: {"key": ZERO}, ("2.10", LOG), log="asked",
         fresh=True, after=m.RegistrationClose, signer="registrar"),
    Case("a revocation by a third party", m.Revocation, lambda log, body: {}, ("2.10", LOG), log="asked", fresh=True,
         after=m.RegistrationClose, signer="arbiter"),
    Case("a beacon in a session without one", m.Beacon, lambda log, body: {}, ("5.3", LOG), fresh=True,
         after=m.RegistrationClose, signer="arbiter"),
    # what does not belong into this log (2.6, 8.5, 3)
    Case("an entry of another session", m.Presence, {"session": ZERO}, ("8.5", LOG)),
    Case("a receipt in the log", m.Receipt, lambda log, body: {}, ("3", LOG), fresh=True, after=m.RegistrationClose,
         signer="auctioneer"),
]  # fmt: skip


def ordered(log: Log) -> list[int]:
    seed = log.table.session.seed(0)
    assert seed is not None
    return by_ticket(seed, log.table.manifest.rounds_of(0))


def fresh_body(log: Log, kind: type[Message]) -> Message:
    """Return a message of a kind that the honest log does not hold."""
    session, id_ = log.table.session, log.table.session.id
    own = log.signer("auctioneer")
    samples: dict[type[Message], Callable[[], Message]] = {
        m.Assessment: lambda: m.Assessment(session=id_, epoch=0, rounds=[], withheld=[], returns=[]),
        m.Escalation: lambda: m.Escalation(session=id_, epoch=0, rounds=ordered(log)[:2]),
        m.Rotation: lambda: m.Rotation(session=id_, old=own.party, new=str(log.signer("stranger").verifier)),
        m.Revocation: lambda: m.Revocation(session=id_, key=own.party, from_index=100),
        m.Beacon: lambda: m.Beacon(session=id_, beacon_round=1, signature="ab" * 48),
        m.SealedResponse: lambda: m.SealedResponse(
            session=id_, epoch=0, round=0, auditor=session.auditors[0].party, content=ZERO, ct="ab"
        ),
        m.Void: lambda: m.Void(session=id_, round=0, bidder=session.seats[0], reason=m.UNMATCHED),
        m.Complaint: lambda: m.Complaint(
            session=id_, round=0, bidder=session.seats[0], opening=log.table.auctioneer.disclose(0).openings[0]
        ),
        m.Response: lambda: log.table.auctioneer.disclose((session.drawn(0) or [0])[0]),
        m.Settlement: lambda: m.Settlement(
            session=id_,
            epoch=0,
            verdict=hash_of("verdict", log.statements[log.place(m.VerdictStatement)].body).hex(),
            amounts=[],
        ),
        m.Receipt: lambda: m.Receipt(
            session=id_, round=0, bidder=session.seats[0], statement=ZERO, received_at=0, appear_by=1
        ),
    }
    return samples[kind]()


def bend(log: Log, case: Case) -> tuple[int, bytes]:
    """Return where the bent statement comes, and its bytes."""
    if case.fresh:
        index, key = 0, log.signer(case.signer)
        body = fresh_body(log, case.kind)
    else:
        index = log.place(case.kind, case.number)
        body, key = log.statements[index].body, log.owner(index)
    if case.before is not None:
        index = log.place(case.before, case.nth)
    elif case.after is not None:
        index = log.place(case.after, case.nth) + 1
    else:
        index += case.again
    changes = case.changes(log, body) if callable(case.changes) else case.changes
    signer = log.signer(case.signer) if case.signer else key
    return index, m.sign_statement(msgspec.structs.replace(body, **changes), signer)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind.__name__}: {case.name}" for case in CASES])
def test_a_bent_statement_breaks_its_rule(logs: dict[str, Log], case: Case) -> None:
    log = logs[case.log]
    index, entry = bend(log, case)
    session = log.prefix(index)
    if case.late:
        body: Any = m.Statement.decode(entry).body
        of_epoch = hasattr(body, "epoch")
        deadline = (
            session.epoch_deadline(body.epoch, case.late) if of_epoch else session.deadline(body.round, case.late)
        )
        root = log.table.auctioneer.log.tree.root(index).hex()
        on_time = log.prefix(index)
        on_time.add_cosigned([Cosigned(index, root, deadline)])
        assert on_time.apply(index, entry)
        session.add_cosigned([Cosigned(index, root, deadline + 1)])
    counted = session.apply(index, entry)
    found = {(finding.rule, finding.party) for finding in session.findings}
    if case.expected is None:
        assert not found
        assert not counted or session.unproven
    else:
        assert case.expected in found


def test_the_unbent_logs_break_no_rule(logs: dict[str, Log]) -> None:
    for name, log in logs.items():
        session = log.prefix(len(log.entries))
        assert session.unproven == [], name
        assert session.counts["without effect"] == 0, name
        assert sum(session.counts.values()) == len(log.entries), name
        assert session.complete


def test_entries_that_come_after_their_epoch_is_forgotten_count_as_before(logs: dict[str, Log]) -> None:
    log = logs["plain"]
    late = [*log.entries[1:], *(bend(log, case)[1] for case in CASES if case.log == "plain")]
    kept, short = log.prefix(len(log.entries)), log.prefix(len(log.entries))
    assert not short.final(0, log.place(m.Settlement))  # its last deadlines have not passed
    assert short.final(0, len(log.entries))
    assert not short.final(1, len(log.entries))  # the log shows no later time
    with pytest.raises(ValueError, match="before epoch 0"):
        short.forget(1)
    short.forget(0)
    assert short.overdue() == kept.overdue() == ([], [])
    for index, entry in enumerate(late, len(log.entries)):
        assert short.apply(index, entry) == kept.apply(index, entry)
        assert short.findings == kept.findings, m.Statement.decode(entry).name
        assert short.counts == kept.counts
        assert short.unproven == kept.unproven
    assert len(kept.findings) > 50


@pytest.mark.parametrize(
    ("name", "final"),
    [("plain", True), ("full", True), ("context", True), ("early", True),
     ("sealed", False), ("asked", False), ("guilty", False)],
)  # fmt: skip
def test_only_what_cannot_come_up_again_is_final(logs: dict[str, Log], name: str, final: bool) -> None:
    log = logs[name]
    size = len(log.entries)
    session, early = log.prefix(size), log.prefix(size)
    manifest = session.manifest
    last = max(session.epoch_deadline(0, "whole"), session.deadline(manifest.rounds_of(0)[-1], "complaint"))
    root = log.table.auctioneer.log.tree.root(size).hex()
    if name != "plain":  # whose second epoch shows the time
        early.add_cosigned([Cosigned(size, root, last)])
        assert not early.final(0, size)
        session.add_cosigned([Cosigned(size, root, last + 1)])
        assert not session.final(0, size - 1)
    assert session.final(0, size) == final
    settled = next((i for i, s in enumerate(log.statements) if isinstance(s.body, m.Settlement | m.Halt)), size)
    before = log.prefix(settled)
    before.add_cosigned([Cosigned(settled, log.table.auctioneer.log.tree.root(settled).hex(), last + 1)])
    assert not before.final(0, settled)
    session.round(0).outcome = None  # whoever settles what was left out has not made it whole
    assert not session.final(0, size)


def test_what_dishonest_auditors_passed_is_found_while_the_log_is_read(artifact: CheckedArtifact) -> None:
    table = Table(artifact, rounds=3, epoch=1, lag=1, preset="prompt", q=Fraction(1), bidders=2, auditors=2,
                  auctioneer=Overcharging)  # fmt: skip

    def blind(auditor: Auditor, epoch: int) -> bytes:
        body = m.Statement.decode(auditor.verdict(epoch)[0]).body
        nothing = msgspec.structs.replace(body, result="holds", findings=[], findings_count=0)
        return m.sign_statement(nothing, table.secrets.auditor(table.auditors.index(auditor)))

    for epoch in range(3):
        table.play_round(epoch, RoundPlan({seat: [5 + seat] * 2 for seat in range(2)}))
        table.contribute(epoch)
        table.audit(epoch, blind)
        table.conclude(epoch)
    entries = table.auctioneer.log.entries
    session = Session(entries[0])
    session.add_cosigned(table.session._cosigned)
    judge = Judge(session, table.engine)
    for index, entry in enumerate(entries[1:], 1):
        session.apply(index, entry)
        if judge.ready(index + 1, 1):
            judge.advance()
    assert session.forgotten == 2
    shown = judge.conclude()
    assert {finding.round for finding in shown.findings if finding.rule == "7.5"} == {0, 1, 2}
    assert len([finding for finding in shown.findings if finding.party == "auditor"]) == 6
    assert shown == table.judge()
