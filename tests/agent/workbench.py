"""The agent's core on real folders, with everything around it simulated: engine, blob server, link, clock."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from agent.adopt import adopt
from agent.answering import Told
from agent.blobs import BlobStore
from agent.execute import Executor
from agent.fetch import Puller
from agent.gateway import table as gateway_table
from agent.hands import Hands
from agent.identity import CERTIFICATE, KEY
from agent.launch import Launcher
from agent.loop import Loop
from agent.measurer import Measurer
from agent.observe import Observer
from agent.outbox import Outbox
from agent.router import Router
from agent.shelf import Shelf
from agent.store import ORDER, Store
from agent.supply import Supply
from modules import canonical, signing
from modules.names import device_id
from modules.needs import Engine, HostFacts
from modules.protocol.order import Order
from modules.protocol.phases import Phase
from tests.doubles.blob_server import BlobServer
from tests.doubles.clock import VirtualClock
from tests.doubles.engine import SimulatedEngine
from tests.doubles.keys import device_pem
from tests.doubles.link import RecordingLink
from tests.doubles.release import Release
from tests.parts.pace import stretched

DEVICE = device_id("bench-1")
WITHIN_S = stretched(10.0)
LOOK_S = 0.005
FACTS = HostFacts(platform="linux/amd64", cores=2, memory_mb=4096, disk_free_mb=4096, engines=(Engine(name="docker"),))


class FixedHost:
    """Has the interface of ``agent.host.Host``; what it is, a test says."""

    def __init__(self) -> None:
        self.facts = FACTS

    async def look(self) -> HostFacts:
        return self.facts


class Bench:
    """One device. ``start`` runs an agent on its folders, ``kill`` drops it as SIGKILL would: nothing is tidied.

    ``clock`` and ``engine`` may be real ones; ``gateway`` is the address of a real gateway, where there is one.
    """

    within_s = WITHIN_S
    group = -1
    probe_timeout_s = 0.5

    def __init__(self, folder: Path, *, device=DEVICE, clock=None, engine=None, gateway="") -> None:
        self.folder, self.device, self.gateway = folder, device, gateway
        self.clock = clock or VirtualClock()
        self.engine = engine or SimulatedEngine(self.clock)
        self.server = BlobServer()
        self.host = FixedHost()
        self.link = RecordingLink(device)
        private, public = device_pem()
        (folder / "identity").mkdir(exist_ok=True)
        for name in (CERTIFICATE, KEY):
            (folder / "identity" / name).write_text(name)
        self.signer, self.key = signing.signer_from_pem(private), signing.key_from_pem(public)
        self.counter = 0
        self.tries = 3
        self.no_gateway = ""
        self.counts = {}
        self.under_request: Callable[[str], bool] = lambda _: False
        self.task: asyncio.Task[None] | None = None
        self.watch: Callable[[], None] = lambda: None
        self.build()

    def build(self) -> None:
        """Every part anew, as a starting agent makes them."""
        self.store = Store(self.folder)
        self.shelf = Shelf(self.folder / "modules")
        self.blobs = BlobStore(self.folder / "blobs")
        self.puller = Puller(self.server.send, timeout_s=0.02, tries=self.tries)
        self.server.deliver = self.puller.on_block
        self.supply = Supply(blobs=self.blobs, shelf=self.shelf, puller=self.puller, reserve=1, budget=1 << 30)
        self.router = Router(
            self.folder / "gateway" / "table.json",
            self.store,
            self.folder / "identity",
            self.gateway,
            device=self.device,
        )
        engines = {"docker": self.engine}
        launcher = Launcher(
            store=self.store,
            shelf=self.shelf,
            instances=self.folder / "i",
            facts=lambda: self.host.facts,
            group=self.group,
            clock=self.clock,
        )
        self.outbox = Outbox(
            device=self.device,
            store=self.store,
            link=self.link,
            signer=self.signer,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
        )
        hands = Hands(
            store=self.store,
            shelf=self.shelf,
            supply=self.supply,
            launcher=launcher,
            engines=engines,
            routed=self.router,
            clock=self.clock,
            stop_grace_s=1.0,
        )
        self.executor = Executor(
            hands=hands, facts=lambda: self.host.facts, untaken=self.untaken, lost=self.lost, retry_s=5.0
        )
        self.loop = Loop(
            store=self.store,
            host=self.host,
            observer=Observer(engines, probe_timeout_s=self.probe_timeout_s),
            executor=self.executor,
            supply=self.supply,
            outbox=self.outbox,
            router=self.router,
            measurer=lambda: Measurer(
                store=self.store, shelf=self.shelf, engines=engines, told=self.told, clock=self.clock
            ),
            clock=self.clock,
            poll_s=0.02,
        )

    async def untaken(self) -> str:
        """What the gateway says; a test may set ``no_gateway``."""
        return self.no_gateway

    async def told(self):
        """What the gateway says of itself; ``counts`` is what it saw of each instance."""
        return Told(1, [{"slot": "main", "counts": msgspec.to_builtins(self.counts)}])

    async def lost(self, instance: str) -> bool:
        """Whether the gateway says that a client's request was with it when it ended; ``under_request`` names those."""
        return self.under_request(instance)

    def start(self) -> None:
        self.task = asyncio.create_task(self.loop.run(), name="agent")

    async def stop(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.result()
            self.task = None

    async def kill(self) -> None:
        """End the agent at once and make a new one, not started, over what is on disk."""
        await self.stop()
        self.store.close()
        self.build()

    async def restart(self) -> None:
        await self.kill()
        self.start()

    async def order(self, waivers=(), **slots) -> None:
        """Make releases (or ready ``SlotOrder``) what should run, as an accepted order does."""
        self.counter += 1
        ordered = {}
        for name, release in slots.items():
            if isinstance(release, Release):
                self.server.blobs.update(release.blobs)
                self.shelf.keep_manifest(release.digest, release.data)
            ordered[name] = release.ordered() if isinstance(release, Release) else release
        now = int(self.clock.now())
        order = Order(device=self.device, counter=self.counter, issued=now, expires=now + 3600, slots=ordered)

        def remember() -> None:
            self.store.raise_number("order", self.counter)
            for digest in waivers:
                self.store.waive(digest)
            self.store.keep_document(ORDER, canonical.encode(order))

        await self.loop.replace(partial(adopt, order, now=self.clock.now(), waived=frozenset(waivers)), remember)
        self.loop.wake()

    async def until(self, met: Callable[[], bool], *, flowing: float = 0.0) -> None:
        """Wait until something holds; ``flowing`` lets so many seconds pass at each look."""
        try:
            async with asyncio.timeout(self.within_s):
                while not met():
                    assert self.task is None or not self.task.done(), "the agent ended"
                    self.watch()
                    self.clock.advance(flowing)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"it stays at {self.store.slots()}") from None

    async def phase(self, phase: Phase, *, slot: str = "main", flowing: float = 0.0) -> None:
        await self.until(lambda: (row := self.store.slot(slot)) is not None and row.phase is phase, flowing=flowing)

    async def passes(self, count: int = 2) -> None:
        """Let the loop go round so often."""
        after = self.loop.passes + count
        await self.until(lambda: self.loop.passes >= after)

    async def tidied(self) -> None:
        """Let it remove what no row names: until a row changes it touches nothing more, and may be stopped."""
        await self.until(lambda: self.loop._pruned == self.store.slots())

    async def restarted(self, slot: str = "main") -> None:
        """Let the first restart of a committed module come to its end; its engine runs it some time before that."""
        await self.until(lambda: (kept := self.row(slot).upkeep).restarts == 1 and kept.trouble is None)
        assert self.served(slot)

    async def committed(self, release, *, slot: str = "main") -> None:
        """Order a module and let it come to the end of its way."""
        await self.order(**{slot: release})
        await self.phase(Phase.PROBATION, slot=slot)
        self.clock.advance(release.manifest.proof.probation_s + 1)
        await self.phase(Phase.COMMITTED, slot=slot)

    # What can be seen from outside

    def row(self, slot: str = "main"):
        row = self.store.slot(slot)
        assert row is not None
        return row

    def chain(self, slot: str = "main") -> list[str]:
        """The phases of the wanted module, in order."""
        return [phase for phase, _ in self.row(slot).target.times]

    def route(self, slot: str = "main"):
        """What the gateway was told of a slot; None where it knows no such slot."""
        return gateway_table.read(self.folder / "gateway" / "table.json").slots.get(slot)

    def serves(self, slot: str = "main") -> str | None:
        """The module that the gateway sends the slot's requests to."""
        route = self.route(slot)
        return route.current.module if route and route.current else None

    def served(self, slot: str = "main") -> bool:
        """Whether the gateway reaches an instance that answers: the one in front, or the one behind it."""
        route = self.route(slot)
        places = (route.current, route.previous) if route else ()
        return any(self.engine.answers(place.instance) for place in places if place)

    def reported(self, slot: str = "main"):
        """What the newest report says of a slot."""
        return next(one for one in self.link.reports(self.key)[-1].slots if one.slot == slot)

    def said(self) -> list[tuple[str, str]]:
        """(phase, reason's code) of the slot main in each report, repetitions left out."""
        told = []
        for report in self.link.reports(self.key):
            for slot in report.slots:
                one = (slot.phase, slot.reason.code if slot.reason else "")
                if slot.slot == "main" and told[-1:] != [one]:
                    told.append(one)
        return told


@asynccontextmanager
async def bench(folder: Path, kind: type[Bench] = Bench):
    """A device with a running agent."""
    one = kind(folder)
    one.start()
    try:
        yield one
    finally:
        await one.stop()
        one.store.close()
        one.engine.close()
