"""The real application over the planted fleet, which each request finds as it was planted."""

import base64
import sqlite3
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import requests
from anyio.from_thread import start_blocking_portal

from fleet import setup, tokens
from fleet.app import create_app
from fleet.db import Database
from fleet.folder import Folder
from fleet.people import operators, roles, sessions
from fleet.people.identify import COOKIE, CSRF, csrf_of
from fleet.people.roles import ROLES, Grant, Grants
from fleet.settings import Settings
from tests.doubles.publisher import Publisher, checked
from tests.fleet.openapi.marks import hidden
from tests.fleet.openapi.planted import OURS, TEAM, Planted
from tests.parts.application import application

# From one request to the next, so that whoever failed to log in waits for some requests, not for ever.
_STEP_S: Final = 0.1
_LASTS_S: Final = 30 * 86_400


class Asker(NamedTuple):
    """Somebody who asks: what they send with each request, and the words that they may not be shown."""

    who: str
    headers: dict[str, str]
    hidden: set[str]


class Server:
    """Asked from outside its event loop, as hypothesis calls a test."""

    def __init__(self, root: Path) -> None:
        self.folder = Folder(root / "data")
        setup.initialise(self.folder, time.time)
        self._database = Database.at(self.folder.database)
        self.planted = Planted(self.folder.root, self._database)
        self._now = self.planted.now
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._database.close)
        # One task that stays, in which the server's threads stay, too.
        self._portal = self._stack.enter_context(start_blocking_portal())
        running = application(self.folder, lambda: self._now, session_idle_s=_LASTS_S)
        self._http = self._stack.enter_context(self._portal.wrap_async_context_manager(running))
        self.document: dict[str, Any] = create_app(Settings(data=self.folder.root)).openapi()
        self._found()
        self.askers = {role: self._askers(role) for role in sorted(ROLES)}
        self._keep()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def ask(self, request: requests.PreparedRequest) -> httpx.Response:
        """The answer of a server to which nothing has happened."""
        self._take_back()
        self._now += _STEP_S
        return self._send(request.method or "", request.url or "", headers=dict(request.headers), content=request.body)

    def _send(self, method: str, url: str, **more: Any) -> httpx.Response:
        self._http.cookies.clear()
        return self._portal.call(partial(self._http.request, method, url, **more))

    def _keep(self) -> None:
        """What is there now is what each request finds."""
        self._live = self._stack.enter_context(closing(sqlite3.connect(self.folder.database, timeout=30)))
        self._kept = self._stack.enter_context(closing(sqlite3.connect(":memory:")))
        self._live.backup(self._kept)
        self._seen = self._version()
        self._blobs = {path: path.read_bytes() for path in self.folder.blobs.rglob("*") if path.is_file()}

    def _askers(self, role: str) -> list[Asker]:
        """Somebody with this role, by a browser's session, and with the same for one group, one team, and both."""
        bounds = {
            "bounded to a group": Grant(role, OURS),
            "bounded to a team": Grant(role, "*", (TEAM,)),
            "bounded to both": Grant(role, OURS, (TEAM,)),
        }
        found = [Asker(f"{role}, {name}", self._token(one), hidden((one,))) for name, one in bounds.items()]
        return [*found, Asker(role, self._session(role), hidden((Grant(role),)))]

    def _token(self, grant: Grant) -> dict[str, str]:
        with self._database.write() as connection:
            given: Grants = roles.check([grant])
            text = tokens.create(connection, self._now, kind="api", role="", name="one", roles=roles.plain(given))
        return {"Authorization": f"Bearer {text}"}

    def _session(self, role: str) -> dict[str, str]:
        with self._database.write() as connection:
            operators.add(connection, self._now, f"one-{role}", [Grant(role)], password=self.planted.hash)
            row = operators.get(connection, f"one-{role}")
            operators.set_password(connection, self._now, row, self.planted.hash, given=False)
            text = sessions.begin(connection, self._now, row.id, life_s=_LASTS_S)
        return {"Cookie": f"{COOKIE}={text}", CSRF: csrf_of(text)}

    def _found(self) -> None:
        """The fleet's trust, so that bundles and metadata are there."""
        headers = {"Authorization": f"Bearer {self.folder.operator_token.read_text().strip()}"}
        online = checked(self._send("GET", "/api/v1/tuf-online-keys", headers=headers)).json()
        owner = Publisher(team=TEAM)
        owner.prepare(online)
        made = {name: getattr(owner.founded, name) for name in ("root", "targets", "director")}
        body: dict[str, Any] = {name: base64.b64encode(data).decode() for name, data in made.items()}
        body["teams"] = {TEAM: base64.b64encode(owner.metadata).decode()}
        checked(self._send("POST", "/api/v1/tuf-bootstrap", json=body, headers=headers))

    def _take_back(self) -> None:
        """Whatever was written since, by whomever."""
        if self._version() == self._seen:
            return
        self._kept.backup(self._live)
        self._seen = self._version()
        for path, data in self._blobs.items():
            if not path.exists():
                path.write_bytes(data)

    def _version(self) -> int:
        """Another number once another connection has written."""
        with closing(self._live.execute("PRAGMA data_version")) as found:
            return int(found.fetchone()[0])
