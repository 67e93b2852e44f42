"""Statements: the signed messages that are the entries of the log (spec 2.6, 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from protocol.commitment import BidBody
from protocol.encoding import (
    MAX_STATEMENT,
    Message,
    bytes_from_hex,
    canonical,
    decode,
    hash_from_hex,
    pae_raw,
    type_name,
)
from protocol.errors import LimitError, MalformedError, SignatureError
from protocol.keys import SigningKey, VerifierKey, verify_signature
from protocol.log.tree import root_of
from protocol.manifest import Manifest

MAX_LIST: Final = 800  # spec 2.5: a longer list of hashes is replaced by its root

# Reasons of a void (spec 3.10, 3.12)
NO_OPENING: Final = "no_opening"
UNREADABLE: Final = "unreadable"
UNMATCHED: Final = "unmatched"
OUTSIDE_SUPPORT: Final = "outside_support"
VOID_REASONS: Final = (NO_OPENING, UNREADABLE, UNMATCHED, OUTSIDE_SUPPORT)


class Registration(Message, frozen=True):
    """A bidder joins (spec 6.2): its keys and the heads of its chains."""

    session: str
    vkey: str
    seal_key: str
    lottery_head: str
    audit_head: str
    deposit: int


class RegistrationClose(Message, frozen=True):
    """Seats are fixed (spec 6.3): bidder ids in seat order, under a cosigned checkpoint."""

    session: str
    size: int
    root: str
    seats_count: int
    seats_root: str
    seats: list[str] | msgspec.UnsetType = msgspec.UNSET


class Context(Message, frozen=True):
    """Public integers of a round, before any bid (R1)."""

    session: str
    round: int
    values: list[int]
    label: str


class Presence(Message, frozen=True):
    """A bidder takes part in a round, or says that it does not (spec 3.13)."""

    session: str
    round: int
    bidder: str
    present: bool


class Bid(Message, frozen=True):
    """A commitment to a bid (spec 3.5)."""

    session: str
    round: int
    bidder: str
    seq: int
    com: str
    prev: str
    ct: str | msgspec.UnsetType = msgspec.UNSET  # profile P0: the sealed opening comes with the bid (spec 3.9)
    ct_key: str | msgspec.UnsetType = msgspec.UNSET
    link: str | msgspec.UnsetType = msgspec.UNSET


class Receipt(Message, frozen=True):
    """A promise that a statement will be in the log (spec 3.6); no log entry itself."""

    session: str
    round: int
    bidder: str
    statement: str
    received_at: int
    appear_by: int


class OpeningStatement(Message, frozen=True):
    """A sealed opening and the bidder's lottery link (spec 3.9, 5.7)."""

    session: str
    round: int
    bidder: str
    com: str
    link: str
    ct: str
    ct_key: str


class Close(Message, frozen=True):
    """The bids of a round are fixed: all commitments under a cosigned checkpoint, in log order (spec 3.8)."""

    session: str
    round: int
    size: int
    root: str
    coms_count: int
    coms_root: str
    coms: list[str] | msgspec.UnsetType = msgspec.UNSET


class Void(Message, frozen=True):
    """A bid that does not count, with its reason (spec 3.10, 3.12)."""

    session: str
    round: int
    bidder: str
    reason: str


class Outcome(Message, frozen=True):
    """The hidden result of a round: commitments to the rows and to the whole matrix (spec 3.17).

    `size` and `root` are those of the last checkpoint cosigned by the opening deadline; `rows` has one commitment for
    each seat of the mask, in seat order.
    """

    session: str
    round: int
    close: str
    mech: str
    mask: str
    link: str
    size: int
    root: str
    rows: list[str]
    matrix: str


class RowBody(Message, frozen=True):
    """One bidder's part of an outcome."""

    session: str
    round: int
    seat: int
    shares: list[int]
    won: list[int]
    payment: int
    charge: int


class Row(Message, frozen=True):
    """What the auctioneer sends a bidder, sealed: its row and the nonce that hides it in the outcome; no log entry."""

    session: str
    round: int
    outcome: int
    row: RowBody
    nonce: str


class MatrixBody(Message, frozen=True):
    """The whole result, over the seats of the mask in seat order; `won` names a seat for each item, -1 unsold."""

    session: str
    round: int
    seats: list[int]
    allocation: list[list[int]]
    payment: list[int]
    won: list[int]
    charge: list[int]


class EpochRoot(Message, frozen=True):
    """The epoch root is fixed before any contribution is revealed (spec 6.6, E1)."""

    session: str
    epoch: int
    size: int
    root: str


class ContributionClose(Message, frozen=True):
    """The contributions that count are those below the size of this cosigned checkpoint (spec 5.2)."""

    session: str
    epoch: int
    size: int
    root: str


class Contribution(Message, frozen=True):
    """A party's link towards an epoch's audit seed (spec 5.2); the auctioneer adds its seal key of the next epoch."""

    session: str
    epoch: int
    party: str
    link: str
    seal_key: str | msgspec.UnsetType = msgspec.UNSET


