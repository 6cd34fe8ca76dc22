"""An order that a device does not have is published again, whatever the broker keeps in its place; never in a rush."""

import pytest
from sqlalchemy import select

from fleet import events, orders
from fleet.sent_again import KIND, refused_as
from fleet.tables import devices
from modules.protocol.report import Reason, Refusal


@pytest.fixture
def hidden(small_fleet):
    """Two orders of a device were taken by the broker, and it has reported the first."""
    small_fleet.add_device("dev-a")
    for name in ("digits", "letters"):
        small_fleet.start(small_fleet.add_module(name), slot=name)
        small_fleet.publish()
    return small_fleet


def waiting(fleet):
    with fleet.database.read() as connection:
        return [(one.device, one.counter) for one in orders.unpublished(connection, limit=10)]


def told(fleet):
    with fleet.database.read() as connection:
        return [one["message"] for one in events.newest(connection) if one["kind"] == KIND]


def test_a_device_that_says_an_older_order_is_sent_the_newest_again(hidden):
    """At once, as the broker took it, with an event; and not where it has the newest."""
    hidden.send("dev-a", [], order=2)
    assert (waiting(hidden), told(hidden)) == ([], [])
    hidden.send("dev-a", [], order=1)
    assert waiting(hidden) == [("dev-a", 2)]
    assert told(hidden) == ["it has order 1, and 2 was sent: that one is published again"]


def test_it_is_sent_once_a_minute_at_most(hidden):
    """However often the device says so; also where its clock or ours was set back."""
    for _ in range(5):
        hidden.send("dev-a", [], order=1)
        hidden.publish()
    hidden.send("dev-a", [], order=1)
    assert (waiting(hidden), len(told(hidden))) == ([], 1)
    hidden.now += 60
    hidden.send("dev-a", [], order=1)
    assert (waiting(hidden), len(told(hidden))) == ([("dev-a", 2)], 2)
    hidden.publish()
    hidden.now -= 3600
    hidden.send("dev-a", [], order=1)
    assert waiting(hidden) == [("dev-a", 2)]


def test_an_order_that_the_device_refused_is_not_sent_again(hidden):
    """It has it, and says why it does not take it; another one that it refused is what hides the newest."""
    with hidden.database.read() as connection:
        newest = connection.scalar(select(devices.c.order_envelope))

    def refusing(envelope):
        refusal = Refusal(what=refused_as(envelope), reason=Reason("untrusted", "old-order"), at=hidden.now)
        hidden.send("dev-a", [], order=1, refusals=(refusal,))

    refusing(newest)
    assert (waiting(hidden), told(hidden)) == ([], [])
    refusing(b"another order")
    assert waiting(hidden) == [("dev-a", 2)]


def test_a_report_that_comes_again_sends_nothing(hidden):
    """A broker that replays an old report makes no order come."""
    hidden.send("dev-a", [], order=1, number=7)
    hidden.publish()
    hidden.now += 3600
    hidden.send("dev-a", [], order=1, number=7)
    hidden.send("dev-a", [], order=1, number=6)
    assert (waiting(hidden), len(told(hidden))) == ([], 1)
