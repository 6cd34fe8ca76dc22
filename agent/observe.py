"""The look before each decision: what the engines run, and whether it answers."""

import asyncio
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

    async def look(self, slots: tuple[Slot, ...], late: Callable[[], None]) -> tuple[Seen, dict[str, str]]:
        """What is seen of the placed instances, and every instance's engine by instance name.

        ``late`` is called when a probe ends that this look has not waited for.

        Of an engine that does not answer nothing is said: its instances have no evidence, so nothing is decided on
        them, and a stuck engine never takes a working module away.
        """
        lists = await asyncio.gather(*(self._list(engine) for engine in self._engines.values()))
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
        """End the probes that are under way."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    @staticmethod
    async def _list(engine: ContainerEngine) -> dict[str, Instance] | None:
        try:
            return {one.instance: one for one in await engine.list()}
        except (EngineBusy, NoEngine):
            return None

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
