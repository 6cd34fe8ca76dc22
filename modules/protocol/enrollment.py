"""First contact: the bundles that an operator hands to a device, and the request for a certificate.

Later the device asks for its next certificate, with a new key, at ``up/enroll`` (signed with the key that it has), and
is answered at ``down/enroll``. Neither is retained. Who asks says the topic, never the request.
"""

from typing import Annotated, Final, Literal

import msgspec

from modules.bounds import Line, Sentence, Time, Word
from modules.fingerprint import FingerprintField
from modules.names import DeviceField, DigestField
from modules.protocol.report import Reason

LIMIT: Final = 256 << 10
# Of the request for another certificate, and of its answer.
RENEW_LIMIT: Final = 16 << 10
CSR_LIMIT: Final = 8 << 10
# In ``fleet_ca``: the authorities that the device's own system trusts, for a server behind a public certificate.
SYSTEM: Final = "system"

Pem = Annotated[str, msgspec.Meta(max_length=64 << 10)]
ClaimField = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
Signature = Annotated[bytes, msgspec.Meta(max_length=200)]
_CLAIM_REQUEST: Final = "edgefleet claim 1"


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker listens, and the prefix of the fleet's topics.

    ``ca`` is the PEM of the authorities that its certificate may come from; empty: the fleet's own CA alone.
    """

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    prefix: Annotated[str, msgspec.Meta(max_length=200)] = "edgefleet/v1"
    ca: Pem = ""


class JoinBundle(msgspec.Struct, frozen=True, kw_only=True):
    """All that a device needs to join: written by ``edgefleet devices join``, read by ``edgefleet-agent enroll``.

    ``fleet`` is the server's address, ``ca`` the PEM certificate of the fleet's CA, ``root`` the TUF root (base64 in
    the JSON form), which nothing from the network ever replaces. ``fleet_ca`` is the PEM of the authorities behind the
    server's address, where a proxy with another certificate stands before it; :data:`SYSTEM` is the device's own store,
    and empty the fleet's CA. ``blob_url`` is where devices fetch blobs over HTTPS with their certificate; empty: over
    MQTT alone.
    """

    format: Literal["edgefleet.join/1"] = "edgefleet.join/1"
    fleet: Line
    broker: Broker
    ca: Pem
    root: Annotated[bytes, msgspec.Meta(max_length=128 << 10)]
    token: Line
    fleet_ca: Pem = ""
    blob_url: Line = ""


class EnrollRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /enroll``: a PEM certificate signing request (P-256); its subject is ignored, the server picks the id."""

    token: Line
    csr: Pem
    name: DeviceField | None = None


class EnrollAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The device's id, and its PEM certificate."""

    device: DeviceField
    certificate: Pem


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope at ``up/enroll`` (type ``RENEW_TYPE``), signed with the device's present key.

    ``csr`` is a PEM signing request for the new key (P-256), whose subject is the device's id. The same key asking
    again gets the same certificate, so that a lost answer costs nothing.
    """

    device: DeviceField
    csr: Annotated[str, msgspec.Meta(max_length=CSR_LIMIT)]


class RenewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """At ``down/enroll``: the PEM certificate for the request whose ``csr`` has this sha256, or why there is none."""

    csr: DigestField
    certificate: Annotated[str, msgspec.Meta(max_length=CSR_LIMIT)] = ""
    reason: Reason | None = None


class EnrollPending(msgspec.Struct, frozen=True, kw_only=True):
    """The other answer (202): the key waits for an operator, who sees the same fingerprint; until when it waits."""

    device: DeviceField
    fingerprint: FingerprintField
    expires: Time


class ClaimBundle(msgspec.Struct, frozen=True, kw_only=True):
    """All that one device needs to join over MQTT: written by ``edgefleet devices claim``, read as a join bundle is.

    ``certificate`` and ``key`` are the claim's own, good for one device, which gets the id ``device`` and a certificate
    for a key that it makes itself. The others are as in :class:`JoinBundle`.
    """

    format: Literal["edgefleet.claim/1"] = "edgefleet.claim/1"
    claim: ClaimField
    device: DeviceField
    fleet: Line
    broker: Broker
    ca: Pem
    root: Annotated[bytes, msgspec.Meta(max_length=128 << 10)]
    certificate: Pem
    key: Pem
    blob_url: Line = ""


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """At a claim's ``up``: a signing request, first to ``join``, then, once the certificate is kept, to say ``kept``.

    ``signature`` is the claim key's (ECDSA, SHA-256, DER) over :func:`claimed`: who forges messages joins nothing.
    """

    step: Literal["join", "kept"]
    csr: Pem
    signature: Signature


class ClaimAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """At a claim's ``down``: a certificate, or a fingerprint that waits for an operator, or a refusal with its code."""

    state: Literal["joined", "pending", "refused"]
    device: DeviceField
    certificate: Pem = ""
    fingerprint: FingerprintField | None = None
    code: Word = ""
    message: Sentence = ""


def claimed(claim: str, step: str, csr: str) -> bytes:
    """What a claim's key signs."""
    return f"{_CLAIM_REQUEST}\n{claim}\n{step}\n{csr}".encode()
