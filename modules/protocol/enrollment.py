"""First contact: the join bundle that an operator hands to a device, and the request for a certificate.

Later the device asks for its next certificate, with a new key, at ``up/enroll`` (signed with the key that it has), and
is answered at ``down/enroll``. Neither is retained. Who asks says the topic, never the request.
"""

from typing import Annotated, Final, Literal

import msgspec

from modules.bounds import Line
from modules.names import DeviceField, DigestField
from modules.protocol.report import Reason

LIMIT: Final = 256 << 10
# Of the request for another certificate, and of its answer.
RENEW_LIMIT: Final = 16 << 10
CSR_LIMIT: Final = 8 << 10
# In ``fleet_ca``: the authorities that the device's own system trusts, for a server behind a public certificate.
SYSTEM: Final = "system"

Pem = Annotated[str, msgspec.Meta(max_length=64 << 10)]


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
