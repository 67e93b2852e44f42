"""Hash chains: contributions committed before the session starts (spec 5.1)."""

from __future__ import annotations

import hashlib

from protocol.encoding import pae_raw, type_name
from protocol.errors import VerificationError

_LINK_TYPE = type_name("link")


def link_hash(index: int, party: str, value: bytes) -> bytes:
    """Return x_t = H("link", {index: t, party, value: x_(t+1)}) (spec 5.1).

    The canonical text is written here directly, since a session hashes hundreds of thousands of links; a test
    compares it with `hash_of`.
    """
    body = f'{{"index":{index},"party":"{party}","value":"{value.hex()}"}}'.encode("ascii")
    return hashlib.sha256(pae_raw(_LINK_TYPE, body)).digest()


class Chain:
    """A party's chain of `length` links over 32 secret bytes.

    Args:
        party: Party id of the owner, hex.
        secret: x_N, 32 random bytes.
        length: N: rounds or epochs that the chain serves.
    """

    def __init__(self, party: str, secret: bytes, length: int) -> None:
        if len(secret) != 32 or length < 1:
            raise ValueError(f"chain secret has {len(secret)} bytes, wanted 32; length {length}, wanted at least 1")
        values = [secret]
        for index in range(length - 1, -1, -1):
            values.append(link_hash(index, party, values[-1]))
        self._values = values[::-1]

    @property
    def head(self) -> str:
        """x_0, published before the session, hex."""
        return self._values[0].hex()

    def link(self, index: int) -> str:
        """Return the link of round or epoch `index`, x_(index+1), hex; secret until that round's opening."""
        return self._values[index + 1].hex()


class ChainVerifier:
    """Checks links against a head; each check hashes only down to the last link seen."""

    def __init__(self, party: str, head: bytes) -> None:
        self._party = party
        self._known, self._value = 0, head

    def verify(self, index: int, link: bytes) -> None:
        """Check the link of round or epoch `index`; raise VerificationError if it does not lead to the head (spec 5.1).

        Links are shown in rising order; the log's order is that of the rounds.
        """
        if index + 1 <= self._known:
            raise VerificationError(f"link of index {index} after index {self._known - 1} (spec 5.1)")
        value = link
        for step in range(index, self._known - 1, -1):
            value = link_hash(step, self._party, value)
        if value != self._value:
            raise VerificationError(f"link of index {index} does not lead to the registered head (spec 5.1)")
        self._known, self._value = index + 1, link
