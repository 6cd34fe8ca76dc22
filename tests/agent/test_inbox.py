"""Orders as they come in: followed once, tried again when the link broke, refused with one record, the newest first."""

import asyncio
from contextlib import closing

import pytest

from agent.fetch import Missing
from agent.inbox import Inbox
from agent.store import Store
from agent.verify import Accepted
from modules import canonical
from modules.errors import EdgefleetError, LinkLost, NoSpace, Untrusted
from modules.protocol.order import LIMIT, Order
from modules.protocol.report import Ack, Reason
from modules.signing import envelope_limit
from modules.trust.device import RoleMark
from tests.doubles.clock import VirtualClock
from tests.doubles.release import make
from tests.parts.pace import stretched

RELEASE = make()


class Verdicts:
    """Has the interface of ``Verifier``: raises the errors it is given, one for each call, then accepts."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.asked: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def accept(self, envelope: bytes) -> Accepted:
        self.asked.append(envelope)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        order = Order(
            device="dev-1",
            counter=int(envelope),
            issued=1,
            expires=2,
            slots={"main": RELEASE.ordered()},
            waivers=(RELEASE.digest,),
        )
        return Accepted(order, {}, {"counter": float(order.counter)}, {"snapshot": RoleMark(order.counter, ("key",))})


class Acks:
    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.full = False
        self.beyond, self.epochs = 100, 0

    def on_ack(self, ack: Ack) -> bool:
        if self.full:
            raise NoSpace("full")
        self.numbers.append(ack.report)
        return ack.report < self.beyond

    def begin_epoch(self) -> None:
        if self.full:
            raise NoSpace("full")
        self.epochs += 1


class Receiving:
    def __init__(self, folder) -> None:
        self.store, self.verdicts, self.acks = Store(folder), Verdicts(), Acks()
        self.replaced: list = []
        self.breaks: list[EdgefleetError] = []
        self.woken = 0
        self.clock = VirtualClock()
        self.inbox = Inbox(
            store=self.store,
            verifier=self.verdicts,
            outbox=self.acks,
            replace=self.replace,
            wake=self.wake,
            clock=self.clock,
        )

    async def replace(self, change, remember) -> None:
        if self.breaks:
            raise self.breaks.pop(0)
        rows = change(self.store.slots())
        with self.store.together():
            for row in rows:
                self.store.save(row)
            remember()
        self.replaced.append(rows)

    def wake(self) -> None:
        self.woken += 1

    async def until(self, met) -> None:
        async with asyncio.timeout(stretched(5)):
            while not met():  # noqa: ASYNC110 - what is awaited is a store's content
                await asyncio.sleep(0)


@pytest.fixture
async def receiving(tmp_path):
    one = Receiving(tmp_path)
    task = asyncio.create_task(one.inbox.run(), name="inbox")
    yield one
    assert not task.done(), task
    task.cancel()
    await asyncio.wait([task])
    one.store.close()


async def test_an_order_is_followed_once(receiving):
    """Its rows are made and the loop is woken; when it comes again, nobody even verifies it."""
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")
    receiving.inbox.on_order(b"1")
    receiving.inbox.on_order(b"2")
    await receiving.until(lambda: receiving.store.document("order") == b"2")

    assert receiving.verdicts.asked == [b"1", b"2"]
    assert (receiving.store.number("counter"), receiving.store.number("order")) == (2, 2)
    assert receiving.store.marks() == {"snapshot": RoleMark(2, ("key",))}
    assert [len(rows) for rows in receiving.replaced] == [1, 0]
    assert receiving.woken


@pytest.mark.parametrize("error", [LinkLost("gone"), NoSpace("full"), OSError(28, "full")])
async def test_an_order_waits_for_link_and_disk(receiving, error):
    """What is not the order's fault is tried again, and recorded as no refusal."""
    receiving.verdicts.errors = [error, error]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert receiving.verdicts.asked == [b"1"] * 3
    assert receiving.store.refusals() == ()


async def test_an_order_whose_manifest_does_not_come_is_told_of_and_waits(receiving):
    """After some tries the server hears why, once; it is tried on, and followed where the bytes come after all."""
    receiving.verdicts.errors = [Missing("the server does not have it")] * 5
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert receiving.verdicts.asked == [b"1"] * 6
    assert [refusal.reason.code for refusal in receiving.store.refusals()] == ["missing"]


async def test_a_new_order_has_its_own_tries(receiving):
    """How long another order waited says nothing of the next one, and that it was replaced is no refusal."""

    class Gone(list):
        def pop(self, at):
            if len(self) == 3:
                receiving.inbox.on_order(b"2")
            return super().pop(at)

    receiving.verdicts.errors = Gone([Missing("the server does not have it")] * 4)
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"2")

    assert receiving.verdicts.asked == [b"1"] * 2 + [b"2"] * 3
    assert receiving.store.refusals() == ()


