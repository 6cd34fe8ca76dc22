"""Who looks at a page, and the API as they may use it.

Each request goes through the whole application of the server, as one from their browser would: rights, scopes, limits,
audit and four eyes are the API's. What a page asks by itself, to stay live, is no use of the session: it ends when
nobody has touched the page for as long as the settings say.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
from fastapi import FastAPI, Request
from nicegui import ui
from starlette.responses import RedirectResponse, Response

from fleet.console.straight import straight
from fleet.people.identify import COOKIE, CSRF, UNATTENDED, csrf_of

LOGIN: Final = "/console/login"
_TIMEOUT_S: Final = 60.0
_served: list[FastAPI] = []


class Said(Exception):
    """The API refused: ``message`` says what and why, ``remedy`` what to do, ``status`` is the HTTP status."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.element = str(problem.get("element", ""))
        self.remedy = str(problem.get("remedy", ""))
        self.message = str(problem.get("detail") or problem.get("title") or "the server did not say why")
        super().__init__(self.message)

    @property
    def over(self) -> bool:
        """Whether the session is: nothing will be answered until somebody logs in again."""
        return self.status == httpx.codes.UNAUTHORIZED

    @property
    def words(self) -> str:
        """One sentence for people: where, what, and what to do."""
        where = f"{self.element}: " if self.element else ""
        then = f" {self.remedy[0].upper()}{self.remedy[1:]}." if self.remedy else ""
        return f"{where}{self.message}.{then}"


class Page(NamedTuple):
    """Rows; ``after`` leads to the next page, empty on the last; ``total`` as the API says it, or empty."""

    rows: list[dict[str, Any]]
    after: str
    total: str


class Visit:
    """The API for one page; ``name`` is who looks, ``permissions`` what they may do somewhere."""

    def __init__(self, session: str, address: tuple[str, int], host: str) -> None:
        self._session = session
        transport = httpx.ASGITransport(app=_served[0], client=address, raise_app_exceptions=False)
        # Its own base: what the browser asked, so that the server's names and the page's origin hold as they did.
        self._http = httpx.AsyncClient(transport=transport, base_url=f"https://{host}", timeout=_TIMEOUT_S)
        self.name = ""
        self.permissions: frozenset[str] = frozenset()
        self._here: frozenset[str] | None = None
        self._bounded = False
        self.must_change_password = False

    async def learn(self) -> None:
        """Ask who this is.

        Raises:
            Said: the session does not hold.
        """
        me = await self.get("session")
        self.name, self.permissions = me["name"], frozenset(me["permissions"])
        self.must_change_password = me["must_change_password"]
        self._bounded = any(one.get("teams") or one.get("selector") for grants in me["roles"] for one in grants)

    async def about(self, **named: str) -> None:
        """The page is about this device, rollout, team or endpoint: :meth:`may` says what is granted for it.

        Raises:
            Said: the API refused.
        """
        if self._bounded:
            self._here = frozenset(await self.get("session/permissions", unattended=True, **named))

    def may(self, permission: str) -> bool:
        """Whether it is granted, for what the page is about, or at least somewhere: what is not leaves no button."""
        return permission in (self.permissions if self._here is None else self._here)

    async def granted(self, permission: str, devices: Sequence[str]) -> frozenset[str]:
        """For which of these devices it is.

        Raises:
            Said: the API refused.
        """
        if not self._bounded:
            return frozenset(devices if permission in self.permissions else ())
        found = await asyncio.gather(*(self.get("session/permissions", device=one) for one in devices))
        return frozenset(one for one, held in zip(devices, found, strict=True) if permission in held)

    async def get(self, path: str, *, unattended: bool = False, **query: Any) -> Any:
        """What the API answers; ``unattended`` where a page asks by itself.

        Raises:
            Said: it refused.
        """
        return await self.ask("GET", path, unattended=unattended, params=_given(query))

    async def ask(self, method: str, path: str, *, unattended: bool = False, **more: Any) -> Any:
        """Send any request; a path without a slash before it is below ``/api/v1/``. More is as httpx takes it.

        Raises:
            Said: it refused.
        """
        return _content(await self._answer(method, path, unattended=unattended, **more))

    async def page(self, path: str, *, unattended: bool = False, **query: Any) -> Page:
        """A page of a list that the API gives page by page.

        Raises:
            Said: it refused.
        """
        answer = await self._answer("GET", path, unattended=unattended, params=_given(query))
        further = httpx.URL(answer.links.get("next", {}).get("url", "")).params.get("after", "")
        return Page(_content(answer), further, answer.headers.get("edgefleet-total", ""))

    async def _answer(self, method: str, path: str, *, unattended: bool, **more: Any) -> httpx.Response:
        headers = {"Cookie": f"{COOKIE}={self._session}", CSRF: csrf_of(self._session)} | more.pop("headers", {})
        if unattended:
            headers[UNATTENDED] = "1"
        there = path if path.startswith("/") else f"/api/v1/{path}"
        answer = await self._http.request(method, there, headers=headers, **more)
        if answer.is_error:
            raise Said(answer.status_code, _content(answer) if _is_json(answer) else {})
        return answer


async def together(*asked: Awaitable[Any]) -> list[Any]:
    """What each answers, asked at once: a busy server comes to each late, so that one after the other takes long.

    Raises:
        Said: the first of them that was refused, once all are answered.
    """
    found = await asyncio.gather(*asked, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def _is_json(answer: httpx.Response) -> bool:
    return "json" in answer.headers.get("content-type", "")


def _content(answer: httpx.Response) -> Any:
    if _is_json(answer) and answer.content:
        return msgspec.json.decode(straight(answer.content))
    return straight(answer.content) if answer.headers.get("content-type", "").startswith("text/") else answer.content


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def serve(app: FastAPI) -> None:
    """Ask this application."""
    _served[:] = [app]
    # It tells every request at the level of news.
    logging.getLogger("httpx").setLevel(logging.WARNING)


Build = Callable[..., Awaitable[None]]


def page(path: str) -> Callable[[Build], Build]:
    """A page for who has logged in: ``build`` gets the visit and what stands in the address; others go to log in."""

    def made(build: Build) -> Build:
        @wraps(build)
        async def built(request: Request, **given: Any) -> Response | None:
            session = request.cookies.get(COOKIE, "")
            client = request.client
            visit = Visit(session, (client.host, client.port) if client else ("", 0), request.headers.get("host", ""))
            try:
                await visit.learn()
            except Said as refused:
                if not refused.over:
                    raise
                there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"{LOGIN}?next={quote(there)}")
            if visit.must_change_password and request.url.path != f"{LOGIN}/password":
                return RedirectResponse(f"{LOGIN}/password")
            await build(visit, **given)
            return None

        # What the library reads to know what the address holds: the request, and what the page itself names.
        signature = _signature(build)
        built.__signature__ = signature  # type: ignore[attr-defined]
        ui.page(path, response_timeout=_TIMEOUT_S)(built)
        return build

    return made


def _signature(build: Build) -> inspect.Signature:
    own = list(inspect.signature(build).parameters.values())[1:]
    request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    return inspect.Signature([request, *own])
