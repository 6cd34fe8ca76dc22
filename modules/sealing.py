"""Seals a secret to one device: only that device can open it, and only as what it was sealed for.

HPKE in its base mode (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM, as the library cryptography has it. The
context that is bound in names the device, the slot, the secret and its version: sealed bytes that are moved to another
place do not open there. What comes out is the encapsulated key, then the ciphertext: :data:`OVERHEAD` bytes more than
went in. Who sealed it, this does not say: the director's signature on the order does.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from modules.errors import Invalid, Untrusted
from modules.names import DeviceId

KEY_BYTES: Final = 32
OVERHEAD: Final = 48
# Of a secret before it is sealed: a certificate with its chain fits, a file of settings should be one of the module's.
LONGEST: Final = 8000
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def new_key() -> bytes:
    """A private key of :data:`KEY_BYTES` bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_half(key: bytes) -> bytes:
    """What others seal to, of a private key."""
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def seal(secret: bytes, public: bytes, *, device: DeviceId, slot: str, name: str, version: int) -> bytes:
    """The sealed bytes.

    Raises:
        Invalid: the secret is empty or too long, or the key is none. Nothing of the secret is in the message.
    """
    if not 1 <= len(secret) <= LONGEST:
        raise Invalid(f"a secret has 1 to {LONGEST} bytes, this one {len(secret)}", element=f"secret {name}")
    try:
        return _SUITE.encrypt(
            secret, X25519PublicKey.from_public_bytes(public), info=_context(device, slot, name, version)
        )
    except ValueError as error:
        raise Invalid("the device's key for secrets is none", element=device, remedy="enrol it anew") from error


def open_sealed(sealed: bytes, key: bytes, *, device: DeviceId, slot: str, name: str, version: int) -> bytes:
    """The secret.

    Raises:
        Untrusted: it was sealed to another key, for another place, or is damaged.
    """
    try:
        return _SUITE.decrypt(
            sealed, X25519PrivateKey.from_private_bytes(key), info=_context(device, slot, name, version)
        )
    except (InvalidTag, ValueError) as error:
        raise Untrusted(
            "it is not sealed to this device for this place",
            element=f"secret {name}",
            remedy="set it again: edgefleet secrets set",
        ) from error


def _context(device: DeviceId, slot: str, name: str, version: int) -> bytes:
    # None of the parts can hold a line's end.
    return "\n".join(("edgefleet.secret/1", device, slot, name, str(version))).encode()
