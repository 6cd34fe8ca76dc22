"""One simulated device: what it hears, what it says, and where each of its slots is. It remembers nothing but its key.

A number that was used is never used again, not even by the next run: the numbers of reports, facts and sessions begin
at the clock.
"""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner

from agent.broadcast import Broadcasts
from agent.clock import backoff
from agent.fetch import Puller
from agent.simulate import documents
from agent.simulate.commands import Commands, Doing
from agent.simulate.nowhere import Nowhere
from agent.simulate.place import Place, content
from agent.simulate.plan import Behaviour, Part
from agent.simulate.session import Session
from agent.simulate.walk import walk
from agent.simulate.world import World
from modules import canonical, signing
from modules import manifest as manifests
from modules.digests import Blob, sha256
from modules.errors import EdgefleetError, Invalid, LinkLost, Transient, Untrusted
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef, Slug
from modules.needs import HostFacts
from modules.protocol.commands import Answer
from modules.protocol.order import Order, SlotOrder
from modules.protocol.phases import Phase
from modules.protocol.report import MAX_REFUSALS, STATUS_LIMIT, Ack, Reason, Refusal, Report, SlotReport, Status
from modules.protocol.telemetry import HOST, Sample, Telemetry

_BLOCK_S: Final = 5.0
_BLOCK_TRIES: Final = 5
_FLAP_S: Final = 1.0


