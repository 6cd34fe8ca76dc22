"""Orders: counters, renewal, and what still has to be published."""

import pytest

from fleet import orders
from fleet.refusals import Missing


@pytest.fixture
def fleet(small_fleet):
    small_fleet.add_device("dev-a")
    return small_fleet


def issue(fleet):
    with fleet.database.write() as connection:
        return fleet.orders.issue(connection, fleet.now, "dev-a")


def unpublished(fleet):
    with fleet.database.read() as connection:
        return orders.unpublished(connection, limit=10)


def test_the_counter_grows_with_every_order(fleet):
    """It is kept with the device, so it grows across restarts too."""
    assert [issue(fleet) for _ in range(3)] == [1, 2, 3]
    assert fleet.order("dev-a").counter == 3


def test_an_order_lives_as_long_as_the_settings_say(fleet):
    """Issued now, expiring after the life; whole seconds."""
    issue(fleet)
    order = fleet.order("dev-a")
    assert (order.issued, order.expires) == (int(fleet.now), int(fleet.now) + 86400)


def test_an_order_is_renewed_half_way_to_its_expiry_and_not_before(fleet):
    """A device that was away for long finds an order that still holds."""
    issue(fleet)
    fleet.now += 43_000
    fleet.tick()
    assert fleet.order("dev-a").counter == 1
    fleet.now += 300
    fleet.tick()
    assert fleet.order("dev-a").counter == 2


def test_an_order_issued_while_another_was_published_is_still_to_be_published(fleet):
    """What the broker took is remembered by counter, not by device."""
    issue(fleet)
    taken = unpublished(fleet)
    issue(fleet)
    with fleet.database.write() as connection:
        orders.published(connection, taken)
    assert [one.counter for one in unpublished(fleet)] == [2]


def test_a_broker_that_forgot_gets_every_order_again(fleet):
    """After a reconnect nothing counts as published."""
    issue(fleet)
    with fleet.database.write() as connection:
        orders.published(connection, unpublished(fleet))
    assert unpublished(fleet) == []
    with fleet.database.write() as connection:
        orders.forget_published(connection)
    assert [one.counter for one in unpublished(fleet)] == [1]


def test_a_device_that_does_not_exist_gets_no_order(fleet):
    """The server says which device it does not know."""
    with pytest.raises(Missing), fleet.database.write() as connection:
        fleet.orders.issue(connection, 0.0, "dev-none")
