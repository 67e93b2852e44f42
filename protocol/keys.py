"""Keys: strict Ed25519 signatures, verifier keys, HPKE sealing, key files (spec 2.7 to 2.10, 4.6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from protocol.errors import MalformedError, SignatureError

ED25519: Final = 0x01  # note signature type (spec 4.6)
COSIGNATURE: Final = 0x04

_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_LOW_ORDER: Final = frozenset(
    bytes.fromhex(text[:-2]) + bytes([int(text[-2:], 16) | top])
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
    for top in (0x00, 0x80)
)


def check_public_key(key: bytes) -> None:
    """Raise SignatureError unless an Ed25519 public key may be used (spec 2.7, 2.8)."""
    if len(key) != 32:
        raise SignatureError(f"public key has {len(key)} bytes, wanted 32 (spec 2.7)")
    if key in _LOW_ORDER:
        raise SignatureError("public key is a low-order encoding (spec 2.7)")
    if int.from_bytes(key, "little") & ((1 << 255) - 1) >= _P:
        raise SignatureError("public key is not a canonical encoding: y >= p (spec 2.7)")


def verify_signature(key: bytes, message: bytes, signature: bytes) -> None:
    """Verify an Ed25519 signature, strictly; the one function that every entry point uses (spec 2.7).

    Raises:
        SignatureError: If the key or the signature is one that spec 2.7 refuses, or the signature does not verify.
    """
    check_public_key(key)
    if len(signature) != 64:
        raise SignatureError(f"signature has {len(signature)} bytes, wanted 64 (spec 2.7)")
    if signature[:32] in _LOW_ORDER:
        raise SignatureError("R is a low-order encoding (spec 2.7)")
    if int.from_bytes(signature[32:], "little") >= _L:
        raise SignatureError("S is not below the group order (spec 2.7)")
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError as error:
        raise SignatureError("Ed25519 signature does not verify (spec 2.7)") from error


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key in the text form `NAME+hex(key id)+base64(type || key)` (spec 4.6).

    Attributes:
        name: Text without space or plus sign.
        kind: 0x01 for signatures, 0x04 for witness cosignatures.
        key: 32 bytes of an Ed25519 public key.
        key_id: First 4 bytes of SHA-256(NAME || 0x0A || type || key).
        party: Identity of the key's owner: SHA-256 of the text form, in hex (spec 2.11).
    """

    name: str
    kind: int
    key: bytes
    key_id: bytes = field(init=False, repr=False, compare=False)
    party: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 100 or not self.name.isascii() or not self.name.isprintable():
            raise MalformedError(f"key name {self.name[:40]!r} is not 1 to 100 printable ASCII characters (spec 4.6)")
        if " " in self.name or "+" in self.name:
            raise MalformedError(f"key name {self.name!r} holds a space or a plus sign (spec 4.6)")
        if self.kind not in (ED25519, COSIGNATURE):
            raise MalformedError(f"key type {self.kind:#04x} is not known (spec 4.6)")
        check_public_key(self.key)
        digest = hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key).digest()
        object.__setattr__(self, "key_id", digest[:4])
        object.__setattr__(self, "party", hashlib.sha256(str(self).encode("ascii")).hexdigest())

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.key).decode('ascii')}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Parse the text form; raise MalformedError unless it is exactly what `str` writes."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise MalformedError(f"verifier key: wanted NAME+ID+KEY, got {text[:60]!r} (spec 4.6)")
        data = decode_base64(parts[2], "verifier key")
        if len(data) != 33:
            raise MalformedError(f"verifier key: wanted 33 bytes of type and key, got {len(data)} (spec 4.6)")
        key = cls(parts[0], data[0], data[1:])
        if str(key) != text:
            raise MalformedError("verifier key: key id or encoding does not match (spec 4.6)")
        return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A named Ed25519 key; its public half comes from the seed (spec 2.8), which stays out of repr (spec 3.4)."""

    name: str
    seed: bytes = field(repr=False)  # 32 bytes, secret
    kind: int = ED25519
    _secret: bytes = field(init=False, repr=False)
    verifier: VerifierKey = field(init=False)

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise ValueError(f"signing key seed has {len(self.seed)} bytes, wanted 32")
        public, secret = crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "_secret", secret)
        object.__setattr__(self, "verifier", VerifierKey(self.name, self.kind, public))

    @property
    def party(self) -> str:
        """Identity of the key's owner (spec 2.11)."""
        return self.verifier.party

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""
        return crypto_sign(message, self._secret)[:64]


