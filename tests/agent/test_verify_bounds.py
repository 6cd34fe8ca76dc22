"""The verifier by itself: its folder, its thread, the first and the largest of what it takes, and what it waits for."""

import asyncio
import stat
import threading

import pytest

from agent.verify import Verifier
from modules.digests import sha256
from modules.errors import Invalid, Untrusted
from modules.manifest import LIMIT
from modules.order_rules import LONGEST_STEP
from modules.trust.device import Target
from tests.agent.trusting import DEVICE, Trusting
from tests.parts.pace import stretched

DAY_S = 86_400


@pytest.fixture
async def trusting(tmp_path):
    one = Trusting(tmp_path)
    yield one
    one.close()


async def test_the_folder_of_trust_is_the_agents_alone(trusting, tmp_path):
    """It is made with all that is above it, nobody else enters it, and an old one is taken as it is."""
    folder = tmp_path / "deep" / "trust"
    for _ in range(2):
        Verifier(
            device=DEVICE,
            folder=folder,
            root=trusting.publisher.first_root,
            store=trusting.store,
            shelf=trusting.shelf,
            puller=trusting.puller,
            now=lambda: 0.0,
        ).close()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_closed_verifier_leaves_no_thread(trusting):
    """Its worker ends with it."""
    before = set(threading.enumerate())
    verifier = trusting.new_verifier()
    with pytest.raises(Invalid):
        await verifier.accept(b"no order")
    (worker,) = set(threading.enumerate()) - before
    verifier.close()
    await asyncio.to_thread(worker.join, 5)

    assert not worker.is_alive()


@pytest.mark.parametrize("counter", [1, LONGEST_STEP])
async def test_the_first_order_of_all_is_followed(trusting, counter):
    """Of a device that has followed none, whichever number a server has come to, within one step."""
    assert (await trusting.accept(counter=counter)).order.counter == counter


async def test_a_first_order_beyond_one_step_is_refused(trusting):
    """No thief's first number leaves the owner none to go on with."""
    with pytest.raises(Untrusted, match=f"is more than {LONGEST_STEP} above 0"):
        await trusting.accept(counter=LONGEST_STEP + 1)


async def test_a_team_that_expired_by_the_time_that_orders_taught_is_refused(trusting):
    """A clock that was set back makes nothing young again: neither the order's metadata nor its team's."""
    publisher = trusting.publisher
    publisher.later(days=179)
    publisher.replace_director()
    trusting.now = publisher.later(days=2).timestamp()
    issued = int(trusting.now)
    await trusting.accept(counter=1, slots={})
    trusting.now -= 10 * DAY_S

    with pytest.raises(Untrusted, match="trust metadata, team-acme"):
        await trusting.accept(counter=2, issued=issued, expires=issued + 3600)


@pytest.mark.parametrize("more", [0, 1])
async def test_the_largest_manifest_is_fetched(trusting, more):
    """One byte more than a manifest may have is not even asked for."""
    data = trusting.release.data + b" " * (LIMIT + more - len(trusting.release.data))
    trusting.server.blobs[sha256(data)] = data
    wanted = trusting.verifier._manifest(sha256(data), Target(len(data), sha256(data)))
    if more:
        with pytest.raises(Untrusted, match="a manifest of 1048577 bytes is too large"):
            await wanted
        assert trusting.server.asked == []
    else:
        assert await wanted == (trusting.release.manifest, data)


async def test_an_order_waits_for_no_pull(trusting):
    """Neither its metadata nor its manifest stands behind what is pulled at the time."""
    async with asyncio.timeout(stretched(20)), trusting.puller._window.flight(2):
        assert (await trusting.accept()).order.counter == 5
