"""What the log has said of a session: records, and what follows from them without judging anybody (spec 3, 5, 6)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from protocol import messages as m
from protocol.commitment import BidBody
from protocol.encoding import Message
from protocol.escrow import epoch_amounts
from protocol.keys import VerifierKey
from protocol.manifest import NONE, Manifest
from protocol.randomness.chains import ChainVerifier
from protocol.randomness.tickets import audit_seed, by_ticket, draw_fixed, draw_independent

NO_BID: Final = "00" * 32  # `prev` of a bidder's first bid
HOLDS: Final = "holds"
DEVIATION: Final = "deviation"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule, with the entries that prove it (spec 8.4).

    Attributes:
        rule: Number of the rule in docs/spec.md.
        round: Round, or -1 where none is concerned.
        party: "auctioneer", "auditor", "arbiter" or "log".
        text: What was got and what was wanted.
        entries: Log positions that prove it.
    """

    rule: str
    round: int
    party: str
    text: str
    entries: tuple[int, ...] = ()


@dataclass(slots=True)
class BidEntry:
    """A bidder's commitment of one round, as logged."""

    index: int
    seq: int
    com: str


@dataclass(slots=True)
class RoundState:
    """What the log says of one round; bidders by party id."""

    context: m.Context | None = None
    presence: dict[str, bool] = field(default_factory=dict)
    bids: dict[str, BidEntry] = field(default_factory=dict)
    close: m.Close | None = None
    close_index: int = -1
    openings: dict[str, tuple[int, m.OpeningStatement]] = field(default_factory=dict)
    voids: dict[str, str] = field(default_factory=dict)
    complaints: dict[str, m.OpenedBid] = field(default_factory=dict)
    outcome: m.Outcome | None = None
    outcome_index: int = -1
    response: m.Response | None = None
    response_index: int = -1
    sealed: dict[str, m.SealedResponse] = field(default_factory=dict)  # by auditor


