"""Orders and receipts as they come in: verified, adopted or refused with a reason, and never lost to a broken link."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from agent.adopt import adopt
from agent.clock import Clock, backoff
from agent.outbox import Outbox
from agent.slots import Slot, reason
from agent.store import ORDER, Store
from agent.verify import Accepted, Verifier
from modules import canonical, signing
from modules.digests import sha256
from modules.errors import EdgefleetError, Invalid, NeedsOperator, TransferStalled, Transient, Untrusted
from modules.protocol.order import LIMIT
from modules.protocol.report import STATUS_LIMIT, Ack, Reason, Refusal

# After so long a refused order is looked at again; the broker brings it no second time in one session.
AGAIN_S: Final = 600.0
# An order whose manifest did not come so often is told of: its publisher may have signed what nobody has. It still
# waits, for a server that lacks it, or whoever is in between, may be the reason.
TOLD_AFTER: Final = 3
# A broker can forge receipts: they make no more new epochs than this, in seconds.
EPOCH_EVERY_S: Final = 86_400.0
_log = logging.getLogger(__name__)

# Ends the running step of each slot that is about to change, then lets the rows be replaced by what the first returns;
# what the second writes is written with them, or not at all.
Change = Callable[[tuple[Slot, ...]], tuple[Slot, ...]]
Replace = Callable[[Change, Callable[[], None]], Awaitable[None]]


class Refuse(Protocol):
    """Remembers, for the next report, that something was refused."""

    def __call__(self, error: Exception, *, what: str) -> None: ...


class Inbox:
    """One order at a time, the newest; ``replace`` makes the adopted rows the device's."""

    def __init__(
        self,
        *,
        store: Store,
        verifier: Verifier,
        outbox: Outbox,
        replace: Replace,
        wake: Callable[[], None],
        clock: Clock,
        telemetry: Callable[[int, str], None] = lambda _number, _epoch: None,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._outbox = outbox
        self._replace = replace
        self._wake = wake
        self._clock = clock
        self._telemetry = telemetry
        self._newest: bytes | None = None
        self._refused: bytes | None = None
        self._again_s = AGAIN_S
        self._came = asyncio.Event()
        self._epoch_at = -EPOCH_EVERY_S

    def on_order(self, envelope: bytes) -> None:
        """Take an order; it replaces one that waits unverified. An empty one clears the topic and says nothing."""
        if not envelope:
            return
        if len(envelope) > signing.envelope_limit(LIMIT):
            self.refuse(Invalid(f"{len(envelope)} bytes is more than an order may have", element="order"))
            return
        self._newest = envelope
        self._came.set()

    def on_ack(self, payload: bytes) -> None:
        try:
            ack = canonical.decode(payload, Ack, limit=STATUS_LIMIT, what="ack")
        except Invalid as error:
            self.refuse(error, what="ack")
            return
        try:
            if not self._outbox.on_ack(ack):
                self._begin_epoch(ack)
            self._telemetry(ack.telemetry, ack.epoch)
        except NeedsOperator as error:
            _log.warning("an ack was not kept, what it was for is sent again: %s", error)

    def _begin_epoch(self, ack: Ack) -> None:
        now = self._clock.monotonic()
        if now - self._epoch_at < EPOCH_EVERY_S:
            return
        self._outbox.begin_epoch()
        self._epoch_at = now
        _log.error(
            "the server has report %d of this device, which this agent never made: an old copy of its state was put "
            "back, or another agent runs with its identity. Its reports are numbered anew; if there are two agents, "
            "enrol one of them anew",
            ack.report,
        )
        self._wake()

    async def run(self) -> None:
        """Verify and adopt orders for ever; a broken link only delays one, and what cannot be followed is refused."""
        tries, waiting = 0, b""
        while True:
            await self._another()
            envelope = self._newest or self._refused
            if envelope is None or envelope == self._store.document(ORDER):
                continue
            try:
                accepted = await self._verifier.accept(envelope)
                await self._follow(accepted, envelope)
                self._refused = None
            except (Transient, NeedsOperator, OSError) as error:
                # Nothing is wrong with the order: the link broke, or the disk is full.
                tries = tries + 1 if envelope == waiting else 1
                waiting, self._newest = envelope, self._newest or envelope
                _log.warning("order waits: %s", error)
                if tries == TOLD_AFTER and isinstance(error, TransferStalled):
                    self.refuse(error, what=_named(envelope))
                self._came.set()
                await self._clock.sleep(backoff(tries, first_s=1.0, most_s=60.0))
                continue
            except Exception as error:  # noqa: BLE001 - no order, whatever is in it, may end this task
                if self._newest is envelope:  # a newer one may have come meanwhile
                    self._newest = None
                self._refused = envelope if isinstance(error, Untrusted) else None
                if not isinstance(error, EdgefleetError):
                    _log.exception("an order met a defect of this program, please report it")
                self.refuse(error, what=_named(envelope))
            tries = 0

    async def _another(self) -> None:
        """Wait for an order; one that was not believed is looked at again: a clock is set, metadata is renewed."""
        try:
            async with asyncio.timeout(None if self._refused is None else self._again_s):
                await self._came.wait()
        except TimeoutError:
            return
        self._refused = None
        self._came.clear()

    async def _follow(self, accepted: Accepted, envelope: bytes) -> None:
        """Adopt it in one transaction: an agent that dies takes it again from the start, or has taken it whole."""
        order = accepted.order

        def remember() -> None:
            self._store.keep(accepted.roles)
            for name, value in accepted.marks.items():
                self._store.raise_number(name, value)
            for digest in order.waivers:
                self._store.waive(digest)
            self._store.keep_number(ORDER, order.counter)
            self._store.keep_document(ORDER, envelope)

        await self._replace(partial(adopt, order, now=self._clock.now(), waived=frozenset(order.waivers)), remember)
        self._wake()

    def refuse(self, error: Exception, *, what: str = ORDER) -> None:
        """Remember a refusal for the next report."""
        _log.warning("refused %s: %s", what, error)
        why = reason(error)
        try:
            self._store.refuse(Refusal(what=what, reason=Reason(why.code, why.message), at=self._clock.now()))
        except NeedsOperator as full:
            _log.warning("the refusal was not kept: %s", full)
        self._wake()


def _named(envelope: bytes) -> str:
    """What a refusal calls an order."""
    return f"order {sha256(envelope)[7:19]}"
