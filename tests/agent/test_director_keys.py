"""What a device remembers of its director: counter and time, of each key, for as long as the owner names that key."""

from datetime import timedelta

import pytest

from agent.store import Store
from modules.errors import Untrusted
from modules.names import device_id
from tests.agent.trusting import NOW, Trusting
from tests.doubles import keys

DAY_S = 86400
# Without a clock, a device goes by the day of its build and by what orders have told it.
NO_CLOCK = 0.0


@pytest.fixture
async def trusting(tmp_path):
    one = Trusting(tmp_path)
    yield one
    one.close()


async def test_a_new_director_counts_anew(trusting):
    """A thief who used up the counter is revoked with his key: the next director begins at 1 and is followed."""
    for step in range(1, 4):
        await trusting.accept(counter=step * 1_000_000)
    with pytest.raises(Untrusted, match="old-order"):
        await trusting.accept(counter=1)
    trusting.publisher.replace_director()

    assert (await trusting.accept(counter=1)).order.counter == 1


async def test_one_order_cannot_use_up_the_counter(trusting):
    """An order far above the last one is refused, so that no single order locks out those that come after it."""
    await trusting.accept(counter=5)
    with pytest.raises(Untrusted, match="counter-leap"):
        await trusting.accept(counter=2**53 - 1)

    assert (await trusting.accept(counter=6)).order.counter == 6


async def test_a_second_director_is_no_way_back(trusting):
    """A key that is added, and orders of either key, let no older order of the other in again."""
    first = trusting.publisher.director
    await trusting.accept(counter=5)
    second = keys.signer()
    trusting.publisher.name_directors([first, second])
    with pytest.raises(Untrusted, match="old-order"):
        await trusting.accept(signer=second, counter=4)
    await trusting.accept(signer=second, counter=6)
    with pytest.raises(Untrusted, match="old-order"):
        await trusting.accept(signer=first, counter=5)

    trusting.publisher.name_directors([first])
    assert (await trusting.accept(signer=first, counter=5)).order.counter == 5


async def test_what_was_learned_outlives_the_agent(trusting):
    """Counter and time are on disk: a restarted agent without a clock refuses what was old before."""
    await trusting.accept(counter=5)
    trusting.now = NO_CLOCK
    trusting.restart()

    with pytest.raises(Untrusted, match=r"old-order.*expired"):
        await trusting.accept(counter=4, issued=1, expires=int(NOW.timestamp()))


async def test_a_revoked_key_takes_the_time_it_taught_along(trusting):
    """Without a clock, what a thief told about the time is forgotten with his key: honest orders pass again."""
    trusting.now = NO_CLOCK
    honest = {"issued": int(NOW.timestamp()), "expires": int(NOW.timestamp()) + DAY_S}
    for counter in range(1, 40):
        far = int((NOW + timedelta(days=counter)).timestamp())
        await trusting.accept(counter=counter, issued=far, expires=far + DAY_S)
        if counter == 20:
            with pytest.raises(Untrusted, match="expired"):
                await trusting.accept(counter=counter + 1, **honest)
            break
    trusting.publisher.replace_director()

    assert (await trusting.accept(counter=1, **honest)).order.counter == 1


async def test_a_bad_hour_of_the_server_locks_nobody_out(trusting):
    """An order from a server whose clock was a year ahead is followed, and so are the honest ones after it."""
    ahead = int(trusting.now) + 365 * DAY_S
    await trusting.accept(counter=5, issued=ahead, expires=ahead + 30 * DAY_S)
    trusting.restart()

    later = int(trusting.now) + 30 * DAY_S
    assert (await trusting.accept(counter=6, expires=later)).order.counter == 6


async def test_a_device_under_a_new_name_counts_anew(trusting):
    """A device that joins again under another name follows the orders for that name, which begin at 1."""
    await trusting.accept(counter=5)
    trusting.restart(device_id("dev-2"))

    assert (await trusting.accept(device="dev-2", counter=1)).order.counter == 1
    with pytest.raises(Untrusted, match="other-device"):
        await trusting.accept(counter=6)


async def test_without_what_it_remembered_a_device_goes_on(trusting, tmp_path):
    """A device that lost its database takes the next order, whatever its number, as long as it is no absurd one."""
    await trusting.accept(counter=5)
    trusting.store.close()
    (tmp_path / "lost").mkdir()
    trusting.folder = tmp_path / "lost"
    trusting.store = Store(trusting.folder)
    trusting.restart()

    assert (await trusting.accept(counter=6)).order.counter == 6
