"""Which headers pass through, and the gateway's own names for what it adds."""

import re
import secrets
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict, istr

SERVED_BY: Final = istr("x-edgefleet-served-by")
MODULE: Final = istr("x-edgefleet-module")
PROVIDER: Final = istr("x-edgefleet-provider")
GENERATION: Final = istr("x-edgefleet-table")
REQUEST_ID: Final = istr("x-request-id")

# RFC 9110 section 7.6.1: these belong to one connection. Expect is here because the gateway has answered it itself.
_HOP_BY_HOP: Final = (
    istr("Connection"),
    istr("Expect"),
    istr("Keep-Alive"),
    istr("Proxy-Authenticate"),
    istr("Proxy-Authorization"),
    istr("Proxy-Connection"),
    istr("TE"),
    istr("Trailer"),
    istr("Transfer-Encoding"),
    istr("Upgrade"),
)
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """A copy without what belongs to the one connection it came over."""
    kept: CIMultiDict[str] = CIMultiDict(headers)
    nominated = kept.getall("Connection", None)
    # Nobody but the gateway says who answered.
    for name in (SERVED_BY, MODULE, PROVIDER):
        kept.popall(name, None)
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    if nominated:
        for token in ",".join(nominated).split(","):
            kept.popall(token.strip(), None)
    return kept


def request_id(headers: Mapping[str, str]) -> str:
    """The client's own request id where it is printable and short, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
