"""One HTTPS request to the fleet server: believed under the bundle's authorities, through a proxy where one is set."""

import http.client
import ssl
from typing import Final

from modules.endpoint.https_proxy import connection, parsed
from modules.errors import BadSettings, Invalid, LinkLost
from modules.protocol.enrollment import LIMIT, SYSTEM, JoinBundle

_TIMEOUT_S: Final = 30.0


def post(join: JoinBundle, path: str, body: bytes) -> tuple[int, bytes]:
    """``POST`` JSON below the server's address; status and body, of at most ``LIMIT`` + 1 bytes.

    ``https_proxy`` and ``no_proxy`` of the environment are followed, as curl follows them.

    Raises:
        BadSettings: the server's or the proxy's address cannot be used.
        Invalid: the bundle's authorities are not certificates.
        LinkLost: the server does not answer, or not under these authorities.
    """
    sender = Sender(join)
    try:
        return sender.post(join, path, body)
    finally:
        sender.close()


class Sender:
    """One connection for many requests, which go one after another."""

    def __init__(self, join: JoinBundle) -> None:
        address = parsed(join.fleet, "join bundle", "make a new bundle")
        if address.scheme != "https" or not address.hostname:
            raise BadSettings(
                f"{join.fleet!r} is not an https address", element="join bundle", remedy="make a new bundle"
            )
        self._path = address.path
        self._connection = connection(address, _context(join), timeout_s=_TIMEOUT_S)

    def post(self, join: JoinBundle, path: str, body: bytes) -> tuple[int, bytes]:
        """As the function :func:`post`."""
        try:
            self._connection.request("POST", f"{self._path}{path}", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read(LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens it again
            raise LinkLost(
                f"the fleet server cannot be reached: {error}",
                element=join.fleet,
                remedy="check the address, the proxy settings and the authorities of the join bundle",
            ) from error

    def close(self) -> None:
        self._connection.close()


def _context(join: JoinBundle) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The bundle decides who is believed: without an authority in it, nobody is.
        context.load_verify_locations(cadata=join.ca)
        if join.fleet_ca == SYSTEM:
            context.load_default_certs()
        elif join.fleet_ca:
            context.load_verify_locations(cadata=join.fleet_ca)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(
            f"its authorities are not certificates: {error}", element="join bundle", remedy="make a new one"
        ) from error
    return context
