"""When a command is sent: at once, again while it is unanswered, when its device comes back; and when it is over."""

import pytest

from fleet import events
from fleet.commands import due
from fleet.commands.states import AGAIN_S, LASTS_S, LATE_S, OFFLINE_S
from fleet.said import Inbound
from modules import canonical
from modules.names import DeviceId
from modules.protocol.report import Status


@pytest.fixture
def fleet(small_fleet):
    small_fleet.add_device("dev-a")
    online(small_fleet, boot=1)
    return small_fleet


def online(fleet, *, boot, here=True, name="dev-a"):
    payload = canonical.encode(Status(online=here, boot=boot))
    fleet.ingest.commit([Inbound(DeviceId(name), "status", payload)])


def give(fleet, expires_s=3600, name="ping", **wish):
    return fleet.give(name, device=DeviceId("dev-a"), expires_s=expires_s, **wish)[0]["dev-a"]


def sent(fleet, *, after=0.0):
    fleet.now += after
    with fleet.database.write() as connection:
        rows = due.due(connection, fleet.now, limit=500)
        due.looked_at(connection, fleet.now, rows)
        return [row.envelope for row in due.to_send(rows, fleet.now)]


def kinds(fleet):
    with fleet.database.read() as connection:
        return [one["kind"] for one in events.newest(connection)]


def test_a_command_is_sent_once_a_minute_unchanged_until_it_is_answered(fleet):
    ident = give(fleet)
    (first,) = sent(fleet)
    assert fleet.command(ident)["state"] == "sent"
    assert sent(fleet) == []
    assert sent(fleet, after=AGAIN_S - 2) == []
    assert sent(fleet, after=3) == [first]
    fleet.ingest.commit([fleet.answer(fleet.signed_command(ident), 1, "done")])
    assert sent(fleet, after=10 * AGAIN_S) == []
    assert fleet.command(ident)["state"] == "done"


def test_while_a_device_answers_it_is_not_asked_again(fleet):
    """A minute after the last part, not after the command was sent."""
    ident = give(fleet)
    sent(fleet)
    fleet.now += AGAIN_S - 1
    fleet.ingest.commit([fleet.answer(fleet.signed_command(ident), 1)])
    assert sent(fleet, after=AGAIN_S - 1) == []
    assert len(sent(fleet, after=2)) == 1


@pytest.mark.parametrize("boot", [1, 2])
def test_a_device_that_comes_back_gets_what_waits_at_once(fleet, boot):
    """After it was offline, or with a new session that the server took for the old one."""
    if boot == 1:
        online(fleet, boot=1, here=False)
    ident = give(fleet)
    (first,) = sent(fleet)
    assert sent(fleet, after=1) == []
    online(fleet, boot=boot)
    assert sent(fleet) == [first]
    online(fleet, boot=boot)
    assert sent(fleet) == []
    assert fleet.command(ident)["state"] == "sent"


def test_an_offline_device_is_tried_seldom(fleet):
    online(fleet, boot=1, here=False)
    give(fleet)
    assert len(sent(fleet)) == 1
    assert sent(fleet, after=OFFLINE_S - 1) == []
    assert len(sent(fleet, after=2)) == 1


def test_what_came_back_while_it_was_being_sent_is_sent_once_more(fleet):
    """The device's word that it is back counts, though it came between publishing and writing that down."""
    give(fleet)
    with fleet.database.read() as connection:
        rows = due.due(connection, fleet.now, limit=9)
    fleet.now += 1
    online(fleet, boot=2)
    with fleet.database.write() as connection:
        due.looked_at(connection, fleet.now, rows)
    assert len(sent(fleet)) == 1


def test_a_new_session_with_the_broker_sends_all_that_holds_again(fleet):
    ident, short = give(fleet), give(fleet, expires_s=5)
    sent(fleet)
    fleet.now += 6
    with fleet.database.write() as connection:
        due.all_again(connection, fleet.now)
        rows = due.due(connection, fleet.now, limit=9)
        assert [row.id for row in due.to_send(rows, fleet.now)] == [ident]
    assert fleet.command(short)["state"] == "sent"


def test_an_expired_command_is_not_sent_and_is_an_event(fleet):
    """Not even when its device comes back; and an answer that was on its way for some seconds still counts."""
    ident, late = give(fleet, expires_s=100), give(fleet, expires_s=100)
    assert len(sent(fleet)) == 2
    fleet.now += 101
    online(fleet, boot=2)
    assert sent(fleet) == []
    assert fleet.command(ident)["state"] == "sent"
    fleet.ingest.commit([fleet.answer(fleet.signed_command(late), 1, "done")])
    assert sent(fleet, after=LATE_S) == []
    assert {fleet.command(one)["state"] for one in (ident, late)} == {"expired", "done"}
    assert kinds(fleet).count("command-expired") == 1
    assert fleet.command(ident)["ended"] == fleet.now
    online(fleet, boot=3)
    assert sent(fleet, after=AGAIN_S) == []


def test_what_a_device_has_begun_may_last_longer_than_the_command_holds(fleet):
    """It is not sent any more, and is waited for as long as it may take: to follow a log, for longer than others."""
    fleet.start(fleet.add_module("digits"))
    ident = give(fleet, expires_s=100)
    follows = give(fleet, expires_s=100, name="logs", slot="digits", arguments={"follow_s": 1000.0})
    sent(fleet)
    for one in (ident, follows):
        fleet.ingest.commit([fleet.answer(fleet.signed_command(one), 1)])
    assert sent(fleet, after=200) == []
    assert sent(fleet, after=LASTS_S - 200) == []
    assert {fleet.command(one)["state"] for one in (ident, follows)} == {"running"}
    fleet.ingest.commit([fleet.answer(fleet.signed_command(ident), 2)])
    assert sent(fleet, after=101) == []
    assert {fleet.command(one)["state"] for one in (ident, follows)} == {"expired", "running"}
    assert kinds(fleet).count("command-expired") == 1
    fleet.ingest.commit([fleet.answer(fleet.signed_command(follows), 2)])
    assert sent(fleet, after=1000) == []
    assert fleet.command(follows)["state"] == "expired"