@dataclass(slots=True)
class EpochState:
    """What the log says of one epoch."""

    root: m.EpochRoot | None = None
    links: dict[str, tuple[int, str]] = field(default_factory=dict)
    closed: m.ContributionClose | None = None
    challenge: m.Challenge | None = None
    escalated: int = 0  # rounds in ticket order that auditors asked for, if more than were drawn
    verdicts: dict[str, tuple[int, m.VerdictStatement]] = field(default_factory=dict)  # by auditor
    assessment: m.Assessment | None = None
    settlement: m.Settlement | m.Halt | None = None


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that met the witness quorum, and when."""

    size: int
    root: str
    time: int


@dataclass(slots=True)
class BidderState:
    """A registered bidder."""

    key: VerifierKey
    seat: int
    seal_key: bytes
    deposit: int
    lottery: ChainVerifier
    audit: ChainVerifier
    last_bid: str = NO_BID
    last_seq: int = -1
    forfeited: int = 0
    unopened: int = 0  # commitments void for want of an opening, not settled yet
    index: int = 0  # of the registration


class SessionState:
    """A session as far as its log goes; `session.Session` feeds it, everybody reads it.

    Args:
        entry: The first log entry, the manifest statement.

    Raises:
        MalformedError: If it is no canonical manifest statement.
        SignatureError: If the auctioneer that it names did not sign it.
    """

    def __init__(self, entry: bytes) -> None:
        statement, self.manifest = m.decode_as(entry, Manifest)
        self.manifest.check_keys()
        self.auctioneer = VerifierKey.parse(self.manifest.auctioneer)
        self.log_key = VerifierKey.parse(self.manifest.log)
        self.arbiter = VerifierKey.parse(self.manifest.arbiter)
        self.auditors = [VerifierKey.parse(text) for text in self.manifest.auditors]
        self.mailboxes = [VerifierKey.parse(text) for text in self.manifest.mailboxes]
        self.registrar = None if self.manifest.registrar == NONE else VerifierKey.parse(self.manifest.registrar)
        self.roles = {self.auctioneer, self.log_key, self.arbiter, *self.auditors, *self.mailboxes}
        self.roles |= set() if self.registrar is None else {self.registrar}
        statement.verify(self.auctioneer)
        self.id = self.manifest.session
        self.auctioneer_keys = [self.auctioneer]  # every key that it ever signed with
        self.bidders: dict[str, BidderState] = {}
        self.seats: list[str] = []
        self.rounds: dict[int, RoundState] = {}
        self.epochs: dict[int, EpochState] = {}
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter(manifest=1)
        self.halted_epoch: int | None = None
        self.registration_closed = False
        self.beacons: dict[int, str] = {}  # verified signatures by beacon round, hex
        self.canaries: dict[int, int] = {}  # revealed canary rounds, and where they were revealed
        self._current: dict[str, VerifierKey] = {}  # keys of parties whose key was rotated
        self.reported: set[str] = set()  # keys that the registrar revoked: their receipts prove nothing
        self._seeds: dict[int, bytes] = {}
        self._draws: dict[bytes, list[int]] = {}
        self._revoked: dict[str, int] = {}  # key id: the log index from which it no longer signs
        self.unproven: list[str] = []  # what no checkpoint at hand shows; it makes a verdict inconclusive
        self.forgotten = 0  # epochs whose rounds are judged and no longer kept
        self._gone: dict[bool, RoundState] = {}  # what stands for their rounds, by whether they were disclosed
        self.first_epoch = 0  # a bundle judges one epoch and holds little of those before it
        self._seal_keys = {0: bytes.fromhex(self.manifest.seal_key)}
        self._cosigned: list[Cosigned] = []  # by time, sizes rising with it
        self._roots: dict[int, str] = {}  # of the same, by size

    def round(self, index: int) -> RoundState:
        """Return the state of a round, empty if the log has nothing of it."""
        state = self.rounds.get(index)
        if state is None:
            state = self.rounds[index] = RoundState()
        return state

    def epoch(self, index: int) -> EpochState:
        """Return the state of an epoch, empty if the log has nothing of it."""
        state = self.epochs.get(index)
        if state is None:
            state = self.epochs[index] = EpochState()
        return state

    def seal_key(self, epoch: int) -> bytes | None:
        """Return the auctioneer's sealing key of an epoch; None if it is not published yet."""
        return self._seal_keys.get(epoch)

    def key_of(self, key: VerifierKey) -> VerifierKey:
        """Return the key with which the holder of a first key signs now (spec 2.10)."""
        return self._current.get(key.party, key)

    def revoked(self, key: VerifierKey, index: int | None = None) -> bool:
        """Whether a key no longer signs entries, at a log index or ever (spec 2.10)."""
        start = self._revoked.get(key.party)
        return start is not None and (index is None or index >= start)

    def last_cosigned(self, deadline: int | None = None) -> Cosigned | None:
        """Return the last checkpoint whose quorum stood at or before the deadline (spec 3.8); None if there is none."""
        if deadline is None:
            return self._cosigned[-1] if self._cosigned else None
        position = self._first_after(deadline)
        return self._cosigned[position - 1] if position else None

    def passed(self, deadline: int) -> bool:
        """Whether a cosigned checkpoint proves that a deadline has passed."""
        return bool(self._cosigned) and self._cosigned[-1].time > deadline

    def deadline(self, round_index: int, name: str) -> int:
        """Return a round's deadline, seconds since 1970."""
        return self.manifest.round_time(round_index, getattr(self.manifest.offsets, name))

    def epoch_deadline(self, epoch: int, name: str) -> int:
        """Return an epoch's deadline, seconds since 1970."""
        return self.manifest.epoch_time(epoch, getattr(self.manifest.offsets, name))

    def due(self, body: Message) -> int:
        """Return the time by which a bidder's statement must be in the log: its own kind's deadline (spec 3.6)."""
        if isinstance(body, m.Presence | m.Bid):
            return self.deadline(body.round, "close")  # with mailboxes, theirs comes `mailbox_margin` earlier
        if isinstance(body, m.OpeningStatement):
            return self.deadline(body.round, "opening")
        if isinstance(body, m.Complaint):
            return self.deadline(body.round, "complaint")
        if isinstance(body, m.Contribution):
            return self.epoch_deadline(body.epoch, "contribution")
        return self.manifest.start

    def committed(self, round_index: int) -> dict[str, BidEntry]:
        """Return the bids of a closed round: valid bid entries below the close's size, in log order (spec 3.8)."""
        state = self.round(round_index)
        size = state.close.size if state.close else 0
        return {party: bid for party, bid in state.bids.items() if bid.index < size}

    def opened(self, round_index: int, size: int) -> dict[str, m.OpeningStatement]:
        """Return the openings in time: logged below `size`, the opening deadline's checkpoint (spec 3.10)."""
        state = self.round(round_index)
        return {party: opening for party, (index, opening) in state.openings.items() if index < size}

    def mask(self, round_index: int, size: int) -> list[int]:
        """Return the participation mask by seat: present, committed, opened in time, not void (spec 3.13)."""
        state = self.round(round_index)
        committed, opened = self.committed(round_index), self.opened(round_index, size)
        return [
            int(
                state.presence.get(party, False) and party in committed and party in opened and party not in state.voids
            )
            for party in self.seats
        ]

    def expected_body(self, round_index: int, party: str) -> BidBody:
        """Return the body that an opening must have, its bids apart (spec 3.2)."""
        manifest = self.manifest
        return BidBody(
            bidder=party,
            bids=[0] * len(manifest.items),
            epoch=manifest.epoch_of(round_index),
            items=manifest.items_hash,
            mech=manifest.mech,
            participation=True,
            round=round_index,
            seq=self.round(round_index).bids[party].seq,
            session=self.id,
        )

    def contributions(self, epoch: int) -> dict[str, str]:
        """Return the links that count for an epoch: logged below the size at which contributions closed (spec 5.2)."""
        state = self.epoch(epoch)
        size = state.closed.size if state.closed else 0
        return {party: link for party, (index, link) in state.links.items() if index < size}

    def drawn(self, epoch: int) -> list[int] | None:
        """Return the rounds drawn for audit in ticket order (spec 5.5, 7.2); None while the seed is not known."""
        seed = self.seed(epoch)
        if seed is None:
            return None
        if seed not in self._draws:  # asked for with every response, and the same each time
            rounds, audit = self.manifest.rounds_of(epoch), self.manifest.audit
            if audit.mode == "fixed":
                self._draws[seed] = draw_fixed(seed, rounds, min(audit.k, len(rounds)))
            else:
                self._draws[seed] = draw_independent(seed, rounds, self.manifest.chance)
        return self._draws[seed]

    def seed(self, epoch: int) -> bytes | None:
        """Return the seed of an epoch's audit draw (spec 5.5); None while a contribution or the beacon is missing."""
        if epoch in self._seeds:  # asked for with every response; nothing that it hashes changes after the close
            return self._seeds[epoch]
        root, contributions = self.epoch(epoch).root, self.contributions(epoch)
        beacon = self.beacon_for(self.manifest.beacon_of_epoch(epoch))
        if root is None or beacon is None or self.auctioneer.party not in contributions:
            return None
        self._seeds[epoch] = audit_seed(self.id, epoch, root.root, contributions, beacon)
        return self._seeds[epoch]

    def beacon_for(self, beacon_round: int) -> str | None:
        """Return the signature of a beacon round, "" for round 0 (no beacon); None if it is not at hand."""
        return self.beacons.get(beacon_round) if beacon_round else ""

    def audited(self, epoch: int) -> list[int] | None:
        """Return the rounds to disclose for the verdict: those drawn, and more of the same order (spec 7.8)."""
        drawn, seed = self.drawn(epoch), self.seed(epoch)
        if drawn is None or seed is None or self.epoch(epoch).escalated <= len(drawn):
            return drawn
        return by_ticket(seed, self.manifest.rounds_of(epoch))[: self.epoch(epoch).escalated]

    def disclosed(self, round_index: int) -> bool:
        """Whether a drawn round is disclosed as the manifest wants: in clear, or sealed to every auditor (spec 7.7)."""
        state = self.rounds.get(round_index, RoundState())
        if state.response is not None or self.manifest.disclosure == "public":
            return state.response is not None
        return len(state.sealed) == len(self.auditors)

    def response_deadline(self, round_index: int) -> int:
        """Return when the disclosure of a round is due: drawn, escalated, or with its whole epoch (spec 6.6, 7.8)."""
        epoch = self.manifest.epoch_of(round_index)
        if round_index in (self.drawn(epoch) or ()):
            return self.epoch_deadline(epoch, "response")
        return self.epoch_deadline(epoch, "verdict" if round_index in (self.audited(epoch) or ()) else "whole")

    def explained(self, verdict: m.VerdictStatement) -> bool:
        """Whether every finding of a verdict is of a revealed canary round (spec 7.9)."""
        return verdict.findings_count == len(verdict.findings) and all(
            finding.rule == "7.5" and finding.round in self.canaries for finding in verdict.findings
        )

    def condemned(self, epoch: int) -> bool:
        """Whether a verdict says "deviation", canaries apart: the whole epoch is then opened (spec 6.6, 7.8)."""
        return any(v.result == DEVIATION and not self.explained(v) for _, v in self.epoch(epoch).verdicts.values())

    def verdict_due(self, epoch: int) -> bool:
        """Whether an auditor may judge: every round to be disclosed is, or its deadline has passed (spec 7.4)."""
        audited = self.audited(epoch)
        if audited is None:
            return self.passed(self.epoch_deadline(epoch, "response"))
        return all(self.disclosed(i) or self.passed(self.response_deadline(i)) for i in audited)

    def first_closed(self, epoch: int) -> int | None:
        """Return the first round of an epoch that is not disclosed in clear; None if all are."""
        rounds = self.manifest.rounds_of(epoch)
        return next((index for index in rounds if self.rounds.get(index, RoundState()).response is None), None)

    def settlement_amounts(self, epoch: int, *, halt: bool) -> dict[str, int]:
        """Return what the arbiter moves at the end of an epoch, by account (spec 6.6, 9.2, 9.14)."""
        penalty = self.manifest.money.penalty if halt else 0
        assessment = self.epoch(epoch).assessment
        returns = {item.account: item.amount for item in assessment.returns} if halt and assessment else {}
        return epoch_amounts(self.auctioneer.party, penalty, self.forfeits(epoch), returns)

    def present(self, epoch: int) -> set[str]:
        """Return who took part in a round of an epoch."""
        states = (self.rounds[index] for index in self.manifest.rounds_of(epoch) if index in self.rounds)
        return {party for state in states for party, here in state.presence.items() if here}

    def forfeits(self, epoch: int) -> dict[str, int]:
        """Return what bidders forfeit in an epoch: unopened commitments, missing contributions (spec 3.10, 5.6)."""
        money = self.manifest.money
        result: Counter[str] = Counter()
        for index in self.manifest.rounds_of(epoch):
            state = self.round(index)
            for party in state.bids:
                if state.voids.get(party) == m.NO_OPENING:
                    result[party] += money.opening_forfeit
        for party in self.present(epoch) - set(self.contributions(epoch)):
            result[party] += money.contribution_forfeit
        left = {party: bidder.deposit - bidder.forfeited for party, bidder in self.bidders.items()}
        return {party: min(amount, left[party]) for party, amount in result.items() if min(amount, left[party])}

    @property
    def complete(self) -> bool:
        """Whether the session has run to its end: halted, or its last epoch settled."""
        last = self.epochs.get(self.manifest.epochs - 1)
        return self.halted_epoch is not None or (last is not None and last.settlement is not None)

    def _proven_late(self, index: int, deadline: int) -> bool:
        """Whether a checkpoint stamped after a deadline proves that an entry was not logged by then.

        The checkpoints at hand may be only some of those that exist. An entry is late, or a stated size wrong, only
        where one at hand proves it; what none shows either way is noted in `unproven` and convicts nobody (spec
        8.4).
        """
        position = self._first_after(deadline)  # sizes rise with time: the first after a deadline is the smallest
        return position < len(self._cosigned) and self._cosigned[position].size <= index

    def _first_after(self, deadline: int) -> int:
        return bisect_right(self._cosigned, deadline, key=lambda item: item.time)

    def overdue(self, *, only: int | None = None) -> tuple[list[Finding], list[str]]:
        """Return what was left out past a cosigned deadline (spec 6.5, 6.6), and what is merely not there yet.

        The second list makes a verdict inconclusive, never a conviction: the log may be cut, or the session may go on.

        Args:
            only: Look at one epoch, up to its verdict, as a bundle holds it; else at all that are not forgotten.
        """
        if not self.registration_closed:
            return [], ["registration is not closed"]
        findings: list[Finding] = []
        last = self.manifest.epochs - 1 if self.halted_epoch is None else self.halted_epoch
        for epoch in range(self.forgotten, last + 1) if only is None else [only]:
            found, waiting = self.left_out(epoch, settled=only is None)
            findings += found
            if waiting:
                return findings, waiting
        return findings, []

    def left_out(self, epoch: int, *, settled: bool = True) -> tuple[list[Finding], list[str]]:
        """Return what `overdue` returns, for one epoch.

        Args:
            epoch: Epoch, from 0.
            settled: Whether its settlement is wanted too, not only its verdict.
        """
        findings: list[Finding] = []
        waiting: list[str] = []

        def missing(rule: str, round_index: int, what: str, deadline: int) -> None:
            if self.passed(deadline):
                findings.append(Finding(rule, round_index, "auctioneer", f"{what} is missing past its deadline"))
            else:
                waiting.append(f"{what} is not there yet")

        for index in self.manifest.rounds_of(epoch):
            state = self.rounds.get(index, RoundState())
            deadline = self.deadline(index, "outcome")
            if state.close is None:
                missing("6.5", index, f"close of round {index}", deadline)
            elif state.outcome is None and self.beacon_for(self.manifest.beacon_of_round(index)) is None:
                waiting.append(f"beacon round {self.manifest.beacon_of_round(index)} is not at hand (spec 5.4)")
            elif state.outcome is None:
                missing("6.5", index, f"outcome of round {index}", deadline)
            elif self._proven_late(state.outcome_index, deadline):
                findings.append(Finding("6.5", index, "auctioneer", f"outcome of round {index} came too late"))
            if waiting:
                return findings, waiting
        drawn = self.drawn(epoch)
        if self.epoch(epoch).root is None:
            missing("6.6", -1, f"root of epoch {epoch}", self.epoch_deadline(epoch, "contribution"))
        elif self.auctioneer.party in self.contributions(epoch) and drawn is None:
            waiting.append(f"beacon round {self.manifest.beacon_of_epoch(epoch)} is not at hand (spec 5.4)")
        elif drawn is None:
            missing("5.6", -1, f"contribution of the auctioneer to epoch {epoch}",
                    self.epoch_deadline(epoch, "contribution"))  # fmt: skip
        for index in self.audited(epoch) or ():
            if not self.disclosed(index):
                missing("7.4", index, f"response for drawn round {index}", self.response_deadline(index))
        if not self.epoch(epoch).verdicts:
            waiting.append(f"verdict on epoch {epoch} is not there yet")
        elif self.condemned(epoch) and self.epoch(epoch).settlement is None:
            for index in self.manifest.rounds_of(epoch):
                if self.rounds[index].response is None and settled:
                    missing("7.8", index, f"disclosure of round {index}", self.epoch_deadline(epoch, "whole"))
        elif self.epoch(epoch).settlement is None and settled:
            waiting.append(f"settlement of epoch {epoch} is not there yet")
        return findings, waiting

    def final(self, epoch: int, index: int) -> bool:
        """Whether no entry at or after a log index can change what there is to judge of an epoch.

        That is so once it is settled without a deviation, with nothing left out or late, and its last deadlines are
        proven passed. It is not said of sessions with sealed disclosure or canaries, whose rounds may come up again.
        """
        state = self.epochs.get(epoch)
        if state is None or state.settlement is None or self.condemned(epoch) or self.halted_epoch is not None:
            return False
        if self.manifest.disclosure != "public" or self.manifest.canaries or self.seed(epoch) is None:
            return False
        rounds = self.manifest.rounds_of(epoch)
        if any(self.beacon_for(self.manifest.beacon_of_round(i)) is None for i in rounds):
            return False
        last = max(self.epoch_deadline(epoch, "whole"), self.deadline(rounds[-1], "complaint"))
        return self._proven_late(index, last) and self.left_out(epoch) == ([], [])

    def forget(self, epoch: int) -> None:
        """Let go of what the rounds of a `final` epoch hold, after it was judged; epochs go in order.

        What stays is that its rounds were closed, decided and disclosed or not: no more is asked about them.

        Raises:
            ValueError: If an earlier epoch is not forgotten yet.
        """
        if epoch != self.forgotten:
            raise ValueError(f"epoch {epoch} cannot be forgotten before epoch {self.forgotten}")
        for index in self.manifest.rounds_of(epoch):
            state = self.rounds[index]
            shown = state.response is not None
            if shown not in self._gone:
                self._gone[shown] = RoundState(
                    close=state.close, outcome=state.outcome, outcome_index=state.outcome_index, response=state.response
                )
            self.rounds[index] = self._gone[shown]
        old = self.epoch(epoch)
        self.epochs[epoch] = EpochState(
            root=old.root, closed=old.closed, settlement=old.settlement, escalated=old.escalated
        )
        self.forgotten += 1


def encode_mask(mask: list[int]) -> str:
    """Return the participation mask as hex: seat s is bit 7 - s % 8 of byte s // 8 (spec 3.13)."""
    data = bytearray((len(mask) + 7) // 8)
    for seat, bit in enumerate(mask):
        data[seat // 8] |= bit << (7 - seat % 8)
    return bytes(data).hex()
