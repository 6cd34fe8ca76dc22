"""Whether a listener lets somebody in: TLS and MQTT's first packet by hand, since a client library asks for more."""

import socket
import ssl
import struct
import warnings
from pathlib import Path
from typing import Final, NamedTuple

WITHIN_S: Final = 10.0
_CONNACK_ACCEPTED: Final = b"\x20\x02\x00\x00"


class Place(NamedTuple):
    """A listener, and the PEM file of who certifies it."""

    host: str
    port: int
    ca: Path


def enters(
    place: Place, identifier: str, *, certificate: Path | None = None, newest: ssl.TLSVersion | None = None
) -> bool:
    """Whether the broker accepts a session (MQTT 3.1.1, section 3.1) over TLS, of this version at most."""
    context = ssl.create_default_context(cafile=str(place.ca))
    if certificate is not None:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if newest is not None:
        # Today's OpenSSL offers these versions at its lowest level of security only.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is why they are tried
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest
    try:
        with (
            socket.create_connection((place.host, place.port), WITHIN_S) as plain,
            context.wrap_socket(plain, server_hostname=place.host) as secure,
        ):
            return _accepted(secure, identifier)
    except OSError:  # ssl.SSLError is one; with TLS 1.3 it comes with the first answer
        return False


def enters_plain(place: Place, identifier: str) -> bool:
    """Whether the broker accepts a session without TLS."""
    try:
        with socket.create_connection((place.host, place.port), WITHIN_S) as plain:
            return _accepted(plain, identifier)
    except OSError:
        return False


def _accepted(connection: socket.socket, identifier: str) -> bool:
    name = identifier.encode()
    rest = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack(">H", len(name)) + name
    connection.sendall(b"\x10" + bytes([len(rest)]) + rest)
    return connection.recv(4) == _CONNACK_ACCEPTED
