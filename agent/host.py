"""What this host is, kept fresh: hardware's findings, and the engines that answer."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from agent.engines.contract import ContainerEngine
from hardware.probe import probe
from modules.needs import HostFacts


class Host:
    """The last look at the machine; ``look`` takes a new one."""

    def __init__(self, engines: Mapping[str, ContainerEngine], state: Path) -> None:
        self._engines = engines
        self._state = state
        self.facts = HostFacts(platform="unknown")

    async def look(self) -> HostFacts:
        """Probe the hardware and ask the engines; an engine that does not answer is not among the facts."""
        found = await asyncio.to_thread(probe, self._state)
        engines = []
        for engine in self._engines.values():
            # Whatever it answers instead of facts: an engine that nobody understands is as good as none.
            with contextlib.suppress(Exception):
                engines.append(await engine.facts())
        self.facts = msgspec.structs.replace(found, engines=tuple(engines))
        return self.facts
