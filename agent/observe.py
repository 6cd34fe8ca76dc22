"""The look before each decision: what the engines run, and whether it answers."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from agent.engines.contract import ContainerEngine, Instance
from agent.health import alive
from agent.plan import Seen
from agent.slots import Placed, Slot
from agent.verdict import Evidence
from modules.errors import EngineBusy, NoEngine

# A look waits so long for its probes. What answers later counts in the next look, which it brings about.
PATIENCE_S: Final = 0.25
# And so long for an engine's list: a pass of the loop must end well before the watchdog takes it for stuck.
LISTED_WITHIN_S: Final = 15.0
_log = logging.getLogger(__name__)


class Observer:
    """Looks at every placed instance; remembers how many probes in a row it has failed.

    Each instance has at most one probe under way, in a task of its own: a module that hangs or drips its answer holds
    up nobody else's.
    """

    def __init__(self, engines: Mapping[str, ContainerEngine], *, probe_timeout_s: float) -> None:
        self._engines = engines
        self._probe_timeout_s = probe_timeout_s
        self._failed: dict[str, int] = {}
        # Instances whose engine did not answer since they were last seen running.
        self._away: set[str] = set()
        self._probes: dict[str, asyncio.Task[None]] = {}
        # Engines whose answers were not understood, each of which is said once.
        self._strange: set[str] = set()
        # Lists that an engine was asked for in an earlier look and still owes. What they say then is old news.
        self._owed: dict[str, asyncio.Task[dict[str, Instance] | None]] = {}

    async def look(self, slots: tuple[Slot, ...], late: Callable[[], None]) -> tuple[Seen, dict[str, str]]:
        """What is seen of the placed instances, and every instance's engine by instance name.

        ``late`` is called when a probe ends that this look has not waited for.

        Of an engine that does not answer nothing is said: its instances have no evidence, so nothing is decided on
        them, and a stuck engine never takes a working module away.
        """
        lists = await asyncio.gather(*map(self._list, self._engines))
        listed = {name: found for name, found in zip(self._engines, lists, strict=True) if found is not None}
        placed = {one.instance: one for slot in slots for one in (slot.serving, slot.current) if one}
        running = [one for one in placed.values() if _runs(one, listed)]
        self._away |= {name for name, one in placed.items() if one.wanted.engine not in listed}
        self._away &= placed.keys() - {one.instance for one in running}
        begun = [self._probe(one, late) for one in running if one.instance not in self._probes]
        if begun:
            await asyncio.wait(begun, timeout=min(PATIENCE_S, self._probe_timeout_s))
        for name in self._failed.keys() - placed.keys():
            del self._failed[name]
        seen = {name: found for name, one in placed.items() if (found := self._evidence(one, listed))}
        return Seen(evidence=seen), {instance: name for name, found in listed.items() for instance in found}

    async def close(self) -> None:
        """End the questions that are under way."""
        tasks = [*self._probes.values(), *self._owed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self, name: str) -> dict[str, Instance] | None:
        """What an engine runs; None where it does not say so in time, or says what nobody understands."""
        if (owed := self._owed.get(name)) is not None and not owed.done():
            return None
        task = self._owed[name] = asyncio.create_task(self._asked(name), name=f"list-{name}")
        await asyncio.wait([task], timeout=LISTED_WITHIN_S)
        return task.result() if task.done() else None

    async def _asked(self, name: str) -> dict[str, Instance] | None:
        try:
            found = {one.instance: one for one in await self._engines[name].list()}
        except (EngineBusy, NoEngine):
            return None
        except Exception as error:  # noqa: BLE001 - whatever it says, the other engines are looked after
            if name not in self._strange:
                _log.exception("the %s engine answers what this program does not understand: %s", name, error)
            self._strange.add(name)
            return None
        self._strange.discard(name)
        return found

    def _probe(self, placed: Placed, late: Callable[[], None]) -> asyncio.Task[None]:
        began = asyncio.get_running_loop().time()

        async def probe() -> None:
            answers = await alive(placed.socket, timeout_s=self._probe_timeout_s)
            self._failed[placed.instance] = 0 if answers else self._failed.get(placed.instance, 0) + 1

        def ended(task: asyncio.Task[None]) -> None:
            del self._probes[placed.instance]
            if not task.cancelled() and asyncio.get_running_loop().time() - began > PATIENCE_S:
                late()

        task = asyncio.create_task(probe(), name=f"probe-{placed.instance}")
        self._probes[placed.instance] = task
        task.add_done_callback(ended)
        return task

    def _evidence(self, placed: Placed, listed: Mapping[str, Mapping[str, Instance]]) -> Evidence | None:
        found = listed.get(placed.wanted.engine)
        if found is None:
            return None
        # A probe that is still under way says nothing yet: neither that it answers, nor that it does not.
        failed = self._failed.get(placed.instance)
        answers = failed == 0 and placed.instance not in self._probes
        return Evidence(
            instance=found.get(placed.instance),
            away=placed.instance in self._away,
            failed_probes=failed or 0,
            answers=answers,
        )


def _runs(placed: Placed, listed: Mapping[str, Mapping[str, Instance]]) -> bool:
    instance = listed.get(placed.wanted.engine, {}).get(placed.instance)
    return instance is not None and instance.state == "running"
