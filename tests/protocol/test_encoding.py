"""Spec 2.1 to 2.5: one canonical encoding, everything else refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages as m
from protocol.encoding import (
    MAX_INTEGER,
    Message,
    canonical,
    decode,
    hash_from_hex,
    hash_of,
    pae,
    pae_raw,
)
from protocol.errors import LimitError, MalformedError


class Sample(Message, frozen=True):
    """A record with every kind of field."""

    amount: int
    flag: bool
    label: str
    names: list[str]
    nested: list[list[int]]


keys = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True).filter(lambda key: key != "label")
ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
plain = st.recursive(
    st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | ascii_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
samples = st.builds(
    Sample,
    amount=st.integers(-MAX_INTEGER, MAX_INTEGER),
    flag=st.booleans(),
    label=ascii_text,
    names=st.lists(ascii_text, max_size=3),
    nested=st.lists(st.lists(st.integers(-9, 9), max_size=3), max_size=3),
)


@given(plain)
def test_writer_equals_rfc_8785_on_the_profile(value: Any) -> None:  # spec 2.2
    try:
        data = canonical(value)
    except ValueError:
        return  # nested deeper than the profile allows
    assert data == rfc8785.dumps(value)


@given(samples)
def test_encode_and_decode_are_inverse(sample: Sample) -> None:
    data = canonical(sample)
    assert decode(data, Sample) == sample
    assert canonical(decode(data, Sample)) == data


@given(samples, st.data())
def test_every_other_byte_string_is_refused_or_decodes_to_itself(sample: Sample, data: st.DataObject) -> None:
    encoded = bytearray(canonical(sample))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = decode(bytes(encoded), Sample)
    except MalformedError:
        return
    assert canonical(other) == bytes(encoded)  # accepted only if it is itself canonical


GOOD = b'{"amount":1,"flag":true,"label":"x","names":[],"nested":[[1]]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        GOOD + b" ",
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.replace(b'"amount":1', b'"amount":1,"amount":1'),  # repeated key
        GOOD.replace(b'"amount":1,"flag":true', b'"flag":true,"amount":1'),  # other order
        GOOD.replace(b":1,", b":-0,"),
        GOOD.replace(b":1,", b":1.0,"),
        GOOD.replace(b":1,", b":1e0,"),
        GOOD.replace(b":1,", b":true,"),
        GOOD.replace(b":1,", b':"1",'),
        GOOD.replace(b":1,", b":01,"),
        GOOD.replace(b":1,", b":9007199254740992,"),
        GOOD.replace(b":1,", b":-9007199254740992,"),
        GOOD.replace(b":1,", b":99999999999999999999999999999999999999999999999999,"),
        GOOD.replace(b":1,", b":NaN,"),
        GOOD.replace(b":1,", b":null,"),
        GOOD.replace(b"[[1]]", b"[[9007199254740992]]"),
        GOOD.replace(b"[]", b'["\\u0041"]'),  # an escape that the writer would not use
        GOOD.replace(b"[]", b'["\xc3\xa9"]'),  # not ASCII outside a label
        GOOD.replace(b"[]", b'["\\n"]'),
        GOOD.replace(b'"x"', b'"e\xcc\x81"'),  # a label that is not NFC
        GOOD.replace(b'"x"', b'"\\u0007"'),
        GOOD.replace(b'"x"', b'"\xff"'),
        GOOD.replace(b"}", b',"more":1}'),  # unknown field
        b"[" * 100_000,
    ],
)
def test_reader_refuses(data: bytes) -> None:  # spec 2.3, hardening 1.3 to 1.5
    with pytest.raises(MalformedError):
        decode(data, Sample)


def test_labels_may_hold_nfc_text_of_200_characters() -> None:
    text = "土浦市" + "é" * 197
    sample = Sample(amount=0, flag=False, label=text, names=[], nested=[])
    assert decode(canonical(sample), Sample).label == text
    with pytest.raises(ValueError, match="got 201, the limit is 200"):
        canonical({"label": "x" * 201})


@pytest.mark.parametrize("value", [1.5, None, {"Key": 1}, {"a": 2**53}, {"": 1}, {"a": "\n"}])
def test_writer_refuses_what_the_profile_lacks(value: Any) -> None:  # spec 2.1
    with pytest.raises(ValueError, match="spec 2.1|canonical profile"):
        canonical(value)


def test_size_is_checked_before_parsing() -> None:  # spec 12.1
    with pytest.raises(LimitError, match="got 60001, the limit is 60000"):
        decode(b" " * 60_001, Sample)


def test_pre_authentication_encoding_of_the_dsse_text() -> None:  # spec 2.4, 11
    got = pae_raw("http://example.com/HelloWorld", b"hello world")
    assert got == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_pae_separates_what_concatenation_joins() -> None:  # hardening 1.8
    assert pae_raw("ab", b"c") != pae_raw("a", b"bc")
    assert hash_of("row", {"a": 1}) != hash_of("matrix", {"a": 1})
    assert pae("row", {"a": 1}).startswith(b"DSSEv1 45 application/vnd.credible-auctions.row.v1+json 7 ")


def test_hash_is_sha256_of_pae() -> None:
    value = {"b": 2, "a": [1, "x"]}
    assert hash_of("x", value) == hashlib.sha256(pae("x", value)).digest()
    assert json.loads(canonical(value)) == value


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" + "0" * 63, "0" * 63 + "g", "0" * 63 + " ", "0" * 64 + "\n"]
)
def test_hashes_are_64_lowercase_hex_digits(text: str) -> None:
    with pytest.raises(MalformedError, match="wanted 64 lowercase hex digits"):
        hash_from_hex(text, "root")


def test_a_label_has_200_characters_at_most_also_in_a_message() -> None:  # spec 12
    fits = m.Context(session="00" * 32, round=0, values=[], label="a" * 200)
    assert decode(canonical(fits), m.Context) == fits
    longer = msgspec.structs.replace(fits, label="a" * 201)
    with pytest.raises(ValueError, match="label in characters"):
        canonical(longer)
    with pytest.raises(MalformedError, match="label in characters"):
        decode(msgspec.json.Encoder(order="sorted").encode(longer), m.Context)
