"""A real server as those see it who ask it what they may not: with anybody's token, from any address."""

import re
import time
from secrets import token_hex
from types import TracebackType
from typing import Any, Final, Self

import httpx
from sqlalchemy import select

from fleet import tokens
from fleet.db import Database
from fleet.people import operators, passwords, roles
from fleet.people.roles import Grant
from fleet.tables import audit, events, metadata
from tests.doubles.identity_provider import IdentityProvider
from tests.parts.pace import stretched
from tests.parts.system import TEAM, System

LARGEST: Final = 4 << 20
ROLES_OF_GROUPS: Final = {"berlin-operators": [{"role": "operator"}]}
PASSWORD: Final = "turquoise walrus 7 lantern"
# What somebody's mere asking changes: that it was asked, and when; and what a device at work says meanwhile.
_TOLD: Final = frozenset({"audit", "audit_heads", "events", "telemetry", "telemetry_history", "health_counts"})
_SAID: Final = {"facts", "facts_number", "report", "report_number", "telemetry_number"}
_COUNTED: Final = frozenset({"last_used", "last_seen", "used"} | _SAID)


class Site:
    """The server, its database file, and clients that come from addresses of their own."""

    def __init__(self, system: System, provider: IdentityProvider) -> None:
        self.system, self.provider = system, provider
        self.rollout = self.command = self.note = ""
        # What the device's administrator has put into a variable of its own.
        self.secret = f"variable-{token_hex(8)}"
        self.database = Database.at(system.data.database)
        self._http = system.server.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self.database.close()

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """A client without a token that comes from this loopback address."""
        server = self.system.server
        with server.client() as http:
            context = http._transport._pool._ssl_context  # type: ignore[attr-defined]
        transport = httpx.HTTPTransport(verify=context, local_address=address, trust_env=False)
        return httpx.Client(base_url=server.url, transport=transport, timeout=stretched(60), trust_env=False)

    def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        """As whoever has the token; as the server's own operator without one."""
        headers = {"Authorization": f"Bearer {self.system.server.token if token is None else token}"}
        return self._http.request(method, path, headers=headers | more.pop("headers", {}), **more)

    @staticmethod
    def answered(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.status_code} {response.text}"
        return response.json()

    def token(self, *grants: Grant, role: str = "") -> tuple[str, str]:
        """A new token, and how the history names who has it."""
        with self.database.write() as connection:
            given = {"roles": roles.plain(grants)} if grants else {}
            text = tokens.create(connection, time.time(), kind="api", role=role, name="attacker", **given)
            row = tokens.holder(connection, time.time(), text, kind="api")
        return text, f"token {row.id}"

    def operator(self, name: str, *grants: Grant) -> None:
        """Somebody with a password of their own choice."""
        hashed = passwords.Passwords().hashed(PASSWORD)
        with self.database.write() as connection:
            operators.add(connection, time.time(), name, list(grants), password=hashed)
            operators.set_password(connection, time.time(), operators.get(connection, name), hashed, given=False)

    def everything(self) -> dict[str, list[Any]]:
        """Every row of the database, but that somebody asked, what devices say of themselves, and what is counted."""
        found = {}
        with self.database.read() as connection:
            for table in metadata.sorted_tables:
                if table.name not in _TOLD:
                    columns = [one for one in table.c if one.name not in _COUNTED]
                    found[table.name] = sorted(map(repr, connection.execute(select(*columns)).all()))
        return found

    def told(self, by: str, kind: str = "request-denied") -> tuple[list[Any], list[Any]]:
        """Rows of the audit log, and events of this kind, by whoever is named so at the beginning."""
        with self.database.read() as connection:
            rows = connection.execute(select(audit).where(audit.c.by.startswith(by)).order_by(audit.c.id)).all()
            mine = (events.c.kind == kind) & events.c.by.startswith(by)
            return list(rows), list(connection.execute(select(events).where(mine).order_by(events.c.id)).all())

    def works(self, edge: Any) -> None:
        """The process that was started answers, nothing went wrong in it, and the device is at work."""
        server = self.system.server
        assert server.process.poll() is None
        assert self.answered(self.ask("GET", "/healthz"))["mishaps"] == {}
        assert "Traceback" not in server.log()
        edge.holds()

    def place(self, path: str, edge: Any, **values: str) -> str:
        """A route's path with the names of what there is."""
        name, _, version = edge.ref.partition("/")[2].partition(":")
        here = {
            "device": edge.name,
            "slot": edge.slot,
            "rollout": self.rollout,
            "command": self.command,
            "team": TEAM,
            "version": version,
            "action": "pause",
            "table": "devices",
            "join": "1",
            "name": "sha256:" + "0" * 64 if "/blobs/" in path else name,
        } | values
        return re.sub(r"{(\w+)}", lambda match: here.get(match[1], "none"), path)
