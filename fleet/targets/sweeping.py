"""Takes away what stands on targets and is no row's: the duty of the server that leads.

A row can go while its target is away (``targets detach --abandon``), and a server put back from a backup does not know
what was made since. What carries this fleet's mark and a name that no row on that engine has is said first, and removed
only when it was still so a while later; what carries no mark, or another fleet's, is nobody's business here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from fleet import events
from fleet.clock import Clock
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.refusals import Missing, TargetTrouble
from fleet.target_tables import endpoints, jobs, targets
from fleet.targets.attached import Line, Targets, decoded
from fleet.targets.contract import Found, RunsJobs, Target
from modules.errors import BadSettings

EVERY_S: Final = 300.0
#: so long is what no row speaks of left alone: for whoever sees the event, and can bring the row back
GRACE_S: Final = 3600.0
_WORDS: Final = {"endpoint": "endpoint", "job": "batch job"}


class Sweeping:
    """``run`` is the duty; ``sweep`` looks at one target, once."""

    def __init__(self, *, database: Database, clock: Clock, attached: Targets, mishaps: Mishaps) -> None:
        self._database, self._clock, self._targets, self._mishaps = database, clock, attached, mishaps
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def run(self, lasting: Callable[..., Awaitable[Any]]) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done."""
        try:
            while True:
                with self._mishaps.alone("strays", "what no row speaks of"):
                    names = await lasting(self._names)
                    self._turns = {name: turn for name, turn in self._turns.items() if not turn.done()}
                    for name in names:
                        if name not in self._turns:
                            self._turns[name] = asyncio.create_task(self._turn(name, lasting), name=f"sweep-{name}")
                await asyncio.sleep(EVERY_S)
        finally:
            for turn in self._turns.values():
                turn.cancel()

    async def _turn(self, target: str, lasting: Callable[..., Awaitable[Any]]) -> None:
        with self._mishaps.alone("strays", target):
            loop = asyncio.get_running_loop()
            line = await lasting(self._line, target)
            if line is None:
                return
            found = await loop.run_in_executor(line.threads, _present, line.target)
            if found is None:
                return
            for one in await lasting(self._strays, target, found):
                if await loop.run_in_executor(line.threads, _removed, line.target, one):
                    await lasting(self._gone, target, one)

    def _names(self) -> list[str]:
        with self._database.read() as connection:
            return list(connection.scalars(select(targets.c.name)))

    def _line(self, target: str) -> Line | None:
        with self._database.read() as connection:
            try:
                return self._targets.of(connection, target)
            except Missing:
                return None

    def _strays(self, target: str, found: frozenset[Found]) -> list[Found]:
        """Note what no row speaks of, and say what of it was noted long enough ago."""
        now = self._clock()
        with self._database.write() as connection:
            row = connection.execute(select(targets).where(targets.c.name == target)).one_or_none()
            if row is None:
                return []
            before = msgspec.json.decode(row.strays, type=dict[str, float])
            strays = sorted(found - _known(connection, row))
            # A clock that was put back begins the wait anew.
            noted = {str(one): min(before.get(str(one), now), now) for one in strays}
            if noted != before:
                values = {"strays": msgspec.json.encode(noted).decode()}
                connection.execute(update(targets).where(targets.c.name == target).values(**values))
            for one in strays:
                if str(one) not in before:
                    words = (
                        f"on the target {target} stands {_named(one)} without a row: it goes in {GRACE_S / 60:g} min"
                    )
                    events.record(connection, now, "target-stray", words)
            return [one for one in strays if now - noted[str(one)] >= GRACE_S]

    def _gone(self, target: str, one: Found) -> None:
        with self._database.write() as connection:
            words = f"on the target {target} nothing is left of {_named(one)}, which had no row"
            events.record(connection, self._clock(), "target-swept", words)


def _known(connection: Connection, row: Any) -> set[Found]:
    """What rows speak of on the engine of a target, under whatever name it is attached."""
    engine = decoded(row).engine
    same = {row.name}
    for other in connection.execute(select(targets).where(targets.c.kind == row.kind)):
        if engine and decoded(other).engine in {"", engine}:
            same.add(other.name)
    named = connection.scalars(select(endpoints.c.name).where(endpoints.c.target.in_(same)))
    running = connection.scalars(select(jobs.c.name).where(jobs.c.target.in_(same), jobs.c.on_target == 1))
    return {Found("endpoint", name) for name in named} | {Found("job", name) for name in running}


def _present(target: Target) -> frozenset[Found] | None:
    try:
        return target.present()
    except (TargetTrouble, BadSettings):
        return None  # its endpoints say so


def _removed(target: Target, one: Found) -> bool:
    try:
        if one.kind == "endpoint":
            return target.remove(one.name)
        return isinstance(target, RunsJobs) and target.end_job(one.name)
    except (TargetTrouble, BadSettings):
        return False


def _named(one: Found) -> str:
    return f"the {_WORDS[one.kind]} {one.name}"
