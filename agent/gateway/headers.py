"""Which headers pass through, and the gateway's own names for what it adds."""

import re
import secrets
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy, istr

from modules.words import printable

SERVED_BY: Final = istr("x-edgefleet-served-by")
MODULE: Final = istr("x-edgefleet-module")
PROVIDER: Final = istr("x-edgefleet-provider")
VERSION: Final = istr("x-edgefleet-version")
GENERATION: Final = istr("x-edgefleet-table")
REQUEST_ID: Final = istr("x-request-id")

# Nobody but the gateway says what begins with this, to either side.
_OURS: Final = "x-edgefleet-"

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
# RFC 9110 sections 5.1 and 5.5.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_SHOWN: Final = 80
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """A copy without what belongs to the one connection it came over, and without what only the gateway says."""
    kept: CIMultiDict[str] = CIMultiDict(headers)
    nominated = kept.getall("Connection", None)
    for forged in {name for name in kept if name[: len(_OURS)].lower() == _OURS}:
        kept.popall(forged, None)
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    if nominated:
        for token in ",".join(nominated).split(","):
            kept.popall(token.strip(), None)
    return kept


def ambiguous(headers: CIMultiDictProxy[str]) -> str | None:
    """What a client could read otherwise than we do, or not at all; None where there is nothing.

    The parser is lenient with answers: a name may end in a space, a value may hold ESC, and a coding that nobody undoes
    may stand before ``chunked``.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or _CONTROL.search(value):
            return f"field {printable(name, _SHOWN)!r}"
    if not plain_length(headers):
        return "Content-Length"
    codings = headers.getall("Transfer-Encoding", None)
    if codings and [coding.lower() for coding in codings] != ["chunked"]:
        return "Transfer-Encoding"
    return None


def plain_length(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the length, if there is one, is a number that Python reads: the parser takes thousands of zeros."""
    return all(_LENGTH.fullmatch(value) for value in headers.getall("Content-Length", ()))


def request_id(headers: Mapping[str, str]) -> str:
    """The client's own request id where it is printable and short, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
