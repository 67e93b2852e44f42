"""A mailbox: a third party that stamps receipts of bidders' statements and forwards them (spec 3.7)."""

from __future__ import annotations

from collections.abc import Sequence

from protocol import messages as m
from protocol.errors import ProtocolError, VerificationError
from protocol.keys import SigningKey
from protocol.session import Session

_STAMPED = (m.Presence, m.Bid, m.OpeningStatement, m.Complaint, m.Contribution)


class MailboxRefusalError(VerificationError):
    """The mailbox gives no receipt: the statement is late, not open yet, or of nobody who is registered."""


class Mailbox:
    """The state machine of one mailbox; it keeps what it stamped until it is forwarded.

    Args:
        key: Its signing key, named by the manifest.
        session: The log as it sees it.
    """

    def __init__(self, key: SigningKey, session: Session) -> None:
        self._key, self._session = key, session
        self.held: list[tuple[bytes, bytes]] = []  # statement and receipt

    def stamp(self, data: bytes, time: int) -> bytes:
        """Return the signed receipt of a statement that has to be in the log by its deadline (spec 3.7).

        What a mailbox stamps has to be logged whether or not it has an effect, so it looks only at who signed it and
        whether its time has come.

        Args:
            data: The bidder's statement.
            time: Seconds since 1970.

        Raises:
            MalformedError: If the bytes are no statement.
            MailboxRefusalError: If it is no statement of a registered bidder on a round or epoch that is open now, or
                comes after the mailbox deadline.
        """
        session = self._session
        statement = m.Statement.decode(data)
        body = statement.body
        if not isinstance(body, _STAMPED) or body.session != session.id:
            raise MailboxRefusalError(f"{statement.name}: not a bidder's statement of this session (spec 3.7)")
        bidder = session.bidders.get(body.party if isinstance(body, m.Contribution) else body.bidder)
        if bidder is None:
            raise MailboxRefusalError(f"{statement.name} of a party that is not registered (spec 3.7)")
        statement.verify(session.key_of(bidder.key))
        if not _open(session, body):
            raise MailboxRefusalError(f"{statement.name} of a round or epoch that is not open (spec 6.4)")
        due = session.due(body)
        if time > due - session.manifest.mailbox_margin:
            margin = session.manifest.mailbox_margin
            raise MailboxRefusalError(f"{statement.name} at {time}, the mailbox deadline was {due - margin} (spec 3.7)")
        receipt = m.sign_statement(m.receipt_for(statement, session.id, time, due), self._key)
        self.held.append((data, receipt))
        return receipt


def _open(session: Session, body: object) -> bool:
    """Whether a statement's round or epoch takes it now, as far as the log shows."""
    manifest = session.manifest
    if isinstance(body, m.Contribution):
        state = session.epochs.get(body.epoch)
        return state is not None and state.root is not None and state.closed is None
    index = getattr(body, "round", -1)
    if not session.registration_closed or not 0 <= index < manifest.rounds or session.halted_epoch is not None:
        return False
    epoch = manifest.epoch_of(index)
    if epoch and session.epoch(epoch - 1).settlement is None:
        return False
    if index != manifest.rounds_of(epoch)[0] and session.round(index - 1).outcome is None:
        return False
    closed = session.round(index).close is not None
    return closed == isinstance(body, m.OpeningStatement | m.Complaint)


def timely_mailboxes(session: Session, statement: m.Statement, receipts: Sequence[bytes]) -> set[str]:
    """Return which of the manifest's mailboxes stamped a statement before the mailbox deadline (spec 3.7).

    A receipt that is malformed, of another statement or by nobody named counts for nothing.
    """
    stamped: set[str] = set()
    keys = {key.party: key for key in session.mailboxes}
    for data in receipts:
        try:
            signed, receipt = m.decode_as(data, m.Receipt)
            key = keys.get(signed.signer)
            if key is None or (receipt.session, receipt.statement) != (session.id, statement.identity):
                continue
            signed.verify(key)
            due = session.due(statement.body)
        except (ProtocolError, ValueError, IndexError):
            continue
        if receipt.appear_by == due and receipt.received_at <= due - session.manifest.mailbox_margin:
            stamped.add(key.party)
    return stamped


def forced(session: Session, statement: m.Statement, receipts: Sequence[bytes]) -> bool:
    """Whether f_m + 1 mailboxes stamped a statement in time, so that the log must hold it (spec 3.7)."""
    if not session.mailboxes:
        return False
    return len(timely_mailboxes(session, statement, receipts)) > session.manifest.faulty_mailboxes
