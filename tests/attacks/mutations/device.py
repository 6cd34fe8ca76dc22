"""The device's own code on a state folder in memory, from the message to the started module; around it, the scene."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

from agent.blobs import BlobStore
from agent.commands.desk import Desk
from agent.commands.parts import Parts
from agent.execute import Executor
from agent.fetch import Puller
from agent.hands import Hands
from agent.inbox import Inbox
from agent.launch import Launcher
from agent.loop import Loop
from agent.outbox import Outbox
from agent.plan import Seen, plan
from agent.settings import Settings
from agent.shelf import Shelf
from agent.store import ORDER, Store
from agent.supply import Supply
from agent.verify import Verifier
from agent.wiring import NoBatch
from modules.digests import read_blocks
from tests.agent.workbench import FixedHost
from tests.attacks.mutations.docker import Engine
from tests.attacks.mutations.scene import Scene
from tests.attacks.mutations.world import DEVICE, NOW
from tests.doubles.clock import VirtualClock
from tests.doubles.link import RecordingLink

#: Steps of one slot's way, with room to spare.
_STEPS = 16


class _Clock(VirtualClock):
    """Calls ``slept`` at each sleep of the inbox: it waits for a better link."""

    def __init__(self) -> None:
        super().__init__(float(NOW))
        self.sleeps = 0
        self.slept = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.slept()
        await super().sleep(seconds)


class _Puller(Puller):
    """Says when trust's thread waits for the loop."""

    async def metadata(self, name):
        return await self._counted(super().metadata(name))

    async def small(self, digest, length, **more):
        return await self._counted(super().small(digest, length, **more))

    @staticmethod
    async def _counted(asked):
        loop = asyncio.get_running_loop()
        loop.waiting += 1
        try:
            return await asked
        finally:
            loop.waiting -= 1


class _Blobs(BlobStore):
    """Before a partial blob gets its name, its blocks are looked at: ``wrong`` are those that nobody signed."""

    def __init__(self, folder: Path, right) -> None:
        super().__init__(folder)
        self._right = right
        self.wrong: list[str] = []

    def finish(self, blob) -> None:
        self.look(self.folder / f"{blob.sha256[7:]}.part")
        super().finish(blob)

    def look(self, path: Path) -> None:
        with path.open("rb") as stream:
            self.wrong += [
                f"{path.name} block {n}" for n, one in enumerate(read_blocks(stream)) if not self._right(one)
            ]


class _Telemetry:
    def __init__(self) -> None:
        self.collected = 0

    def collect_now(self) -> None:
        self.collected += 1


