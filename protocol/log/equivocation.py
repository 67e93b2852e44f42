"""Proof that a log showed two histories: two signed checkpoints that no one log can have (spec 4.13)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import LimitError, MalformedError, ProtocolError, VerificationError
from protocol.keys import VerifierKey, decode_base64
from protocol.log.note import MAX_NOTE, Checkpoint, Note, verify_log_signature
from protocol.log.tree import MAX_PROOF, Tree, verify_consistency

HEADER: Final = "credible-equivocation-v1"


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two checkpoints of one origin, and why they cannot both be true.

    Of equal sizes, their roots differ. Of different sizes, `prefix` is the root that the larger tree has over the
    smaller one's size, as `proof` shows (RFC 6962 consistency); the smaller checkpoint states another.

    Attributes:
        first: The checkpoint that is not larger.
        second: The other.
        prefix: 32 bytes; the first checkpoint's root would have to be this one.
        proof: Consistency proof from the prefix to the second checkpoint; empty for equal sizes.
    """

    first: Note
    second: Note
    prefix: bytes
    proof: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the bytes of an `.equivocation` file."""
        notes = [self.first.encode(), self.second.encode()]
        hashes = [base64.b64encode(item).decode("ascii") for item in (self.prefix, *self.proof)]
        head = [HEADER, *(f"note {len(note)}" for note in notes), *hashes]
        return ("\n".join(head) + "\n\n").encode("ascii") + b"".join(notes)

    @classmethod
    def decode(cls, data: bytes) -> Equivocation:
        """Parse untrusted bytes; raise MalformedError unless `encode` would write them."""
        if len(data) > 3 * MAX_NOTE:
            raise LimitError("equivocation file in bytes", len(data), 3 * MAX_NOTE)
        head, separator, rest = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("equivocation file: not ASCII") from error
        if not separator or len(lines) < 4 or lines[0] != HEADER or len(lines) - 4 > MAX_PROOF:
            raise MalformedError(f"equivocation file: wanted the header {HEADER}, two lengths and hashes")
        size = lines[1].removeprefix("note ")
        if not size.isascii() or not size.isdigit() or len(size) > 6:
            raise MalformedError("equivocation file: no length of the first note")
        hashes = [decode_base64(line, "equivocation hash") for line in lines[3:]]
        parsed = cls(Note.decode(rest[: int(size)]), Note.decode(rest[int(size) :]), hashes[0], tuple(hashes[1:]))
        if parsed.encode() != data:
            raise MalformedError("equivocation file: not the encoding that is written")
        return parsed

    def verify(self, log: VerifierKey) -> tuple[Checkpoint, Checkpoint]:
        """Check that this proves equivocation of the log with this key; return the two checkpoints.

        Raises:
            SignatureError: If a checkpoint is not signed by the log.
            VerificationError: If the two do not contradict each other, or the proof does not hold.
        """
        heads = []
        for note in (self.first, self.second):
            head = Checkpoint.parse(note.text)
            if head.origin != log.name:
                raise VerificationError(f"checkpoint of origin {head.origin!r}, wanted {log.name!r} (spec 4.7)")
            verify_log_signature(note, log)
            heads.append(head)
        first, second = heads
        if first.size > second.size or first.root == self.prefix:
            raise VerificationError("the two checkpoints do not contradict each other (spec 4.13)")
        verify_consistency(first.size, second.size, self.proof, self.prefix, second.root)
        return first, second


def compare(first: Note, second: Note, log: VerifierKey, leaves: Sequence[bytes]) -> Equivocation | None:
    """Exchange two heads of one log: None if the larger extends the smaller, else the proof that it does not.

    Args:
        first: A checkpoint that somebody else was shown.
        second: The own checkpoint, or the larger one.
        log: The log's key.
        leaves: Leaf hashes of the log under the larger checkpoint.

    Raises:
        SignatureError: If one is not signed by the log: then it proves nothing.
        ProtocolError: If the leaves are not those of the larger checkpoint.
    """
    small, large = sorted((first, second), key=lambda note: Checkpoint.parse(note.text).size)
    heads = [Checkpoint.parse(note.text) for note in (small, large)]
    for note in (small, large):
        verify_log_signature(note, log)
    if heads[0].size == heads[1].size:
        found = Equivocation(small, large, heads[1].root, ())
    else:
        tree = Tree(leaves)
        if tree.size < heads[1].size or tree.root(heads[1].size) != heads[1].root:
            raise ProtocolError("the entries at hand are not those of the larger checkpoint (spec 4.13)")
        proof = tuple(tree.consistency(heads[0].size, heads[1].size)) if heads[0].size else ()
        found = Equivocation(small, large, tree.root(heads[0].size), proof)
    if heads[0].root == found.prefix:
        return None
    found.verify(log)
    return found
