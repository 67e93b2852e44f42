"""The rules that the public log decides: a session as a function of its entries (spec 3, 6).

One place for the rules that the public log alone decides. Everybody uses it: the auctioneer to know where it stands,
the bidders and auditors to check it, `verify` to judge it. Nothing here raises on what others wrote: a rule broken by
a party that signs becomes a `Finding`; what a bidder does wrong in its own statements is ignored or void, never a
deviation of the auctioneer. Time is cosigned time; position in the log decides what was in time (spec 6.7).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from protocol import messages as m
from protocol.encoding import Message, bytes_from_hex, hash_from_hex, hash_of, pae
from protocol.errors import InconclusiveError, MalformedError, ProtocolError, SignatureError, VerificationError
from protocol.keys import ED25519, VerifierKey, check_seal_key
from protocol.manifest import NONE
from protocol.randomness.beacon import verify_beacon
from protocol.randomness.chains import ChainVerifier
from protocol.randomness.tickets import by_ticket
from protocol.state import BidderState, BidEntry, Cosigned, Finding, SessionState, encode_mask


class Session(SessionState):
    """Applies the rules to cosigned checkpoints and entries, in log order.

    Args:
        entry: The first log entry, the manifest statement.

    Raises:
        MalformedError: If it is no canonical manifest statement.
        SignatureError: If the auctioneer that it names did not sign it.
    """

    def __init__(self, entry: bytes) -> None:
        super().__init__(entry)
        self._index = -1  # of the entry being applied
        self._round = -1  # that it speaks of
        self._heads = {self.manifest.lottery_head, self.manifest.audit_head}
        self._auctioneer_lottery = _chain(self.auctioneer.party, self.manifest.lottery_head)
        self._auctioneer_audit = _chain(self.auctioneer.party, self.manifest.audit_head)
        self._handlers: dict[type[Message], Callable[[m.Statement, Any], bool]] = {
            m.Registration: self._on_registration,
            m.RegistrationClose: self._on_registration_close,
            m.Context: self._on_context,
            m.Presence: self._on_presence,
            m.Bid: self._on_bid,
            m.OpeningStatement: self._on_opening,
            m.Close: self._on_close,
            m.Void: self._on_void,
            m.Outcome: self._on_outcome,
            m.EpochRoot: self._on_epoch_root,
            m.Contribution: self._on_contribution,
            m.ContributionClose: self._on_contribution_close,
            m.Challenge: self._on_challenge,
            m.Response: self._on_response,
            m.SealedResponse: self._on_sealed_response,
            m.Escalation: self._on_escalation,
            m.Canary: self._on_canary,
            m.Assessment: self._on_assessment,
            m.Beacon: self._on_beacon,
            m.Rotation: self._on_rotation,
            m.Revocation: self._on_revocation,
            m.Complaint: self._on_complaint,
            m.VerdictStatement: self._on_verdict,
            m.Settlement: self._on_settlement,
            m.Halt: self._on_settlement,
        }

    def add_cosigned(self, checkpoints: Iterable[Cosigned]) -> None:
        """Add checkpoints that met the quorum, after those added before; deadlines are judged by them."""
        for after in sorted(checkpoints, key=lambda item: (item.time, item.size)):
            before = self._cosigned[-1] if self._cosigned else None
            if before is not None and (before.size > after.size or before.time > after.time):
                self._fault("4.13", f"a checkpoint of size {after.size} comes after one of {before.size}", "log")
            elif before is not None and before.size == after.size and before.root != after.root:
                self._fault("4.13", f"two checkpoints of size {after.size} have different roots", "log")
            else:
                self._cosigned.append(after)
                self._roots[after.size] = after.root

    def apply(self, index: int, entry: bytes) -> bool:
        """Take the next entry of the log; a bundle may leave out ranges that it does not judge.

        Returns:
            True if the entry counts; False if a rule makes it void of effect. It may leave findings in either case.
        """
        try:
            statement = m.Statement.decode(entry)
        except MalformedError as error:
            self._index = index
            return self._fault("2.6", f"no statement: {error}", "log")
        return self.apply_statement(index, statement)

    def apply_statement(self, index: int, statement: m.Statement) -> bool:
        """Take the next entry of the log, decoded already; see `apply`."""
        self._index = index
        handler = self._handlers.get(type(statement.body))
        if handler is None:
            return self._fault("3", f"a {statement.name} does not belong into the log", "log")
        if getattr(statement.body, "session", None) != self.id:
            return self._fault("8.5", f"{statement.name} of another session", "log")
        self._round = getattr(statement.body, "round", -1)
        counts = self._earlier(statement) if self._is_earlier(statement.body) else handler(statement, statement.body)
        self.counts[statement.name if counts else "without effect"] += 1
        self._round = -1
        return counts

    def _is_earlier(self, body: Message) -> bool:
        epoch: int = getattr(
            body, "epoch", self.manifest.epoch_of(self._round) if self._round >= 0 else self.first_epoch
        )
        return 0 <= epoch < self.first_epoch

    def _earlier(self, statement: m.Statement) -> bool:
        """Take what the judged epoch needs of the one before: its sealing key, and that it was settled."""
        body = statement.body
        if isinstance(body, m.Contribution) and body.party == self.auctioneer.party:
            if body.epoch != self.first_epoch - 1 or not self._signed(statement, self.auctioneer):
                return False
            try:
                if body.seal_key is not msgspec.UNSET:
                    self._seal_keys[body.epoch + 1] = hash_from_hex(body.seal_key, "seal key")
            except MalformedError as error:
                return self._fault("5.6", str(error))
            return True
        if not isinstance(body, m.Settlement) or body.epoch != self.first_epoch - 1:
            return False
        if not self._signed(statement, self.arbiter):
            return False
        self.epoch(body.epoch).settlement = body
        return True

    def _fault(self, rule: str, text: str, party: str = "auctioneer") -> bool:
        entries = () if self._index < 0 else (self._index,)
        self.findings.append(Finding(rule, self._round, party, text, entries))
        return False

    def _signed(self, statement: m.Statement, key: VerifierKey, party: str = "log") -> bool:
        """Whether the holder of a first key signed, with the key that is its own at this position (spec 2.6, 2.10)."""
        key = self.key_of(key)
        if self.first_epoch and statement.signer != key.party and party == "log":
            # a bundle may lack the rotation that explains it: no ground to call anything missing
            raise InconclusiveError(f"entry {self._index} is signed by a key that the bundle does not introduce")
        if self.revoked(key, self._index):
            return self._fault("2.10", f"{statement.name} under a key that was revoked", "log")
        try:
            statement.verify(key)
        except (SignatureError, MalformedError) as error:
            return self._fault("2.6", str(error), party)
        return True

    def _bidder(self, statement: m.Statement, party: str) -> BidderState | None:
        bidder = self.bidders.get(party)
        if bidder is None:
            self._fault("6.3", f"{statement.name} of a party that is not registered", "log")
            return None
        return bidder if self._scheduled(statement) and self._signed(statement, bidder.key) else None

    def _scheduled(self, statement: m.Statement) -> bool:
        if not self.registration_closed or not 0 <= self._round < self.manifest.rounds or self.halted_epoch is not None:
            return self._fault("6.4", f"{statement.name} of a round that is not scheduled", "log")
        epoch = self.manifest.epoch_of(self._round)
        if epoch and self.epoch(epoch - 1).settlement is None:
            return self._fault("6.6", f"{statement.name} before epoch {epoch - 1} is settled", "log")
        first = self._round == self.manifest.rounds_of(epoch)[0]
        if not first and self.round(self._round - 1).outcome is None:
            return self._fault("6.4", f"{statement.name} before round {self._round - 1} has its outcome", "log")
        return True

    def _by_auctioneer(self, statement: m.Statement) -> bool:
        return self._scheduled(statement) and self._signed(statement, self.auctioneer)

    def _by_auditor(self, statement: m.Statement, epoch: int) -> bool:
        if not 0 <= epoch < self.manifest.epochs:
            return self._fault("7.1", f"{statement.name} on epoch {epoch}", "auditor")
        for key in self.auditors:
            if statement.signer == self.key_of(key).party:
                return self._signed(statement, key, "auditor")
        return self._fault("7.9", f"{statement.name} of an auditor that the manifest does not name", "log")

    def _check_fixed(self, rule: str, size: int, root: str, deadline: int, what: str) -> None:
        """Check that (size, root) is the last checkpoint cosigned by a deadline, as far as those at hand show."""
        position = self._first_after(deadline)
        last = self._cosigned[position - 1] if position else None
        after = self._cosigned[position] if position < len(self._cosigned) else None
        if self._roots.get(size, root) != root:
            self._fault(rule, f"{what} states another root than the checkpoint of size {size}")
        elif last is not None and last.size > size:
            self._fault(rule, f"{what} is at size {size}, one of size {last.size} was cosigned in time")
        elif after is not None and after.size < size:
            self._fault(rule, f"{what} is at size {size}, the log had only {after.size} after the deadline")
        elif last is None or last.size != size:
            self.unproven.append(f"the cosigned checkpoint of size {size} that {what} names is not at hand")

    def _on_registration(self, statement: m.Statement, body: m.Registration) -> bool:
        try:
            key = VerifierKey.parse(body.vkey)
            statement.verify(key)
            seal_key = hash_from_hex(body.seal_key, "seal key")
            check_seal_key(seal_key)
            lottery, audit = _chain(key.party, body.lottery_head), _chain(key.party, body.audit_head)
        except ProtocolError as error:
            return self._fault("6.2", f"registration: {error}", "log")
        heads = {body.lottery_head, body.audit_head}
        if self.registration_closed:
            return self._fault("6.3", "registration after registration closed")
        if key.kind != ED25519:
            return self._fault("2.10", "a cosignature key registers as a bidder", "log")
        if key.party in self.bidders or len(heads) != 2 or heads & self._heads:
            return self._fault("5.1", "a party or a chain head is registered twice")
        if body.deposit < self.manifest.money.bidder_deposit:
            return self._fault("9.9", f"deposit {body.deposit}, wanted {self.manifest.money.bidder_deposit}")
        if key in self.roles:
            return self._fault("2.10", "a role's key registers as a bidder")
        if len(self.seats) == self.manifest.seats:
            return self._fault("6.3", f"more bidders than the {self.manifest.seats} seats of the mechanism")
        self._heads |= heads
        seat = len(self.seats)
        self.bidders[key.party] = BidderState(key, seat, seal_key, body.deposit, lottery, audit, index=self._index)
        self.seats.append(key.party)
        return True

    def _on_registration_close(self, statement: m.Statement, body: m.RegistrationClose) -> bool:
        if not self._signed(statement, self.auctioneer):
            return False
        if self.registration_closed:
            return self._fault("6.3", "registration is closed twice")
        self.registration_closed = True
        _, root = m.hash_list(self.seats, ordered=True)
        listed = self.seats if body.seats is msgspec.UNSET else body.seats
        if listed != self.seats or body.seats_count != len(self.seats) or body.seats_root != root:
            self._fault("6.3", "seats are not the registered bidders in log order")
        self._check_fixed("6.3", body.size, body.root, self.manifest.start, "registration close")
        if any(bidder.index >= body.size for bidder in self.bidders.values()):
            self._fault("6.3", "a bidder registered after the checkpoint at which registration closes")
        return True

    def _on_context(self, statement: m.Statement, body: m.Context) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if state.context is not None or state.presence or state.bids or state.close is not None:
            return self._fault("6.4", "context after presence or a bid, or twice")
        if len(body.values) != len(self.manifest.context):
            return self._fault("6.4", f"context has {len(body.values)} values, wanted {self.manifest.context}")
        if any(not 0 <= value <= self.manifest.grid.maximum for value in body.values):
            return self._fault("6.4", f"context {body.values}: wanted 0 to {self.manifest.grid.maximum} grid units")
        state.context = body
        return True

    def _on_presence(self, statement: m.Statement, body: m.Presence) -> bool:
        if self._bidder(statement, body.bidder) is None:
            return False
        state = self.round(body.round)
        if self.manifest.context and state.context is None:
            return False  # the public context comes first (spec 6.4)
        # before the own bid and the close; rivals' bids are sealed until then, and nobody is locked out (spec 3.13)
        if body.bidder in state.bids or state.close is not None or body.bidder in state.presence:
            return False
        state.presence[body.bidder] = body.present
        return True

    def _on_bid(self, statement: m.Statement, body: m.Bid) -> bool:
        bidder = self._bidder(statement, body.bidder)
        if bidder is None:
            return False
        state = self.round(body.round)
        early = (body.ct, body.ct_key, body.link)  # profile P0: everything comes with the bid (spec 3.9)
        if any((part is msgspec.UNSET) != (self.manifest.profile == "P1") for part in early):
            return False
        try:
            hash_from_hex(body.com, "commitment")
        except MalformedError:
            return False  # a malformed bid is no bid
        # one bid a round, rising seq, chained by prev (3.5), before the close (3.8): anything else is no valid bid
        # entry
        if body.bidder in state.bids or state.close is not None:
            return False
        known = self.first_epoch == 0 or bidder.last_seq >= 0  # a bundle does not hold the bids of earlier epochs
        # what is left of the deposit covers each unopened commitment (spec 9.9); earlier rounds are decided by now
        if bidder.deposit - bidder.forfeited < self.manifest.money.opening_forfeit * (bidder.unopened + 1):
            return False
        if body.seq <= bidder.last_seq or (known and body.prev != bidder.last_bid):
            return False
        if self.manifest.profile == "P0" and not self._opening_holds(bidder, opening := _early_opening(body)):
            return False
        state.bids[body.bidder] = BidEntry(self._index, body.seq, body.com)
        bidder.last_seq, bidder.last_bid = body.seq, statement.identity
        if self.manifest.profile == "P0":
            state.openings[body.bidder] = (self._index, opening)
        return True

    def _on_close(self, statement: m.Statement, body: m.Close) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if state.close is not None:
            return self._fault("3.8", "the round is closed twice")
        state.close, state.close_index = body, self._index
        if self.manifest.context and state.context is None:
            self._fault("6.4", "the round has no public context")
        self._check_fixed("3.8", body.size, body.root, self.deadline(body.round, "close"), "close")
        coms = [bid.com for bid in self.committed(body.round).values()]
        if body.coms_count != len(coms) or (body.coms is not msgspec.UNSET and body.coms != coms):
            self._fault("3.8", f"close lists {body.coms_count} commitments, not the {len(coms)} that are logged")
        elif body.coms_root != m.hash_list(coms, ordered=False)[1]:
            self._fault("3.8", "close has another root over its commitments")
        elif body.coms is msgspec.UNSET and len(coms) <= m.MAX_LIST:
            self._fault("2.5", f"close leaves out a list of {len(coms)} hashes")
        return True

    def _on_opening(self, statement: m.Statement, body: m.OpeningStatement) -> bool:
        bidder = self._bidder(statement, body.bidder)
        if bidder is None:
            return False
        state = self.round(body.round)
        bid = self.committed(body.round).get(body.bidder)
        if state.close is None or bid is None or body.com != bid.com or body.bidder in state.openings:
            return False  # an opening of nothing
        if self._proven_late(self._index, self.deadline(body.round, "opening")):
            return False  # late never counts (spec 3.10)
        if not self._opening_holds(bidder, body):
            return False
        state.openings[body.bidder] = (self._index, body)
        return True

    def _opening_holds(self, bidder: BidderState, body: m.OpeningStatement) -> bool:
        key = self._seal_keys.get(self.manifest.epoch_of(body.round))
        if key is None or body.ct_key != key.hex():
            return False  # sealed to another key: no valid opening (spec 3.10)
        try:
            bytes_from_hex(body.ct, "sealed opening")
            bidder.lottery.verify(body.round, hash_from_hex(body.link, "link"))
        except (MalformedError, VerificationError):
            return False  # no link, no valid opening (spec 5.7)
        return True

    def _on_void(self, statement: m.Statement, body: m.Void) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if state.outcome is not None or body.bidder in state.voids or body.reason not in m.VOID_REASONS:
            return self._fault("3.10", f"void after the outcome, twice, or for no reason: {body.reason[:40]!r}")
        if body.bidder not in self.committed(body.round):
            return self._fault("3.10", "void of a bid that is not in the close")
        state.voids[body.bidder] = body.reason
        self.bidders[body.bidder].unopened += body.reason == m.NO_OPENING
        return True

    def _on_outcome(self, statement: m.Statement, body: m.Outcome) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if state.outcome is not None or state.close is None:
            return self._fault("6.4", "outcome twice or before its close")
        state.outcome, state.outcome_index = body, self._index
        if self.beacon_for(self.manifest.beacon_of_round(body.round)) is None:
            self._fault("5.4", f"outcome before beacon round {self.manifest.beacon_of_round(body.round)} is logged")
        deadline = self.deadline(body.round, "opening")
        self._check_fixed("3.10", body.size, body.root, deadline, "outcome's end of openings")
        opened = self.opened(body.round, body.size)
        for party in self.committed(body.round):
            if (party not in opened) != (state.voids.get(party) == m.NO_OPENING):
                text = "an opening in time is called missing" if party in opened else "an unopened bid is not void"
                self._fault("3.10", f"seat {self.bidders[party].seat}: {text}")
        mask = self.mask(body.round, body.size)
        for rule, got, wanted, what in (
            ("3.13", body.mask, encode_mask(mask), "participation mask"),
            ("3.17", len(body.rows), sum(mask), "number of rows"),
            ("2.14", body.mech, self.manifest.mech, "mechanism"),
            ("3.17", body.close, hash_of("close", state.close).hex(), "close"),
        ):
            if got != wanted:
                self._fault(rule, f"outcome has {what} {got}, wanted {wanted}")
        try:
            self._auctioneer_lottery.verify(body.round, hash_from_hex(body.link, "link"))
            for text in (body.matrix, *body.rows):
                hash_from_hex(text, "row")
        except (MalformedError, VerificationError) as error:
            self._fault("5.7", str(error))
        return True

    def _on_epoch_root(self, statement: m.Statement, body: m.EpochRoot) -> bool:
        if not 0 <= body.epoch < self.manifest.epochs or not self._signed(statement, self.auctioneer):
            return self._fault("6.6", f"epoch root of epoch {body.epoch}", "log")
        if self.epoch(body.epoch).root is not None:
            return self._fault("6.6", "an epoch root is fixed twice")
        self.epoch(body.epoch).root = body
        self._check_fixed("6.6", body.size, body.root, self.epoch_deadline(body.epoch, "root"), "epoch root")
        for index in self.manifest.rounds_of(body.epoch):
            if not 0 <= self.round(index).outcome_index < body.size:
                self._fault("6.6", f"round {index} has no outcome under the epoch root")
        return True

    def _on_contribution_close(self, statement: m.Statement, body: m.ContributionClose) -> bool:
        if not 0 <= body.epoch < self.manifest.epochs or not self._signed(statement, self.auctioneer):
            return self._fault("5.2", f"close of contributions of epoch {body.epoch}", "log")
        state = self.epoch(body.epoch)
        if state.root is None or state.closed is not None:
            return self._fault("5.2", "contributions close twice, or before the epoch root is fixed")
        state.closed = body
        deadline = self.epoch_deadline(body.epoch, "contribution")
        self._check_fixed("5.2", body.size, body.root, deadline, "close of contributions")
        if self.auctioneer.party not in self.contributions(body.epoch):
            self._fault("5.6", f"the auctioneer made no contribution to epoch {body.epoch} in time")
        return True

    def _on_contribution(self, statement: m.Statement, body: m.Contribution) -> bool:
        own = body.party == self.auctioneer.party
        if not 0 <= body.epoch < self.manifest.epochs or not (own or body.party in self.bidders):
            return self._fault("5.2", f"contribution to epoch {body.epoch} of an unknown epoch or party", "log")
        bidder = None if own else self.bidders[body.party]
        key, chain = (self.auctioneer, self._auctioneer_audit) if bidder is None else (bidder.key, bidder.audit)
        if not self._signed(statement, key):
            return False
        state = self.epoch(body.epoch)
        problem = ""
        if state.root is None or state.closed is not None:
            problem = "contribution before the epoch root is fixed, or after contributions closed"
        elif body.party in state.links:
            problem = "contribution twice"
        elif not own and body.party not in self.present(body.epoch):
            problem = "contribution of a bidder who took part in no round of the epoch"
        elif own and body.epoch + 1 < self.manifest.epochs and body.seal_key is msgspec.UNSET:
            problem = "contribution without the sealing key of the next epoch"
        else:
            try:
                if body.seal_key is not msgspec.UNSET:
                    check_seal_key(hash_from_hex(body.seal_key, "seal key"))
                chain.verify(body.epoch, hash_from_hex(body.link, "link"))
            except ProtocolError as error:
                problem = str(error)
        if problem:
            return self._fault("5.6", problem) if own else False
        state.links[body.party] = (self._index, body.link)
        if own and body.seal_key is not msgspec.UNSET:
            self._seal_keys[body.epoch + 1] = bytes.fromhex(body.seal_key)
        return True

    def _on_challenge(self, statement: m.Statement, body: m.Challenge) -> bool:
        if not self._by_auditor(statement, body.epoch):
            return False
        root, drawn = self.epoch(body.epoch).root, self.drawn(body.epoch)
        if root is None or (root.size, root.root) != (body.size, body.root):
            return self._fault("6.6", "challenge under another epoch root", "auditor")
        if body.rounds != drawn:
            return self._fault(
                "7.2", f"challenge of {body.rounds[:20]}, the seed draws {(drawn or [])[:20]}", "auditor"
            )
        self.epoch(body.epoch).challenge = body
        return True

    def _on_response(self, statement: m.Statement, body: m.Response) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if body.epoch != self.manifest.epoch_of(body.round):
            return self._fault("8.5", f"response of round {body.round} under epoch {body.epoch}")
        if state.response is not None:
            return self._fault("6.6", "a second response")
        if self.manifest.disclosure == "auditor" and not self.condemned(body.epoch):
            return self._fault("7.7", "a round is disclosed in clear, the manifest seals it to the auditors")
        if self._proven_late(self._index, self._response_due(body.round)):
            return self._fault("6.6", "response after the deadline")
        state.response, state.response_index = body, self._index
        for sealed in state.sealed.values():
            if sealed.content != hash_of("response", body).hex():
                self._fault("7.7", "the response in clear is another than the one sealed to an auditor")
        return True

    def _response_due(self, round_index: int) -> int:
        epoch = self.manifest.epoch_of(round_index)
        if self.manifest.disclosure == "auditor":  # in clear only with the whole epoch
            return self.epoch_deadline(epoch, "whole")
        return self.response_deadline(round_index)

    def _on_sealed_response(self, statement: m.Statement, body: m.SealedResponse) -> bool:
        if not self._by_auctioneer(statement):
            return False
        state = self.round(body.round)
        if body.epoch != self.manifest.epoch_of(body.round):
            return self._fault("8.5", f"response of round {body.round} under epoch {body.epoch}")
        if body.auditor not in {key.party for key in self.auditors} or self.manifest.disclosure != "auditor":
            return self._fault("7.7", "a response is sealed to nobody whom the manifest names")
        if body.auditor in state.sealed:
            return self._fault("6.6", "a second response to an auditor")
        if self._proven_late(self._index, self.response_deadline(body.round)):
            return self._fault("6.6", "response after the deadline")
        try:
            hash_from_hex(body.content, "content")
            bytes_from_hex(body.ct, "sealed response")
        except MalformedError as error:
            return self._fault("7.7", str(error))
        if any(other.content != body.content for other in state.sealed.values()):
            self._fault("7.7", "two auditors are sent different responses")
        state.sealed[body.auditor] = body
        return True

    def _on_escalation(self, statement: m.Statement, body: m.Escalation) -> bool:
        if not self._by_auditor(statement, body.epoch):
            return False
        state, drawn, seed = self.epoch(body.epoch), self.drawn(body.epoch), self.seed(body.epoch)
        rounds = self.manifest.rounds_of(body.epoch)
        if drawn is None or seed is None or state.verdicts or state.settlement is not None:
            return self._fault("7.8", "escalation before the draw, or after a verdict", "auditor")
        most = min(len(drawn) + self.manifest.audit.escalation, len(rounds))
        if not len(drawn) < len(body.rounds) <= most or body.rounds != by_ticket(seed, rounds)[: len(body.rounds)]:
            text = f"escalation to {len(body.rounds)} rounds, wanted the first {len(drawn) + 1} to {most} by ticket"
            return self._fault("7.8", text, "auditor")
        if self._proven_late(self._index, self.epoch_deadline(body.epoch, "response")):
            return self._fault("7.8", "escalation after the response deadline", "auditor")
        state.escalated = max(state.escalated, len(body.rounds))
        return True

    def _on_canary(self, statement: m.Statement, body: m.Canary) -> bool:
        if not self._signed(statement, self.arbiter, "arbiter"):
            return False
        if not 0 <= body.round < self.manifest.rounds or body.round in self.canaries:
            return self._fault("7.9", f"canary of round {body.round}, revealed before or not scheduled", "arbiter")
        try:
            known = canary_commitment(body.round, hash_from_hex(body.nonce, "nonce")) in self.manifest.canaries
        except MalformedError as error:
            return self._fault("7.9", str(error), "arbiter")
        if not known:
            return self._fault("7.9", f"round {body.round} is no canary that the manifest commits to", "arbiter")
        self.canaries[body.round] = self._index
        return True

    def _on_assessment(self, statement: m.Statement, body: m.Assessment) -> bool:
        if not self._by_auditor(statement, body.epoch):
            return False
        state = self.epoch(body.epoch)
        if not self.condemned(body.epoch):
            return self._fault("6.6", "assessment without a verdict of deviation", "auditor")
        open_rounds = [i for i in self.manifest.rounds_of(body.epoch) if self.round(i).response is None]
        if self.first_closed(body.epoch) is not None and not self.passed(self.epoch_deadline(body.epoch, "whole")):
            return self._fault("7.8", "assessment before the whole epoch is due to be open", "auditor")
        if body.withheld != open_rounds:
            return self._fault(
                "7.8", f"assessment calls {body.withheld[:20]} withheld, not {open_rounds[:20]}", "auditor"
            )
        if state.assessment is not None:
            return False  # the first counts; it is recomputed by whoever verifies
        if body.returns and self.manifest.money.gains != "returned":
            return self._fault("9.2", "assessment returns gains that the manifest lets stay", "auditor")
        if any(item.account not in self.bidders or item.amount <= 0 for item in body.returns):
            return self._fault("9.2", "assessment pays back to nobody who bid", "auditor")
        state.assessment = body
        return True

    def _on_beacon(self, statement: m.Statement, body: m.Beacon) -> bool:
        known = [self.auctioneer, self.arbiter, *self.auditors, *(bidder.key for bidder in self.bidders.values())]
        signer = next((key for key in known if self.key_of(key).party == statement.signer), None)
        if signer is None or self.manifest.beacon == NONE:
            return self._fault("5.3", "a beacon of nobody known, or in a session without one", "log")
        if not self._signed(statement, signer):
            return False
        try:
            verify_beacon(body.beacon_round, bytes_from_hex(body.signature, "beacon signature"))
        except (MalformedError, SignatureError, ValueError) as error:
            return self._fault("5.3", str(error), "log")
        self.beacons[body.beacon_round] = body.signature
        return True

    def supply_beacon(self, beacon_round: int, signature: bytes) -> None:
        """Take a beacon round from outside the log (spec 5.3); raise SignatureError if it is false."""
        verify_beacon(beacon_round, signature)
        self.beacons.setdefault(beacon_round, signature.hex())

    def _on_rotation(self, statement: m.Statement, body: m.Rotation) -> bool:
        holder = self._holder(body.old)
        try:
            new = VerifierKey.parse(body.new)
        except ProtocolError as error:
            return self._fault("2.10", str(error), "log")
        if holder is None or new.kind != ED25519 or self._holder(new.party) or new in self.roles:
            return self._fault("2.10", "rotation of a key that signs nothing, or to one that is in use", "log")
        if new.party in self._revoked or not self._by_registrar(statement, holder):
            return self._fault("2.10", "rotation that neither the old key nor the registrar signed", "log")
        self._current[holder.party] = new
        if holder == self.auctioneer:
            self.auctioneer_keys.append(new)
        return True

    def _on_revocation(self, statement: m.Statement, body: m.Revocation) -> bool:
        holder = self._holder(body.key)
        if holder is None or not self._by_registrar(statement, holder):
            return self._fault(
                "2.10", "revocation of a key that signs nothing, or by neither itself nor the registrar", "log"
            )
        if body.from_index <= self._index or body.key in self._revoked:
            return self._fault(
                "2.10", f"revocation from entry {body.from_index}, wanted after its own {self._index}", "log"
            )
        self._revoked[body.key] = body.from_index
        if self.registrar is not None and statement.signer == self.registrar.party:
            self.reported.add(body.key)
        return True

    def _holder(self, key_id: str) -> VerifierKey | None:
        """Return the first key of whoever signs with a key now."""
        holders = [self.auctioneer, self.arbiter, *self.auditors, *(bidder.key for bidder in self.bidders.values())]
        return next((key for key in holders if self.key_of(key).party == key_id), None)

    def _by_registrar(self, statement: m.Statement, holder: VerifierKey) -> bool:
        if self.registrar is not None and statement.signer == self.registrar.party:
            return self._signed(statement, self.registrar)
        return self._signed(statement, holder)

    def _on_complaint(self, statement: m.Statement, body: m.Complaint) -> bool:
        if self._bidder(statement, body.bidder) is None:
            return False
        state = self.round(body.round)
        if body.bidder in state.complaints or self._proven_late(self._index, self.deadline(body.round, "complaint")):
            return False
        state.complaints[body.bidder] = body.opening
        return True

    def _on_verdict(self, statement: m.Statement, body: m.VerdictStatement) -> bool:
        if not self._by_auditor(statement, body.epoch):
            return False
        state = self.epoch(body.epoch)
        if not self.verdict_due(body.epoch):
            return self._fault("7.4", "verdict before the responses are due", "auditor")
        auditor = next(key.party for key in self.auditors if self.key_of(key).party == statement.signer)
        if auditor in state.verdicts or state.settlement is not None:
            return False  # an auditor's first verdict counts
        state.verdicts[auditor] = (self._index, body)
        return True

    def _on_settlement(self, statement: m.Statement, body: m.Settlement | m.Halt) -> bool:
        if not self._signed(statement, self.arbiter):
            return False
        state = self.epochs.get(body.epoch)
        if state is None or state.settlement is not None or not state.verdicts:
            return self._fault("9.14", "settled twice, or before a verdict", "arbiter")
        halt = isinstance(body, m.Halt)
        late = self.passed(self.epoch_deadline(body.epoch, "verdict"))
        if len(state.verdicts) < len(self.auditors) and not late:
            return self._fault("7.9", "settled before every auditor has spoken or is late", "arbiter")
        if halt and state.assessment is None:
            return self._fault("6.6", "halt before the whole epoch is assessed", "arbiter")
        state.settlement = body
        if halt:
            self.halted_epoch = body.epoch
        followed = [v for _, v in state.verdicts.values() if hash_of("verdict", v).hex() == body.verdict]
        if not followed:
            self._fault("9.14", "settlement of another verdict", "arbiter")
        elif halt and not self.condemned(body.epoch):
            self._fault("6.6", "halt although no verdict says deviation, canaries apart", "arbiter")
        elif not halt and self.condemned(body.epoch) and self.first_closed(body.epoch) is not None:
            self._fault("6.6", "settled after a verdict of deviation with rounds that are not open", "arbiter")
        forfeits = self.forfeits(body.epoch)
        wanted = self.settlement_amounts(body.epoch, halt=halt)
        for party, amount in forfeits.items():
            self.bidders[party].forfeited += amount
        for bidder in self.bidders.values():
            bidder.unopened = 0
        if [(item.account, item.amount) for item in body.amounts] != list(wanted.items()):
            self._fault("9.14", "settlement moves other amounts than the rules give", "arbiter")
        return True


def canary_commitment(round_index: int, nonce: bytes) -> str:
    """Return the commitment to a canary round that the manifest carries, hex (spec 7.9)."""
    return hmac.digest(nonce, pae("canary", {"round": round_index}), "sha256").hex()


def _early_opening(body: m.Bid) -> m.OpeningStatement:
    """Return the opening that a bid of profile P0 brings along (spec 3.9)."""
    return m.OpeningStatement(
        session=body.session,
        round=body.round,
        bidder=body.bidder,
        com=body.com,
        link=str(body.link),
        ct=str(body.ct),
        ct_key=str(body.ct_key),
    )


def _chain(party: str, head: str) -> ChainVerifier:
    return ChainVerifier(party, hash_from_hex(head, "chain head"))
