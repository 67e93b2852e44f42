"""Spec 2.7 to 2.10, 4.6: strict signatures, verifier keys, HPKE, key files; public vectors and cases that must fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError, SignatureError
from protocol.keys import (
    COSIGNATURE,
    SEAL_OVERHEAD,
    SigningKey,
    VerifierKey,
    decode_base64,
    derive,
    derive_seal_key,
    read_key_file,
    seal,
    unseal,
    verify_signature,
    write_key_file,
)

# RFC 8032, 7.1: secret, public, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
LOW_ORDER = [
    bytes.fromhex(text)[:31] + bytes([bytes.fromhex(text)[31] | top])
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
    for top in (0, 0x80)
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(secret: str, public: str, message: str, signature: str) -> None:
    key = SigningKey("test", bytes.fromhex(secret))
    assert key.verifier.key.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("encoding", LOW_ORDER)
def test_the_14_low_order_encodings_are_refused_as_key_and_as_r(encoding: bytes) -> None:  # spec 2.7
    assert len(set(LOW_ORDER)) == 14
    with pytest.raises(SignatureError, match="low-order"):
        verify_signature(encoding, b"m", bytes(64))
    with pytest.raises(SignatureError, match="low-order"):
        VerifierKey("x", 1, encoding)
    key = SigningKey("x", bytes(32))
    with pytest.raises(SignatureError, match="R is a low-order"):
        verify_signature(key.verifier.key, b"m", encoding + bytes(32))


@pytest.mark.parametrize(
    ("mutation", "text"),
    [
        (lambda k, s: (k[:31], s), "31 bytes"),
        (lambda k, s: (k + b"\0", s), "33 bytes"),
        (lambda k, s: (k, s[:63]), "63 bytes"),
        (lambda k, s: (k, s + b"\0"), "65 bytes"),
        (
            lambda k, s: (k, s[:32] + (int.from_bytes(s[32:], "little") + ORDER).to_bytes(32, "little")),
            "S is not below",
        ),
        (lambda k, s: ((2**255 - 19 + 3).to_bytes(32, "little"), s), "y >= p"),
        (lambda k, s: (k, bytes([s[0] ^ 1]) + s[1:]), "does not verify"),
    ],
)
def test_malleated_signatures_and_keys_are_refused(mutation, text: str) -> None:  # type: ignore[no-untyped-def]
    key = SigningKey("x", b"\7" * 32)
    public, signature = mutation(key.verifier.key, key.sign(b"m"))
    with pytest.raises(SignatureError, match=text):
        verify_signature(public, b"m", signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_libsodium_and_openssl_agree(seed: bytes, message: bytes) -> None:  # spec 2.7, hardening V2
    key = SigningKey("x", seed)
    other = Ed25519PrivateKey.from_private_bytes(seed)
    assert key.sign(message) == other.sign(message)
    verify_signature(key.verifier.key, message, other.sign(message))


@given(st.binary(min_size=32, max_size=32), st.sampled_from([1, COSIGNATURE]))
def test_verifier_keys_round_trip(seed: bytes, kind: int) -> None:
    key = SigningKey("example.com/log", seed, kind).verifier
    assert VerifierKey.parse(str(key)) == key
    assert key.party == VerifierKey.parse(str(key)).party


def test_verifier_keys_refuse_every_other_text() -> None:  # spec 4.6, hardening 1.5
    text = str(SigningKey("log", b"\1" * 32).verifier)
    name, key_id, blob = text.split("+", 2)
    for bad in (
        "",
        name,
        f"{name}+{key_id}",
        f"other+{key_id}+{blob}",
        f"{name}+00000000+{blob}",
        f"{name}+{key_id.upper()}+{blob}",
        f"{name}+{key_id}+{blob} ",
        f"{name}+{key_id}+{blob[:-1]}",
        f"{name} x+{key_id}+{blob}",
        text + "\n",
    ):
        if bad != text:
            with pytest.raises(MalformedError):
                VerifierKey.parse(bad)


@pytest.mark.parametrize("text", ["AB==", "AAA", "AA==\n", " AAAA", "AA-_", "AAAA=", "A==="])
def test_base64_with_spare_bits_or_blanks_is_refused(text: str) -> None:  # spec 4.5
    with pytest.raises(MalformedError):
        decode_base64(text, "x")


def test_secrets_stay_out_of_repr() -> None:  # spec 3.4, hardening 1.10
    seed = bytes(range(32))
    assert seed.hex() not in repr(SigningKey("x", seed))
    assert str(seed) not in repr(SigningKey("x", seed))


# RFC 9180 A.2.1: base mode, X25519, HKDF-SHA256, ChaCha20Poly1305
A2 = {
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "ikm_e": "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
    "sk_e": "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
    "sk_r": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    "pk_r": "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    "pt": "4265617574792069732074727574682c20747275746820626561757479",
    "aad": "436f756e742d30",
    "ct": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
}


def test_hpke_rfc_9180_vector() -> None:  # spec 2.9, 11
    v = {name: bytes.fromhex(text) for name, text in A2.items()}
    ephemeral = derive_seal_key(v["ikm_e"])
    assert ephemeral.private_bytes_raw() == v["sk_e"]
    assert seal(v["pt"], v["pk_r"], v["info"], ephemeral, aad=v["aad"]) == v["enc"] + v["ct"]
    recipient = X25519PrivateKey.from_private_bytes(v["sk_r"])
    assert unseal(v["enc"] + v["ct"], recipient, v["info"], aad=v["aad"]) == v["pt"]


@given(st.binary(max_size=200), st.binary(max_size=50), st.binary(min_size=32, max_size=32))
def test_hpke_interoperates_with_the_library(text: bytes, info: bytes, material: bytes) -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    recipient = derive_seal_key(b"\5" * 32)
    ours = seal(text, recipient.public_key().public_bytes_raw(), info, derive_seal_key(material))
    assert len(ours) == len(text) + SEAL_OVERHEAD
    assert suite.decrypt(ours, recipient, info) == text
    assert unseal(suite.encrypt(text, recipient.public_key(), info), recipient, info) == text


def test_sealed_text_opens_under_its_own_info_and_key_only() -> None:  # spec 8.5
    recipient, other = derive_seal_key(b"\1" * 32), derive_seal_key(b"\2" * 32)
    sealed = seal(b"bid", recipient.public_key().public_bytes_raw(), b"info", derive_seal_key(b"\3" * 32))
    assert unseal(sealed, recipient, b"info") == b"bid"
    for bad, key, info in (
        (sealed, other, b"info"),
        (sealed, recipient, b"infO"),
        (sealed[:-1], recipient, b"info"),
        (sealed[:40], recipient, b"info"),
        (bytes(32) + sealed[32:], recipient, b"info"),
        (sealed[:50] + bytes([sealed[50] ^ 1]) + sealed[51:], recipient, b"info"),
    ):
        with pytest.raises(SignatureError):
            unseal(bad, key, info)
    with pytest.raises(SignatureError, match="low order"):
        seal(b"x", bytes(32), b"", derive_seal_key(b"\3" * 32))


def test_hkdf_rfc_5869_case_3() -> None:  # zero-length salt and info
    okm = derive(bytes.fromhex("0b" * 22), b"", 42)
    assert okm.hex() == ("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")


def test_key_files_are_private_and_never_overwritten(tmp_path: Path) -> None:  # hardening 1.10
    old = os.umask(0)
    try:
        path = tmp_path / "key.pem"
        key = SigningKey("me", bytes(range(32)))
        write_key_file(path, key, b"secret")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path, "me", b"secret").verifier == key.verifier
    with pytest.raises(FileExistsError):
        write_key_file(path, key, b"secret")
    with pytest.raises(MalformedError, match="passphrase"):
        read_key_file(path, "me", b"wrong")
    with pytest.raises(ValueError, match="empty"):
        write_key_file(tmp_path / "other.pem", key, b"")
    path.chmod(0o640)
    with pytest.raises(MalformedError, match="mode 640"):
        read_key_file(path, "me", b"secret")
