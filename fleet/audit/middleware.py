"""Each request that changes something, or was denied, is in the audit log before its answer goes out.

What only looks is not, though it is a POST, because what is asked does not fit into an address (``LOOKS``): somebody
who changes a form previews it many times, and the one deed after that would be hard to find.

Whoever asks is known once the route has looked (``principal``), or where somebody has just logged in (``by``); a log-in
at an identity provider only reads, as HTTP has it, and asks to be written all the same (``audited``). What a route has
told itself, with more words, becomes no second event (``told``).

A server that dies in between has done what the log does not say; the history and the events of that deed are written
with it. Where the log cannot be written, the answer goes out, and the server says so until it can.
"""

import logging
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet import events
from fleet.attempts import Attempts
from fleet.audit import log as audit_log
from fleet.refusals import TooMany
from fleet.services import Services
from fleet.tokens import hidden

log = logging.getLogger(__name__)
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: routes that change nothing, whatever their method says
LOOKS: Final = frozenset(
    {
        "/api/v1/commands/preview",
        "/api/v1/endpoints/{endpoint}/rollouts/plan",
        "/api/v1/fallbacks/{team}/{name}/preview",
        "/api/v1/rollouts/plan",
    }
)
_DENIED: Final = frozenset({401, 403})
_ROUTINE: Final = frozenset({404, 405, 429})
# Denied requests of one principal, and all of nobody known together: so many a minute, or they would fill the log.
_STRANGERS: Final = "strangers"


class Audited:
    """Writes rows for the application inside it; ``services`` is asked once the application has started."""

    def __init__(self, app: ASGIApp, *, services: Callable[[], Services]) -> None:
        self._app, self._services = app, services
        self._denied = Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self._counts(scope, message["status"]):
                await run_in_threadpool(self._write, scope, message["status"])
            await send(message)

        await self._app(scope, receive, sent)

    def _counts(self, scope: Scope, status: int) -> bool:
        if status in _DENIED or scope.get("state", {}).get("audited"):
            return True
        if getattr(scope.get("route"), "path", "") in LOOKS:
            return False
        return scope["method"] not in _READING and status not in _ROUTINE

    def _write(self, scope: Scope, status: int) -> None:
        use = self._services()
        now = use.clock()
        state = scope.get("state", {})
        who = state.get("principal")
        by, origin = who.name if who else state.get("by", ""), scope["client"][0] if scope.get("client") else ""
        code, target = str(state.get("code", "")), hidden(scope["path"]) + state.get("about", "")
        action = f"{scope['method']} {getattr(scope.get('route'), 'path', '')}"
        try:
            if status in _DENIED or not by:
                self._denied.failed(by or _STRANGERS, now)
            with use.database.write() as connection:
                audit_log.add(
                    connection,
                    now,
                    by=by,
                    action=action,
                    target=target,
                    origin=origin,
                    outcome=status,
                    code=code,
                )
                if status in _DENIED and not state.get("told"):
                    said = f"{scope['method']} {target} from {origin}: {state.get('why', 'it was refused')} [{code}]"
                    events.record(connection, now, "request-denied", said, by=by)
        except TooMany:
            return
        except Exception as error:  # noqa: BLE001 - what was done was done: its answer goes out
            use.mishaps.note("audit", f"{action} {target}", error)