class Challenge(Message, frozen=True):
    """An auditor names the drawn rounds (spec 6.6, E2) under the epoch root."""

    session: str
    epoch: int
    size: int
    root: str
    rounds: list[int]


class OpenedBid(Message, frozen=True):
    """One opening in clear."""

    body: BidBody
    nonce: str


class Response(Message, frozen=True):
    """Everything of one drawn round (spec 6.6, E3; 7.4), in clear on the log: disclosure "public"."""

    session: str
    epoch: int
    round: int
    openings: list[OpenedBid]
    matrix: MatrixBody
    matrix_nonce: str
    row_nonces: list[str]


class SealedResponse(Message, frozen=True):
    """A drawn round, sealed to one auditor: disclosure "auditor" (spec 7.7).

    `content` is H("response") of the body that is sealed; it is the same for every auditor.
    """

    session: str
    epoch: int
    round: int
    auditor: str
    content: str
    ct: str


class Escalation(Message, frozen=True):
    """An auditor asks for more rounds of the same draw: the first of the epoch in ticket order (spec 7.8)."""

    session: str
    epoch: int
    rounds: list[int]


class Canary(Message, frozen=True):
    """The arbiter reveals, after the verdicts, a round whose matrix had a planted fault (spec 7.9)."""

    session: str
    round: int
    nonce: str


class Beacon(Message, frozen=True):
    """A round of the public beacon, signed by whoever brings it (spec 5.3)."""

    session: str
    beacon_round: int
    signature: str


class Rotation(Message, frozen=True):
    """A role goes on with another key: id of the old one, verifier key of the new one (spec 2.10)."""

    session: str
    old: str
    new: str


class Revocation(Message, frozen=True):
    """A key no longer signs from a log index on (spec 2.10)."""

    session: str
    key: str
    from_index: int


class Complaint(Message, frozen=True):
    """A bidder publishes its opening against a void that calls it unreadable or unmatched (spec 3.11)."""

    session: str
    round: int
    bidder: str
    opening: OpenedBid


class FindingBody(Message, frozen=True):
    """A finding inside a verdict: rule, round and text (spec 8.4)."""

    rule: str
    round: int
    text: str


class VerdictStatement(Message, frozen=True):
    """An auditor's verdict on an epoch (spec 6.6, E4); `bundle` names the evidence it rests on."""

    session: str
    epoch: int
    rounds: list[int]
    result: str
    findings: list[FindingBody]
    findings_count: int
    bundle: str


class Amount(Message, frozen=True):
    """A movement of money on one account, in fine units; accounts are party ids, or "pool" for forfeited money."""

    account: str
    amount: int


class Assessment(Message, frozen=True):
    """After a deviation and the disclosure of the whole epoch: what was wrong where, and what is paid back (spec 6.6).

    Attributes:
        session: Session id.
        epoch: Epoch of the deviation.
        rounds: Rounds whose disclosure convicts.
        withheld: Rounds that were not disclosed in time: their charges are paid back whole.
        returns: What bidders are paid back where gains are returned (spec 9.2).
    """

    session: str
    epoch: int
    rounds: list[int]
    withheld: list[int]
    returns: list[Amount]


class Settlement(Message, frozen=True):
    """The arbiter closes an epoch without deviation: forfeits of bidders, deposits roll over (spec 6.6, E5)."""

    session: str
    epoch: int
    verdict: str
    amounts: list[Amount]


class Halt(Message, frozen=True):
    """The arbiter ends the session after a deviation and executes the penalty (spec 6.6, E5; 9.14)."""

    session: str
    epoch: int
    verdict: str
    amounts: list[Amount]


LOGGED: Final[dict[str, type[Message]]] = {
    "manifest": Manifest,
    "registration": Registration,
    "registration-close": RegistrationClose,
    "context": Context,
    "presence": Presence,
    "bid": Bid,
    "opening": OpeningStatement,
    "close": Close,
    "void": Void,
    "outcome": Outcome,
    "epoch-root": EpochRoot,
    "contribution": Contribution,
    "contribution-close": ContributionClose,
    "challenge": Challenge,
    "response": Response,
    "sealed-response": SealedResponse,
    "escalation": Escalation,
    "canary": Canary,
    "assessment": Assessment,
    "beacon": Beacon,
    "rotation": Rotation,
    "revocation": Revocation,
    "complaint": Complaint,
    "verdict": VerdictStatement,
    "settlement": Settlement,
    "halt": Halt,
}
PRIVATE: Final[dict[str, type[Message]]] = {"receipt": Receipt, "row": Row}
NAMES: Final[dict[type[Message], str]] = {kind: name for name, kind in {**LOGGED, **PRIVATE}.items()}
_BY_TYPE: Final = {type_name(name): kind for name, kind in {**LOGGED, **PRIVATE}.items()}


class Signature(Message, frozen=True):
    """One signature of a statement: the signer's id and 64 bytes, hex."""

    key: str
    sig: str


