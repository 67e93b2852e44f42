"""A bidder: commits, opens, checks its own part of every round (spec 1.4, 3, 6)."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import messages as m
from protocol.commitment import BidBody, Opening, bid_nonce, seal_info, seal_opening
from protocol.encoding import Message, pae
from protocol.errors import MalformedError, ProtocolError, VerificationError
from protocol.keys import SigningKey, derive, derive_seal_key, unseal
from protocol.outcomes import hide, row_info
from protocol.randomness.chains import Chain
from protocol.randomness.lottery import charge_of
from protocol.session import Session
from protocol.state import NO_BID, Finding


@dataclass(frozen=True, slots=True)
class BidderKeys:
    """A bidder's keys and chains, all derived from 32 secret bytes (spec 2.10, 3.3).

    Attributes:
        master: 32 random bytes.
        name: Name of its key.
    """

    master: bytes = field(repr=False)
    name: str

    def signing(self) -> SigningKey:
        """Return the key that signs statements."""
        return SigningKey(self.name, derive(self.master, pae("key", {"role": "bidder"})))

    def seal(self) -> X25519PrivateKey:
        """Return the X25519 key that rows are sealed to."""
        return derive_seal_key(derive(self.master, pae("key", {"role": "seal"})))


class Bidder:
    """The state machine of one bidder; the log as it sees it is a `Session`, which it only reads.

    Args:
        keys: Its secrets.
        session: The session it joins; the artifact is checked against `mech` by the caller before (spec 6.2).
        last: Seq and identity of its last logged bid, after a restart.
    """

    def __init__(self, keys: BidderKeys, session: Session, last: tuple[int, str] = (-1, NO_BID)) -> None:
        self._keys = keys
        self._sign = keys.signing()
        self._party = self._sign.party
        self._seal = keys.seal()
        manifest = session.manifest
        self._lottery = Chain(self.party, derive(keys.master, pae("key", {"role": "lottery"})), manifest.rounds)
        self._audit = Chain(self.party, derive(keys.master, pae("key", {"role": "audit"})), manifest.epochs)
        self._session = session
        self._seq, self._prev = last
        self._openings: dict[int, Opening] = {}

    @property
    def party(self) -> str:
        """Party id, hex: that of the first key, whatever key signs later (spec 2.10)."""
        return self._party

    def registration(self) -> bytes:
        """Return the statement that joins the session (spec 6.2)."""
        return self._statement(
            m.Registration(
                session=self._session.id,
                vkey=str(self._sign.verifier),
                seal_key=self._seal.public_key().public_bytes_raw().hex(),
                lottery_head=self._lottery.head,
                audit_head=self._audit.head,
                deposit=self._session.manifest.money.bidder_deposit,
            )
        )

    def presence(self, round_index: int, present: bool = True) -> bytes:
        """Return the statement that the bidder takes part in a round (spec 3.13)."""
        return self._statement(
            m.Presence(session=self._session.id, round=round_index, bidder=self.party, present=present)
        )

    def bid(self, round_index: int, bids: list[int]) -> bytes:
        """Commit to bids, one integer per item in grid units, and return the statement (spec 3.1, 3.5)."""
        manifest = self._session.manifest
        self._seq += 1  # durable with the caller's store before the statement leaves (spec 3.3)
        body = BidBody(
            bidder=self.party,
            bids=bids,
            epoch=manifest.epoch_of(round_index),
            items=manifest.items_hash,
            mech=manifest.mech,
            participation=True,
            round=round_index,
            seq=self._seq,
            session=self._session.id,
        )
        nonce = bid_nonce(self._keys.master, self._session.id, round_index, self._seq)
        opening = Opening(body, nonce)
        self._openings = {round_index: opening}  # of the round that is open; older ones are derived again if asked
        early = self._sealed(round_index, opening) if manifest.profile == "P0" else None
        message = m.Bid(
            session=self._session.id,
            round=round_index,
            bidder=self.party,
            seq=self._seq,
            com=opening.commitment.hex(),
            prev=self._prev,
            ct=early.ct if early else msgspec.UNSET,
            ct_key=early.ct_key if early else msgspec.UNSET,
            link=early.link if early else msgspec.UNSET,
        )
        data = self._statement(message)
        self._prev = m.Statement.decode(data).identity
        return data

    def check_receipt(self, data: bytes, sent: bytes) -> m.Receipt:
        """Check a receipt against what was sent; raise VerificationError if it promises something else (spec 3.6)."""
        statement, receipt = m.decode_as(data, m.Receipt)
        statement.verify(self._session.key_of(self._session.auctioneer))
        wanted = m.Statement.decode(sent).identity
        if (receipt.session, receipt.bidder, receipt.statement) != (self._session.id, self.party, wanted):
            raise VerificationError("receipt is for another statement (spec 3.6)")
        due = self._session.due(m.Statement.decode(sent).body)
        if receipt.appear_by > due:
            raise VerificationError(
                f"receipt promises the log by {receipt.appear_by}, the deadline is {due} (spec 3.6)"
            )
        return receipt

    def check_close(self, round_index: int) -> list[Finding]:
        """Check that the own bid is among the closed ones (spec 1.4, 6.4 R3)."""
        state = self._session.round(round_index)
        opening = self._openings.get(round_index)
        if opening is None or state.close is None:
            return []
        if opening.commitment.hex() in [bid.com for bid in self._session.committed(round_index).values()]:
            return []
        return [
            self._finding("3.6", round_index, "the own bid has a receipt and is not in the close", state.close_index)
        ]

    def opening(self, round_index: int) -> bytes:
        """Seal the opening to the auctioneer's key of the epoch, and reveal the lottery link (spec 3.9, 5.7).

        Raises:
            ValueError: If the close is not logged yet: nothing is opened before it; or if the profile is P0, where the
                bid has brought the opening (spec 3.9).
        """
        if self._session.round(round_index).close is None or self._session.manifest.profile == "P0":
            raise ValueError(f"round {round_index} is not closed yet, or its openings came with the bids")
        return self._statement(self._sealed(round_index, self._openings[round_index]))

    def _sealed(self, round_index: int, opening: Opening) -> m.OpeningStatement:
        session = self._session
        com = opening.commitment.hex()
        recipient = session.seal_key(session.manifest.epoch_of(round_index))
        if recipient is None:
            raise VerificationError("the auctioneer published no sealing key for this epoch (spec 2.10)")
        info = seal_info(session.id, round_index, self.party, session.auctioneer.party, com)
        return m.OpeningStatement(
            session=session.id,
            round=round_index,
            bidder=self.party,
            com=com,
            link=self._lottery.link(round_index),
            ct=seal_opening(opening, recipient, info).hex(),
            ct_key=recipient.hex(),
        )

    def check_row(self, round_index: int, sealed: bytes | None) -> tuple[list[Finding], m.RowBody | None]:
        """Check the own row of an outcome (spec 1.4, 3.14, 3.16, 3.18): tier 1, in every round.

        Args:
            round_index: Round, from 0.
            sealed: What the auctioneer sent; None if nothing came.

        Returns:
            What is wrong, and the row if it could be read.
        """
        session, state = self._session, self._session.round(round_index)
        seat = session.bidders[self.party].seat
        opening, outcome = self._openings.get(round_index), state.outcome
        if opening is None or outcome is None:
            return [], None
        at = state.outcome_index
        if not session.mask(round_index, outcome.size)[seat]:
            lied = state.voids.get(self.party) in (m.UNREADABLE, m.UNMATCHED, m.OUTSIDE_SUPPORT)
            if lied and session.manifest.support(opening.body.bids, round_index) is not None:
                return [self._finding("3.11", round_index, "a good opening in time is called void", at)], None
            return [], None
        if sealed is None:
            return [self._finding("3.17", round_index, "no row was delivered", at)], None
        try:
            info = row_info(session.id, round_index, session.auctioneer.party, self.party)
            statement, row = m.decode_as(unseal(sealed, self._seal, info), m.Row)
            statement.verify(session.key_of(session.auctioneer))
        except ProtocolError as error:
            return [self._finding("3.17", round_index, f"the row cannot be read: {error}", at)], None
        body = row.row
        position = sum(session.mask(round_index, outcome.size)[:seat])
        problems = []
        if (row.session, row.round, row.outcome, body.seat) != (session.id, round_index, at, seat):
            problems.append(("3.18", "the row cites another outcome or seat"))
        try:
            hidden = hide("row", body, bytes.fromhex(row.nonce))
        except (ValueError, MalformedError):
            hidden = ""
        if position >= len(outcome.rows) or hidden != outcome.rows[position]:
            problems.append(("3.17", "the row is not the one that the outcome commits to"))
        problems += self._check_amounts(body, opening.body.bids)
        return [self._finding(rule, round_index, text, at) for rule, text in problems], body

    def _check_amounts(self, row: m.RowBody, sent: list[int]) -> list[tuple[str, str]]:
        manifest = self._session.manifest
        bids = manifest.support(sent, row.round) or [0] * len(sent)
        whole = 1 << manifest.share_bits
        if len(row.shares) != len(bids) or any(not 0 <= share <= whole for share in row.shares):
            return [("3.14", f"shares {row.shares} are not within 0 to {whole}")]
        problems = []
        worth = sum(share * bid for share, bid in zip(row.shares, bids, strict=True))
        if not 0 <= row.payment <= worth:  # up to its own bid a bidder cannot see that it pays too much (spec 1.5)
            problems.append(("3.14", f"payment {row.payment} is above the own bid for the share, {worth}"))
        if manifest.valuation == "unit_demand" and (sum(row.shares) > whole or len(row.won) > 1):
            problems.append(("3.14", f"shares {row.shares} and {len(row.won)} items for a bidder of unit demand"))
        if any(not 0 <= item < len(bids) or not row.shares[item] for item in row.won):
            problems.append(("3.15", f"won {row.won} with shares {row.shares}"))
        elif row.charge != charge_of(manifest.charge, row.shares, bids, row.payment, row.won, manifest.share_bits):
            problems.append(("3.16", f"charge {row.charge} is not what the rule {manifest.charge} gives"))
        return problems

    def complaint(self, round_index: int) -> bytes:
        """Publish the opening against a void that lies (spec 3.11)."""
        opening = self._openings[round_index]
        opened = m.OpenedBid(body=opening.body, nonce=opening.nonce.hex())
        return self._statement(
            m.Complaint(session=self._session.id, round=round_index, bidder=self.party, opening=opened)
        )

    def rotate(self, key: SigningKey) -> bytes:
        """Go on with another signing key: return the statement that the old one signs (spec 2.10)."""
        data = self._statement(m.Rotation(session=self._session.id, old=self._sign.party, new=str(key.verifier)))
        self._sign = key
        return data

    def contribution(self, epoch: int) -> bytes:
        """Reveal the audit link of an epoch (spec 5.2)."""
        return self._statement(
            m.Contribution(session=self._session.id, epoch=epoch, party=self.party, link=self._audit.link(epoch))
        )

    def _statement(self, body: Message) -> bytes:
        return m.sign_statement(body, self._sign)

    def _finding(self, rule: str, round_index: int, text: str, *entries: int) -> Finding:
        seat = self._session.bidders[self.party].seat
        return Finding(rule, round_index, "auctioneer", f"seat {seat}: {text}", entries)
