"""Signed documents: DSSE envelopes around payload bytes, and the keys that sign and verify them.

An envelope's payload type is signed with the payload, so a device's report can never be taken for an order. Device keys
are ECDSA P-256, because that is what certificates and TPMs carry; director, team and role keys are Ed25519.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer, SSlibKey

from modules import canonical
from modules.bounds import Line, Text, Word
from modules.errors import BadSettings, Invalid, Untrusted

ORDER_TYPE: Final = "application/vnd.edgefleet.order+json"
REPORT_TYPE: Final = "application/vnd.edgefleet.report+json"
FACTS_TYPE: Final = "application/vnd.edgefleet.facts+json"
TELEMETRY_TYPE: Final = "application/vnd.edgefleet.telemetry+json"
RENEW_TYPE: Final = "application/vnd.edgefleet.renew+json"
COMMAND_TYPE: Final = "application/vnd.edgefleet.command+json"
ANSWER_TYPE: Final = "application/vnd.edgefleet.answer+json"

KEYS_LIMIT: Final = 16 * 1024
MAX_PAYLOAD: Final = 1 << 20
MAX_SIGNATURES: Final = 16
MAX_KEYS: Final = 64


_KeyId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class _Signature(msgspec.Struct, frozen=True):
    keyid: _KeyId
    sig: Annotated[bytes, msgspec.Meta(min_length=1, max_length=1024)]


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """What a newer signer adds is skipped, as DSSE demands: it is not signed, so nothing can rest on it."""

    payload: Annotated[bytes, msgspec.Meta(max_length=MAX_PAYLOAD)]
    payload_type: Line
    signatures: Annotated[tuple[_Signature, ...], msgspec.Meta(max_length=MAX_SIGNATURES)]


class _PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keytype: Word
    scheme: Word
    keyval: Annotated[dict[Word, Text], msgspec.Meta(max_length=8)]


class _PublicKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list of public keys by id, as ``trust/director.json`` holds it."""

    format: Literal["edgefleet.keys/1"] = "edgefleet.keys/1"
    keys: Annotated[dict[_KeyId, _PublicKey], msgspec.Meta(max_length=MAX_KEYS)]


def sign(payload: bytes, *, payload_type: str, signers: Sequence[Signer]) -> bytes:
    """The payload in a DSSE envelope with one signature of each signer, as JSON."""
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer)
    return canonical.encode(envelope.to_dict())


def signed_again(envelope: bytes, *, signers: Sequence[Signer]) -> bytes:
    """The same payload, signed by these; the very same envelope where they have signed it before.

    For what one wrote oneself: no signature is checked.

    Raises:
        Invalid: it is no envelope.
    """
    read = canonical.decode(envelope, _Envelope, limit=envelope_limit(MAX_PAYLOAD), what="envelope")
    if {one.keyid for one in read.signatures} == {one.public_key.keyid for one in signers}:
        return envelope
    return sign(read.payload, payload_type=read.payload_type, signers=signers)


class Signed(NamedTuple):
    """What stood in an envelope, and the ids of those trusted keys whose signatures hold."""

    payload: bytes
    keyids: frozenset[str]


def envelope_limit(payload: int) -> int:
    """The most bytes of an envelope around ``payload`` bytes: base64, the signatures, and the envelope's own words."""
    return payload * 4 // 3 + 8192


def verify(envelope: bytes, *, payload_type: str, keys: Iterable[Key], limit: int, threshold: int = 1) -> bytes:
    """The payload of an envelope, as :func:`opened` verifies it."""
    return opened(envelope, payload_type=payload_type, keys=keys, limit=limit, threshold=threshold).payload


