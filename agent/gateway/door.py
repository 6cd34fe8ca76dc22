"""The door of an endpoint: who may ask (a key, a token, a device's certificate), and which web pages may read.

On a device the gateway has no door: it listens on loopback, and ``origin.py`` keeps foreign pages out.
"""

import ssl
import time
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from agent.gateway.refusals import refusal
from modules.endpoint.keys import EndpointKeys
from modules.endpoint.looks import HEADER as LOOK
from modules.endpoint.looks import INDEX
from modules.errors import Untrusted

#: what load balancers and orchestrators ask without a key
HEALTH: Final = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_LOOKS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_DEVICE: Final = "urn:edgefleet:device:"
_METHODS: Final = "GET, POST, OPTIONS"


class Door:
    """Looks at the head of a request, before anything else does.

    Raises:
        BadSettings: the file with the keys cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self._keys = EndpointKeys(file)

    def refresh(self) -> None:
        """Take a changed file into use."""
        self._keys.refresh()

    def admit(self, request: web.BaseRequest, path: str) -> None:
        """Let the request go on, or not.

        Args:
            request: as it came.
            path: what it asks for, without the query.

        Raises:
            web.HTTPError: 401, which says what is missing; 403, a device that this endpoint is not for.
        """
        if path != INDEX and self._is_device(request):
            return
        looks = path in HEALTH and request.method in _LOOKS and not request.body_exists
        if looks or (self._keys.open and path != INDEX):
            return
        try:
            if path == INDEX and LOOK in request.headers:
                self._keys.check_look(request.headers[LOOK].encode("utf-8", "surrogateescape"))
            else:
                self._keys.check(request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape"))
        except Untrusted as error:
            refused = refusal(web.HTTPUnauthorized, str(error))
            refused.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
            raise refused from error

    @property
    def authority(self) -> str:
        """Whose certificates devices come in by; empty: by none."""
        return self._keys.devices.ca if self._keys.devices else ""

    def _is_device(self, request: web.BaseRequest) -> bool:
        """Whether a device of the fleet asks; TLS has checked that its certificate is the authority's.

        Raises:
            web.HTTPError: 401, it is one whose certificate holds no more; 403, one that this endpoint is not for.
        """
        known = self._keys.devices
        shown = request.get_extra_info("peercert") if known is not None else None
        if known is None or not shown:
            return False
        names = [name for kind, name in shown.get("subjectAltName", ()) if kind == "URI"]
        device = next((name.removeprefix(_DEVICE) for name in names if name.startswith(_DEVICE)), "")
        if not device:
            return False  # a service, or a claim of somebody who is to become a device
        if f"{int(shown['serialNumber'], 16):x}" in known.revoked:
            raise refusal(web.HTTPUnauthorized, "this device's certificate is revoked; enrol it again")
        if ssl.cert_time_to_seconds(shown["notAfter"]) <= time.time():
            raise refusal(web.HTTPUnauthorized, "this device's certificate has expired")
        if known.only is None or device in known.only:
            return True
        if hdrs.AUTHORIZATION in request.headers:
            return False  # then it is a client like any other
        # It may have been let in a moment ago.
        self._keys.refresh()
        if device in ((self._keys.devices and self._keys.devices.only) or ()):
            return True
        raise refusal(web.HTTPForbidden, f"this endpoint is not for {device}: no rollout has its model for it")

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a browser that asks, without its page's key, whether the page may send a request at all.

        None where this is something else, or a page that may not: then the request goes the way of all others.
        """
        if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return None
        shared = self.shared(request)
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in shared:
            return None
        shared[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
        if names := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            shared[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = names
        return web.Response(headers=shared)

    def shared(self, request: web.BaseRequest) -> dict[str, str]:
        """The headers by which the page that asks may read the answer, if its origin is named."""
        origins = self._keys.origins
        if not origins:
            return {}
        everybody = "*" in origins
        vary: dict[str, str] = {} if everybody else {hdrs.VARY: hdrs.ORIGIN}
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not (everybody or origin in origins):
            return vary
        return {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*" if everybody else origin, **vary}
