"""The auctioneer: message in, messages out (spec 6). Honest; attacks override `claim` and live in the simulation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput, Runner
from protocol.commitment import Opening, seal_info, unseal_opening, verify_opening
from protocol.encoding import Message, bytes_from_hex, hash_of, pae
from protocol.errors import BindingError, MalformedError, ProtocolError, SignatureError, VerificationError
from protocol.keys import SigningKey, derive, derive_seal_key, seal
from protocol.log.note import Note, NoteSignature, cosignature_times
from protocol.log.policy import Policy
from protocol.log.writer import LogWriter
from protocol.mailbox import forced
from protocol.manifest import Manifest
from protocol.outcomes import build_matrix, hide, round_input, row_info, rows_of, seal_response
from protocol.randomness.chains import Chain
from protocol.randomness.lottery import UNSOLD, draw_winners, lottery_seed
from protocol.session import Session
from protocol.state import Cosigned, encode_mask


@dataclass(frozen=True, slots=True)
class AuctioneerKeys:
    """The auctioneer's keys, all derived from 32 secret bytes (spec 2.10).

    Attributes:
        master: 32 random bytes.
        name: Name of its keys; the log's origin is `NAME/log`.
    """

    master: bytes = field(repr=False)
    name: str

    def signing(self) -> SigningKey:
        """Return the key that signs statements."""
        return SigningKey(f"{self.name}/auctioneer", self._secret("auctioneer"))

    def log(self) -> SigningKey:
        """Return the key that signs checkpoints."""
        return SigningKey(f"{self.name}/log", self._secret("log"))

    def seal(self, epoch: int) -> X25519PrivateKey:
        """Return the X25519 key of an epoch."""
        return derive_seal_key(self._secret(f"seal-{epoch}"))

    def lottery(self, rounds: int) -> Chain:
        """Return the chain of lottery links."""
        return Chain(self.signing().party, self._secret("lottery"), rounds)

    def audit(self, epochs: int) -> Chain:
        """Return the chain of audit contributions."""
        return Chain(self.signing().party, self._secret("audit"), epochs)

    def nonce(self, session: str, round_index: int, seat: int) -> bytes:
        """Return the nonce of a row, or of the matrix (seat -1)."""
        return derive(self.master, pae("row-nonce", {"round": round_index, "seat": seat, "session": session}))

    def _secret(self, role: str) -> bytes:
        return derive(self.master, pae("key", {"role": role}))


class RefusedError(VerificationError):
    """The auctioneer gives no receipt: the statement breaks a rule and is not logged."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """What one bidder receives after a round."""

    party: str
    data: bytes


class Auctioneer:
    """The auctioneer's state machine; it runs the log too (spec 1.2).

    Args:
        keys: Its secrets.
        manifest: The rules; its heads and keys must be those of `keys`.
        policy: The witness policy that the manifest pins.
        runner: Executes the artifact.
        entries: Log of an earlier run, to go on with.
        cosigned: Cosigned checkpoints of that run.
    """

    def __init__(
        self,
        keys: AuctioneerKeys,
        manifest: Manifest,
        policy: Policy,
        runner: Runner,
        entries: Sequence[bytes] = (),
        cosigned: Sequence[Cosigned] = (),
    ) -> None:
        self._keys = keys
        self._sign = keys.signing()
        self._lottery = keys.lottery(manifest.rounds)
        self._audit = keys.audit(manifest.epochs)
        self._runner = runner
        self.policy = policy
        self.manifest = manifest
        self.matrices: dict[int, m.MatrixBody] = {}  # private, kept for the audit (spec 6.6)
        self.canaries: frozenset[int] = frozenset()  # private: rounds whose matrix the arbiter wants planted (spec 7.9)
        self._receipts: dict[str, bytes] = {}  # given out since contributions last closed, by statement
        self.second_bids: dict[tuple[int, str], bytes] = {}  # refused, by round and bidder (spec 3.5)
        self._openings: dict[tuple[int, str], Opening] = {}  # private: read to settle, shown in the audit
        self._seal_keys: dict[int, X25519PrivateKey] = {}
        self.deviated: dict[int, bool] = {}  # private: was the published result another than the mechanism's?
        wanted = (str(self._sign.verifier), str(keys.log().verifier), self._lottery.head, self._audit.head)
        if wanted != (manifest.auctioneer, manifest.log, manifest.lottery_head, manifest.audit_head):
            raise ValueError("the manifest names other keys or chain heads than the auctioneer holds")
        self.log = LogWriter(keys.log(), entries)
        if not entries:
            self.log.append(m.sign_statement(manifest, self._sign))
        self.session = Session(self.log.entries[0])
        self.session.add_cosigned(cosigned)
        for index, entry in enumerate(self.log.entries[1:], 1):
            self.session.apply(index, entry)
        self._party = self._sign.party  # its identity in the session, whatever key it signs with later
        self._logged = {m.Statement.decode(entry).identity for entry in entries} if manifest.mailboxes else set()

    # --- log ---------------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Note:
        """Return the signed checkpoint to put before the witnesses."""
        return self.log.checkpoint()

    def cosigned(self, note: Note, signatures: Sequence[NoteSignature]) -> Note:
        """Add cosignatures to a checkpoint; if they meet the quorum, deadlines are judged by it (spec 3.8)."""
        full = Note(note.text, (*note.signatures, *signatures))
        time = self.policy.quorum_time(cosignature_times(full, tuple(self.policy.witnesses.values())))
        if time is not None:
            size = self.log.tree.size
            self.session.add_cosigned([Cosigned(size, self.log.tree.root(size).hex(), time)])
        return full

    def _put(self, body: Message) -> int:
        entry = m.sign_statement(body, self._sign)
        index = self.log.append(entry)
        self.session.apply(index, entry)
        return index

    def publish(self, entry: bytes) -> int:
        """Append a statement that needs no receipt (of auditors, arbiter, registrar; beacons, rotations).

        Raises:
            RefusedError: If it is void of effect.
        """
        index = self.log.tree.size
        self._apply(index, m.Statement.decode(entry))
        return self.log.append(entry)

    def _apply(self, index: int, statement: m.Statement) -> None:
        """Apply an entry that may be refused; refusal leaves no trace."""
        session = self.session
        before, without = len(session.findings), session.counts["without effect"]
        if not session.apply_statement(index, statement):
            problem = "; ".join(finding.text for finding in session.findings[before:])
            del session.findings[before:]
            session.counts["without effect"] = without
            raise RefusedError(
                f"{statement.name} has no effect and is not logged: {problem or 'late, repeated or void'}"
            )

    def forget(self) -> None:
        """Let go of epochs that nothing can change any more: their rounds, and what was kept for their audits."""
        session = self.session
        while session.final(session.forgotten, self.log.tree.size):
            for index in self.manifest.rounds_of(session.forgotten):
                self.matrices.pop(index, None)
            session.forget(session.forgotten)

    # --- bidders' statements -----------------------------------------------------------------------------------------

    def receive(self, data: bytes, time: int) -> bytes:
        """Take a bidder's statement into the log and return the signed receipt (spec 3.6).

        The same statement again gets the same receipt, as networks repeat (spec 1.2); another bid for the round is
        refused, and kept (spec 3.5).

        Raises:
            RefusedError: If a rule makes the statement void of effect; it is not logged.
            MalformedError: If the bytes are no statement.
        """
        statement = m.Statement.decode(data)
        body = statement.body
        session = self.session
        if statement.identity in self._receipts:
            return self._receipts[statement.identity]
        appear_by = 0
        if getattr(body, "session", None) == session.id:
            try:
                appear_by = session.due(body)
            except (IndexError, ValueError) as error:
                raise RefusedError(f"{statement.name} of a round or epoch that is not scheduled") from error
            if time > appear_by:
                raise RefusedError(f"{statement.name} at {time}, its deadline was {appear_by}: no receipt (spec 3.6)")
        try:
            self._apply(self.log.tree.size, statement)
        except RefusedError:
            self._keep_second(statement)
            raise
        self.log.append(data)
        receipt = m.receipt_for(statement, session.id, time, appear_by)
        if self.manifest.mailboxes:
            self._logged.add(receipt.statement)
        self._receipts[receipt.statement] = signed = m.sign_statement(receipt, self._sign)
        return signed

    def _keep_second(self, statement: m.Statement) -> None:
        """Keep a bidder's second bid for a round, if it is truly the bidder's: one of each shows what it did (3.5)."""
        body, session = statement.body, self.session
        if not isinstance(body, m.Bid) or (body.round, body.bidder) in self.second_bids:
            return
        state = session.rounds.get(body.round)
        if body.session != session.id or state is None or body.bidder not in state.bids:
            return
        with contextlib.suppress(ProtocolError):
            statement.verify(session.key_of(session.bidders[body.bidder].key))
            self.second_bids[body.round, body.bidder] = statement.data

    def force(self, data: bytes, receipts: Sequence[bytes]) -> int | None:
        """Log what enough mailboxes stamped in time, whether or not it has an effect (spec 3.7).

        Args:
            data: The bidder's statement.
            receipts: The mailboxes' receipts for it.

        Returns:
            Its position; None if it is logged already.

        Raises:
            RefusedError: If the receipts do not force it.
        """
        statement = m.Statement.decode(data)
        if statement.identity in self._logged:
            return None
        if not forced(self.session, statement, receipts):
            raise RefusedError(f"{statement.name}: too few mailboxes stamped it in time (spec 3.7)")
        index = self.log.append(data)
        self.session.apply(index, data)
        self._logged.add(statement.identity)
        return index

    def rotate(self, key: SigningKey) -> None:
        """Go on with another signing key; the old one signs the change (spec 2.10)."""
        old = self.session.key_of(self.session.auctioneer).party
        self._put(m.Rotation(session=self.session.id, old=old, new=str(key.verifier)))
        self._sign = key

    # --- flow --------------------------------------------------------------------------------------------------------

    def close_registration(self) -> None:
        """Fix the seats at the last cosigned checkpoint (spec 6.3)."""
        fixed = self._last(None)
        seats, root = m.hash_list(self.session.seats, ordered=True)
        self._put(
            m.RegistrationClose(
                session=self.session.id,
                size=fixed.size,
                root=fixed.root,
                seats_count=len(self.session.seats),
                seats_root=root,
                seats=seats,
            )
        )

    def announce(self, round_index: int, values: list[int], label: str = "") -> None:
        """Publish a round's public context before any bid (spec 6.4, R1)."""
        self._put(m.Context(session=self.session.id, round=round_index, values=values, label=label))

    def close(self, round_index: int) -> None:
        """Fix the bids of a round at the last checkpoint cosigned by the deadline (spec 3.8)."""
        fixed = self._last(self.session.deadline(round_index, "close"))
        bids = self.session.round(round_index).bids.values()
        coms = [bid.com for bid in bids if bid.index < fixed.size]
        listed, root = m.hash_list(coms, ordered=False)
        self._put(
            m.Close(
                session=self.session.id,
                round=round_index,
                size=fixed.size,
                root=fixed.root,
                coms_count=len(coms),
                coms_root=root,
                coms=listed,
            )
        )

    def settle(self, round_index: int) -> list[SealedRow]:
        """Open, void, execute, draw and publish the outcome of a round; return the sealed rows (spec 6.4, R5 to R7)."""
        session, manifest = self.session, self.manifest
        fixed = self._last(session.deadline(round_index, "opening"))
        opened = session.opened(round_index, fixed.size)
        bids: dict[str, list[int]] = {}
        for party in session.committed(round_index):
            reason = m.NO_OPENING
            if party in opened:
                reason, row = self._open(round_index, party, opened[party])
                if row is not None:
                    bids[party] = row
                    continue
            self._put(m.Void(session=session.id, round=round_index, bidder=party, reason=reason))
        mask = session.mask(round_index, fixed.size)
        links = {party: opened[party].link for party, bit in zip(session.seats, mask, strict=True) if bit}
        item = round_input(session, round_index, mask, bids)
        output = self._runner.run([item])[0]
        links[self._party] = self._lottery.link(round_index)
        beacon = session.beacon_for(manifest.beacon_of_round(round_index))
        if beacon is None:
            raise ValueError(f"beacon round {manifest.beacon_of_round(round_index)} is not logged yet (spec 5.4)")
        seed = lottery_seed(session.id, round_index, self._close(round_index).root, links, beacon)
        honest = Auctioneer.claim(self, round_index, item, output, seed)
        plain = type(self).claim is Auctioneer.claim
        output, won = honest if plain else self.claim(round_index, item, output, seed)
        recorded = manifest.draw == "recorded"  # the winner is then a claim about the past, not a draw
        self.deviated[round_index] = output != honest[0] or (not recorded and won != honest[1])
        matrix = build_matrix(manifest, round_index, mask, item.bids, output, won)
        rows = rows_of(matrix)
        if round_index in self.canaries and matrix.payment:
            matrix = msgspec.structs.replace(matrix, payment=[matrix.payment[0] + 1, *matrix.payment[1:]])
        self.matrices[round_index] = matrix
        nonces = [self._keys.nonce(session.id, round_index, row.seat) for row in rows]
        index = self._put(
            m.Outcome(
                session=session.id,
                round=round_index,
                close=hash_of("close", self._close(round_index)).hex(),
                mech=manifest.mech,
                mask=encode_mask(mask),
                link=self._lottery.link(round_index),
                size=fixed.size,
                root=fixed.root,
                rows=[hide("row", row, nonce) for row, nonce in zip(rows, nonces, strict=True)],
                matrix=hide("matrix", matrix, self._keys.nonce(session.id, round_index, -1)),
            )
        )
        return [self._seal_row(index, row, nonce) for row, nonce in zip(rows, nonces, strict=True)]

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Return the result to publish: the artifact's output and the drawn winners. Deviations override this.

        Args:
            round_index: Round, from 0.
            item: What the artifact was run on.
            output: What it returned.
            seed: The round's lottery seed.
        """
        if self.manifest.draw == "recorded":
            return output, [UNSOLD] * len(self.manifest.items)
        return output, draw_winners(output.allocation, seed, self.manifest.share_bits, self.manifest.draw)

    def fix_epoch_root(self, epoch: int) -> None:
        """Fix the epoch root before any contribution is revealed (spec 6.6, E1)."""
        fixed = self._last(self.session.epoch_deadline(epoch, "root"))
        self._put(m.EpochRoot(session=self.session.id, epoch=epoch, size=fixed.size, root=fixed.root))

    def close_contributions(self, epoch: int) -> None:
        """Fix which contributions count: those under the last checkpoint cosigned by the deadline (spec 5.2)."""
        fixed = self._last(self.session.epoch_deadline(epoch, "contribution"))
        self._receipts = {}  # whatever they promise is in the log by now
        self._put(m.ContributionClose(session=self.session.id, epoch=epoch, size=fixed.size, root=fixed.root))

    def contribute(self, epoch: int) -> None:
        """Reveal the audit link of an epoch, and the sealing key of the next (spec 5.2)."""
        more = epoch + 1 < self.manifest.epochs
        key = self._keys.seal(epoch + 1).public_key().public_bytes_raw().hex() if more else msgspec.UNSET
        self._put(
            m.Contribution(
                session=self.session.id,
                epoch=epoch,
                party=self._party,
                link=self._audit.link(epoch),
                seal_key=key,
            )
        )

    def respond(self, epoch: int) -> None:
        """Disclose every round that was drawn or asked for, completely, and no other (spec 1.7; 6.6, E3; 7.4, 7.7)."""
        for round_index in self.session.audited(epoch) or ():
            if self.session.disclosed(round_index):
                continue
            body = self.disclose(round_index)
            if self.manifest.disclosure == "public":
                self._put(body)
            for auditor in range(len(self.manifest.auditor_seals)):
                self._put(seal_response(self.session, body, auditor))

    def open_epoch(self, epoch: int) -> None:
        """After a verdict of deviation, disclose every round of the epoch in clear (spec 6.6, E5; 7.8)."""
        for round_index in self.manifest.rounds_of(epoch):
            if self.session.round(round_index).response is None:
                self._put(self.disclose(round_index))

    def disclose(self, round_index: int) -> m.Response:
        """Return the response for one round: openings in clear, the matrix and all nonces."""
        session = self.session
        outcome = session.round(round_index).outcome
        if outcome is None:
            raise ValueError(f"round {round_index} has no outcome yet")
        openings = []
        for party, sealed in session.opened(round_index, outcome.size).items():
            if session.round(round_index).voids.get(party) not in (m.UNREADABLE, m.UNMATCHED):
                opening = self._unseal(round_index, party, sealed)
                openings.append(m.OpenedBid(body=opening.body, nonce=opening.nonce.hex()))
        matrix = self.matrices[round_index]
        return m.Response(
            session=session.id,
            epoch=self.manifest.epoch_of(round_index),
            round=round_index,
            openings=openings,
            matrix=matrix,
            matrix_nonce=self._keys.nonce(session.id, round_index, -1).hex(),
            row_nonces=[self._keys.nonce(session.id, round_index, seat).hex() for seat in matrix.seats],
        )

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _last(self, deadline: int | None) -> Cosigned:
        fixed = self.session.last_cosigned(deadline)
        if fixed is None:
            raise ValueError("no checkpoint has met the witness quorum yet")
        return fixed

    def _close(self, round_index: int) -> m.Close:
        close = self.session.round(round_index).close
        if close is None:
            raise ValueError(f"round {round_index} is not closed yet")
        return close

    def _unseal(self, round_index: int, party: str, statement: m.OpeningStatement) -> Opening:
        place = (round_index, party)
        if place not in self._openings:
            epoch = self.manifest.epoch_of(round_index)
            if epoch not in self._seal_keys:
                self._openings, self._seal_keys = {}, {epoch: self._keys.seal(epoch)}  # earlier epochs are settled
            info = seal_info(self.session.id, round_index, party, self._party, statement.com)
            sealed = bytes_from_hex(statement.ct, "sealed opening")
            self._openings[place] = unseal_opening(sealed, self._seal_keys[epoch], info)
        return self._openings[place]

    def _open(self, round_index: int, party: str, statement: m.OpeningStatement) -> tuple[str, list[int] | None]:
        try:
            opening = self._unseal(round_index, party, statement)
        except (SignatureError, MalformedError):
            return m.UNREADABLE, None
        try:
            verify_opening(opening, bytes.fromhex(statement.com), self.session.expected_body(round_index, party))
        except BindingError:
            return m.UNMATCHED, None
        return m.OUTSIDE_SUPPORT, self.manifest.support(opening.body.bids, round_index)

    def _seal_row(self, index: int, row: m.RowBody, nonce: bytes) -> SealedRow:
        party = self.session.seats[row.seat]
        message = m.Row(session=self.session.id, round=row.round, outcome=index, row=row, nonce=nonce.hex())
        data = m.sign_statement(message, self._sign)
        ephemeral = derive_seal_key(derive(nonce, pae("seal-key", {})))
        info = row_info(self.session.id, row.round, self._party, party)
        return SealedRow(party, seal(data, self.session.bidders[party].seal_key, info, ephemeral))
