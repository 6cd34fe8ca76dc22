"""Builds every part of the agent once, top to bottom, and runs them together."""

import asyncio
import contextlib
import functools
import importlib
import logging
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from agent import folders, sealing_key
from agent import identity as identities
from agent import installation as installations
from agent.batch.kept import JOBS
from agent.blobs import BlobStore
from agent.broadcast import Broadcasts
from agent.clock import BUILT, Clock, SystemClock
from agent.engines.contract import LONGEST_SOCKET, ContainerEngine, check_socket
from agent.engines.docker import DockerEngine
from agent.engines.docker_api import DockerApi
from agent.execute import Executor
from agent.fetch import Lane, Puller
from agent.hands import Hands
from agent.host import Host
from agent.identity import ROOT, Identity
from agent.inbox import Inbox
from agent.installation import Installation
from agent.launch import Launcher
from agent.link import Link
from agent.loop import Loop, Measurer
from agent.observe import Observer
from agent.outbox import READS, Outbox
from agent.own_key import OwnKey
from agent.renewal_due import RenewalDue
from agent.router import Router
from agent.secrets_here import SecretFiles
from agent.service import notify, watchdog
from agent.settings import Settings
from agent.shelf import Shelf
from agent.store import REFUSAL, Store
from agent.supply import Supply
from agent.verify import LEARNED, Verifier
from modules.errors import BadSettings, NeedsOperator
from modules.protocol.batch import BatchOrder
from modules.protocol.facts import TRIES
from modules.protocol.topics import Parsed

_log = logging.getLogger(__name__)


def engines(settings: Settings, identity: Identity, installation: Installation) -> dict[str, ContainerEngine]:
    """The engines that this device's settings allow; whether they answer is found out at each look."""
    found: dict[str, ContainerEngine] = {
        "docker": DockerEngine(
            identity.device, installation, DockerApi(settings.docker_socket), reserve=settings.disk_reserve
        ),
    }
    if settings.process_interpreter:
        processes = importlib.import_module("agent.engines.process")  # what few devices use is in no other's memory
        found["process"] = processes.ProcessEngine(Path(settings.state) / "processes", settings.process_interpreter)
    return found


