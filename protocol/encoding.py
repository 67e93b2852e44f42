"""Canonical bytes: the one encoding that is hashed, signed and logged (spec 2.1 to 2.5)."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from protocol.errors import LimitError, MalformedError

MAX_INTEGER: Final = 2**53 - 1  # spec 2.1
MAX_STATEMENT: Final = 60_000  # spec 12, bytes
MAX_DEPTH: Final = 8  # spec 12
MAX_LABEL: Final = 200  # spec 12, characters
HASH_SIZE: Final = 32

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_ASCII: Final = re.compile(r"[ -~]*\Z")
_LONG_NUMBER: Final = re.compile(rb"[:,\[-][0-9]{16}")
_FLAT: Final = frozenset((str, int, bool))
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record with a canonical encoding; unknown fields are refused, absent ones left out."""


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a record, or of plain objects, arrays, strings, integers and booleans (spec 2.2).

    Raises:
        ValueError: If the value leaves the profile of spec 2.1; what others send is refused by `decode` instead.
    """
    try:
        data = _ENCODER.encode(value)
        if not (_surely_in_profile(data, type(value)) or _flat(value, data)):
            check_profile(msgspec.json.decode(data))
    except (msgspec.MsgspecError, TypeError, MalformedError) as error:
        raise ValueError(f"not in the canonical profile (spec 2.1): {error}") from error
    return data


def decode(data: bytes, kind: type[T], *, limit: int = MAX_STATEMENT) -> T:
    """Parse untrusted bytes into a record; the bytes must be exactly what `canonical` writes (spec 2.3).

    Raises:
        LimitError: If there are more than `limit` bytes (spec 12.1: checked before parsing).
        MalformedError: If the bytes are not the canonical encoding of a `kind`.
    """
    if len(data) > limit:
        raise LimitError(f"{kind.__name__} in bytes", len(data), limit)
    try:
        value = msgspec.json.decode(data, type=kind)
        if not _surely_in_profile(data, kind):
            check_profile(msgspec.json.decode(data))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"{kind.__name__}: {error}") from error
    if _ENCODER.encode(value) != data:  # repeated keys, other key order, -0, blanks: the comparison is the rule
        raise MalformedError(f"{kind.__name__}: not the canonical encoding (spec 2.3)")
    return value


def _surely_in_profile(data: bytes, kind: type) -> bool:
    """Whether a record's bytes need no closer look; False only means that `check_profile` must look.

    The fields of a `Message` are integers, booleans, strings, lists and other messages by type, so what is left of
    spec 2.1 is the range of integers, the characters (ASCII without an escape holds no other) and the length of labels.
    """
    return issubclass(kind, Message) and _plain(data)


def _plain(data: bytes) -> bool:
    return data.isascii() and b"\\" not in data and b'"label":' not in data and not _LONG_NUMBER.search(data)


def _flat(value: object, data: bytes) -> bool:
    """Whether an own object holds only strings, integers and booleans under good keys: most of what is hashed."""
    return type(value) is dict and _FLAT.issuperset(map(type, value.values())) and _good(tuple(value)) and _plain(data)


@lru_cache(maxsize=256)
def _good(keys: tuple[str, ...]) -> bool:
    return all(_KEY.match(name) for name in keys)


def check_profile(value: Any, *, depth: int = 0, key: str = "") -> None:
    """Raise MalformedError unless plain data lies in the profile of spec 2.1."""
    if depth > MAX_DEPTH:
        raise MalformedError(f"nested deeper than {MAX_DEPTH} (spec 12)")
    if type(value) is bool:
        return
    if type(value) is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise MalformedError(f"integer {value} outside +-(2^53 - 1) (spec 2.1)")
    elif type(value) is str:
        _check_text(value, key)
    elif type(value) is list:
        for item in value:
            check_profile(item, depth=depth + 1, key=key)
    elif type(value) is dict:
        for name, item in value.items():
            if not _KEY.match(name):
                raise MalformedError(f"object key {name!r} is not [a-z][a-z0-9_]{{0,31}} (spec 2.1)")
            check_profile(item, depth=depth + 1, key=name)
    else:
        raise MalformedError(f"{type(value).__name__} is not in the profile (spec 2.1)")


def _check_text(value: str, key: str) -> None:
    if key == "label":
        import unicodedata

        if len(value) > MAX_LABEL:
            raise LimitError("label in characters", len(value), MAX_LABEL)
        if _CONTROL.search(value) or unicodedata.normalize("NFC", value) != value:
            raise MalformedError("label is not NFC text without control characters (spec 2.1)")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise MalformedError("label holds a lone surrogate (spec 2.1)")
    elif not _ASCII.match(value):
        raise MalformedError(f"text in field {key!r} is not printable ASCII (spec 2.1)")


def type_name(name: str) -> str:
    """Return the payload type of message NAME (spec 2.4)."""
    return f"application/vnd.credible-auctions.{name}.v1+json"


def pae_raw(payload_type: str, body: bytes) -> bytes:
    """Return the pre-authentication encoding of a body under a full payload type (spec 2.4)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def pae(name: str, value: object) -> bytes:
    """Return PAE("NAME", value): what is hashed and signed (spec 2.4)."""
    return pae_raw(type_name(name), canonical(value))


def hash_of(name: str, value: object) -> bytes:
    """Return H("NAME", value), 32 bytes (spec 2.4)."""
    return hashlib.sha256(pae(name, value)).digest()


def hash_from_hex(text: str, what: str) -> bytes:
    """Return the 32 bytes behind 64 lowercase hex digits.

    Raises:
        MalformedError: For any other text.
    """
    data = _from_hex(text)
    if data is None or len(data) != HASH_SIZE:
        raise MalformedError(f"{what}: wanted 64 lowercase hex digits, got {text[:80]!r}")
    return data


def bytes_from_hex(text: str, what: str) -> bytes:
    """Return the bytes behind lowercase hex; raise MalformedError for any other text."""
    data = _from_hex(text)
    if data is None:
        raise MalformedError(f"{what}: not lowercase hex")
    return data


def _from_hex(text: str) -> bytes | None:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if data.hex() == text else None  # `fromhex` takes spaces and capitals (hardening 1.5)
