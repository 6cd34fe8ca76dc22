"""An endpoint is asked from here, at its own address and with what lets clients in, by whoever may not see its keys."""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec
from sqlalchemy import Connection

from fleet.refusals import Busy, Conflict, TargetTrouble
from fleet.targets import attached
from fleet.targets.contract import Standing
from fleet.targets.endpoints import Endpoints, wish_of
from modules.errors import Invalid
from modules.protocol.commands import TRIED_BODY, Trial, Tried
from modules.words import printable

#: of what an endpoint is asked
BODY: Final = 8 << 20
AT_ONCE: Final = 8
_MARK: Final = "x-edgefleet-"
_WORD: Final = 100
_LINE: Final = 500


class Place(NamedTuple):
    """Where an endpoint is, what lets in there, and whose certificates are believed (PEM; empty: the system's)."""

    name: str
    url: str
    authorization: str
    own: str
    authority: str


def place(connection: Connection, endpoints: Endpoints, now: float, name: str) -> Place:
    """Where to ask an endpoint: never anywhere else than where its target said that it answers.

    Raises:
        Missing: there is no such endpoint.
        Conflict: nobody answers there, or nobody but its own host reaches it.
    """
    row = endpoints.row(connection, name)
    url = msgspec.json.decode(row.standing, type=Standing).url
    element = f"endpoint {name}"
    if not url:
        raise Conflict("nobody answers there yet", element=element, remedy="wait until it is ready")
    if _is_loopback(url) and not attached.is_here(connection, row.target):
        raise Conflict(
            "it listens on its host's loopback, where nobody else reaches it",
            element=element,
            remedy="ask it on its host; or attach the target with --bind and --address",
        )
    settings = wish_of(row).settings
    authorization = ""
    if settings.auth == "key":
        authorization = endpoints.keys(connection, name)[0]
    elif settings.auth == "token":
        authorization = endpoints.token(connection, now, name)["token"]
    ours = settings.devices and not settings.certificate
    authority = endpoints.authority if ours else ""
    return Place(name, f"{url}/{name}", authorization, settings.certificate or "", authority)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Asking:
    """``ask`` is called in the event loop's thread alone."""

    def __init__(self) -> None:
        self._asking = 0

    async def ask(self, where: Place, trial: Trial, *, body: bytes, version: str, within_s: float) -> Tried:
        """One request, one answer; a redirection is an answer like any other, and is not followed.

        Raises:
            Busy: as many are asked as may be at a time.
            TargetTrouble: no whole answer came in time, or none that can be believed.
            Invalid: the answer is longer than is taken.
        """
        if self._asking >= AT_ONCE:
            raise Busy("as many endpoints are asked as may be at a time", element=where.name, remedy="ask again")
        self._asking += 1
        try:
            async with asyncio.timeout(within_s):
                return await _asked(where, trial, body, version)
        except TimeoutError as error:
            said = f"no whole answer came within {within_s:g} s"
            raise TargetTrouble(said, element=f"endpoint {where.name}", remedy="wait longer") from error
        except (httpx.HTTPError, OSError) as error:
            if (why := _not_believed(error)) is not None:
                believed = (
                    "the fleet's own authority" if where.authority else "those that this server's system believes"
                )
                believed += ", and the endpoint's own certificate" if where.own else ""
                raise TargetTrouble(
                    f"whoever answers at {where.url} has a certificate that is not believed, so it was asked nothing: "
                    f"{why}; believed is {believed}",
                    element=f"endpoint {where.name}",
                    remedy="see who answers there; what the endpoint is to show: edgefleet endpoints set --certificate",
                ) from error
            raise TargetTrouble(
                f"it cannot be asked: {printable(str(error) or type(error).__name__, _LINE)}",
                element=f"endpoint {where.name}",
                remedy="see: edgefleet endpoints show",
            ) from error
        finally:
            self._asking -= 1


def _not_believed(error: BaseException) -> str | None:
    """Why a certificate is not believed, where that is what went wrong."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return printable(found.verify_message, _LINE)
        found = found.__cause__ or found.__context__
    return None


async def _asked(where: Place, trial: Trial, body: bytes, version: str) -> Tried:
    headers = {"Accept-Encoding": "identity", "Accept": trial.accept or "*/*"}
    headers |= {"Authorization": f"Bearer {where.authorization}"} if where.authorization else {}
    headers |= {f"{_MARK}version": version} if version else {}
    asked: dict[str, Any] = {"method": "GET", "params": {"version": "3"}}
    if trial.path == "score":
        headers |= {"Content-Type": trial.content_type} if trial.content_type else {}
        asked = {"method": "POST", "content": body}
    # A proxy of the server's must not learn the key.
    async with httpx.AsyncClient(verify=_trusted(where), trust_env=False, timeout=None) as client:  # noqa: S113
        began = time.perf_counter()
        async with client.stream(url=f"{where.url}/{trial.path}", headers=headers, **asked) as answer:
            found = bytearray()
            async for piece in answer.aiter_raw():
                found += piece
                if len(found) > TRIED_BODY:
                    raise Invalid(
                        f"its answer is longer than the {TRIED_BODY} bytes that are shown",
                        element=f"endpoint {where.name}",
                        remedy="ask it at its own address",
                    )
            return _tried(answer.status_code, answer.headers, bytes(found), 1000 * (time.perf_counter() - began))


def _tried(status: int, headers: Mapping[str, str], body: bytes, ms: float) -> Tried:
    def said(name: str, most: int = _WORD) -> str:
        return printable(headers.get(name, ""), most)

    return Tried(
        status=status,
        ms=round(ms, 3),
        content_type=said("content-type", _LINE),
        body=body,
        module=said(f"{_MARK}module", _LINE),
        served_by=said(f"{_MARK}served-by"),
        provider=said(f"{_MARK}provider"),
        version=said(f"{_MARK}version"),
        request_id=said("x-request-id", _LINE),
    )


def _trusted(where: Place) -> ssl.SSLContext:
    """The fleet's authority alone where it has named the endpoint; else the system's, and the endpoint's own."""
    if where.authority:
        return ssl.create_default_context(cadata=where.authority)
    context = ssl.create_default_context()
    if where.own:
        context.load_verify_locations(cadata=where.own)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