async def run(settings: Settings, clock: Clock | None = None) -> bool:  # noqa: PLR0915 - a list of parts
    """Run the agent until SIGTERM or SIGINT, or until it was asked to start again, which is returned.

    What serves goes on without it.

    Raises:
        BadSettings: the device is not enrolled, its database or a folder of its own is not usable, or the runtime
            folder's name is too long.
    """
    clock = clock or SystemClock()
    identity = identities.load(settings.identity)
    check_socket(settings.instances / LONGEST_SOCKET)
    folders.make(settings)
    store = Store(Path(settings.state))
    shelf = Shelf(settings.modules)
    blobs = BlobStore(settings.blobs)
    signer = OwnKey(settings.identity)

    def on_message(topic: Parsed, payload: bytes) -> None:
        match topic.rest:
            case ("blob", _):
                puller.on_block(payload)
            case ("order",):
                inbox.on_order(payload)
            case ("ack",):
                inbox.on_ack(payload)
            case ("cmd", *levels):
                commands.take(tuple(levels), payload)
            case ("enroll",):
                renewals.on_answer(payload)

    async def on_connect() -> None:
        broadcasts.forget()
        commands.on_connect()
        outbox.forget_facts()
        await outbox.on_connect()
        telemetry.on_connect()
        loop.wake()

    link = Link(
        identity,
        settings.identity,
        on_message=on_message,
        on_shared=lambda blob, payload: puller.on_shared(blob, payload=payload),
        on_connect=on_connect,
        next_boot=lambda: store.count("boot"),
        epoch=lambda: store.epoch,
        keepalive_s=settings.keepalive_s,
        clock=clock,
    )

    # What the broker says of this device now is not known before it has been asked.
    link.on_refusal = partial(keep_refusal, store)
    link.on_refusal("")

    broadcasts = Broadcasts(link.read_shared, partial(link.read_shared, stop=True), taking=settings.broadcast)
    puller = Puller(
        # Not acknowledged: what gets lost is asked for again, and on a slow link a receipt would wait behind blocks.
        lambda payload: link.publish(link.topics.blob_get(identity.device), payload, qos=0),
        timeout_s=settings.block_timeout_s,
        tries=settings.block_tries,
        broadcasts=broadcasts,
        lane=_lane(settings, identity, clock),
        limit=settings.pull_bytes_s,
    )
    verifier = Verifier(
        device=identity.device,
        folder=settings.trust,
        root=(settings.identity / ROOT).read_bytes(),
        store=store,
        shelf=shelf,
        puller=puller,
        fallback_hosts=settings.fallback_hosts,
        now=clock.now,
    )
    known = engines(settings, identity, installations.ensure(settings))
    host = Host(known, Path(settings.state))
    router = Router(settings.table, store, settings.identity, settings.gateway_address, device=identity.device)
    outbox = Outbox(
        device=identity.device,
        store=store,
        link=link,
        signer=signer,
        now=clock.now,
        monotonic=clock.monotonic,
        sealing=sealing_key.ensure(settings.identity),
        reads=(*READS, TRIES) if settings.try_module else READS,
    )
    supply = Supply(blobs=blobs, shelf=shelf, puller=puller, reserve=settings.disk_reserve, budget=settings.blob_budget)
    launcher = Launcher(
        store=store,
        shelf=shelf,
        instances=settings.instances,
        facts=lambda: host.facts,
        group=settings.gateway_group,
        clock=clock,
        secrets=SecretFiles(settings.secrets, settings.identity, identity.device),
    )

    hands = Hands(
        store=store,
        shelf=shelf,
        supply=supply,
        launcher=launcher,
        engines=known,
        routed=router,
        clock=clock,
        stop_grace_s=settings.stop_grace_s,
    )
    loop = Loop(
        store=store,
        host=host,
        observer=Observer(known, probe_timeout_s=settings.probe_timeout_s),
        executor=Executor(
            hands=hands,
            facts=lambda: host.facts,
            untaken=router.untaken,
            lost=router.lost,
            retry_s=settings.pull_retry_s,
        ),
        supply=supply,
        outbox=outbox,
        router=router,
        measurer=lambda: _measurer(store=store, shelf=shelf, engines=known, told=router.told, clock=clock),
        clock=clock,
        poll_s=settings.poll_s,
    )
    telemetry = _telemetry(
        settings,
        clock,
        device=identity.device,
        store=store,
        link=link,
        signer=signer,
        engines=known,
        told=router.told,
        relieved=router.relieves,
    )
    inbox = Inbox(
        store=store,
        verifier=verifier,
        outbox=outbox,
        replace=loop.replace,
        wake=loop.wake,
        clock=clock,
        telemetry=telemetry.on_ack,
    )
    renewals = RenewalDue(
        device=identity.device,
        folder=settings.identity,
        store=store,
        clock=clock,
        believed=lambda: max(clock.now(), BUILT.timestamp(), store.highest(LEARNED)),
        told=(signer.reload, outbox.renewed, router.renewed),
        refuse=inbox.refuse,
        link=link,
        signer=signer,
    )
    batch = _batch(settings, clock, store, hands=hands, gateway=router.told, wake=loop.wake)
    commands = _Commands(
        device=identity.device,
        settings=settings,
        store=store,
        shelf=shelf,
        engines=known,
        host=host,
        loop=loop,
        outbox=outbox,
        link=link,
        signer=lambda: signer,
        renew=renewals.renew,
        verifier=verifier,
        refuse=inbox.refuse,
        telemetry=telemetry,
        batch=batch,
        told=router.told,
        clock=clock,
    )
    try:
        notify(f"READY=1\nSTATUS=device {identity.device}")
        await _together(
            loop=loop.run,
            link=link.run,
            inbox=inbox.run,
            watchdog=lambda: watchdog(lambda: loop.passes, clock),
            telemetry=telemetry.run,
            renewals=renewals.run,
            batch=batch.run,
        )
    finally:
        notify("STOPPING=1")
        await commands.close()
        verifier.close()
        store.close()
    return commands.again


