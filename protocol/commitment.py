"""Bid commitments, their openings, nonces and sealing (spec 3.1 to 3.4, 3.9, 3.11)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.encoding import Message, bytes_from_hex, canonical, decode, pae
from protocol.errors import BindingError, LimitError, MalformedError
from protocol.keys import SEAL_OVERHEAD, derive, derive_seal_key, seal, unseal

NONCE_SIZE: Final = 32
MAX_OPENING: Final = 16_384  # spec 12, bytes before sealing


class BidBody(Message, frozen=True):
    """What a commitment hashes (spec 3.1).

    Attributes:
        bidder: Party id of the bidder, hex.
        bids: One integer per item, in grid units; the support rule, not this record, judges its range (spec 3.12).
        epoch: Epoch of the round, from 0.
        items: H("items", item list), hex.
        mech: SHA-256 of the artifact's bytes, hex.
        participation: Whether the bidder takes part.
        round: Round, from 0.
        seq: Rises over the session (spec 3.5).
        session: H("manifest", manifest), hex.
    """

    bidder: str
    bids: list[int]
    epoch: int
    items: str
    mech: str
    participation: bool
    round: int
    seq: int
    session: str


class _OpeningText(Message, frozen=True):
    body: BidBody
    nonce: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The bid and the 32 secret bytes behind one commitment (spec 3.2)."""

    body: BidBody
    nonce: bytes = field(repr=False)  # secret until published (spec 3.4)

    def __post_init__(self) -> None:
        # HMAC pads short keys with zeros and hashes long ones, so another length would not bind (spec 3.2).
        if len(self.nonce) != NONCE_SIZE:
            raise MalformedError(f"nonce has {len(self.nonce)} bytes, wanted {NONCE_SIZE} (spec 3.2)")

    def encode(self) -> bytes:
        """Return the canonical bytes that are sealed or published."""
        return canonical(_OpeningText(body=self.body, nonce=self.nonce.hex()))

    @classmethod
    def decode(cls, data: bytes) -> Opening:
        """Parse untrusted bytes; raise MalformedError unless `encode` would write them."""
        text = decode(data, _OpeningText, limit=MAX_OPENING)
        return cls(text.body, bytes_from_hex(text.nonce, "opening nonce"))

    @property
    def commitment(self) -> bytes:
        """The commitment that this opens: HMAC-SHA256 of the body under the nonce (spec 3.1)."""
        return commit(self.body, self.nonce)


def commit(body: BidBody, nonce: bytes) -> bytes:
    """Return the 32-byte commitment to a bid (spec 3.1)."""
    if len(nonce) != NONCE_SIZE:
        raise MalformedError(f"nonce has {len(nonce)} bytes, wanted {NONCE_SIZE} (spec 3.2)")
    return hmac.digest(nonce, pae("bid-opening", body), "sha256")


def bid_nonce(master: bytes, session: str, round_index: int, seq: int) -> bytes:
    """Return the nonce of one bid, derived from the bidder's master secret (spec 3.3)."""
    return derive(master, pae("nonce", {"round": round_index, "seq": seq, "session": session}))


def verify_opening(opening: Opening, com: bytes, expected: BidBody) -> None:
    """Check that an opening belongs to a commitment and to its place (spec 3.2, 8.5).

    Args:
        opening: The claimed opening.
        com: The logged commitment.
        expected: A body with the ids of the bid statement and the manifest; its `bids` are not compared.

    Raises:
        BindingError: If an id differs, the number of bids is wrong, or the commitment does not match.
    """
    body = opening.body
    for name in ("session", "epoch", "round", "bidder", "seq", "mech", "items", "participation"):
        if getattr(body, name) != getattr(expected, name):
            raise BindingError(f"opening has another {name} than the bid statement (spec 3.2)")
    if len(body.bids) != len(expected.bids):
        raise BindingError(f"opening has {len(body.bids)} bids, wanted {len(expected.bids)} (spec 3.1)")
    if not hmac.compare_digest(opening.commitment, com):
        raise BindingError("opening does not match the commitment (spec 3.1)")


def seal_info(session: str, round_index: int, sender: str, recipient: str, com: str) -> bytes:
    """Return what a sealed opening is bound to (spec 2.9)."""
    fields = {"com": com, "purpose": "opening", "recipient": recipient, "round": round_index, "sender": sender}
    return pae("seal", {**fields, "session": session})


def seal_opening(opening: Opening, recipient: bytes, info: bytes) -> bytes:
    """Seal an opening to an X25519 public key.

    The encapsulation's key is derived from the nonce, so anyone who holds the opening can recompute the bytes and see
    who lied in a dispute (spec 3.11).

    Raises:
        LimitError: If the opening is larger than spec 12 allows.
        SignatureError: If nothing can be sealed to the recipient's key.
    """
    data = opening.encode()
    if len(data) > MAX_OPENING:
        raise LimitError("opening in bytes", len(data), MAX_OPENING)
    return seal(data, recipient, info, derive_seal_key(derive(opening.nonce, pae("seal-key", {}))))


def unseal_opening(sealed: bytes, recipient: X25519PrivateKey, info: bytes) -> Opening:
    """Open a sealed opening; raise SignatureError or MalformedError if that fails (spec 3.10)."""
    if len(sealed) > MAX_OPENING + SEAL_OVERHEAD:
        raise LimitError("sealed opening in bytes", len(sealed), MAX_OPENING + SEAL_OVERHEAD)
    return Opening.decode(unseal(sealed, recipient, info))
