"""Brings batch jobs about: the duty of the server that leads, as ``duty.py`` does for endpoints.

Nothing is remembered between two looks but the rows: a server that was started again finds its jobs where they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from sqlalchemy import select

from fleet.clock import Clock
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.refusals import ATTACHED_WRONGLY, TargetTrouble, told
from fleet.target_tables import jobs
from fleet.targets import attached
from fleet.targets.attached import Line, Targets
from fleet.targets.contract import JobStanding, RunsJobs, Target
from fleet.targets.jobs import ACTIVE, BatchJobs, check_data, standing_of
from modules.errors import BadSettings, EdgefleetError

LOOK_S: Final = 1.0
RUNNING_S: Final = 3.0


class BringingJobs:
    """``run`` is the duty."""

    def __init__(
        self, *, database: Database, clock: Clock, wished: BatchJobs, targets: Targets, mishaps: Mishaps
    ) -> None:
        self._database, self._clock, self._mishaps = database, clock, mishaps
        self._jobs, self._targets = wished, targets
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._looked: dict[str, float] = {}

    async def run(self, lasting: Callable[..., Awaitable[Any]]) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done."""
        try:
            while True:
                with self._mishaps.alone("batch jobs", "what is asked for in the cloud"):
                    await self._round(lasting)
                await asyncio.sleep(LOOK_S)
        finally:
            for turn in self._turns.values():
                turn.cancel()

    async def _round(self, lasting: Callable[..., Awaitable[Any]]) -> None:
        rows = await lasting(self._rows)
        now = asyncio.get_running_loop().time()
        self._looked = {row.name: self._looked[row.name] for row in rows if row.name in self._looked}
        self._turns = {name: turn for name, turn in self._turns.items() if not turn.done()}
        for row in rows:
            every = RUNNING_S if row.state == "running" else LOOK_S
            if now - self._looked.get(row.name, float("-inf")) >= every and row.name not in self._turns:
                self._looked[row.name] = now
                self._turns[row.name] = asyncio.create_task(self._turn(row.name, lasting), name=f"job-{row.name}")

    async def _turn(self, name: str, lasting: Callable[..., Awaitable[Any]]) -> None:
        with self._mishaps.alone("batch job", name):
            row, line, region = await lasting(self._found, name)
            if row is None or line is None:
                return
            run = asyncio.get_running_loop().run_in_executor(line.threads, self._brought, row, line.target, region)
            await lasting(self._note, row, await run)

    def _brought(self, row: Any, target: Target, region: str) -> JobStanding | None:
        """How it stands after this look; None: it has ended, and nothing of it is left."""
        before = standing_of(row)
        try:
            if not isinstance(target, RunsJobs):
                return msgspec.structs.replace(before, state="failed", why="this kind of target runs no batch jobs yet")
            if row.state in ACTIVE:
                wanted = self._jobs.wanted(row)
                # The target may say another region by now.
                check_data(wanted.module.manifest, region)
                return _with_what_is_known(before, target.bring_job(wanted))
            return None if target.end_job(row.name) else before
        except TargetTrouble as error:
            # It may answer again: the job waits for that, where it is.
            return msgspec.structs.replace(before, why=told(error))
        except BadSettings:
            return msgspec.structs.replace(before, why=ATTACHED_WRONGLY)
        except EdgefleetError as error:
            return msgspec.structs.replace(before, state="failed", why=str(error))

    def _rows(self) -> list[Any]:
        with self._database.read() as connection:
            mine = (jobs.c.on_target == 1) & jobs.c.device.is_(None)
            return list(connection.execute(select(jobs.c.name, jobs.c.state).where(mine)).all())

    def _found(self, name: str) -> tuple[Any, Line | None, str]:
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.name == name)).one_or_none()
            if row is None:
                return None, None, ""
            return row, self._targets.of(connection, row.target), attached.region(connection, row.target)

    def _note(self, row: Any, standing: JobStanding | None) -> None:
        with self._database.write() as connection:
            self._jobs.note(connection, self._clock(), row, standing)


def _with_what_is_known(before: JobStanding, now: JobStanding) -> JobStanding:
    """A program that starts, or whose word nobody could find, says nothing of how far it is; nor of its share."""
    if now.items and now.answered + now.set_aside >= before.answered + before.set_aside:
        return now
    return msgspec.structs.replace(now, items=before.items, answered=before.answered, set_aside=before.set_aside)
