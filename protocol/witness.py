"""A witness: cosigns only what extends its last checkpoint (C2SP tlog-witness; spec 4.9)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

from protocol.errors import LimitError, MalformedError, ProtocolError, RootMismatchError
from protocol.keys import SigningKey, VerifierKey, decode_base64
from protocol.log.note import MAX_NOTE, Checkpoint, Note, NoteSignature, cosign, verify_log_signature
from protocol.log.tree import EMPTY_ROOT, MAX_PROOF, verify_consistency
from protocol.storage.heads import HeadStore

_OLD: Final = re.compile(r"old (?:0|[1-9][0-9]{0,15})\Z")


class WitnessRefusalError(ProtocolError):
    """The witness does not cosign; `status` is the code that tlog-witness gives."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"{self.status}: {self.text} (spec 4.9)"


def build_request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """Return the body of an `add-checkpoint` request: old size, proof, blank line, checkpoint (spec 4.9)."""
    lines = [f"old {old}", *(base64.b64encode(item).decode("ascii") for item in proof)]
    return ("\n".join(lines) + "\n\n").encode("ascii") + note.encode()


def parse_request(data: bytes) -> tuple[int, list[bytes], Note]:
    """Parse an `add-checkpoint` request; raise MalformedError unless it is one (spec 4.9)."""
    if len(data) > 2 * MAX_NOTE:
        raise LimitError("add-checkpoint request in bytes", len(data), 2 * MAX_NOTE)
    head, separator, rest = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("add-checkpoint: not ASCII (spec 4.9)") from error
    if not separator or not _OLD.match(lines[0]) or len(lines) - 1 > MAX_PROOF:
        raise MalformedError("add-checkpoint: wanted `old N`, at most 63 hashes, a blank line (spec 4.9)")
    return int(lines[0][4:]), [decode_base64(line, "proof hash") for line in lines[1:]], Note.decode(rest)


class Witness:
    """The state machine of one witness.

    Args:
        key: Its cosignature key (type 0x04).
        logs: Keys of the logs that it knows; a key's name is the origin.
        heads: Last cosigned checkpoint by origin of an earlier run.
        store: Keeps them durably, with compare-and-swap, before a cosignature leaves (hardening 4.3).
    """

    def __init__(
        self,
        key: SigningKey,
        logs: Sequence[VerifierKey],
        heads: dict[str, Checkpoint] | None = None,
        store: HeadStore | None = None,
    ) -> None:
        self._key, self._store = key, store
        self._logs = {log.name: log for log in logs}
        self.heads = dict(heads or {})
        for log in logs if store is not None else ():
            if store is not None and (last := store.last(log.name)) is not None:
                self.heads[log.name] = last

    @property
    def verifier(self) -> VerifierKey:
        """The public key that policies name."""
        return self._key.verifier

    def answer(self, request: bytes, time: int) -> tuple[int, bytes]:
        """Answer an `add-checkpoint` request (tlog-witness): status code and body.

        The body is the cosignature line at 200, the last cosigned size at 409 (type `text/x.tlog.size`), else empty.
        """
        try:
            old, proof, note = parse_request(request)
            return 200, self.add_checkpoint(old, proof, note, time).encode().encode("utf-8")
        except WitnessRefusalError as error:
            if error.status != 409:
                return error.status, b""
            last = self.heads.get(Checkpoint.parse(note.text).origin)
            return 409, f"{last.size if last else 0}\n".encode("ascii")
        except MalformedError:
            return 400, b""

    def add_checkpoint(self, old: int, proof: Sequence[bytes], note: Note, time: int) -> NoteSignature:
        """Check that a checkpoint extends the last one, remember it, cosign it.

        Args:
            old: Size of the checkpoint that the proof starts from; 0 for the first.
            proof: Consistency proof from `old` to the new size.
            note: The signed checkpoint.
            time: Seconds since 1970.

        Raises:
            WitnessRefusalError: With the status of tlog-witness: 400, 403, 404, 409 or 422.
        """
        checkpoint = Checkpoint.parse(note.text)
        log = self._logs.get(checkpoint.origin)
        if log is None:
            raise WitnessRefusalError(404, f"unknown origin {checkpoint.origin!r}")
        try:
            verify_log_signature(note, log)
        except ProtocolError as error:
            raise WitnessRefusalError(403, str(error)) from error
        if old > checkpoint.size:
            raise WitnessRefusalError(400, f"old size {old} is above the checkpoint's size {checkpoint.size}")
        last = self.heads.get(checkpoint.origin, Checkpoint(checkpoint.origin, 0, EMPTY_ROOT))
        if old != last.size:
            raise WitnessRefusalError(409, f"last cosigned size is {last.size}, the proof starts from {old}")
        if old == 0:
            if proof or (checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT):
                raise WitnessRefusalError(422, "a proof from size 0 is empty, and the empty tree has one root")
        else:
            try:
                verify_consistency(old, checkpoint.size, proof, last.root, checkpoint.root)
            except (ProtocolError, RootMismatchError) as error:
                raise WitnessRefusalError(422, str(error)) from error
        if self._store is not None:  # check and store are one step, durable before the answer (spec 4.9)
            self._store.swap(self.heads.get(checkpoint.origin), checkpoint)
        self.heads[checkpoint.origin] = checkpoint
        return cosign(checkpoint, self._key, time)
