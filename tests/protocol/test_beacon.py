"""Spec 5.3, 5.4: quicknet rounds from the field, and signatures that must not pass."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InconclusiveError, SignatureError
from protocol.randomness import beacon
from protocol.randomness.beacon import GENESIS, PERIOD, QUICKNET, beacon_round, beacon_time, verify_beacon

P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB  # field
R = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001  # order of the group
COMPRESSED, INFINITY, LARGER_Y = 0x80, 0x40, 0x20  # flags in the first byte
SUITE = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"  # domain of the vectors in RFC 9380

SIGNATURES = {  # spec 11
    round_number: bytes.fromhex(text)
    for round_number, text in (
        (123, "b75c69d0b72a5d906e854e808ba7e2accb1542ac355ae486d591aa9d43765482e26cd02df835d3546d23c4b13e0dfc92"),
        (1000, "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"),
        (657413, "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b"),
    )
}
SIGNATURE = SIGNATURES[1000]

HASHED = [  # RFC 9380 J.9.1: message, x, y
    (
        b"",
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    (
        b"abc",
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    (
        b"abcdef0123456789",
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
    (
        b"q128_" + b"q" * 128,
        "15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
        "1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38",
    ),
    (
        b"a512_" + b"a" * 512,
        "082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
        "05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8",
    ),
]


@pytest.fixture(scope="module")
def curve() -> Any:
    return pytest.importorskip(
        "py_arkworks_bls12381", reason="needs the extra: pip install 'credible-auctions[beacon]'"
    )


def compressed(x: int, flags: int = 0) -> bytes:
    return ((COMPRESSED | flags) << 376 | x).to_bytes(48, "big")


def on_curve(x: int) -> bool:
    return pow(x**3 + 4, (P - 1) // 2, P) == 1


# --- rounds and times ---


@given(st.integers(GENESIS, GENESIS + 2**40))
def test_a_round_is_the_latest_from_its_time_to_the_next(time: int) -> None:
    number = beacon_round(time)
    assert beacon_time(number) <= time < beacon_time(number + 1) == beacon_time(number) + PERIOD
    assert beacon_round(beacon_time(number)) == number


def test_known_rounds_and_times() -> None:
    assert (beacon_round(GENESIS), beacon_round(GENESIS + 2), beacon_round(GENESIS + 3)) == (1, 1, 2)
    assert (beacon_time(1), beacon_time(1000)) == (1_692_803_367, 1_692_806_364)


def test_nothing_is_published_before_the_first_round() -> None:
    with pytest.raises(ValueError, match="time 1692803366 is before quicknet's first round at 1692803367"):
        beacon_round(GENESIS - 1)
    for number in (-1, 0, 2**64):
        with pytest.raises(ValueError, match=rf"beacon round {number}, wanted 1 to 2\^64 - 1"):
            beacon_time(number)
        with pytest.raises(ValueError, match=rf"beacon round {number}, wanted 1 to 2\^64 - 1"):
            verify_beacon(number, SIGNATURE)


# --- the pinned chain and the library ---


def test_chain_hash_covers_key_period_and_genesis() -> None:
    seed = bytes.fromhex("f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e")  # groupHash of quicknet
    header = PERIOD.to_bytes(4, "big") + GENESIS.to_bytes(8, "big")
    assert hashlib.sha256(header + beacon._PUBLIC_KEY + seed + b"quicknet").hexdigest() == QUICKNET


@pytest.mark.parametrize(("message", "x", "y"), HASHED, ids=["empty", "abc", "abcdef", "q128", "a512"])
def test_library_hashes_to_the_curve_as_rfc_9380_does(curve: Any, message: bytes, x: str, y: str) -> None:
    assert bytes(curve.G1Point.hash_to_curve(message, SUITE).to_xy_bytes_be()).hex() == x + y


def test_importing_the_module_does_not_load_the_library() -> None:
    code = "import sys, protocol.randomness.beacon; sys.exit('py_arkworks_bls12381' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_library_the_verdict_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py_arkworks_bls12381", None)  # how Python marks a module that cannot be imported
    with pytest.raises(InconclusiveError, match=r"pip install 'credible-auctions\[beacon\]'"):
        verify_beacon(1000, SIGNATURE)
    with pytest.raises(SignatureError, match="47 bytes, wanted 48"):  # no library is needed to refuse this
        verify_beacon(1000, SIGNATURE[:-1])


# --- known answers ---


def test_rounds_from_the_field_verify(curve: Any) -> None:  # spec 11
    for number, signature in SIGNATURES.items():
        assert verify_beacon(number, signature) == hashlib.sha256(signature).digest()
    assert (
        verify_beacon(1000, SIGNATURE).hex(),
        verify_beacon(657413, SIGNATURES[657413]).hex(),
    ) == (
        "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd",
        "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
    )


# --- must fail ---


@pytest.mark.parametrize("number", SIGNATURES)
def test_a_signature_belongs_to_one_round(curve: Any, number: int) -> None:
    for other in {number - 1, number + 1, number + 2**32, *SIGNATURES} - {number}:
        with pytest.raises(SignatureError, match=f"does not verify for round {other} "):
            verify_beacon(other, SIGNATURES[number])


def test_every_bit_of_a_signature_counts(curve: Any) -> None:
    for bit in range(384):
        flipped = (int.from_bytes(SIGNATURE, "big") ^ 1 << bit).to_bytes(48, "big")
        with pytest.raises(SignatureError):
            verify_beacon(1000, flipped)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 96])
def test_another_length_is_refused(size: int) -> None:
    with pytest.raises(SignatureError, match=f"{size} bytes, wanted 48"):
        verify_beacon(1000, (SIGNATURE * 2)[:size])


@pytest.mark.parametrize(
    "encoding",
    [
        compressed(0, INFINITY),
        compressed(0, INFINITY | LARGER_Y),
        compressed(1, INFINITY),  # the library takes any x here
        bytes([SIGNATURE[0] | INFINITY]) + SIGNATURE[1:],
        b"\xff" * 48,
    ],
    ids=["canonical", "with a sign", "with an x", "a signature's x", "all ones"],
)
def test_infinity_is_refused(curve: Any, encoding: bytes) -> None:
    with pytest.raises(SignatureError, match="point at infinity"):
        verify_beacon(1000, encoding)


def test_an_encoding_that_is_not_canonical_is_refused(curve: Any) -> None:
    small = next(x for x in range(1, 99) if on_curve(x))
    point = curve.G1Point.from_compressed_bytes_unchecked(compressed(small))
    assert point.to_compressed_bytes() == compressed(small)  # so x + p below names a point, only not in its one way
    refused = {
        "x >= p": compressed(small + P),
        "x = p": compressed(P),
        "no compression flag": bytes([SIGNATURE[0] & 0x7F]) + SIGNATURE[1:],
        "y instead of flags": curve.G1Point().to_xy_bytes_be()[:48],
    }
    for name, encoding in refused.items():
        with pytest.raises(SignatureError, match="not a point of the group"):
            pytest.fail(f"{name}: {verify_beacon(1000, encoding).hex()}")


class _SecondEncoding:
    """Stands for a library that reads two encodings of one point and writes the other."""

    def __init__(self, curve: Any) -> None:
        self.GT, self.G2Point = curve.GT, curve.G2Point
        self.G1Point = self
        self._point = curve.G1Point

    def from_compressed_bytes(self, _: bytes) -> Any:
        return self._point.from_compressed_bytes(SIGNATURE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._point, name)


def test_a_lenient_library_does_not_make_a_second_coin(curve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py_arkworks_bls12381", _SecondEncoding(curve))
    assert verify_beacon(1000, SIGNATURE)
    with pytest.raises(SignatureError, match="not the canonical encoding"):
        verify_beacon(1000, SIGNATURE[:-1] + b"\x00")


def test_a_point_off_the_curve_is_refused(curve: Any) -> None:
    x = next(x for x in range(1, 99) if not on_curve(x))
    with pytest.raises(SignatureError, match="not a point of the group"):
        verify_beacon(1000, compressed(x))


def test_a_point_outside_the_subgroup_is_refused(curve: Any) -> None:
    for x in [0, *filter(on_curve, range(1, 30))]:  # x = 0 is the point (0, 2) of order 3
        for sign in (0, LARGER_Y):
            assert not curve.G1Point.from_compressed_bytes_unchecked(compressed(x, sign)).is_in_subgroup()
            with pytest.raises(SignatureError, match="not a point of the group"):
                verify_beacon(1000, compressed(x, sign))


def test_only_the_subgroup_check_stops_a_signature_plus_a_point_of_small_order(curve: Any) -> None:
    point, torsion = curve.G1Point.from_compressed_bytes(SIGNATURE), curve.G1Point.identity()
    stray = curve.G1Point.from_compressed_bytes_unchecked(compressed(4))
    for bit in f"{R:b}":  # r * stray by doubling: the library's product assumes the subgroup
        torsion = torsion + torsion + stray if bit == "1" else torsion + torsion
    forged = point + torsion
    generator, key = curve.G2Point(), curve.G2Point.from_compressed_bytes(beacon._PUBLIC_KEY)
    hashed = curve.G1Point.hash_to_curve(hashlib.sha256((1000).to_bytes(8, "big")).digest(), beacon._DOMAIN)
    assert forged != point and curve.GT.pairing_check([forged, -hashed], [generator, key])  # a second valid coin
    with pytest.raises(SignatureError, match="not a point of the group"):
        verify_beacon(1000, bytes(forged.to_compressed_bytes()))


def test_a_valid_point_that_nobody_signed_is_refused(curve: Any) -> None:
    hashed = curve.G1Point.hash_to_curve(hashlib.sha256((1000).to_bytes(8, "big")).digest(), beacon._DOMAIN)
    for point in (curve.G1Point(), hashed, -hashed, -curve.G1Point.from_compressed_bytes(SIGNATURE)):
        with pytest.raises(SignatureError, match="does not verify for round 1000 "):
            verify_beacon(1000, bytes(point.to_compressed_bytes()))
