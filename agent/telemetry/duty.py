"""The task of telemetry: it looks at times, keeps what it saw, and has it sent. What goes wrong ends no other duty."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from agent.answering import Told
from agent.clock import Clock
from agent.engines.contract import ContainerEngine
from agent.link import Link
from agent.settings import Settings
from agent.slots import Slot
from agent.store import Store
from agent.telemetry.gateway import Gateway
from agent.telemetry.kept import IMPORTANCE, Kept, Taken
from agent.telemetry.looks import Host, Look, Modules
from agent.telemetry.sender import Sender
from hardware.system import System
from modules.errors import EdgefleetError
from modules.names import DeviceId
from modules.protocol.telemetry import GATEWAY, HOST

# After something went wrong, and between two looks at least.
_LATER_S: Final = 60.0
_OFTEN_S: Final = 0.1
# Where an endpoint takes what is too much for a slot, the gateway is watched so often between two looks; and what
# cannot wait is sent so far apart at least, so that whoever goes to and fro does not fill its day's bytes with that.
_WATCH_S: Final = 5.0
_APART_S: Final = 30.0
_log = logging.getLogger(__name__)


class Duty:
    """``run`` works until cancelled; ``on_ack`` and ``on_connect`` are called in the same event loop."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        device: DeviceId,
        store: Store,
        link: Link,
        signer: Signer,
        engines: Mapping[str, ContainerEngine],
        told: Callable[[], Awaitable[Told | None]],
        relieved: Callable[[], bool],
        system: System | None = None,
    ) -> None:
        state = Path(settings.state)
        self._clock, self._store, self._relieved = clock, store, relieved
        self._every_s = max(settings.telemetry_every_s, _OFTEN_S)
        self._streams = [stream for stream in IMPORTANCE if stream in settings.telemetry_streams]
        self._kept = Kept(state, epoch=store.epoch, most_bytes=settings.telemetry_bytes)
        self._sender = Sender(
            device,
            kept=self._kept,
            store=store,
            link=link,
            signer=signer,
            clock=clock,
            wait_s=settings.telemetry_send_s,
            day_bytes=settings.telemetry_day_bytes,
        )
        self._host = Host(system or System(), state, clock)
        self._gateway = Gateway(told, clock)
        self._modules = Modules(engines, clock)
        self._look_at = self._send_at = 0.0
        self._watch_at = math.inf
        # Whether something cannot wait, and when such may be sent.
        self._is_urgent = False
        self._urgent_at = 0.0
        self._looks, self._sends = asyncio.Event(), asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        # Kinds of trouble that were told of since it last went well.
        self._told_of: set[str] = set()

    def on_connect(self) -> None:
        """There is a session again: what waits for the last one's receipt waits for nothing."""
        if self._sending is not None:
            self._sending.cancel()
        self._sender.again()
        self._send_now()

    def on_ack(self, number: int, epoch: str) -> None:
        """What the server says that it has committed.

        Raises:
            NoSpace: it cannot be deleted now, so it is sent again.
        """
        if self._sender.acknowledged(number, epoch):
            self._send_now()

    async def run(self) -> None:
        """Look and send until cancelled; beside each other, for a lost network holds a message up for minutes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_ever(), name="telemetry-looks")
            group.create_task(self._send_for_ever(), name="telemetry-sends")

    async def _look_for_ever(self) -> None:
        while True:
            if self._clock.monotonic() >= self._look_at:
                await self._guarded(self._look)
                self._look_at = self._clock.monotonic() + self._every_s
            else:
                await self._guarded(self._watch)
            if GATEWAY in self._streams:
                self._watch_at = self._clock.monotonic() + _WATCH_S
            await self._until(self._looks, lambda: min(self._look_at, self._watch_at))

    async def _send_for_ever(self) -> None:
        while True:
            self._send_at = math.inf
            self._sending = asyncio.create_task(self._guarded(self._send), name="telemetry-send")
            try:
                await asyncio.wait([self._sending])
            finally:
                self._sending.cancel()
                self._sending = None
            await self._until(self._sends, lambda: self._send_at)

    async def _until(self, changed: asyncio.Event, when: Callable[[], float]) -> None:
        """Wait for a moment of the boot, which may change."""
        while (wait := when() - self._clock.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()
            changed.clear()

    def collect_now(self) -> None:
        """Look now, and send what is there, without waiting for more of it."""
        self._sender.hurry()
        self._look_at = 0.0
        self._looks.set()

    def _send_now(self) -> None:
        self._send_at = 0.0
        self._sends.set()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - what serves and what is ordered go on
            self._send_at = min(self._send_at, self._clock.monotonic() + _LATER_S)
            if (kind := type(error).__name__) not in self._told_of:
                self._told_of.add(kind)
                ours = not isinstance(error, EdgefleetError | OSError)
                _log.warning("no telemetry, it is tried again: %s", error, exc_info=error if ours else None)

    async def _look(self) -> None:
        slots = self._store.slots()
        for stream in self._streams:
            self._keep(stream, await self._seen(stream, slots))
        self._told_of.clear()
        self._hurry()
        self._send_now()

    async def _watch(self) -> None:
        """Between two looks: who begins to have too much to do waits for none, for somebody may have to be started."""
        if self._relieved():
            may_tell = self._clock.monotonic() >= self._urgent_at
            self._keep(GATEWAY, await self._gateway.watch(may_tell=may_tell))
        if self._hurry():
            self._send_now()

    def _keep(self, stream: str, found: list[Look]) -> None:
        boot, now, wall = self._clock.boot(), self._clock.monotonic(), self._clock.now()
        taken = []
        for slot, figures, then in found:
            at = now if then is None else then
            taken.append(Taken(boot=boot, at=at, wall=wall - (now - at), slot=slot, figures=figures))
        if taken:
            self._kept.add(stream, taken)
            self._is_urgent |= stream == GATEWAY and self._gateway.urgent

    def _hurry(self) -> bool:
        """Have what is urgent sent, if it is time to."""
        now = self._clock.monotonic()
        if not self._is_urgent or now < self._urgent_at:
            return False
        self._is_urgent, self._urgent_at = False, now + _APART_S
        self._sender.hurry(GATEWAY)
        return True

    async def _seen(self, stream: str, slots: tuple[Slot, ...]) -> list[Look]:
        if stream == HOST:
            return self._host.look()
        return await (self._gateway.look() if stream == GATEWAY else self._modules.look(slots))

    async def _send(self) -> None:
        self._send_at = min(await self._sender.send(), self._send_at)