class Device:
    """``deliver`` brings what the broker has; ``work`` takes every step that the plan then has. ``right`` says of a
    block whether it stands in an index that was signed."""

    def __init__(self, scene: Scene, folder: Path, *, right=lambda _: True) -> None:
        self.folder, self.scene = folder, scene
        if scene.lost:
            shutil.rmtree(folder / "trust" / "metadata")
        self.clock, self.engine = _Clock(), Engine(VirtualClock())
        self.engine.held.swapped = scene.swapped
        self.store, self.shelf = Store(folder), Shelf(folder / "modules")
        self.blobs = _Blobs(folder / "blobs", right)
        self.puller = _Puller(scene.link.send, timeout_s=1.0, tries=2)
        self.puller._window.now = asyncio.get_running_loop().time
        scene.link.deliver = self.puller.on_block
        host, self.link, self.telemetry = FixedHost(), RecordingLink(DEVICE), _Telemetry()
        supply = Supply(blobs=self.blobs, shelf=self.shelf, puller=self.puller, reserve=1, budget=1 << 30)
        launcher = Launcher(
            store=self.store,
            shelf=self.shelf,
            instances=folder / "i",
            facts=lambda: host.facts,
            group=-1,
            clock=self.clock,
        )
        hands = Hands(
            store=self.store,
            shelf=self.shelf,
            supply=supply,
            launcher=launcher,
            engines={"docker": self.engine},
            routed=lambda: None,
            clock=self.clock,
            stop_grace_s=1.0,
        )
        self.executor = Executor(
            hands=hands, facts=lambda: host.facts, untaken=self._untaken, lost=self._lost, retry_s=5.0
        )
        signer = scene.world.device
        outbox = Outbox(
            device=DEVICE,
            store=self.store,
            link=self.link,
            signer=signer,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
        )
        loop = Loop(
            store=self.store,
            host=host,
            observer=None,
            executor=self.executor,
            supply=supply,
            outbox=outbox,
            router=lambda: None,
            measurer=lambda: None,
            clock=self.clock,
            poll_s=1.0,
        )
        self.verifier = Verifier(
            device=DEVICE,
            folder=folder / "trust",
            root=scene.world.publisher.first_root,
            store=self.store,
            shelf=self.shelf,
            puller=self.puller,
            now=self.clock.now,
        )
        self._done = asyncio.Event()
        self.clock.slept = self._done.set
        self.inbox = Inbox(
            store=self.store,
            verifier=self.verifier,
            outbox=outbox,
            replace=loop.replace,
            wake=self._done.set,
            clock=self.clock,
        )
        self.ends = self.renewed = 0
        # Each order that was followed, in turn.
        self.adopted: list[bytes] = []
        self.parts = Parts(
            device=DEVICE,
            settings=Settings(state=str(folder), runtime=str(folder / "run")),
            store=self.store,
            shelf=self.shelf,
            engines={"docker": self.engine},
            host=host,
            loop=loop,
            outbox=outbox,
            link=self.link,
            signer=lambda: signer,
            verifier=self.verifier,
            refuse=self.inbox.refuse,
            telemetry=self.telemetry,
            batch=NoBatch(),
            told=self._told,
            clock=self.clock,
            end=self._end,
            renew=self._renew,
        )

    async def deliver(self) -> None:
        """Every order in turn, each until it is adopted, refused, or waits for a better link; then every command."""
        reading = asyncio.create_task(self.inbox.run())
        try:
            for order in self.scene.orders:
                self._done.clear()
                self.inbox.on_order(order)
                if self.inbox._newest is not None and order != self.store.document(ORDER):
                    await self._done.wait()
                if (found := self.store.document(ORDER)) and found not in self.adopted[-1:]:
                    self.adopted.append(found)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
        if self.scene.commands:
            await self._command()

    async def _command(self) -> None:
        desk = Desk(self.parts)
        try:
            for levels, envelope in self.scene.commands:
                desk.take(levels, envelope)
                while desk._queue or desk._following:  # noqa: ASYNC110 - what ends is the desk's own, and no event
                    await asyncio.sleep(1.0)
        finally:
            await desk.close()

    async def work(self) -> None:
        """What follows from what was adopted, up to the probation; what waits for better times waits."""
        for _ in range(_STEPS):
            slots = self.store.slots()
            steps = plan(slots, Seen(evidence={}), now=self.clock.monotonic(), poll_s=1.0).steps
            if not steps:
                return
            for step in steps:
                await self.executor.take(step)

    def followed(self) -> dict[str, str]:
        """The ids and digests of commands that were followed."""
        path = self.folder / "commands.db"
        if not path.exists():
            return {}
        with sqlite3.connect(path) as db:
            found = dict(db.execute("SELECT id, digest FROM commands WHERE keys != ''").fetchall())
        db.close()
        return found

    def close(self) -> None:
        self.verifier.close()
        self.store.close()
        self.engine.close()

    @staticmethod
    async def _untaken() -> str:
        return ""

    @staticmethod
    async def _lost(_instance: str) -> bool:
        return False

    @staticmethod
    async def _told():
        return None

    def _end(self) -> None:
        self.ends += 1

    async def _renew(self) -> str:
        self.renewed += 1
        return f"{self.renewed:x}"
