"""A witness: cosigns only what extends its last checkpoint (C2SP tlog-witness; spec 4.9)."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import ProtocolError, RootMismatchError
from protocol.keys import SigningKey, VerifierKey
from protocol.log.note import Checkpoint, Note, NoteSignature, cosign, verify_log_signature
from protocol.log.tree import EMPTY_ROOT, verify_consistency


class WitnessRefusalError(ProtocolError):
    """The witness does not cosign; `status` is the code that tlog-witness gives."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"{self.status}: {self.text} (spec 4.9)"


class Witness:
    """The state machine of one witness.

    Args:
        key: Its cosignature key (type 0x04).
        logs: Keys of the logs that it knows; a key's name is the origin.
        heads: Last cosigned checkpoint by origin, as kept by the caller's durable store.
    """

    def __init__(
        self, key: SigningKey, logs: Sequence[VerifierKey], heads: dict[str, Checkpoint] | None = None
    ) -> None:
        self._key = key
        self._logs = {log.name: log for log in logs}
        self.heads = dict(heads or {})

    @property
    def verifier(self) -> VerifierKey:
        """The public key that policies name."""
        return self._key.verifier

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
        self.heads[checkpoint.origin] = checkpoint  # the caller makes this durable before the answer leaves
        return cosign(checkpoint, self._key, time)