class Device:
    """A device in the loop; ``open`` gives it a session for as long as it lives."""

    __slots__ = (
        "_boot",
        "_broadcasts",
        "_commands",
        "_counter",
        "_had",
        "_number",
        "_order",
        "_orders",
        "_puller",
        "_refusals",
        "_said",
        "_session",
        "_signer",
        "_skip",
        "_tasks",
        "_world",
        "acked",
        "facts",
        "measured",
        "name",
        "part",
        "places",
    )

    def __init__(
        self, world: World, name: DeviceId, part: Part, *, facts: HostFacts, signer: CryptoSigner, identity: Path
    ) -> None:
        self.name, self.part, self.facts = name, part, facts
        self.places: dict[Slug, Place] = {}
        self.acked = self.measured = 0
        self._world = world
        self._commands = Commands(world, name)
        self._signer = signer
        self._boot = int(time.time())
        self._number = int(time.time() * 1000)
        self._said = 0
        self._counter = 0
        self._order: bytes | None = None
        self._orders: list[tuple[bytes, float]] = []
        self._refusals: tuple[Refusal, ...] = ()
        self._had: set[Digest] = set()
        self._puller: Puller | None = None
        self._broadcasts: Broadcasts | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._skip = len(world.topics.down(name, ""))
        self._session = Session(
            world.door,
            name,
            identity,
            on_up=self._up,
            on_down=self._down,
            reopen=self._reopen,
            on_message=self._arrived,
        )

    def local_time(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + dt.timedelta(hours=self.part.kit.utc_offset_h)

    @property
    def pace_s(self) -> float:
        return self._world.pace_s

    @property
    def most_probation_s(self) -> float:
        return self._world.most_probation_s

    @property
    def most_window_s(self) -> float:
        return self._world.most_window_s

    # Its session

    async def open(self) -> None:
        self._boot += 1
        await self._session.open((self._world.topics.status(self.name), self._status(online=False)))

    async def away(self, seconds: float) -> None:
        """Be gone without a word, and come back."""
        self._world.tally.done["broke off"] += 1
        self._session.drop()
        await asyncio.sleep(seconds)
        await self.open()

    def close(self) -> None:
        """Say goodbye, and end what is under way."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(LinkLost):
            self._publish("status", self._status(online=False), retain=True)
        self._session.close()

    def tend(self) -> None:
        self._session.tend()

    def measure(self, samples: list[dict[str, float]]) -> None:
        """Say that the machine was like this: signed, numbered and kept by the server, as a real device's."""
        if not self._session.up:
            return
        now = time.time()
        said = Telemetry(
            device=self.name,
            stream=HOST,
            number=self._next(),
            issued=now,
            samples=tuple(Sample(at=now, figures=figures) for figures in samples),
        )
        envelope = signing.sign(canonical.encode(said), payload_type=signing.TELEMETRY_TYPE, signers=[self._signer])
        with contextlib.suppress(LinkLost):
            self._publish(f"telemetry/{HOST}", envelope)
            self._world.tally.done["telemetry"] += 1

    @property
    def waiting(self) -> bool:
        return self._session.waiting

    def _reopen(self) -> None:
        self._spawn(self.open())

    def _down(self) -> None:
        self._world.tally.connected -= 1

    def _up(self) -> None:
        self._world.tally.connected += 1
        if self._broadcasts is not None:
            self._broadcasts.forget()
        self._session.subscribe(self._world.topics.all_down(self.name))
        self._publish("status", self._status(online=True), retain=True)
        if not self._said:
            self._say_facts()
        if not self._said or self.acked < self._said:
            self.say()
        if self.part.behaviour.kind == "flaps":
            self._spawn(self._flap())

    async def _flap(self) -> None:
        await asyncio.sleep(self.part.behaviour.for_s)
        if self._session.up:
            await self.away(_FLAP_S)

    def _status(self, *, online: bool) -> bytes:
        return canonical.encode(Status(online=online, boot=self._boot))

    # What it says

    def say(self) -> None:
        """A report of how things stand; while there is no session, the next one says it."""
        self._said = self._next()
        slots = tuple(place.report() for place in self.places.values())
        self._send(self._report(self.name, self._said, slots))

    def move(self, place: Place, phase: str, reason: Reason | None = None) -> None:
        self._world.tally.moved(self.name, place.slot, place.phase or None, phase)
        place.at(phase, time.time(), reason)
        self.say()

    def lie(self, place: Place, behaviour: Behaviour) -> None:
        """Claim what is not so, once; and do nothing that was ordered."""
        self._world.tally.done["lies"] += 1
        claimed = place.report()
        done = SlotReport(
            slot=place.slot, phase=Phase.COMMITTED, module=place.module, digest=claimed.digest, times=claimed.times
        )
        match behaviour.kind:
            case "speaks-for-another":
                others = self._world.names
                other = others[(others.index(self.name) + 1) % len(others)]
                self._send(self._report(other, self._next(), (done,)))
            case "goes-back":
                self._send(self._report(self.name, self._said, (done,)))
            case _:
                self.move(place, "teleported")

    def _report(self, name: DeviceId, number: int, slots: tuple[SlotReport, ...]) -> Report:
        return documents.report(name, number, order=self._counter, slots=slots, refusals=self._refusals)

    def _send(self, report: Report) -> None:
        envelope = signing.sign(canonical.encode(report), payload_type=signing.REPORT_TYPE, signers=[self._signer])
        with contextlib.suppress(LinkLost):
            self._publish("report", envelope, retain=True)
            self._world.tally.done["reports"] += 1

    def _say_facts(self) -> None:
        facts = documents.facts(self.name, self._next(), self.facts)
        envelope = signing.sign(canonical.encode(facts), payload_type=signing.FACTS_TYPE, signers=[self._signer])
        self._publish("facts", envelope, retain=True)

    def _collect(self) -> None:
        self._say_facts()
        self.say()

    def _say_answer(self, answer: Answer) -> None:
        document = canonical.encode(answer)
        envelope = signing.sign(document, payload_type=signing.ANSWER_TYPE, signers=[self._signer])
        with contextlib.suppress(LinkLost):
            self._publish("cmd", envelope)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _publish(self, kind: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self._session.publish(self._world.topics.up(self.name, kind), payload, qos=qos, retain=retain)

    # What it hears

    def _arrived(self, topic: str, payload: bytes) -> None:
        rest, done = topic[self._skip :], self._world.tally.done
        if rest == "order":
            if payload and payload != self._order:
                done["orders"] += 1
                self._orders.append((payload, time.time()))
                if len(self._orders) == 1:
                    self._spawn(self._read_orders())
        elif rest == "ack":
            with contextlib.suppress(Invalid):
                ack = canonical.decode(payload, Ack, limit=STATUS_LIMIT, what="ack")
                self._world.tally.greeted += bool(ack.report and not self.acked)
                self.acked = max(self.acked, ack.report)
                if ack.telemetry > self.measured:
                    self.measured = ack.telemetry
                    done["telemetry acks"] += 1
                else:
                    done["acks"] += 1
        elif rest.startswith("cmd/"):
            does = (self._collect, self._say_answer, self._remember_refusal, self._pulling)
            self._spawn(self._commands.take(rest, payload, Doing(*does, self.places, self.part)))
        elif self._puller is not None and rest.startswith("blob/"):
            done["blocks"] += 1
            self._puller.on_block(payload)
        elif self._puller is not None and (blob := self._world.topics.of_shared_blob(topic)):
            done["shared"] += 1
            self._puller.on_shared(blob, payload)

    async def _read_orders(self) -> None:
        """The newest, until there is none; the first in the list is the one that is being read."""
        tries = 0
        while self._orders:
            envelope, arrived = self._orders[-1]
            del self._orders[:-1]
            try:
                order = await self._world.trust.accept(self.name, envelope, last=self._counter, puller=self._pulling())
                self._adopt(order, arrived)
            except Transient:
                tries += 1
                await asyncio.sleep(backoff(tries, most_s=60.0))
                continue
            except (Untrusted, Invalid) as error:
                self._refuse(envelope, error)
            self._order = envelope
            self._orders = [one for one in self._orders if one[0] != envelope]

    def _adopt(self, order: Order, arrived: float) -> None:
        """As ``agent/adopt.py``: what is on its way or runs already stays, another module begins, the rest goes."""
        self._counter = order.counter
        self._world.tally.note(self.name, "order", counter=order.counter, arrived=arrived)
        for gone in self.places.keys() - order.slots.keys():
            place = self.places.pop(gone)
            self._world.tally.moved(self.name, gone, place.phase, None)
            if place.task is not None:
                place.task.cancel()
        for slot, ordered in order.slots.items():
            self._want(slot, ordered, again=ordered.digest in order.waivers)
        self.say()

    def _want(self, slot: Slug, ordered: SlotOrder, *, again: bool) -> None:
        place = self.places.get(slot)
        if place is None:
            place = self.places[slot] = Place(slot, ordered)
        else:
            failed = place.phase in {Phase.REVERTED, Phase.REJECTED}
            same = content(place.ordered) == content(ordered)
            if same and not (again and failed):
                place.ordered = ordered
                return
            if place.task is not None:
                place.task.cancel()
            place.want(ordered)
        before = place.phase or None
        if place.current is not None and place.current.digest == ordered.digest:
            place.at(Phase.COMMITTED, time.time())
            self._world.tally.moved(self.name, slot, before, Phase.COMMITTED)
            return
        place.at(Phase.ACCEPTED, time.time())
        self._world.tally.moved(self.name, slot, before, Phase.ACCEPTED)
        place.task = self._spawn(walk(self, place))

    def _refuse(self, envelope: bytes, error: EdgefleetError) -> None:
        self._world.tally.done["refused"] += 1
        self._remember_refusal(f"order {sha256(envelope)[7:19]}", error)

    def _remember_refusal(self, what: str, error: EdgefleetError) -> None:
        refusal = Refusal(what=what, reason=Reason(error.code, error.message), at=time.time())
        self._refusals = (*self._refusals, refusal)[-MAX_REFUSALS:]
        self.say()

    # What it fetches

    def stalled(self, error: EdgefleetError) -> None:
        self._world.tally.done["stalled"] += 1
        self._world.tally.note(self.name, "stalled", why=str(error))

    async def manifest(self, ordered: SlotOrder) -> Manifest:
        length = self._world.trust.length(ordered.manifest)
        data = await self._pulling().small(ordered.digest, length, urgent=True)
        found = self._world.manifests.get(ordered.digest)
        if found is None:
            found = self._world.manifests[ordered.digest] = manifests.decode(data)
        if found.ref != ModuleRef.from_target(ordered.manifest):
            raise Untrusted("the manifest names another module than its path", element=ordered.manifest)
        return found

    async def pull(self, blobs: list[Blob]) -> None:
        if not self._world.pulls:
            return
        store = Nowhere(self._had)
        for blob in blobs:
            await self._pulling().blob(blob, store)

    def _pulling(self) -> Puller:
        if self._puller is None:
            # Of thousands in one process, none can tell how quick its own link would be.
            taking = Broadcasts(self._subscribe, self._unsubscribe, taking="always")
            self._puller = Puller(self._ask, timeout_s=_BLOCK_S, tries=_BLOCK_TRIES, broadcasts=taking)
            self._broadcasts = taking
        return self._puller

    async def _subscribe(self, blob: Digest) -> None:
        self._session.subscribe(self._world.topics.shared_blob(blob), qos=0)

    async def _unsubscribe(self, blob: Digest) -> None:
        self._session.unsubscribe(self._world.topics.shared_blob(blob))

    async def _ask(self, payload: bytes) -> None:
        self._publish("blob/get", payload, qos=0)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._world.tally.failed(self.name, error)
        if not self._tasks:
            self._puller = self._broadcasts = None  # some kB, while nothing is under way
