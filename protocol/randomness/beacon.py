"""The public coin of drand quicknet, checked offline from supplied bytes (spec 5.3, 5.4)."""

from __future__ import annotations

import hashlib
from typing import Final

from protocol.errors import InconclusiveError, SignatureError

QUICKNET: Final = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"  # chain hash
GENESIS: Final = 1_692_803_367  # Unix time of round 1, seconds
PERIOD: Final = 3  # seconds

_SIGNATURE_BYTES: Final = 48
_ROUNDS: Final = 1 << 64  # the signed message holds the round as a uint64
_DOMAIN: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
# QUICKNET is a hash over this key, so the two change together or not at all; a test computes it.
_PUBLIC_KEY: Final = bytes.fromhex(
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)


def beacon_round(time: int) -> int:
    """Return the round that is the latest at a time: floor((t - GENESIS) / PERIOD) + 1 (spec 5.3).

    Args:
        time: Unix time, seconds.

    Raises:
        ValueError: If the time is before the first round.
    """
    if time < GENESIS:
        raise ValueError(f"time {time} is before quicknet's first round at {GENESIS} (spec 5.3)")
    return (time - GENESIS) // PERIOD + 1


def beacon_time(round_number: int) -> int:
    """Return the Unix time, in seconds, at which a round is published: the least t with that `beacon_round` (spec 5.3).

    Raises:
        ValueError: If there is no such round; the first is 1.
    """
    _check_round(round_number)
    return GENESIS + (round_number - 1) * PERIOD


def verify_beacon(round_number: int, signature: bytes) -> bytes:
    """Check quicknet's signature on a round; return the round's randomness (spec 5.3).

    Which round belongs to a close or an epoch is the manifest's to say (spec 5.4): whoever calls this passes that
    round, never one that came with the signature.

    Args:
        round_number: From 1.
        signature: 48 bytes, a compressed point of G1.

    Returns:
        SHA-256(signature), 32 bytes.

    Raises:
        ValueError: If there is no such round.
        SignatureError: If the signature is not the canonical encoding of a point of the group of order r, is the point
            at infinity, or does not verify.
        InconclusiveError: If the optional library for the curve is not installed.
    """
    _check_round(round_number)
    if len(signature) != _SIGNATURE_BYTES:
        raise SignatureError(f"beacon signature has {len(signature)} bytes, wanted {_SIGNATURE_BYTES} (spec 5.3)")
    try:  # imported here: without a beacon nobody needs the library
        from py_arkworks_bls12381 import GT, G1Point, G2Point
    except ImportError as error:
        raise InconclusiveError(
            "a beacon signature needs the optional curve library: pip install 'credible-auctions[beacon]' (spec 5.3)"
        ) from error
    try:  # checks x < p, the curve equation and the subgroup; a point outside the subgroup could verify as well
        point = G1Point.from_compressed_bytes(signature)
    except ValueError as error:
        raise SignatureError("beacon signature is not a point of the group (spec 5.3)") from error
    if point == G1Point.identity():
        raise SignatureError("beacon signature is the point at infinity (spec 5.3)")
    if point.to_compressed_bytes() != signature:  # the randomness hashes the bytes: a second encoding is a second coin
        raise SignatureError("beacon signature is not the canonical encoding of its point (spec 5.3)")
    message = hashlib.sha256(round_number.to_bytes(8, "big")).digest()
    hashed = G1Point.hash_to_curve(message, _DOMAIN)
    # e(signature, g) = e(hashed, key), with one final exponentiation; G2Point() is the generator g
    if not GT.pairing_check([point, -hashed], [G2Point(), G2Point.from_compressed_bytes(_PUBLIC_KEY)]):
        raise SignatureError(f"beacon signature does not verify for round {round_number} (spec 5.3)")
    return hashlib.sha256(signature).digest()


def _check_round(round_number: int) -> None:
    if not 0 < round_number < _ROUNDS:
        raise ValueError(f"beacon round {round_number}, wanted 1 to 2^64 - 1 (spec 5.3)")