def decode_base64(text: str, what: str) -> bytes:
    """Decode standard padded base64 with zero pad bits; raise MalformedError for anything else (spec 4.5)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"{what}: not base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise MalformedError(f"{what}: not canonical base64 (spec 4.5)")
    return data


def derive(secret: bytes, info: bytes, length: int = 32) -> bytes:
    """Return HKDF-SHA256(ikm = secret, no salt, info) of `length` bytes (RFC 5869)."""
    pseudo_random_key = hmac.digest(bytes(32), secret, "sha256")
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        output, counter = output + block, counter + 1
    return output[:length]


# HPKE, RFC 9180: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 (spec 2.9). The single-shot
# call of
# `cryptography` draws a fresh ephemeral key; spec 3.11 derives it from the nonce, so the few lines of the key schedule
# stand here, on the library's primitives. The tests open each side's output with the other's, and run RFC 9180 A.2.
_KEM: Final = b"KEM" + (0x0020).to_bytes(2, "big")
_SUITE: Final = b"HPKE" + bytes.fromhex("002000010003")
SEAL_OVERHEAD: Final = 48  # 32 bytes of encapsulated key, 16 of tag


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labeled + b"\x01", "sha256")[:length]  # every length here is at most one block


_NO_PSK: Final = _labeled_extract(_SUITE, b"", b"psk_id_hash", b"")  # base mode


def derive_seal_key(material: bytes) -> X25519PrivateKey:
    """Return the X25519 key pair that RFC 9180 DeriveKeyPair makes of at least 32 secret bytes."""
    if len(material) < 32:
        raise ValueError(f"key material has {len(material)} bytes, wanted at least 32")
    extracted = _labeled_extract(_KEM, b"", b"dkp_prk", material)
    return X25519PrivateKey.from_private_bytes(_labeled_expand(_KEM, extracted, b"sk", b"", 32))


_PROBE: Final = derive_seal_key(b"trial exchange of a public key: no secret")


def _schedule(shared: bytes, encapsulated: bytes, recipient: bytes, info: bytes) -> tuple[bytes, bytes]:
    extracted = _labeled_extract(_KEM, b"", b"eae_prk", shared)
    secret = _labeled_expand(_KEM, extracted, b"shared_secret", encapsulated + recipient, 32)
    context = b"\x00" + _NO_PSK + _labeled_extract(_SUITE, b"", b"info_hash", info)
    key_secret = _labeled_extract(_SUITE, secret, b"secret", b"")
    return (
        _labeled_expand(_SUITE, key_secret, b"key", context, 32),
        _labeled_expand(_SUITE, key_secret, b"base_nonce", context, 12),
    )


def check_seal_key(key: bytes) -> None:
    """Raise SignatureError if an X25519 public key is of low order or not 32 bytes: nothing can be sealed to it."""
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError as error:
        raise SignatureError("seal key is of low order or not 32 bytes (spec 2.9)") from error


def seal(plaintext: bytes, recipient: bytes, info: bytes, ephemeral: X25519PrivateKey, *, aad: bytes = b"") -> bytes:
    """Encrypt to an X25519 public key: `enc || ct`, 48 bytes longer than the plaintext (spec 2.9).

    Args:
        plaintext: What to hide.
        recipient: 32 bytes of the recipient's public key.
        info: What the encryption is bound to.
        ephemeral: The encapsulation's key; used for one message only.
        aad: Authenticated data, empty in the protocol (the public vectors carry one).

    Raises:
        SignatureError: If the recipient's key gives an all-zero shared secret.
    """
    public = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError as error:
        raise SignatureError("seal key is of low order or not 32 bytes (spec 2.9)") from error
    key, nonce = _schedule(shared, public, recipient, info)
    return public + ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def unseal(sealed: bytes, recipient: X25519PrivateKey, info: bytes, *, aad: bytes = b"") -> bytes:
    """Decrypt what `seal` or any RFC 9180 implementation of this suite made.

    Raise SignatureError if it does not open.
    """
    if len(sealed) < SEAL_OVERHEAD:
        raise SignatureError(f"sealed text has {len(sealed)} bytes, wanted at least {SEAL_OVERHEAD} (spec 2.9)")
    try:
        shared = recipient.exchange(X25519PublicKey.from_public_bytes(sealed[:32]))
        key, nonce = _schedule(shared, sealed[:32], recipient.public_key().public_bytes_raw(), info)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[32:], aad)
    except (ValueError, InvalidTag) as error:
        raise SignatureError("sealed text does not open (spec 2.9)") from error


def write_key_file(path: Path, key: SigningKey, passphrase: bytes) -> None:
    """Write a signing key as encrypted PKCS#8 PEM, mode 0600, never over an existing file (spec 2.10, hardening 1.10).

    Raises:
        FileExistsError: If the file exists.
        ValueError: If the passphrase is empty.
    """
    if not passphrase:
        raise ValueError("the passphrase is empty")
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    data = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # whatever the umask was
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_key_file(path: Path, name: str, passphrase: bytes, kind: int = ED25519) -> SigningKey:
    """Read a signing key that `write_key_file` wrote.

    Raises:
        MalformedError: If group or others may read the file, or it is no Ed25519 key under that passphrase.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise MalformedError(f"{path}: mode {mode:o} lets others read the key, wanted 600 (hardening 1.10)")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        raise MalformedError(f"{path}: no private key under this passphrase") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise MalformedError(f"{path}: not an Ed25519 key")
    return SigningKey(name, private.private_bytes_raw(), kind)
