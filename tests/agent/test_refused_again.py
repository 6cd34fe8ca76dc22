"""An order that was refused is looked at again: what was wrong may pass without the order being sent a second time."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from agent.inbox import Inbox
from tests.agent.trusting import Trusting
from tests.doubles import keys
from tests.doubles.clock import VirtualClock
from tests.doubles.release import make
from tests.parts.pace import stretched

DAY_S = 86400.0
LATER = make("acme/digits:3", prove="ready-only")


@pytest.fixture
async def trusting(tmp_path):
    one = Trusting(tmp_path)
    yield one
    one.close()


@asynccontextmanager
async def receiving(trusting):
    """An inbox that verifies for real, and looks at a refused order again at once."""

    async def replace(change, remember):
        change(())
        with trusting.store.together():
            remember()

    inbox = Inbox(
        store=trusting.store,
        verifier=trusting.verifier,
        outbox=None,
        replace=replace,
        wake=lambda: None,
        clock=VirtualClock(),
    )
    inbox._again_s = 0.02
    task = asyncio.create_task(inbox.run(), name="inbox")
    yield inbox
    assert not task.done(), task
    task.cancel()
    await asyncio.wait([task])


async def until(met):
    async with asyncio.timeout(stretched(10)):
        while not met():  # noqa: ASYNC110 - what is awaited is a store's content
            await asyncio.sleep(0.005)


def clock_ahead(trusting):
    trusting.now += 2 * DAY_S
    return lambda: setattr(trusting, "now", trusting.now - 2 * DAY_S)


def metadata_expired(trusting):
    trusting.now += 20 * DAY_S  # the timestamp lives fourteen days

    def signed_again():
        trusting.publisher.later(days=20)
        trusting.publisher.publish()

    return signed_again


def director_not_yet_named(trusting):
    new = trusting.publisher.director = keys.signer()
    return lambda: trusting.publisher.name_directors([new])


def release_not_yet_published(trusting):
    trusting.release = LATER
    return lambda: trusting.publisher.release("acme/digits:3", data=LATER.data)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param(clock_ahead, "expired", id="the clock was ahead"),
        pytest.param(metadata_expired, "expired", id="metadata had expired"),
        pytest.param(director_not_yet_named, "signatures hold", id="its director was not named yet"),
        pytest.param(release_not_yet_published, "not-published", id="its release was not published yet"),
    ],
)
async def test_it_is_followed_once_the_reason_has_passed(trusting, wrong, code):
    """Whatever had to become true: the clock set, metadata signed again, a key named, a release published."""
    mended = wrong(trusting)
    now = trusting.now - (2 * DAY_S if wrong is clock_ahead else 0)
    envelope = trusting.envelope(issued=int(now), expires=int(now + DAY_S))
    async with receiving(trusting) as inbox:
        inbox.on_order(envelope)
        await until(trusting.store.refusals)
        assert code in trusting.store.refusals()[0].reason.message
        assert trusting.store.document("order") is None
        mended()
        await until(lambda: trusting.store.document("order") == envelope)

    assert len({refusal.reason.message for refusal in trusting.store.refusals()}) == len(trusting.store.refusals())


async def test_an_order_that_cannot_become_right_is_not_verified_again(trusting):
    """A setting that the publisher does not allow stays what it is: no metadata is fetched for it every ten minutes."""
    async with receiving(trusting) as inbox:
        inbox.on_order(trusting.envelope(ordered=trusting.release.ordered(settings={"log_level": "debug"})))
        await until(trusting.store.refusals)
        trusting.server.sent.clear()
        await asyncio.sleep(0.2)
        assert inbox._refused is None

    assert trusting.server.sent == []


async def test_a_newer_order_takes_the_place_of_a_refused_one(trusting):
    """Nobody follows the older one afterwards, though its reason passes."""
    published = trusting.release
    mended = release_not_yet_published(trusting)
    refused = trusting.envelope()
    async with receiving(trusting) as inbox:
        inbox.on_order(refused)
        await until(trusting.store.refusals)
        newer = trusting.envelope(counter=6, ordered=published.ordered())
        inbox.on_order(newer)
        await until(lambda: trusting.store.document("order") == newer)
        mended()
        await asyncio.sleep(0.2)

    assert trusting.store.document("order") == newer
