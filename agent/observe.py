"""The look before each decision: what the engines run, and whether it answers."""

import asyncio
from collections.abc import Mapping

from agent.engines.contract import ContainerEngine, Instance
from agent.health import alive
from agent.plan import Seen
from agent.slots import Placed, Slot
from agent.verdict import Evidence
from modules.errors import EngineBusy, NoEngine


class Observer:
    """Looks at every placed instance; remembers only how many probes in a row it has failed."""

    def __init__(self, engines: Mapping[str, ContainerEngine], *, probe_timeout_s: float) -> None:
        self._engines = engines
        self._probe_timeout_s = probe_timeout_s
        self._failed: dict[str, int] = {}

    async def look(self, slots: tuple[Slot, ...]) -> tuple[Seen, dict[str, str]]:
        """What is seen of the placed instances, and every instance's engine by instance name.

        Of an engine that does not answer nothing is said: its instances have no evidence, so nothing is decided on
        them, and a stuck engine never takes a working module away.
        """
        listed: dict[str, dict[str, Instance]] = {}
        for name, engine in self._engines.items():
            try:
                listed[name] = {one.instance: one for one in await engine.list()}
            except (EngineBusy, NoEngine):
                continue
        # Once each: who serves is mostly the committed one, and a probe failed twice in one look would count twice.
        placed = list({one.instance: one for slot in slots for one in (slot.serving, slot.current) if one}.values())
        evidence = await asyncio.gather(*(self._evidence(one, listed) for one in placed))
        seen = {one.instance: found for one, found in zip(placed, evidence, strict=True) if found}
        self._failed = {name: count for name, count in self._failed.items() if name in seen}
        running = {instance: name for name, found in listed.items() for instance in found}
        return Seen(evidence=seen), running

    async def _evidence(self, placed: Placed, listed: Mapping[str, Mapping[str, Instance]]) -> Evidence | None:
        found = listed.get(placed.wanted.engine)
        if found is None:
            return None
        instance = found.get(placed.instance)
        if instance is not None and instance.state == "running":
            answers = await alive(placed.socket, timeout_s=self._probe_timeout_s)
            self._failed[placed.instance] = 0 if answers else self._failed.get(placed.instance, 0) + 1
        return Evidence(instance=instance, failed_probes=self._failed.get(placed.instance, 0))