def opened(envelope: bytes, *, payload_type: str, keys: Iterable[Key], limit: int, threshold: int = 1) -> Signed:
    """The payload of an envelope that at least ``threshold`` of these keys signed, and which did.

    Args:
        envelope: as :func:`sign` wrote it; its size is checked before anything is parsed.
        payload_type: what the payload must be.
        keys: those who may sign. The same key under two ids counts once.
        limit: the most bytes of the payload.
        threshold: how many different keys must have signed.

    Raises:
        Invalid: it is not an envelope, or too large.
        Untrusted: another payload type, or too few good signatures; the message says whose are there and whose are not.
    """
    read = canonical.decode(envelope, _Envelope, limit=envelope_limit(limit), what="envelope")
    if len(read.payload) > limit:
        raise Invalid(f"{len(read.payload)} bytes is more than the {limit} allowed", element="envelope")
    if read.payload_type != payload_type:
        raise Untrusted(
            f"the payload type is {read.payload_type[:100]!r}, not {payload_type!r}",
            element="envelope",
            remedy="send each kind of document on its own topic",
        )
    signatures = {entry.keyid: Signature(entry.keyid, entry.sig.hex()) for entry in read.signatures}
    if len(signatures) != len(read.signatures):
        raise Invalid("one key id stands there twice", element="envelope")
    signed = Envelope(read.payload, read.payload_type, signatures).pae()
    known = {key.keyid: key for key in keys}
    good = {keyid for keyid, signature in signatures.items() if _holds(known.get(keyid), signature, signed)}
    if len({str(known[keyid].to_dict()["keyval"]) for keyid in good}) < threshold:
        raise Untrusted(
            f"{len(good)} of {threshold} signatures hold: signed by {_ids(signatures)}, valid {_ids(good)}, "
            f"may sign {_ids(known)}",
            element="envelope",
            remedy="sign it with a key that is trusted here, or have that key made known",
        )
    return Signed(read.payload, frozenset(good))


def unverified(envelope: bytes, *, limit: int) -> bytes:
    """What stands in an envelope, whoever signed it: to tell one from another and to say which one was refused.

    Raises:
        Invalid: it is not an envelope, or too large.
    """
    read = canonical.decode(envelope, _Envelope, limit=envelope_limit(limit), what="envelope")
    if len(read.payload) > limit:
        raise Invalid(f"{len(read.payload)} bytes is more than the {limit} allowed", element="envelope")
    return read.payload


def signer_from_pem(pem: bytes, *, passphrase: str | None = None, element: str = "private key") -> CryptoSigner:
    """A signer for an Ed25519 or P-256 private key, PKCS #8 in PEM.

    Raises:
        BadSettings: no private key of these kinds, or the passphrase is missing, wrong or not needed; names
            ``element``, never the key.
    """
    password = passphrase.encode() if passphrase is not None else None
    try:
        private = load_pem_private_key(pem, password)
    except TypeError as error:
        if passphrase is None:
            raise BadSettings("the key is encrypted", element=element, remedy="give its passphrase") from error
        raise BadSettings(
            "the key is not encrypted, but a passphrase was given", element=element, remedy="give no passphrase"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSettings(
            "not a private key, or the passphrase is wrong",
            element=element,
            remedy="give the PEM file that was written when the key was made, and its passphrase",
        ) from error
    _check_kind(private.public_key(), BadSettings, element)
    return CryptoSigner(private)


def key_from_pem(pem: bytes, *, element: str = "public key") -> Key:
    """The Ed25519 or P-256 public key in PEM.

    Raises:
        Invalid: none, or a key of another kind; names ``element``.
    """
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("not a public key", element=element, remedy="give a PEM file") from error
    return SSlibKey.from_crypto(_check_kind(public, Invalid, element))


def encode_keys(keys: Iterable[Key]) -> bytes:
    """The document that lists public keys, ``trust/director.json`` for one."""
    return canonical.encode(_PublicKeys(keys={key.keyid: _PublicKey(**key.to_dict()) for key in keys}))


def decode_keys(data: bytes) -> Mapping[str, Key]:
    """The keys of such a document by key id.

    Raises:
        Invalid: another document, or a key that cannot be read.
    """
    document = canonical.decode(data, _PublicKeys, limit=KEYS_LIMIT, what="key list")
    try:
        return {keyid: Key.from_dict(keyid, msgspec.structs.asdict(key)) for keyid, key in document.keys.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"a key cannot be read: {error}", element="key list") from error


def _holds(key: Key | None, signature: Signature, signed: bytes) -> bool:
    if key is None:
        return False
    try:
        key.verify_signature(signature, signed)
    except UnverifiedSignatureError:
        return False
    return True


def _check_kind(public: Any, error: type[BadSettings | Invalid], element: str) -> Any:
    if isinstance(public, Ed25519PublicKey):
        return public
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return public
    raise error("the key is neither Ed25519 nor P-256", element=element, remedy="make a key of one of these kinds")


def _ids(keyids: Iterable[str]) -> str:
    return ", ".join(sorted(keyid[:12] for keyid in keyids)) or "nobody"
