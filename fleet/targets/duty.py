"""Brings endpoints about, again and again: the duty of the server that leads.

Each target is spoken to in threads of its own, so that one which does not answer holds up no other.
What is being changed is looked at every second, what failed a little less often, and what is ready now and then, so
that what somebody did to it by hand is put back. Nothing is remembered between two looks but the rows.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, select, update

from fleet import events, revocation
from fleet.clock import Clock
from fleet.db import Database
from fleet.fallbacks import guests, policies, tallies
from fleet.mishaps import Mishaps
from fleet.refusals import ATTACHED_WRONGLY, TargetTrouble, told
from fleet.rollouts import traffic
from fleet.tables import rollouts
from fleet.target_tables import endpoints, targets
from fleet.targets import shifting
from fleet.targets.attached import Line, Targets
from fleet.targets.contract import Standing, State
from fleet.targets.endpoints import REMOVING, Endpoints
from fleet.targets.pairs import dated
from fleet.targets.scaling import standing_of
from modules.errors import BadSettings, EdgefleetError

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
FAILED_S: Final = 5.0
READY_S: Final = 15.0
# While a rollout gives its requests to another version.
MEASURED_S: Final = 2.0
_EVERY: Final = {"ready": READY_S, "stopped": READY_S, "failed": FAILED_S}


class Found(NamedTuple):
    """An endpoint as it is to be brought about: who may not come in any more, who may, as of which rollout.

    ``measured``: somebody wants to know what is counted of its versions: a rollout, or whoever counts what it serves.
    """

    row: Any
    line: Line
    revoked: list[str]
    guests: list[str]
    newest: int
    measured: bool


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

    async def run(self, lasting: Callable[..., Awaitable[Any]], moved: Callable[[], None]) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done.

        ``moved``: something was seen that the rollout engine should see now.
        """
        self._targets.begin()
        try:
            while True:
                with self._mishaps.alone("endpoints", "what is wished for in the cloud"):
                    await self._round(lasting, moved)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()
                except TimeoutError:
                    pass
                self._news.clear()
        finally:
            for turn in self._turns.values():
                turn.cancel()

    async def _round(self, lasting: Callable[..., Awaitable[Any]], moved: Callable[[], None]) -> None:
        rows, newest = await lasting(self._rows)
        now = asyncio.get_running_loop().time()
        self._looked = {row.name: self._looked[row.name] for row in rows if row.name in self._looked}
        self._turns = {name: turn for name, turn in self._turns.items() if not turn.done()}
        for row in rows:
            changed = row.seen_generation != row.generation
            # A new rollout may have brought the model to devices that are to be let in.
            changed = changed or (row.state == "ready" and row.admitted < newest)
            every = MEASURED_S if row.rollout_state in traffic.MEASURED else _EVERY.get(row.state, LOOK_S)
            if row.state == "ready" and tallies.counts(row.scale, shifting.wish_of(row), row.price_per_1000):
                every = min(every, tallies.LOOK_S)
            due = changed or now - self._looked.get(row.name, float("-inf")) >= every
            if due and row.name not in self._turns:
                self._looked[row.name] = now
                turn = self._turn(row.target, row.name, lasting, moved)
                self._turns[row.name] = asyncio.create_task(turn, name=f"endpoint-{row.name}")

    async def _turn(
        self, target: str, name: str, lasting: Callable[..., Awaitable[Any]], moved: Callable[[], None]
    ) -> None:
        with self._mishaps.alone("endpoint", name):
            found = await lasting(self._found, target, name)
            if found is None:
                return
            run = asyncio.get_running_loop().run_in_executor(found.line.threads, self._brought, found)
            if await lasting(self._note, found, *await run):
                moved()

    def _brought(self, found: Found) -> tuple[Standing | None, str]:
        """How it stands after this look (None: nothing of it is left), and what is wrong with its target."""
        row, target = found.row, found.line.target
        before = msgspec.structs.replace(standing_of(row), in_use=False)
        try:
            if row.state == REMOVING:
                if target.remove(row.name):
                    return None, ""
                return Standing(state="updating", why="what is left of it is being removed"), ""
            if row.scale == 0:
                state: State = "stopped" if target.remove(row.name) else "updating"
                return Standing(state=state, why=row.scale_why, url=before.url), ""
            wanted = self._endpoints.wanted(row, found.revoked, found.guests, measured=found.measured)
            own = shifting.wish_of(row).settings.certificate
            return dated(target.bring(wanted), own, self._clock()), ""
        except TargetTrouble as error:
            return msgspec.structs.replace(before, state="failed", why=told(error)), str(error)
        except BadSettings as error:
            return msgspec.structs.replace(before, state="failed", why=ATTACHED_WRONGLY), str(error)
        except EdgefleetError as error:
            return msgspec.structs.replace(before, state="failed", why=str(error)), ""

    def _rows(self) -> tuple[list[Any], int]:
        names = ("name", "target", "state", "generation", "seen_generation", "admitted", "scale", "wish")
        shown = (*(endpoints.c[name] for name in names), targets.c.price_per_1000)
        deciding = (
            select(*shown, rollouts.c.state.label("rollout_state"))
            .join(targets, targets.c.name == endpoints.c.target)
            .outerjoin(rollouts, rollouts.c.id == endpoints.c.rollout)
        )
        with self._database.read() as connection:
            return list(connection.execute(deciding).all()), guests.newest(connection)

    def _found(self, target: str, name: str) -> Found | None:
        now = self._clock()
        with self._database.write() as connection:
            row = connection.execute(select(endpoints).where(endpoints.c.name == name)).one_or_none()
            if row is None:
                return None
            row = self._endpoints.certify(connection, now, row)
            line, revoked = self._targets.of(connection, target), revocation.revoked_serials(connection, now)
            measured = shifting.holder(connection, row) is not None or self._counts(connection, row)
            return Found(row, line, revoked, guests.of(connection, row), guests.newest(connection), measured)

    @staticmethod
    def _counts(connection: Connection, row: Any) -> bool:
        price = connection.scalar(select(targets.c.price_per_1000).where(targets.c.name == row.target)) or 0.0
        return tallies.counts(row.scale, shifting.wish_of(row), price)

    def _note(self, found: Found, standing: Standing | None, trouble: str) -> bool:
        """Write down how it stands; True if the rollout engine has to look."""
        row = found.row
        now = self._clock()
        with self._database.write() as connection:
            if standing is None:
                self._endpoints.gone(connection, row.name)
                policies.renew_for(connection, row.name)
                events.record(connection, now, "endpoint-gone", f"nothing of endpoint {row.name} is left")
                return True
            now_row = shifting.find(connection, row.name)
            newest = now_row is not None and now_row.generation == row.generation
            moves = traffic.looked(connection, now, now_row, standing, newest=newest)
            if now_row is not None:
                tallies.heard(connection, now, now_row, standing)
            standing = _without_counts(standing)
            state = REMOVING if row.state == REMOVING else standing.state
            values: dict[str, Any] = {"standing": msgspec.json.encode(standing).decode()}
            if standing.url != standing_of(row).url:
                policies.renew_for(connection, row.name)
            port = urlsplit(standing.url).port or row.port
            values |= {"seen_generation": row.generation, "port": port}
            if standing.state == "ready":
                values |= {"admitted": found.newest}
            # What was wished for meanwhile is not what was looked at.
            if newest or row.state == REMOVING:
                values |= {"state": state} | ({"since": now} if state != row.state else {})
                if state == "ready" != row.state:
                    events.record(connection, now, "endpoint-ready", f"endpoint {row.name} answers at {standing.url}")
                if state == "stopped" != row.state:
                    events.record(connection, now, "endpoint-stopped", f"endpoint {row.name}: {row.scale_why}")
                if state == "failed" != row.state:
                    events.record(connection, now, "endpoint-failed", f"endpoint {row.name}: {standing.why}")
            connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(**values))
            connection.execute(update(targets).where(targets.c.name == row.target).values(trouble=trouble[:500]))
            return moves


def _without_counts(standing: Standing) -> Standing:
    """What the row keeps: counts go to the rollout and to the tally, and are of no use later."""
    versions = {name: msgspec.structs.replace(one, lives={}) for name, one in standing.versions.items()}
    return msgspec.structs.replace(standing, versions=versions, uncounted="")
