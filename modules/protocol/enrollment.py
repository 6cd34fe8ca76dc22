"""First contact: the join bundle that an operator hands to a device, and the request for a certificate."""

from typing import Annotated, Final, Literal

import msgspec

from modules.names import DeviceField

LIMIT: Final = 256 << 10


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker listens, and the prefix of the fleet's topics."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    prefix: str = "edgefleet/v1"


class JoinBundle(msgspec.Struct, frozen=True, kw_only=True):
    """All that a device needs to join: written by ``edgefleet devices join``, read by ``edgefleet-agent enroll``.

    ``fleet`` is the server's address, ``ca`` the PEM certificate of the fleet's CA, ``root`` the TUF root (base64 in
    the JSON form), which nothing from the network ever replaces.
    """

    format: Literal["edgefleet.join/1"] = "edgefleet.join/1"
    fleet: str
    broker: Broker
    ca: str
    root: bytes
    token: str


class EnrollRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /enroll``: a PEM certificate signing request (P-256); its subject is ignored, the server picks the id."""

    token: str
    csr: str
    name: DeviceField | None = None


class EnrollAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The device's id, and its PEM certificate."""

    device: DeviceField
    certificate: str
