"""What the server does by itself: one task per duty, in one group that lives and dies together.

Every server has these duties, whether it leads (fleet/leader.py) or not:

- ``pulse``: tries the database, so that its trouble is known before somebody needs it, and writes down which devices
  asked for what is not theirs;
- ``upkeep``: renews certificates and the list of revoked ones.

Those of the one that leads begin when it gets the lead, and end at once when it loses it:

- ``broker``: keeps the session and hands over what arrives;
- ``ingest``: batches of messages into the database;
- ``acknowledgements``: what was taken in, to the devices;
- ``rollouts``: ticks of the rollout engine, renewal of orders and of the online trust metadata;
- ``orders``: publishes what the broker has not taken yet;
- ``commands``: publishes commands until they are answered (fleet/commands/);
- ``blocks``: answers pulls;
- ``renewals``: answers devices that ask for their next certificate;
- ``claims``: lets devices join over MQTT;
- ``partings``: lets the broker forget devices that were removed, revoked or have other hardware, and served claims;
- ``fallbacks``: starts and stops endpoints as devices need them (fleet/fallbacks/);
- ``batch jobs of devices``: tell devices of their jobs, and read how far they are;
- ``endpoints``, ``batch jobs``: bring about what is wished for in the cloud (fleet/targets/);
- ``retention``: forgets what is older than is kept;
- ``heads``: signs where the audit log ends.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fleet import orders
from fleet.acks import Acks
from fleet.audit.heads import EVERY_S as HEAD_EVERY_S
from fleet.audit.heads import Heads
from fleet.broker import BrokerLink
from fleet.claims import Claims
from fleet.clock import Clock
from fleet.commands.sending import Sending
from fleet.db import Database, in_words
from fleet.fallbacks.duty import Meeting
from fleet.inbox import Inbox
from fleet.ingest import Ingest, Receipt
from fleet.leader import Lead
from fleet.metadata import Metadata
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.partings import Partings
from fleet.publisher import Publisher
from fleet.renewal import Renewals
from fleet.retention import Retention
from fleet.rights import Rights
from fleet.rollouts.engine import Engine
from fleet.said import Inbound
from fleet.targets.device_jobs import DeviceJobs
from fleet.targets.duty import Bringing
from fleet.targets.job_duty import BringingJobs
from fleet.targets.sweeping import Sweeping
from fleet.upkeep import Upkeep
from modules.errors import EdgefleetError, LinkLost
from modules.protocol.topics import Parsed, Topics

log = logging.getLogger(__name__)

T = TypeVar("T")

# A batch takes what waits: under pressure batches grow, and each message costs less. Larger ones would save no more,
# and orders would wait longer for their turn.
BATCH: Final = 500
ORDERS_AT_ONCE: Final = 200
RETRY_S: Final = 2.0
LOOK_EVERY_S: Final = 0.05
PULSE_S: Final = 5.0
# How often the lead is asked for, and whether it is still held; and how long the answer may take.
LEAD_EVERY_S: Final = 1.0
LEAD_ANSWERS_S: Final = 5.0
# Other servers on the same database change it, too, and wake nobody here.
LOOK_FOR_OTHERS_S: Final = 1.0
FORGET_EVERY_S: Final = 3600.0


class Background:
    """The tasks and what connects them; ``wake`` may be called from any thread."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        link: BrokerLink,
        topics: Topics,
        ingest: Ingest,
        engine: Engine,
        publisher: Publisher,
        rights: Rights,
        claims: Claims,
        metadata: Metadata,
        mishaps: Mishaps,
        meters: Meters,
        retention: Retention,
        heads: Heads,
        renewals: Renewals,
        upkeep: Upkeep,
        bringing: Bringing,
        bringing_jobs: BringingJobs,
        device_jobs: DeviceJobs,
        meeting: Meeting,
        sweeping: Sweeping,
        lead: Lead,
        tick_s: float,
    ) -> None:
        self._database, self._clock = database, clock
        self._link, self._topics = link, topics
        self._ingest, self._engine, self._publisher, self._metadata = ingest, engine, publisher, metadata
        self._claims = claims
        self._mishaps, self._meters, self._retention = mishaps, meters, retention
        self._renewals, self._upkeep, self._heads, self._rights = renewals, upkeep, heads, rights
        self._lead, self._bringing, self._bringing_jobs = lead, bringing, bringing_jobs
        self._meeting, self._sweeping, self._device_jobs = meeting, sweeping, device_jobs
        self._leads = False
        # One for each work that the database cannot do now.
        self._failing: set[object] = set()
        # A thread of its own: the lead is not lost because everybody else waits for the database.
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="lead")
        self._tick_s = min(tick_s, LOOK_FOR_OTHERS_S) if database.shared else tick_s
        self._inbox, self._acks = Inbox(), Acks(link, topics, mishaps)
        self._commands = Sending(database, clock, link, topics, mishaps, self._lasting)
        self._look, self._send = asyncio.Event(), asyncio.Event()
        self._partings = Partings(database, link, rights, mishaps, self._lasting, orders=self._send.set)
        self._forget = False
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Something changed that the rollout engine should see now."""
        self._loop.call_soon_threadsafe(self._look.set)

    def devices_changed(self) -> None:
        """Devices joined or were removed; from any thread."""
        self._loop.call_soon_threadsafe(self._partings.look)

    def commands_given(self) -> None:
        """Commands wait to be sent; from any thread."""
        self._loop.call_soon_threadsafe(self._commands.look)

    def endpoints_changed(self) -> None:
        """Something was wished for in the cloud; from any thread."""
        self._loop.call_soon_threadsafe(self._bringing.look)

    @property
    def leads(self) -> bool:
        """Whether this server keeps the broker's session and moves rollouts on."""
        return self._leads

    async def run(self) -> None:
        """Everything, until cancelled. What goes wrong with one message or row ends nothing else."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._trying(), name="pulse")
                group.create_task(self._leading(), name="lead")
                group.create_task(self._upkeep.run(self._lasting), name="upkeep")
        finally:
            self._asker.shutdown(wait=False)

    async def _leading(self) -> None:
        told = False
        while True:
            if await self._answer(self._lead.take):
                log.info("this server leads")
                await self._lead_while_held()
                log.warning("this server leads no more")
                told = False
            elif not told:
                log.info("another server leads, this one answers and waits for its turn")
                told = True
            await asyncio.sleep(LEAD_EVERY_S)

    async def _lead_while_held(self) -> None:
        self._leads = True
        duties = asyncio.create_task(self._duties(), name="duties")
        try:
            while not duties.done() and await self._answer(self._lead.holds):
                await asyncio.wait([duties], timeout=LEAD_EVERY_S)
            if duties.done():
                await duties  # they end by a defect alone, which ends the server
        finally:
            self._leads = False
            duties.cancel()
            await asyncio.wait([duties])
            self._lead.give_up()

    async def _answer(self, ask: Callable[[], bool]) -> bool:
        """What the lock says. No answer is a no: whoever cannot know that it leads does not."""
        try:
            async with asyncio.timeout(LEAD_ANSWERS_S):
                return await self._loop.run_in_executor(self._asker, ask)
        except Exception as error:  # noqa: BLE001 - the pulse says what is wrong with the database
            log.debug("the lead is not to be had: %s", error)
            return False

    async def _duties(self) -> None:
        # What waits from an earlier lead was not acknowledged, and comes again.
        self._inbox = Inbox()
        self._rights.forget()
        self._look.set()
        self._send.set()
        self._partings.look()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run(self._connected, self._arrived, self._claims.take), name="broker")
            group.create_task(self._claims.run(self.devices_changed), name="claims")
            group.create_task(self._publisher.run(), name="blocks")
            group.create_task(self._ingesting(), name="ingest")
            group.create_task(self._acks.run(), name="acknowledgements")
            group.create_task(self._rolling_out(), name="rollouts")
            group.create_task(self._ordering(), name="orders")
            group.create_task(self._renewals.run(self._lasting), name="renewals")
            group.create_task(self._commands.run(), name="commands")
            group.create_task(self._partings.run(), name="partings")
            group.create_task(self._bringing.run(self._lasting, self._look.set), name="endpoints")
            meeting = self._meeting.run(self._lasting, changed=self._bringing.look, renewed=self._look.set)
            group.create_task(meeting, name="fallbacks")
            group.create_task(self._bringing_jobs.run(self._lasting), name="batch jobs")
            group.create_task(self._device_jobs.run(self._lasting, self._commands.look), name="batch jobs of devices")
            group.create_task(self._sweeping.run(self._lasting), name="strays")
            group.create_task(self._forgetting(), name="retention")
            group.create_task(self._signing_heads(), name="heads")

    def _connected(self) -> None:
        # A broker that was started again has no retained orders.
        self._forget = True
        self._commands.begin_anew()
        self._send.set()
        self._partings.look()

    async def _arrived(self, topic: Parsed, payload: bytes) -> None:
        with self._mishaps.alone("message", f"{'/'.join(topic.rest)} of {topic.device}"):
            await self._sort(topic, payload)

    async def _sort(self, topic: Parsed, payload: bytes) -> None:
        if not payload:
            return  # a retained message was cleared
        if topic.rest == ("blob", "get"):
            if topic.device in self._partings.out:
                return
            await self._publisher.take(topic.device, payload)
        elif topic.rest == ("enroll",):
            self._renewals.take(topic.device, payload)
        elif (kind := Ingest.kind(topic.rest)) is not None:
            if not await self._inbox.put(Inbound(topic.device, kind, payload)):
                self._meters.surplus(kind)
        else:
            log.debug("%s of %s ignored: this server knows no such topic", "/".join(topic.rest), topic.device)

    async def _ingesting(self) -> None:
        while True:
            batch = await self._inbox.batch(BATCH)
            receipts: list[Receipt] = []
            counted = self._meters.batch(one.kind for one in batch)
            with self._mishaps.alone("batch", f"{len(batch)} messages"), counted:
                receipts = await self._lasting(self._ingest.commit, batch)
            if any(one.kind == "status" for one in batch):  # of a device that came back, perhaps
                self._commands.look()
            if receipts:
                self._acks.add(receipts)
            if receipts and any(one.kind != "telemetry" for one in batch):  # which moves no rollout
                self._look.set()

    async def _rolling_out(self) -> None:
        while True:
            # After weeks without a server both are due; a device would refuse an order that comes before its metadata.
            await self._renew_metadata()
            with self._mishaps.alone("tick", "rollouts"):
                while await self._lasting(self._engine.tick):
                    self._send.set()
            self._send.set()
            # Reports come in thousands: they are looked at together, not each by itself.
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._look.wait()
            self._look.clear()

    async def _renew_metadata(self) -> None:
        try:
            await self._lasting(self._metadata.renew)
        except EdgefleetError as error:
            self._mishaps.begins("metadata", f"the trust metadata cannot be renewed: {error}")
        except Exception as error:  # noqa: BLE001 - the rollouts go on
            self._mishaps.note("metadata renewal", "trust", error)
        else:
            self._mishaps.ends("metadata")

    async def _ordering(self) -> None:
        while True:
            await self._send.wait()
            self._send.clear()
            if self._forget:
                self._forget = False
                await self._lasting(self._forget_published)
            with self._mishaps.alone("publication", "orders"):
                try:
                    while await self._publish_some():
                        pass
                except LinkLost as error:
                    log.debug("orders wait for the broker: %s", error)

    async def _publish_some(self) -> bool:
        """Publish the next orders; True if there were any.

        Raises:
            LinkLost: none or not all of them were taken.
        """
        waiting = await self._lasting(self._unpublished)
        for one in waiting:  # their devices ask at once
            self._rights.published(one.device, one.counter)
        try:
            await self._link.publish_all([self._message(one) for one in waiting], retain=True)
        except LinkLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one of them, the others go out
            log.debug("orders are published one by one: %r", error)
            await self._publish_each(waiting)
        await self._lasting(self._published, waiting)
        if waiting:
            self._look.set()  # the engine makes orders only as fast as they go out
        return bool(waiting)

    async def _publish_each(self, waiting: Sequence[orders.Outgoing]) -> None:
        for one in waiting:
            try:
                await self._link.publish_all([self._message(one)], retain=True)
            except LinkLost:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                # The broker will never take this one. It counts as sent, so that it holds up no other.
                self._mishaps.note("order", one.device, error)

    def _message(self, one: orders.Outgoing) -> tuple[str, bytes]:
        return self._topics.order(one.device), one.envelope

    async def _trying(self) -> None:
        while True:
            with self._mishaps.alone("pulse", "database"):
                await self._lasting(self._database.try_writing)
                await self._lasting(self._rights.record)
            await asyncio.sleep(PULSE_S)

    async def _forgetting(self) -> None:
        while True:
            with self._mishaps.alone("retention", "what is older than is kept"):
                more = True
                while more:
                    more = await self._lasting(self._retention.step)
                    await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _signing_heads(self) -> None:
        while True:
            with self._mishaps.alone("audit head", "audit"):
                await self._lasting(self._heads.sign)
            await asyncio.sleep(HEAD_EVERY_S)

    def _unpublished(self) -> list[orders.Outgoing]:
        with self._database.read() as connection:
            return orders.unpublished(connection, limit=ORDERS_AT_ONCE)

    def _published(self, sent: list[orders.Outgoing]) -> None:
        with self._database.write() as connection:
            orders.published(connection, sent)

    def _forget_published(self) -> None:
        with self._database.write() as connection:
            orders.forget_published(connection)

    async def _lasting(self, work: Callable[..., T], *arguments: Any) -> T:
        """Database work in a thread, again and again while the database cannot do it (locked, disk full).

        That is told until the last work that failed is done: what only reads may go on all the while.
        """
        fails = object()
        try:
            while True:
                try:
                    return await asyncio.to_thread(work, *arguments)
                except (OperationalError, PoolTimeout) as error:
                    self._failing.add(fails)
                    self._mishaps.begins("database", in_words(error))
                await asyncio.sleep(RETRY_S)
        finally:
            self._failing.discard(fails)
            if not self._failing:
                self._mishaps.ends("database")
