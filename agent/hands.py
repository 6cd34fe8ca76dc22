"""What every step does with its hands: rows read and written, instances started and stopped, images made sure of."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from agent.clock import Clock
from agent.engines.contract import ContainerEngine
from agent.launch import Launcher
from agent.shelf import Shelf
from agent.slots import Placed, Slot, Target
from agent.store import Store
from agent.supply import Supply
from modules.errors import EdgefleetError, NoEngine, Unproved
from modules.manifest import Image, Manifest
from modules.protocol.phases import Phase

_log = logging.getLogger(__name__)


class Hands:
    """The parts that the steps of both lanes use.

    ``routed`` is called after each change that moves traffic, before the next side effect.
    """

    def __init__(
        self,
        *,
        store: Store,
        shelf: Shelf,
        supply: Supply,
        launcher: Launcher,
        engines: Mapping[str, ContainerEngine],
        routed: Callable[[], None],
        clock: Clock,
        stop_grace_s: float,
    ) -> None:
        self.store = store
        self.shelf = shelf
        self.supply = supply
        self.launcher = launcher
        self.engines = engines
        self.routed = routed
        self.clock = clock
        self._stop_grace_s = stop_grace_s

    async def end(self, instance: str, engine: str) -> None:
        """Stop an instance by its name alone."""
        await self.engines[engine].stop(instance, grace_s=self._stop_grace_s)

    def image(self, of: Target | Placed, manifest: Manifest) -> Image | None:
        """The image of the runtime that was chosen; the process engine needs none."""
        return None if of.wanted.engine == "process" else self.launcher.runtime(of, manifest).image

    async def ensure(self, placed: Placed, manifest: Manifest, *, read: bool = False) -> None:
        """Make again what was lost of what ran here: the module's files, the engine's image, from what lies here.

        Somebody may have cleaned up, or the disk is bad; with ``read`` the files' bytes are looked at, too. A file that
        is not to be had now may be one that it can do without, so it is tried with what is there.
        """
        digest = placed.wanted.digest
        try:
            await self.supply.mend(digest, manifest, read=read)
        except (EdgefleetError, OSError) as error:
            if not self.shelf.path(digest).is_dir():
                raise
            _log.warning("%s: not all of its files could be put back: %s", placed.wanted.module, error)
        if image := self.image(placed, manifest):
            await self.supply.ensure(manifest, image, self.engine(placed.wanted.engine))

    def engine(self, name: str) -> ContainerEngine:
        try:
            return self.engines[name]
        except KeyError:
            raise NoEngine(f"this device has no {name} engine", remedy="see edgefleet-agent doctor") from None

    async def stop(self, placed: Placed | None) -> None:
        if placed is not None:
            await self.engine(placed.wanted.engine).stop(placed.instance, grace_s=self._stop_grace_s)
            # What a module leaves there may be a million files.
            await asyncio.to_thread(self.launcher.clear, placed)

    def row(self, slot: Slot) -> Slot:
        return self.store.slot(slot.slot) or slot

    def to(self, slot: Slot, phase: Phase, **changes: object) -> Slot:
        return self.change(
            slot, lambda row: row.to(phase, self.clock.now(), by="device", since=self.clock.monotonic(), **changes)
        )

    def change(self, slot: Slot, change: Callable[[Slot], Slot]) -> Slot:
        return self.store.save(change(self.row(slot)))

    async def relaunch(self, placed: Placed, manifest: Manifest) -> Placed:
        """Start what was committed. What does not become ready is stopped: it runs, and would be taken for serving."""
        try:
            return await self.launcher.start(placed, manifest, self.engine(placed.wanted.engine))
        except Unproved:
            await self.stop(placed)
            raise
