"""HTTPS to a server, through the proxy where the environment names one, as curl follows it."""

import base64
import http.client
import ssl
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from modules.errors import BadSettings

_HTTPS: Final = 443


def connection(address: SplitResult, context: ssl.SSLContext, *, timeout_s: float) -> http.client.HTTPSConnection:
    """To the server, through the proxy that the environment names for it; opened by the first request.

    Raises:
        BadSettings: the proxy's address cannot be used.
    """
    host, port = address.hostname or "", address.port or _HTTPS
    proxy = getproxies().get("https")
    if not proxy or proxy_bypass(f"{host}:{port}"):
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    through = parsed(proxy if "//" in proxy else f"http://{proxy}", "https_proxy", "correct the variable")
    if through.scheme != "http" or not through.hostname:
        raise BadSettings("only a proxy with an http:// address can be used", element="https_proxy")
    tunnel = http.client.HTTPSConnection(through.hostname, through.port or 80, timeout=timeout_s, context=context)
    headers = {}
    if through.username is not None:
        secret = f"{unquote(through.username)}:{unquote(through.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
    tunnel.set_tunnel(host, port, headers)
    return tunnel


def parsed(text: str, element: str, remedy: str) -> SplitResult:
    """An address in its parts.

    Raises:
        BadSettings: it cannot be read.
    """
    try:
        address = urlsplit(text)
        _ = address.port  # raises only now
    except ValueError as error:
        raise BadSettings(f"the address cannot be read: {error}", element=element, remedy=remedy) from error
    return address