async def test_an_order_is_taken_whole_or_not_at_all(receiving, monkeypatch):
    """A disk that fills up within the adoption leaves rows, counters, waivers and the order as they were."""
    failed = RELEASE.digest
    receiving.store.remember_failed(failed, Reason("not-ready", "no"), 1.0)
    keep = Store.keep_document

    def full(store, name, data):
        monkeypatch.setattr(Store, "keep_document", keep)
        seen.append((store.slots(), store.failed(failed)))
        raise NoSpace("full")

    seen = []
    monkeypatch.setattr(Store, "keep_document", full)
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: seen)
    assert [len(rows) for rows, _ in seen] == [1], "the last write found the disk full"
    assert (receiving.store.slots(), receiving.store.number("order"), receiving.store.number("counter")) == ((), 0, 0)
    assert receiving.store.marks() == {}
    assert receiving.store.failed(failed) is not None

    await receiving.until(lambda: receiving.store.document("order") == b"1")
    assert receiving.store.failed(failed) is None
    assert len(receiving.store.slots()) == 1


async def test_a_defect_met_by_an_order_ends_nothing(receiving, caplog):
    """An order that meets a defect is refused as a bug, with a traceback in the log; the next one is followed."""
    receiving.verdicts.errors = [OverflowError("int too big")]
    receiving.inbox.on_order(b"1")
    await receiving.until(receiving.store.refusals)
    receiving.inbox.on_order(b"2")
    await receiving.until(lambda: receiving.store.document("order") == b"2")

    (refusal,) = receiving.store.refusals()
    assert (refusal.reason.code, refusal.reason.message) == ("bug", "OverflowError: int too big")
    assert [bool(record.exc_info) for record in caplog.records if "defect" in record.message] == [True]


async def test_a_refused_order_is_recorded_once(receiving):
    """The refusal has a reason, and the same order at the next connect is verified but not recorded again."""
    for _ in range(2):
        receiving.verdicts.errors = [Untrusted("a stranger signed it")]
        receiving.inbox.on_order(b"7")
        await receiving.until(lambda: not receiving.verdicts.errors)
    await receiving.until(receiving.store.refusals)

    (refusal,) = receiving.store.refusals()
    assert (refusal.reason.code, refusal.what[:6]) == ("untrusted", "order ")
    assert receiving.replaced == []


async def test_the_newest_order_wins(receiving):
    """Orders that come while one is verified replace each other; a refusal of the first loses none."""
    receiving.verdicts.gate.clear()
    receiving.verdicts.errors = [Untrusted("no")]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.verdicts.asked)
    receiving.inbox.on_order(b"2")
    receiving.inbox.on_order(b"3")
    receiving.verdicts.gate.set()
    await receiving.until(lambda: receiving.store.document("order") == b"3")

    assert receiving.verdicts.asked == [b"1", b"3"]


async def test_an_order_counts_as_followed_only_when_it_was(receiving):
    """If making the rows fails, the order is not remembered as followed, so it is followed later."""
    receiving.breaks = [NoSpace("full")]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.replaced)
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert receiving.verdicts.asked == [b"1", b"1"]


async def test_a_waiver_lets_a_failed_digest_be_tried(receiving):
    """What was remembered as failed is forgotten."""
    receiving.store.remember_failed(RELEASE.digest, Reason("not-ready", "no"), 1.0)
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert receiving.store.failed(RELEASE.digest) is None


async def test_empty_and_oversized_orders_are_not_verified(receiving):
    """An empty message clears the topic and says nothing; one that is too large is refused unread."""
    receiving.inbox.on_order(b"")
    assert receiving.store.refusals() == ()
    receiving.inbox.on_order(b"x" * (envelope_limit(LIMIT) + 1))

    assert receiving.store.refusals()[0].reason.code == "invalid"
    assert receiving.verdicts.asked == []


async def test_an_empty_message_replaces_no_order_that_waits(receiving):
    """A topic that is cleared says nothing: what came before it, and waits to be verified, is followed."""
    receiving.verdicts.gate.clear()
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.verdicts.asked)
    receiving.inbox.on_order(b"2")
    receiving.inbox.on_order(b"")
    receiving.verdicts.gate.set()

    await receiving.until(lambda: receiving.store.document("order") == b"2")


async def test_acks_reach_the_outbox(receiving):
    """A good ack is taken; garbage is refused and recorded; a full disk loses nothing but this ack."""
    receiving.inbox.on_ack(canonical.encode(Ack(report=3)))
    receiving.inbox.on_ack(b"garbage")
    receiving.acks.full = True
    receiving.inbox.on_ack(canonical.encode(Ack(report=4)))

    assert receiving.acks.numbers == [3]
    assert [refusal.what for refusal in receiving.store.refusals()] == ["ack"]


async def test_a_broker_that_forges_receipts_makes_few_epochs(receiving):
    """A receipt for what was never said begins a new epoch, daily at most; after a full disk it is tried anew."""
    impossible = canonical.encode(Ack(report=100))
    receiving.acks.full = True
    receiving.inbox.on_ack(impossible)
    receiving.acks.full = False
    for wait, epochs in ((0, 1), (0, 1), (86_399, 1), (1, 2), (10, 2)):
        receiving.clock.advance(wait)
        receiving.inbox.on_ack(impossible)
        assert receiving.acks.epochs == epochs


