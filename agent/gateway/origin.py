"""Who may ask: programs on this device, and pages that come from it. Pure.

The gateway has no password, so a web page in a browser on the device must not reach it: neither from another site
(``Origin``), nor under a name of its own that its owner has pointed at this device's address (``Host``; DNS rebinding).
An address as ``Host`` is fine, for no page can have one that is not the device's.
"""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from agent.gateway.refusals import refusal


def check(headers: Mapping[str, str], names: Collection[str]) -> None:
    """Let a request go on that asks under this device's name, and comes from no foreign page.

    Raises:
        web.HTTPError: 421 for a foreign Host, 403 for a foreign Origin.
    """
    host = _name(f"//{headers.get(hdrs.HOST, '')}")
    # Programs of HTTP/1.0 say none; browsers always do.
    if host and not (_is_here(host) or _is_address(host) or host in names):
        raise refusal(
            web.HTTPMisdirectedRequest,
            f"{host[:100]!r} is not a name of this device; ask at 127.0.0.1, or start the gateway with --allow-host",
        )
    origin = headers.get(hdrs.ORIGIN)
    if origin is not None and not (_is_here(page := _name(origin)) or page in names):
        raise refusal(
            web.HTTPForbidden, f"pages of {origin[:100]!r} may not ask this device; start the gateway with --allow-host"
        )


def _name(address: str) -> str:
    """The host of an address, empty where there is none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
