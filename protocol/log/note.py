"""Signed notes, checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature; spec 4.5 to 4.8)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from protocol.encoding import HASH_SIZE
from protocol.errors import LimitError, MalformedError, SignatureError
from protocol.keys import COSIGNATURE, SigningKey, VerifierKey, decode_base64, verify_signature

MAX_NOTE: Final = 64 * 1024  # spec 12, bytes
MAX_SIGNATURES: Final = 64
MAX_TREE: Final = 2**53 - 1

_DASH: Final = "\u2014 "
_DECIMAL: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: `— NAME base64(key id || signature)`."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> str:
        """Return the line, newline included."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and its signatures."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return (self.text + "\n" + "".join(item.encode() for item in self.signatures)).encode("utf-8")

    @classmethod
    def decode(cls, data: bytes) -> Note:
        """Parse untrusted bytes (spec 4.5).

        Raises:
            LimitError: If the note or its number of signatures is over the limit.
            MalformedError: If the bytes are no signed note.
        """
        if len(data) > MAX_NOTE:
            raise LimitError("note in bytes", len(data), MAX_NOTE)
        try:
            full = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError("note: not UTF-8 (spec 4.5)") from error
        if _CONTROL.search(full):
            raise MalformedError("note: holds a control character (spec 4.5)")
        text, separator, lines = full.rpartition("\n\n")
        if not separator or not text or not lines.endswith("\n"):
            raise MalformedError("note: no blank line before signatures, or no newline at the end (spec 4.5)")
        signatures = []
        for line in lines[:-1].split("\n"):
            name, space, encoded = line.removeprefix(_DASH).partition(" ")
            if not line.startswith(_DASH) or not space or not name or "+" in name or any(map(str.isspace, name)):
                raise MalformedError(f"note: bad signature line {line[:60]!r} (spec 4.5)")
            blob = decode_base64(encoded, "note signature")
            if len(blob) < 5:
                raise MalformedError("note: signature is too short (spec 4.5)")
            signatures.append(NoteSignature(name, blob[:4], blob[4:]))
            if len(signatures) > MAX_SIGNATURES:
                raise LimitError("note signatures", len(signatures), MAX_SIGNATURES)
        return cls(text + "\n", tuple(signatures))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin, size and root of the log (spec 4.7)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Parse the three lines; raise MalformedError for anything else, extension lines included."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise MalformedError(f"checkpoint: wanted 3 lines, got {len(lines) - 1} (spec 4.7)")
        if not lines[0] or not _DECIMAL.match(lines[1]) or int(lines[1]) > MAX_TREE:
            raise MalformedError("checkpoint: empty origin, or a size that is no plain decimal below 2^53 (spec 4.7)")
        root = decode_base64(lines[2], "checkpoint root")
        if len(root) != HASH_SIZE:
            raise MalformedError(f"checkpoint: root has {len(root)} bytes, wanted {HASH_SIZE} (spec 4.7)")
        return cls(lines[0], int(lines[1]), root)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> Note:
    """Sign a checkpoint with the log's key, whose name is the origin (spec 4.7)."""
    if key.name != checkpoint.origin:
        raise ValueError(f"log key is named {key.name!r}, the origin is {checkpoint.origin!r}")
    signature = NoteSignature(key.name, key.verifier.key_id, key.sign(checkpoint.text.encode("utf-8")))
    return Note(checkpoint.text, (signature,))


def cosigned_text(text: str, time: int) -> bytes:
    """Return what a witness signs: header, time in seconds since 1970, checkpoint (spec 4.8)."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosign(checkpoint: Checkpoint, key: SigningKey, time: int) -> NoteSignature:
    """Return a witness's cosignature over a checkpoint."""
    if key.kind != COSIGNATURE:
        raise ValueError("a cosignature needs a witness key (type 0x04)")
    blob = time.to_bytes(8, "big") + key.sign(cosigned_text(checkpoint.text, time))
    return NoteSignature(key.name, key.verifier.key_id, blob)


def verify_log_signature(note: Note, key: VerifierKey) -> None:
    """Check that the log's key signed a note; raise SignatureError if not (spec 4.5)."""
    found = False
    for item in note.signatures:
        if (item.name, item.key_id) == (key.name, key.key_id):
            verify_signature(key.key, note.text.encode("utf-8"), item.signature)
            found = True
    if not found:
        raise SignatureError(f"checkpoint is not signed by the log key {key.name} (spec 4.5)")


def cosignature_times(note: Note, witnesses: tuple[VerifierKey, ...]) -> dict[str, int]:
    """Return the time of each known witness's cosignature, by key name.

    Raises:
        SignatureError: If a line under a known (name, key id) does not verify; unknown lines are ignored (spec 4.5).
    """
    known = {(key.name, key.key_id): key for key in witnesses}
    times: dict[str, int] = {}
    for item in note.signatures:
        key = known.get((item.name, item.key_id))
        if key is None:
            continue
        if len(item.signature) != 72:
            raise SignatureError(f"cosignature of {key.name} has {len(item.signature)} bytes, wanted 72 (spec 4.8)")
        time = int.from_bytes(item.signature[:8], "big")
        if time > MAX_TREE:
            raise SignatureError(f"cosignature of {key.name} states time {time} (spec 4.8)")
        verify_signature(key.key, cosigned_text(note.text, time), item.signature[8:])
        times[key.name] = min(time, times.get(key.name, time))
    return times