async def test_a_refusal_on_a_full_disk_ends_nothing(receiving):
    """A refusal that cannot be recorded is logged, and the agent goes on."""
    receiving.store._db.execute("PRAGMA query_only = ON")
    receiving.inbox.on_ack(b"garbage")
    receiving.store._db.execute("PRAGMA query_only = OFF")

    assert receiving.store.refusals() == ()


async def test_an_order_that_was_not_believed_is_looked_at_again(receiving):
    """When the clock has been set or the metadata renewed, it is followed without being sent a second time."""
    receiving.inbox._again_s = 0.05
    receiving.verdicts.errors = [Untrusted("the order expired")]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert len(receiving.store.refusals()) == 1


@pytest.fixture
def pauses(receiving, monkeypatch):
    """How long the inbox waited each time before it tried again, in seconds."""
    sleep, found = receiving.clock.sleep, []

    async def noted(seconds):
        found.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(receiving.clock, "sleep", noted)
    return found


async def test_a_broken_link_is_tried_ever_more_seldom_and_then_anew(receiving, pauses):
    """After a second, two, four; the next order that meets a broken link begins with a second again."""
    for name in (b"1", b"2"):
        receiving.verdicts.errors = [LinkLost("gone")] * 3
        receiving.inbox.on_order(name)
        await receiving.until(lambda name=name: receiving.store.document("order") == name)

    assert pauses == [pytest.approx(seconds, rel=0.21) for seconds in (1, 2, 4, 1, 2, 4)]


async def test_pauses_begin_anew_after_a_refusal(receiving, pauses):
    """An order that was not believed says nothing of the link."""
    receiving.verdicts.errors = [LinkLost("gone"), LinkLost("gone"), Untrusted("no"), LinkLost("gone")]
    receiving.inbox.on_order(b"1")
    await receiving.until(receiving.store.refusals)
    receiving.inbox.on_order(b"2")
    await receiving.until(lambda: receiving.store.document("order") == b"2")

    assert pauses == [pytest.approx(seconds, rel=0.21) for seconds in (1, 2, 1)]


async def test_an_order_that_came_while_the_link_broke_is_the_one_that_is_tried_again(receiving):
    """The one before it is no longer of interest."""
    receiving.verdicts.gate.clear()
    receiving.verdicts.errors = [LinkLost("gone")]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.verdicts.asked)
    receiving.inbox.on_order(b"2")
    receiving.verdicts.gate.set()
    await receiving.until(lambda: receiving.store.document("order") == b"2")

    assert receiving.verdicts.asked == [b"1", b"2"]


async def test_a_link_that_breaks_while_a_refused_order_is_looked_at_again_loses_nothing(receiving):
    """It waits for the link like any other, and is followed without being sent a second time."""
    receiving.inbox._again_s = 0.05
    receiving.verdicts.errors = [Untrusted("the order expired"), LinkLost("gone")]
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")

    assert receiving.verdicts.asked == [b"1"] * 3


async def test_the_order_that_is_followed_is_not_verified_again(receiving):
    """A broker brings it at each connect, however late: nothing is asked of anybody, and what was refused is over."""
    receiving.inbox.on_order(b"1")
    await receiving.until(lambda: receiving.store.document("order") == b"1")
    receiving.inbox._again_s = 0.05
    receiving.verdicts.errors = [Untrusted("no")] * 9
    receiving.inbox.on_order(b"2")
    await receiving.until(receiving.store.refusals)
    receiving.inbox.on_order(b"1")
    await asyncio.sleep(0.01)
    asked = len(receiving.verdicts.asked)
    await asyncio.sleep(0.15)

    assert len(receiving.verdicts.asked) == asked
    assert set(receiving.verdicts.asked) == {b"1", b"2"}
    assert len(receiving.replaced) == 1


async def test_the_largest_order_is_verified(receiving):
    """One that has just as many bytes as are allowed is looked at; who signed it is the verifier's to say."""
    receiving.verdicts.errors = [Untrusted("no")]
    receiving.inbox.on_order(b"x" * envelope_limit(LIMIT))
    await receiving.until(receiving.store.refusals)

    assert len(receiving.verdicts.asked) == 1


async def test_a_refusal_and_a_new_epoch_are_reported_at_once(receiving):
    """The loop is woken for each: the server is to hear of it now."""
    receiving.inbox.on_order(b"x" * (envelope_limit(LIMIT) + 1))
    assert receiving.woken == 1
    receiving.inbox.on_ack(canonical.encode(Ack(report=100)))
    assert receiving.woken == 2


async def test_a_receipt_reaches_telemetry(tmp_path):
    """The number of what the server has of it, and of which epoch that is; and nothing of what is no receipt."""
    told = []
    with closing(Store(tmp_path)) as store:
        inbox = Inbox(
            store=store,
            verifier=None,
            outbox=Acks(),
            replace=None,
            wake=lambda: None,
            clock=VirtualClock(),
            telemetry=lambda number, epoch: told.append((number, epoch)),
        )
        inbox.on_ack(b"garbage")
        inbox.on_ack(canonical.encode(Ack(report=3, telemetry=7, epoch="0123456789abcdef")))

    assert told == [(7, "0123456789abcdef")]