def keep_refusal(store: Store, why: str) -> None:
    """For ``edgefleet-agent status``, which asks no broker."""
    if store.text(REFUSAL) != why:
        try:
            store.keep_text(REFUSAL, why)
        except NeedsOperator as error:
            _log.warning("that the broker refuses this device is not kept: %s", error)


def _lane(settings: Settings, identity: Identity, clock: Clock) -> Callable[[], Lane] | None:
    """The way for blobs over HTTPS, loaded when the first one is wanted; None where there is none."""
    url = settings.blob_url or identity.blob_url
    if settings.pull_by == "mqtt" or not url:
        return None

    @functools.cache
    def make() -> Lane:
        made: Lane = importlib.import_module("agent.https_lane").HttpsLane(url, settings.identity, clock)
        return made

    return make


def _measurer(**parts: Any) -> Measurer:
    """Loaded when it is called: most agents are never asked to measure."""
    made: Measurer = importlib.import_module("agent.measurer").Measurer(**parts)
    return made


class _NoTelemetry:
    """In its place where the settings want none."""

    def on_connect(self) -> None: ...

    def on_ack(self, number: int, epoch: str) -> None: ...

    def collect_now(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


def _telemetry(settings: Settings, clock: Clock, **parts: Any) -> Any:
    """Loaded where the settings ask for it: ``agent.telemetry.duty.Duty``."""
    if not settings.telemetry_every_s or not settings.telemetry_streams:
        return _NoTelemetry()
    return importlib.import_module("agent.telemetry.duty").Duty(settings, clock, **parts)


class NoBatch:
    """In its place where the settings name no folders for batch jobs."""

    async def take(self, order: BatchOrder) -> None:
        raise BadSettings(
            "the owner of this device allows no batch jobs",
            element=order.name,
            remedy="name folders in the agent's settings: batch_inputs, batch_outputs",
        )

    def cancel(self, _order: BatchOrder) -> str:
        return "it is not known here"

    async def run(self) -> None:
        await asyncio.Event().wait()


def _batch(settings: Settings, clock: Clock, store: Store, **parts: Any) -> Any:
    """Loaded where the settings allow jobs, or did: ``agent.batch.duty.Duty``."""
    if not settings.batch_inputs and store.document(JOBS) is None:
        return NoBatch()
    return importlib.import_module("agent.batch.duty").Duty(settings, clock, **parts)


class _Commands:
    """Signed commands; what follows them (``agent.commands.desk.Desk``) is loaded when the first one comes."""

    def __init__(self, **parts: Any) -> None:
        self._parts = parts
        self._desk: Any = None
        #: whether one of them asked that the agent starts again
        self.again = False
        if parts["store"].document("commands") is not None:
            self.take((), b"")  # an agent ended while it followed one: that gets its last answer now

    def take(self, levels: tuple[str, ...], payload: bytes) -> None:
        if self._desk is None:
            parts = importlib.import_module("agent.commands.parts").Parts(**self._parts, end=self._end)
            self._desk = importlib.import_module("agent.commands.desk").Desk(parts)
        self._desk.take(levels, payload)

    def on_connect(self) -> None:
        if self._desk is not None:
            self._desk.on_connect()

    async def close(self) -> None:
        if self._desk is not None:
            await self._desk.close()

    def _end(self) -> None:
        self.again = True
        signal.raise_signal(signal.SIGTERM)


async def _together(**parts: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run the parts until a signal asks to end; an error of any ends all and is raised."""
    stop = asyncio.Event()
    here = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        here.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(part(), name=name) for name, part in parts.items()]
    ending = asyncio.create_task(stop.wait(), name="signals")
    try:
        waiting = {ending, *tasks}
        while not stop.is_set():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        ending.cancel()
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(ending, *tasks, return_exceptions=True)
