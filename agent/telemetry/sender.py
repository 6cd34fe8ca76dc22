"""Brings samples to the server: one message at a time, until it says that it has it, within the budget.

A message has its number and its document for good from the moment on that it is formed, is sent again until
``down/ack`` names its number, and only then is deleted. So nothing is lost to a broker that loses messages or to a
server that dies, and nothing arrives twice.
"""

import math
from collections.abc import Collection
from typing import Final

import msgspec
from securesystemslib.signer import Signer

from agent.clock import BUILT, Clock, backoff
from agent.link import Link
from agent.store import Store
from agent.telemetry.budget import Budget
from agent.telemetry.kept import Kept, Pending, Taken
from modules import canonical, signing
from modules.bounds import MAX_TIME
from modules.errors import LinkLost
from modules.names import DeviceId
from modules.protocol.telemetry import Sample, Telemetry

# Bytes of samples in one message, as far as the budget has room for one; what the rest of it takes.
_MESSAGE: Final = 16 << 10
_AROUND: Final = 1024
# How soon a message that is not acknowledged is sent again, at first and at last.
_AGAIN_S: Final = 60.0
_SELDOM_S: Final = 3600.0


class Sender:
    """``send`` does what is due and says when to come again; numbers and epoch are the device's store's.

    Samples wait up to ``wait_s`` seconds for others, except the first of each stream since the agent began.
    """

    def __init__(
        self,
        device: DeviceId,
        *,
        kept: Kept,
        store: Store,
        link: Link,
        signer: Signer,
        clock: Clock,
        wait_s: float,
        day_bytes: int,
    ) -> None:
        self._device, self._kept, self._store, self._link = device, kept, store, link
        self._signer, self._clock, self._wait_s = signer, clock, wait_s
        self._budget = Budget(day_bytes)
        self._most = int(min(_MESSAGE, (self._budget.most - _AROUND) * 3 / 4 - _AROUND))
        self._begun: set[str] = set()
        self._tries = 0
        self._again_at = 0.0

    def again(self) -> None:
        """There is a new session: what is under way may have been lost with the last one."""
        self._again_at = 0.0

    def hurry(self, stream: str = "") -> None:
        """What waits for others is due now: of one stream, or of all."""
        self._begun -= {stream} if stream else set(self._begun)

    def acknowledged(self, number: int, epoch: str) -> bool:
        """The server has committed all messages of this epoch up to this number; whether that is news.

        Raises:
            NoSpace: it cannot be deleted now, so it is sent again.
        """
        if not number or epoch not in {"", self._store.epoch}:
            return False
        self._kept.sent(number)
        self._tries, self._again_at = 0, 0.0
        return True

    async def send(self) -> float:
        """Send what is under way, or else what is due; when to come again, in seconds of the boot.

        Raises:
            NoSpace: nothing can be written.
        """
        if not self._link.connected:
            return math.inf
        pending = self._under_way()
        if pending is None:
            stream, when = self._due()
            if not stream:
                return when
            pending = self._next(stream)
        if pending is None or self._clock.monotonic() < self._again_at:
            return self._again_at
        return await self._publish(pending)

    async def _publish(self, pending: Pending) -> float:
        envelope = signing.sign(pending.document, payload_type=signing.TELEMETRY_TYPE, signers=[self._signer])
        topic = self._link.topics.telemetry(self._device, pending.stream)
        size, now = len(envelope) + len(topic), self._clock.monotonic()
        purse = self._budget.now(self._kept.state().purse, boot=self._clock.boot(), at=now)
        if wait := self._budget.wait(purse, size):
            return now + wait
        # Before it goes: an agent that dies now must not send for nothing again and again.
        self._kept.keep_purse(self._budget.spent(purse, size))
        self._tries += 1
        self._again_at = now + backoff(self._tries, first_s=_AGAIN_S, most_s=_SELDOM_S)
        try:
            await self._link.publish(topic, envelope)
        except LinkLost:
            return math.inf  # the next session says it again
        return self._again_at

    def _under_way(self) -> Pending | None:
        """The message that was formed and is not acknowledged, under a number of this epoch."""
        pending = self._kept.pending()
        if pending is None:
            return None
        document = msgspec.json.decode(pending.document, type=Telemetry)
        if document.epoch == self._store.epoch:
            return pending
        # The device's database was lost meanwhile: numbers of before say nothing any more.
        number = self._store.count("telemetry")
        anew = msgspec.structs.replace(document, number=number, epoch=self._store.epoch, dropped=0)
        after = Pending(number, pending.stream, canonical.encode(anew))
        self._kept.renumber(pending.number, after)
        return after

    def _due(self) -> tuple[str, float]:
        """The most important stream whose samples have waited long enough, or fill a message; else when one has."""
        now, boot, first = self._clock.monotonic(), self._clock.boot(), math.inf
        for waiting in self._kept.waiting():
            until = waiting.oldest.at + self._wait_s if waiting.oldest.boot == boot else now
            if waiting.stream not in self._begun or waiting.size >= self._most or until <= now:
                return waiting.stream, now
            first = min(first, until)
        return "", first

    def _next(self, stream: str) -> Pending | None:

        def make(taken: Collection[Taken], dropped: int) -> tuple[int, bytes]:
            document = Telemetry(
                device=self._device,
                stream=stream,
                number=self._store.count("telemetry"),
                issued=_time(self._clock.now()),
                epoch=self._store.epoch,
                dropped=dropped,
                samples=tuple(self._sample(one) for one in taken),
            )
            return document.number, canonical.encode(document)

        self._kept.send(stream, most_bytes=self._most, make=make)
        if all(one.stream != stream for one in self._kept.waiting()):
            self._begun.add(stream)
        self._tries, self._again_at = 0, 0.0
        return self._kept.pending()

    def _sample(self, taken: Taken) -> Sample:
        slot = msgspec.UNSET if taken.slot is None else taken.slot
        return Sample(at=self._wall(taken), slot=slot, figures=taken.figures)

    def _wall(self, taken: Taken) -> float:
        """When it was taken, by the clock of now: a clock that was set meanwhile is set for what was before, too."""
        now = self._clock.now()
        if taken.boot == self._clock.boot() and now >= BUILT.timestamp():
            return _time(now - (self._clock.monotonic() - taken.at))
        return _time(taken.wall) if taken.wall >= BUILT.timestamp() else 0.0


def _time(seconds: float) -> float:
    return round(min(max(seconds, 0.0), MAX_TIME), 3)
