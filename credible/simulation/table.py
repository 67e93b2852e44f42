"""One session around one table: all roles in memory, every message real; `Market` keeps it on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets, draw_up
from protocol import messages as m
from protocol.artifact import Header, Runner
from protocol.auctioneer import Auctioneer, RefusedError
from protocol.auditor import Arbiter, Auditor
from protocol.bidder import Bidder
from protocol.encoding import canonical
from protocol.escrow import ESCROW, AccountBook
from protocol.evidence import Judge, Judgement
from protocol.log.note import Checkpoint, Note, NoteSignature, cosignature_times
from protocol.log.tiles import TileDirectory
from protocol.log.tree import Tree, leaf_hash
from protocol.log.writer import Tail
from protocol.mailbox import Mailbox
from protocol.outcomes import unseal_response
from protocol.session import Session
from protocol.state import Cosigned, Finding
from protocol.storage.files import write_file
from protocol.verify import ARTIFACT_FILE, MANIFEST_FILE, POLICY_FILE, Trust
from protocol.witness import Witness

LAST_SECONDS: Final = 1  # a checkpoint is cosigned this long before its deadline


@dataclass(slots=True)
class Kept:
    """What an earlier run left: the log, its cosigned checkpoints, the movements of money."""

    entries: Sequence[bytes] = ()
    notes: Mapping[int, Note] = field(default_factory=dict)


class Table:
    """A session and everybody who sits at it.

    Args:
        rules: What the initiator chose.
        header: Header of the mechanism's artifact.
        mech: SHA-256 of the artifact, hex.
        runner: Executes it.
        secrets: Everybody's secrets.
        names: Names of the bidders in seat order.
        auctioneer: The auctioneer's behaviour.
        kept: Where an earlier run stopped.
        beacons: Beacon signatures by round, if the rules name a beacon.
    """

    def __init__(
        self,
        rules: Rules,
        header: Header,
        mech: str,
        runner: Runner,
        secrets: Secrets,
        names: Sequence[str],
        *,
        auctioneer: type[Auctioneer] = Auctioneer,
        kept: Kept | None = None,
        beacons: Mapping[int, bytes] | None = None,
    ) -> None:
        kept = kept or Kept()
        self.secrets, self.runner, self.rules = secrets, runner, rules
        self.manifest, self.policy = draw_up(rules, header, mech, secrets)
        self.notes = dict(kept.notes)
        self.stamps = [note for _, note in sorted(self.notes.items())]  # every checkpoint that was cosigned
        self.head = self.notes[max(self.notes)] if self.notes else None  # the last checkpoint, cosigned last
        self.beacons = dict(beacons or {})
        self.auctioneer = auctioneer(
            secrets.auctioneer(), self.manifest, self.policy, runner, kept.entries, self._cosigned()
        )
        self.auctioneer.canaries = frozenset(rules.canaries)
        self.session = self.auctioneer.session
        log_key = secrets.auctioneer().log().verifier
        self.witnesses = [Witness(secrets.witness(n), [log_key], self._heads()) for n in range(rules.witnesses)]
        sealed = self.manifest.disclosure == "auditor"
        self.auditors = [
            Auditor(secrets.auditor(n), self.session, runner, secrets.auditor_seal(n) if sealed else None)
            for n in range(rules.auditors)
        ]
        self.arbiter = Arbiter(
            secrets.arbiter(), self.session, runner, {index: secrets.canary(index) for index in rules.canaries}
        )
        self.mailboxes = [Mailbox(secrets.mailbox(n), self.session) for n in range(rules.mailboxes)]
        self.bidders = [self._bidder(seat, name) for seat, name in enumerate(names)]
        self.book = AccountBook()
        self.movements: Tail[tuple[str, dict[str, int]]] = Tail()
        self.out: set[int] = set()  # seats whose deposit covers no further commitment
        self.tier1: list[Finding] = []
        self.revenue = 0

    # --- log ---------------------------------------------------------------------------------------------------------

    def cosign(self, at: int, *, again: bool = False) -> None:
        """Put the log before every witness; deadlines are judged by what they stamp (spec 3.8, 4.9).

        Args:
            at: Seconds since 1970.
            again: Also where nothing was logged since the last checkpoint: it then shows that time has passed.
        """
        note, size = self.auctioneer.checkpoint(), self.auctioneer.log.tree.size
        if size in self.notes and not again:
            return  # the last checkpoint serves (spec 4.15)
        signatures = [self._ask(witness, note, at) for witness in self.witnesses]
        self.head = self.auctioneer.cosigned(note, signatures)
        self.stamps.append(self.head)
        self.notes.setdefault(size, self.head)

    def _ask(self, witness: Witness, note: Note, at: int) -> NoteSignature:
        tree = self.auctioneer.log.tree
        last = witness.heads.get(self.session.log_key.name)
        old = last.size if last else 0
        return witness.add_checkpoint(old, tree.consistency(old) if old else [], note, at)

    def send(self, bidder: Bidder, data: bytes, at: int) -> bytes:
        """Send a bidder's statement to the auctioneer, and to the mailboxes if there are any; return the receipt.

        Raises:
            RefusedError: If the auctioneer gives no receipt.
        """
        for mailbox in self.mailboxes:
            mailbox.stamp(data, min(at, self.session.due(m.Statement.decode(data).body) - self.manifest.mailbox_margin))
        receipt = self.auctioneer.receive(data, at)
        bidder.check_receipt(receipt, data)
        return receipt

    def bring_beacon(self, number: int) -> None:
        """Log a round of the beacon from the supplied bytes (spec 5.3)."""
        if number and number not in self.session.beacons:
            body = m.Beacon(session=self.session.id, beacon_round=number, signature=self.beacons[number].hex())
            self.auctioneer.publish(m.sign_statement(body, self.secrets.arbiter()))

    # --- flow --------------------------------------------------------------------------------------------------------

    def register(self) -> None:
        """Deposits, registrations, seats (spec 6.2, 6.3)."""
        start, money = self.manifest.start, self.manifest.money
        self.move(
            "deposit-auctioneer", {AccountBook.OUTSIDE: -money.deposit, self.session.auctioneer.party: money.deposit}
        )
        for bidder in self.bidders:
            self.auctioneer.receive(bidder.registration(), start - 200)
            stake = money.bidder_deposit
            self.move(f"deposit-{bidder.party}", {AccountBook.OUTSIDE: -stake, bidder.party: stake})
        self.cosign(start - 100)
        self.auctioneer.close_registration()

    def play_round(self, index: int, plan: RoundPlan) -> None:
        """A whole round (spec 6.4)."""
        self.take_bids(index, plan)
        self.take_openings(index, [seat for seat in plan.bids if seat not in plan.silent | plan.late])
        self.clear(index)

    def take_bids(self, index: int, plan: RoundPlan) -> None:
        """Context, presence, bids and the close (spec 6.4, R1 to R3)."""
        start = self.manifest.round_time(index)
        if self.manifest.context:
            self.auctioneer.announce(index, plan.context, plan.label)
        for seat in sorted(plan.bids):
            self.send(self.bidders[seat], self.bidders[seat].presence(index), start + 10)
        for seat in sorted(plan.bids):
            if seat in plan.late:
                continue
            try:
                self.send(self.bidders[seat], self.bidders[seat].bid(index, list(plan.bids[seat])), start + 60)
            except RefusedError:  # its deposit covers no further commitment: it is out (spec 9.9)
                self.out.add(seat)
        self.cosign(self.session.deadline(index, "close") - LAST_SECONDS)
        self.auctioneer.close(index)

    def take_openings(self, index: int, seats: Iterable[int]) -> None:
        """Own check of the close, openings, the opening deadline (spec 6.4, R3 to R4)."""
        opening = set(seats) if self.manifest.profile == "P1" else set()
        for seat, bidder in enumerate(self.bidders):
            if seat in self.out:
                continue
            self.tier1 += bidder.check_close(index)
            if seat in opening:
                self.send(bidder, bidder.opening(index), self.session.deadline(index, "opening") - 60)
        self.cosign(self.session.deadline(index, "opening") - LAST_SECONDS)

    def clear(self, index: int) -> None:
        """Outcome, rows, and every bidder's own check (spec 6.4, R5 to R7)."""
        self.bring_beacon(self.manifest.beacon_of_round(index))
        rows = {row.party: row.data for row in self.auctioneer.settle(index)}
        self.cosign(self.session.deadline(index, "outcome") - LAST_SECONDS)
        for seat, bidder in enumerate(self.bidders):
            if seat in self.out:
                continue
            findings, row = bidder.check_row(index, rows.get(bidder.party))
            self.tier1 += findings
            if row is not None and row.charge > 0:
                self.move(f"round-{index}-{bidder.party}", {AccountBook.OUTSIDE: -row.charge, ESCROW: row.charge})
                self.revenue += row.charge

    def contribute(self, epoch: int, absent: Iterable[int] = ()) -> None:
        """Fix the epoch root; contributions, their close, the beacon (spec 6.6, E1 to E2)."""
        session, auctioneer = self.session, self.auctioneer
        self.cosign(session.epoch_deadline(epoch, "root") - LAST_SECONDS)
        at = session.epoch_deadline(epoch, "contribution") - LAST_SECONDS
        auctioneer.fix_epoch_root(epoch)
        auctioneer.contribute(epoch)
        present, missing = session.present(epoch), set(absent)
        for seat, bidder in enumerate(self.bidders):
            if bidder.party in present and seat not in missing:
                self.send(bidder, bidder.contribution(epoch), at)
        self.cosign(at)
        auctioneer.close_contributions(epoch)
        self.bring_beacon(self.manifest.beacon_of_epoch(epoch))

    def audit(self, epoch: int, judge: Callable[[Auditor, int], bytes] | None = None) -> list[Finding]:
        """Challenge, responses, every auditor's verdict (spec 6.6, E3 to E4); return what the first one found.

        Args:
            epoch: Epoch, from 0.
            judge: Gives an auditor's verdict statement; what the auditor itself says if left out.
        """
        session, auctioneer = self.session, self.auctioneer
        for auditor in self.auditors:
            auctioneer.publish(auditor.challenge(epoch))
        auctioneer.respond(epoch)
        deadline = session.epoch_deadline(epoch, "response")
        self.cosign(deadline - LAST_SECONDS)
        if not session.verdict_due(epoch):  # a checkpoint past the deadline shows that an answer is missing (spec 7.4)
            self.cosign(deadline + LAST_SECONDS, again=True)
        first: list[Finding] = []
        for number, auditor in enumerate(self.auditors):
            verdict, findings = auditor.verdict(epoch) if judge is None else (judge(auditor, epoch), [])
            first = first if number else findings
            auctioneer.publish(verdict)
        return first

    def conclude(self, epoch: int) -> None:
        """Canaries, the whole epoch opened after a deviation, settlement or halt (spec 6.6, E5; 7.8, 7.9)."""
        session, auctioneer = self.session, self.auctioneer
        for data in self.arbiter.reveal(epoch):
            auctioneer.publish(data)
        self.cosign(session.epoch_deadline(epoch, "verdict") - LAST_SECONDS)
        last = session.epoch_deadline(epoch, "whole" if session.condemned(epoch) else "verdict")
        if session.condemned(epoch):
            auctioneer.open_epoch(epoch)
            deadline = session.epoch_deadline(epoch, "whole")
            self.cosign(deadline - LAST_SECONDS)
            if not all(session.round(index).response for index in self.manifest.rounds_of(epoch)):
                last = deadline + LAST_SECONDS  # shows that rounds are withheld (spec 7.8), to whoever reads it as well
                self.cosign(last, again=True)
            auctioneer.publish(self.auditors[0].assessment(epoch))
        settlement, amounts = self.arbiter.settle(epoch)
        auctioneer.publish(settlement)
        state = session.epoch(epoch)
        cause = state.settlement.verdict if state.settlement else ""
        self.move(f"settlement-{epoch}-{cause}", amounts)
        held = self.book.balances.get(ESCROW, 0)
        self.move(f"revenue-{epoch}-{cause}", {ESCROW: -held, AccountBook.OUTSIDE: held})
        self.cosign(last)

    def end_epoch(self, epoch: int) -> list[Finding]:
        """Everything after an epoch's last round; return what the first auditor found (spec 6.6)."""
        self.contribute(epoch)
        findings = self.audit(epoch)
        self.conclude(epoch)
        return findings

    def release(self) -> None:
        """Give back what is left of the deposits (spec 6.7)."""
        for account, amount in list(self.book.balances.items()):
            if account not in (AccountBook.OUTSIDE, ESCROW) and amount:
                self.move(f"release-{account}", {account: -amount, AccountBook.OUTSIDE: amount})
        if self.book.total() != 0:
            raise RuntimeError("the account book does not conserve money")

    def move(self, key: str, amounts: dict[str, int]) -> None:
        """Make one movement of money, once (spec 9.14)."""
        if self.book.move(key, amounts):
            self.movements.append((key, amounts))

    def forget(self, entries: int, checkpoints: int) -> None:
        """Let go of what is durable elsewhere; a table that has is not read again or published by itself.

        Args:
            entries: Of entries below this position, and of all movements.
            checkpoints: Of checkpoints below this size.
        """
        self.auctioneer.log.entries.forget(entries)
        self.movements.forget(len(self.movements))
        self.notes = {size: note for size, note in self.notes.items() if size >= checkpoints}
        self.stamps = []

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_again(self) -> Session:
        """Return what a newcomer reads from the log."""
        fresh = Session(self.auctioneer.log.entries[0])
        fresh.add_cosigned(self._cosigned())
        for index, entry in enumerate(self.auctioneer.log.entries[1:], 1):
            fresh.apply(index, entry)
        return fresh

    def judge(self) -> Judgement:
        """Return what a newcomer who reads and re-executes everything finds."""
        session = self.read_again()
        sealed = [index for index, state in session.rounds.items() if state.sealed and state.response is None]
        responses = {}
        key, party = self.secrets.auditor_seal(0), self.auditors[0].party
        for index in sealed:  # as the first auditor reads them
            responses[index] = unseal_response(session, session.round(index).sealed[party], key)
        return Judge(session, self.runner).conclude(responses=responses)

    def publish(self, folder: Path, artifact: bytes) -> Trust:
        """Write the public folder of the session as it stands; return what an outsider may pin (spec 4.16, 8.3)."""
        log, size = self.auctioneer.log, max(self.notes)
        history = [self.notes[size].encode() for size in sorted(self.notes)]
        tree = Tree(leaf_hash(entry) for entry in log.entries[:size])
        head = self.head or self.notes[size]
        TileDirectory(folder).write(tree, log.entries[:size], head, durable=False, history=history)
        write_file(folder / MANIFEST_FILE, canonical(self.manifest) + b"\n", durable=False)
        write_file(folder / POLICY_FILE, self.policy.text, durable=False)
        write_file(folder / ARTIFACT_FILE, artifact, durable=False)
        return Trust(session=self.session.id, auctioneer=self.manifest.auctioneer, policy=self.policy.digest)

    def _cosigned(self) -> list[Cosigned]:
        result = []
        witnesses = tuple(self.policy.witnesses.values())
        for note in self.stamps:
            when = self.policy.quorum_time(cosignature_times(note, witnesses))
            if when is not None:
                head = Checkpoint.parse(note.text)
                result.append(Cosigned(head.size, head.root.hex(), when))
        return result

    def _heads(self) -> dict[str, Checkpoint]:
        if not self.notes:
            return {}
        head = Checkpoint.parse(self.notes[max(self.notes)].text)
        return {head.origin: head}

    def _bidder(self, seat: int, name: str) -> Bidder:
        keys = self.secrets.bidder(seat, name)
        state = self.session.bidders.get(keys.signing().party)
        return Bidder(keys, self.session, (state.last_seq, state.last_bid)) if state else Bidder(keys, self.session)
