"""Brings endpoints about, again and again: the duty of the server that leads.

Each target is spoken to in threads of its own, so that one which does not answer holds up no other.
What is being changed is looked at every second, what failed a little less often, and what is ready now and then, so
that what somebody did to it by hand is put back. Nothing is remembered between two looks but the rows.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import select, update

from fleet import events, revocation
from fleet.clock import Clock
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.refusals import ATTACHED_WRONGLY, TargetTrouble, told
from fleet.target_tables import endpoints, targets
from fleet.targets.attached import Line, Targets
from fleet.targets.contract import Standing, Target
from fleet.targets.endpoints import REMOVING, Endpoints
from modules.errors import BadSettings, EdgefleetError

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
FAILED_S: Final = 5.0
READY_S: Final = 15.0
_EVERY: Final = {"ready": READY_S, "failed": FAILED_S}


class Bringing:
    """``run`` is the duty; ``look`` may be called from any thread."""

    def __init__(
        self, *, database: Database, clock: Clock, wished: Endpoints, attached: Targets, mishaps: Mishaps
    ) -> None:
        self._database, self._clock, self._mishaps = database, clock, mishaps
        self._endpoints, self._targets = wished, attached
        self._news = asyncio.Event()
        self._turns: dict[str, asyncio.Task[None]] = {}
        # When each endpoint was looked at last, by the loop's clock.
        self._looked: dict[str, float] = {}

    def look(self) -> None:
        """Something was wished for."""
        self._news.set()

    async def run(self, lasting: Callable[..., Awaitable[Any]]) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done."""
        try:
            while True:
                with self._mishaps.alone("endpoints", "what is wished for in the cloud"):
                    await self._round(lasting)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()
                except TimeoutError:
                    pass
                self._news.clear()
        finally:
            for turn in self._turns.values():
                turn.cancel()

    async def _round(self, lasting: Callable[..., Awaitable[Any]]) -> None:
        rows = await lasting(self._rows)
        now = asyncio.get_running_loop().time()
        self._looked = {row.name: self._looked[row.name] for row in rows if row.name in self._looked}
        self._turns = {name: turn for name, turn in self._turns.items() if not turn.done()}
        for row in rows:
            changed = row.seen_generation != row.generation
            due = changed or now - self._looked.get(row.name, float("-inf")) >= _EVERY.get(row.state, LOOK_S)
            if due and row.name not in self._turns:
                self._looked[row.name] = now
                turn = asyncio.create_task(self._turn(row.target, row.name, lasting), name=f"endpoint-{row.name}")
                self._turns[row.name] = turn

    async def _turn(self, target: str, name: str, lasting: Callable[..., Awaitable[Any]]) -> None:
        with self._mishaps.alone("endpoint", name):
            row, line, revoked = await lasting(self._found, target, name)
            if row is None:
                return
            run = asyncio.get_running_loop().run_in_executor(line.threads, self._brought, row, line.target, revoked)
            await lasting(self._note, row, *await run)

    def _brought(self, row: Any, target: Target, revoked: list[str]) -> tuple[Standing | None, str]:
        """How it stands after this look (None: nothing of it is left), and what is wrong with its target."""
        before = msgspec.json.decode(row.standing, type=Standing)
        try:
            if row.state == REMOVING:
                if target.remove(row.name):
                    return None, ""
                return Standing(state="updating", why="what is left of it is being removed"), ""
            return target.bring(self._endpoints.wanted(row, revoked)), ""
        except TargetTrouble as error:
            return msgspec.structs.replace(before, state="failed", why=told(error)), str(error)
        except BadSettings as error:
            return msgspec.structs.replace(before, state="failed", why=ATTACHED_WRONGLY), str(error)
        except EdgefleetError as error:
            return msgspec.structs.replace(before, state="failed", why=str(error)), ""

    def _rows(self) -> list[Any]:
        shown = (endpoints.c[name] for name in ("name", "target", "state", "generation", "seen_generation"))
        with self._database.read() as connection:
            return list(connection.execute(select(*shown)).all())

    def _found(self, target: str, name: str) -> tuple[Any, Line | None, list[str]]:
        now = self._clock()
        with self._database.write() as connection:
            row = connection.execute(select(endpoints).where(endpoints.c.name == name)).one_or_none()
            if row is None:
                return None, None, []
            row = self._endpoints.certify(connection, now, row)
            return row, self._targets.of(connection, target), revocation.revoked_serials(connection, now)

    def _note(self, row: Any, standing: Standing | None, trouble: str) -> None:
        now = self._clock()
        with self._database.write() as connection:
            if standing is None:
                self._endpoints.gone(connection, row.name)
                events.record(connection, now, "endpoint-gone", f"nothing of endpoint {row.name} is left")
                return
            state = REMOVING if row.state == REMOVING else standing.state
            values: dict[str, Any] = {"standing": msgspec.json.encode(standing).decode()}
            port = urlsplit(standing.url).port or row.port
            values |= {"seen_generation": row.generation, "port": port}
            # What was wished for meanwhile is not what was looked at.
            newest = connection.scalar(select(endpoints.c.generation).where(endpoints.c.name == row.name))
            if newest == row.generation:
                values |= {"state": state} | ({"since": now} if state != row.state else {})
                if state == "ready" != row.state:
                    events.record(connection, now, "endpoint-ready", f"endpoint {row.name} answers at {standing.url}")
                if state == "failed" != row.state:
                    events.record(connection, now, "endpoint-failed", f"endpoint {row.name}: {standing.why}")
            connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(**values))
            connection.execute(update(targets).where(targets.c.name == row.target).values(trouble=trouble[:500]))