class _Envelope(Message, frozen=True):
    body: msgspec.Raw
    sigs: list[Signature]
    type: str


M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Statement:
    """A decoded statement: its body, its signatures, its bytes (spec 2.6).

    Attributes:
        body: The message.
        signatures: Sorted by key, at least one.
        content: Canonical bytes of the body.
        data: Bytes of the whole statement.
    """

    body: Message
    signatures: tuple[Signature, ...]
    content: bytes
    data: bytes

    @property
    def name(self) -> str:
        """NAME of its type."""
        return NAMES[type(self.body)]

    @property
    def identity(self) -> str:
        """H of the body, hex; signature bytes are no identity (spec 2.8)."""
        return hashlib.sha256(self._signed()).hexdigest()

    @property
    def signer(self) -> str:
        """Party id of the one signer that every message of this version has."""
        return self.signatures[0].key

    def verify(self, key: VerifierKey) -> None:
        """Check that this key signed, alone; raise SignatureError if not (spec 2.6)."""
        if [item.key for item in self.signatures] != [key.party]:
            raise SignatureError(f"{self.name} is not signed by {key.name} alone (spec 2.6)")
        signature = bytes_from_hex(self.signatures[0].sig, "signature")
        verify_signature(key.key, self._signed(), signature)

    def _signed(self) -> bytes:
        return pae_raw(type_name(self.name), self.content)

    @classmethod
    def decode(cls, data: bytes) -> Statement:
        """Parse untrusted bytes; raise MalformedError unless they are one canonical statement of a known type."""
        if len(data) > MAX_STATEMENT:
            raise LimitError("statement in bytes", len(data), MAX_STATEMENT)
        try:
            envelope = msgspec.json.decode(data, type=_Envelope)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # text that is not UTF-8 is a ValueError
            raise MalformedError(f"statement: {error}") from error
        kind = _BY_TYPE.get(envelope.type)
        if kind is None:
            raise MalformedError(f"statement: unknown type {envelope.type[:100]!r}")
        content = bytes(envelope.body)
        body = decode(content, kind)
        for item in envelope.sigs:
            hash_from_hex(item.key, "signer")
        keys = [item.key for item in envelope.sigs]
        if not keys or keys != sorted(set(keys)):
            raise MalformedError("statement: signatures are missing, repeated or not sorted by key (spec 2.6)")
        if _encode(content, envelope.sigs, envelope.type) != data:
            raise MalformedError("statement: not the canonical encoding (spec 2.3)")
        return cls(body, tuple(envelope.sigs), content, data)


def encode_statement(body: Message, signatures: Sequence[Signature]) -> bytes:
    """Return the canonical bytes of a statement (spec 2.6)."""
    return _encode(canonical(body), signatures, type_name(NAMES[type(body)]))


def _encode(content: bytes, signatures: Sequence[Signature], payload_type: str) -> bytes:
    listed = b",".join([b'{"key":"%b","sig":"%b"}' % (s.key.encode(), s.sig.encode()) for s in signatures])
    return b'{"body":%b,"sigs":[%b],"type":"%b"}' % (content, listed, payload_type.encode())


def sign_statement(body: Message, key: SigningKey) -> bytes:
    """Sign a message and return the statement's bytes.

    Raises:
        LimitError: If the statement is larger than spec 12 allows.
    """
    name = NAMES[type(body)]
    data = canonical(body)
    signature = Signature(key=key.party, sig=key.sign(pae_raw(type_name(name), data)).hex())
    statement = _encode(data, [signature], type_name(name))
    if len(statement) > MAX_STATEMENT:
        raise LimitError(f"{name} statement in bytes", len(statement), MAX_STATEMENT)
    return statement


def receipt_for(statement: Statement, session: str, time: int, appear_by: int) -> Receipt:
    """Return the receipt of a bidder's statement (spec 3.6)."""
    body = statement.body
    return Receipt(
        session=session,
        round=getattr(body, "round", 0),
        bidder=getattr(body, "bidder", getattr(body, "party", statement.signer)),
        statement=statement.identity,
        received_at=time,
        appear_by=appear_by,
    )


def decode_as(data: bytes, kind: type[M]) -> tuple[Statement, M]:
    """Parse untrusted bytes as a statement of one kind; raise MalformedError for another."""
    statement = Statement.decode(data)
    if not isinstance(statement.body, kind):
        raise MalformedError(f"wanted a {NAMES[kind]} statement, got {statement.name}")
    return statement, statement.body


def hash_list(hashes: Sequence[str], *, ordered: bool) -> tuple[list[str] | msgspec.UnsetType, str]:
    """Return the list and its root; above 800 hashes the list is left out (spec 2.5).

    Args:
        hashes: Hashes, hex.
        ordered: Keep their order under the root; else sort as bytes, which also proves absence (spec 3.8).
    """
    items = [hash_from_hex(text, "list item") for text in hashes]
    root = root_of(items if ordered else sorted(items)).hex()
    return (list(hashes) if len(hashes) <= MAX_LIST else msgspec.UNSET), root
