"""Brings batch jobs to devices: by a command each to begin and to end, and by what the device's report says.

Nothing is remembered between two looks but the rows. A command that was given twice, because the server ended between
the two writes, is no harm: a device knows a job by its mark.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select, update

from fleet.clock import Clock
from fleet.command_tables import commands
from fleet.commands.given import Commands
from fleet.commands.states import OPEN, State
from fleet.commands.whom import Wish
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.tables import devices
from fleet.target_tables import jobs
from fleet.targets.contract import JobStanding, JobState
from fleet.targets.jobs import ACTIVE, CANCELLED, Asked, BatchJobs, standing_of
from modules.batch_program import Asking
from modules.errors import Refused
from modules.names import DeviceId, Digest, Slug
from modules.protocol.batch import BatchOrder, JobReport
from modules.protocol.commands import LONGEST_LIFE_S
from modules.protocol.report import Report

LOOK_S: Final = 2.0
#: So long after a device has taken a job its report may still be under way.
REPORTS_S: Final = 600.0
BEGIN: Final = "batch-start"
END: Final = "batch-cancel"
#: What a device may say; a newer agent may say more.
_STATES: Final[dict[str, JobState]] = {"running": "running", "paused": "paused", "done": "done", "failed": "failed"}


class _Found(NamedTuple):
    """What is known of a job: its row, its device's (None: it was removed), what that says of it, and its commands."""

    row: Any
    device: Any
    said: JobReport | None
    begun: Any
    ended: Any


class DeviceJobs:
    """``run`` is the duty."""

    def __init__(
        self, *, database: Database, clock: Clock, wished: BatchJobs, commands: Commands, mishaps: Mishaps
    ) -> None:
        self._database, self._clock, self._mishaps = database, clock, mishaps
        self._jobs, self._commands = wished, commands

    async def run(self, lasting: Callable[..., Awaitable[Any]], given: Callable[[], None]) -> None:
        """Look for ever; ``given`` is called when there is a new command to send."""
        while True:
            with self._mishaps.alone("batch jobs", "what is asked for on devices"):
                for name in await lasting(self._names):
                    with self._mishaps.alone("batch job", name):
                        if await lasting(self.look, name):
                            given()
            await asyncio.sleep(LOOK_S)

    def look(self, name: str) -> bool:
        """What is to be done for one job; whether a command was given."""
        with self._database.read() as connection:
            found = _find(connection, name)
        if found is None:
            return False
        if found.row.state == CANCELLED:
            return self._end(found)
        if found.row.state not in ACTIVE:
            self._note(found.row, None)
            return False
        standing = _standing(found, self._clock())
        if standing is not None:
            self._note(found.row, standing)
            return False
        return self._give(found.row, BEGIN, jobs.c.begun_by)

    def _end(self, found: _Found) -> bool:
        """A job that was cancelled: its device is told, unless it never heard of it or knows already."""
        told = found.ended is not None and found.ended.state not in OPEN
        over = found.said is not None and found.said.state not in {"running", "paused"}
        if found.device is None or not found.row.begun_by or told or over:
            self._note(found.row, None)
            return False
        return found.ended is None and self._give(found.row, END, jobs.c.ended_by)

    def _give(self, row: Any, name: str, column: Any) -> bool:
        wish = Wish(name=name, device=DeviceId(row.device), batch=_order(row), expires_s=LONGEST_LIFE_S)
        try:
            ident = next(iter(self._commands.give(wish, by=row.by).commands.values()))
        except (Refused, StopIteration) as error:
            why = str(error) or "the device was removed from the fleet"
            self._note(row, msgspec.structs.replace(standing_of(row), state="failed", why=why))
            return False
        with self._database.write() as connection:
            mine = (jobs.c.name == row.name) & (jobs.c.mark == row.mark)
            connection.execute(update(jobs).where(mine).values({column: ident}))
        return True

    def _names(self) -> list[str]:
        with self._database.read() as connection:
            mine = (jobs.c.on_target == 1) & jobs.c.device.is_not(None)
            return list(connection.scalars(select(jobs.c.name).where(mine)))

    def _note(self, row: Any, standing: JobStanding | None) -> None:
        if standing == standing_of(row) and standing.state == row.state:
            return
        with self._database.write() as connection:
            self._jobs.note(connection, self._clock(), row, standing)


def _find(connection: Connection, name: str) -> _Found | None:
    row = connection.execute(select(jobs).where(jobs.c.name == name, jobs.c.device.is_not(None))).one_or_none()
    if row is None:
        return None
    wanted = select(devices.c.online, devices.c.report).where(devices.c.id == row.device, devices.c.removed.is_(None))
    device = connection.execute(wanted).one_or_none()
    report = msgspec.json.decode(device.report, type=Report) if device is not None and device.report else None
    said = next((one for one in report.jobs if one.mark == row.mark), None) if report else None
    return _Found(row, device, said, _command(connection, row.begun_by), _command(connection, row.ended_by))


def _command(connection: Connection, ident: str) -> Any:
    seen = (commands.c.state, commands.c.reason, commands.c.ended)
    return connection.execute(select(*seen).where(commands.c.id == ident)).one_or_none() if ident else None


def _standing(found: _Found, now: float) -> JobStanding | None:
    """How a job stands that was not cancelled; None: its device is to be told of it."""
    before = standing_of(found.row)
    if found.device is None:
        return msgspec.structs.replace(before, state="failed", why="the device was removed from the fleet")
    if (said := found.said) is not None:
        return JobStanding(
            state=_STATES.get(said.state, "failed"),
            why=said.why if said.state in _STATES else f"the device says that it is {said.state[:40]}",
            items=said.items,
            answered=said.answered,
            set_aside=said.set_aside,
            starts=said.starts,
        )
    if not found.row.begun_by:
        return None
    begun = found.begun
    if begun is not None and begun.state in OPEN:
        where = "it has not taken the job yet" if found.device.online else "the device is offline"
        return msgspec.structs.replace(before, why=where)
    if begun is not None and begun.state == State.DONE:
        if begun.ended is None or now < begun.ended + REPORTS_S:
            return msgspec.structs.replace(before, why="the device has taken it")
        return msgspec.structs.replace(before, state="failed", why="the device knows nothing of it any more")
    state = begun.state if begun is not None else "not kept any more"
    why = begun.reason if begun is not None and begun.reason else f"its command is {state}"
    return msgspec.structs.replace(before, state="failed", why=why)


def _order(row: Any) -> BatchOrder:
    asked = msgspec.json.decode(row.asked, type=Asked)
    values = {name: getattr(asked.settings, name) for name in Asking.__struct_fields__}
    return BatchOrder(
        mark=row.mark,
        name=Slug(row.batch or row.name),
        module=Digest(row.digest),
        inputs=Slug(asked.inputs),
        outputs=Slug(asked.outputs),
        asking=Asking(**values),
    )
