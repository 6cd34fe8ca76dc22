"""Who is given a command: looked at before anything is signed, one command for each device, few statements for many."""

import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import event, func, insert, select, update

from fleet import events
from fleet.command_tables import commands
from fleet.commands import due, view
from fleet.commands.given import Commands
from fleet.commands.whom import AT_MOST, Wish
from fleet.refusals import Conflict, Missing
from fleet.removal import remove_device, revoke_device
from fleet.tables import devices
from modules import canonical
from modules.errors import Invalid, Unfit
from modules.names import DeviceId
from modules.protocol.commands import LONGEST_LIFE_S
from modules.protocol.facts import Facts
from tests.doubles.device import HOST_FACTS, READS


@pytest.fixture
def fleet(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name, labels={"ring": name[-1]})
    return small_fleet


def told(fleet):
    with fleet.database.read() as connection:
        return [(one["kind"], one["device"], one["by"]) for one in events.newest(connection)]


def count(fleet):
    with fleet.database.read() as connection:
        return connection.execute(select(func.count()).select_from(commands)).scalar_one()


def sent(fleet):
    """What is due now goes out; the ids."""
    with fleet.database.write() as connection:
        rows = due.due(connection, fleet.now, limit=500)
        due.looked_at(connection, fleet.now, rows)
        return {row.id for row in due.to_send(rows, fleet.now)}


def test_each_device_gets_a_command_of_its_own(fleet):
    """Own id, own signature, the same times; and each stands in the history with whoever gave it."""
    given, misfits = fleet.give("ping", selector="*", expires_s=600)
    assert misfits == {}
    assert set(given) == {"dev-a", "dev-b"}
    read = {device: fleet.signed_command(ident) for device, ident in given.items()}
    assert {device: (one.device, one.id) for device, one in read.items()} == {
        device: (device, ident) for device, ident in given.items()
    }
    assert given["dev-a"] != given["dev-b"]
    assert {(one.name, one.issued, one.expires) for one in read.values()} == {
        ("ping", int(fleet.now), int(fleet.now) + 600)
    }
    assert {("command-given", name, "token 1 (admin)") for name in given} <= set(told(fleet))
    assert fleet.command(given["dev-a"])["state"] == "waiting"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"name": "format-disk"}, "no such command"),
        ({"name": "logs"}, "needs a slot"),
        ({"name": "ping", "slot": "digits"}, "takes no slot"),
        ({"name": "ping", "arguments": {"lines": 1.0}}, "no such argument"),
        ({"name": "logs", "slot": "digits", "arguments": {"lines": 1e9}}, "not a number from 1 to 10000"),
        ({"name": "logs", "slot": "digits", "arguments": {"lines": float("nan")}}, "not a number from"),
        ({"name": "restart-module", "slot": "../etc"}, "slot"),
        ({"name": "ping", "expires_s": LONGEST_LIFE_S + 1}, "expire"),
        ({"name": "ping", "expires_s": 0}, "expire"),
        ({"name": "ping", "selector": "*"}, "either a device or a selector"),
        ({"name": "ping", "several": (DeviceId("dev-b"),)}, "either a device or a selector"),
        ({"name": "ping", "device": None}, "either a device or a selector"),
        ({"name": "ping", "device": None, "selector": "site=="}, "selector|cannot read"),
        ({"name": "decommission", "device": None, "selector": "*"}, "by its own name alone"),
    ],
)
def test_what_no_device_could_take_is_refused_before_anything_is_written(fleet, wish, message):
    with pytest.raises(Invalid, match=message):
        fleet.give(**({"device": DeviceId("dev-a")} | wish))
    assert count(fleet) == 0
    assert "command-given" not in {kind for kind, _, _ in told(fleet)}


def test_a_device_that_is_not_there_is_missing(fleet):
    with pytest.raises(Missing):
        fleet.give("ping", device=DeviceId("dev-z"))


def test_who_does_not_take_it_is_named_with_the_reason_and_gets_nothing(fleet):
    """An agent of before, a device that has said nothing yet, a slot that is not there; the others get theirs."""
    fleet.add_device("dev-old", formats=("edgefleet.order/1",))
    fleet.add_device("dev-silent", host=None)
    fleet.start(fleet.add_module("digits"), devices=(DeviceId("dev-a"),))
    given, misfits = fleet.give("restart-module", selector="*", slot="digits")
    assert set(given) == {"dev-a"}
    assert set(misfits) == {"dev-b", "dev-old", "dev-silent"}
    assert misfits["dev-b"] == ("it has no slot digits",)
    assert "knows no commands: update it" in misfits["dev-old"][0]
    assert "has not said yet what it is" in misfits["dev-silent"][0]
    assert count(fleet) == 1

    with pytest.raises(Unfit, match="no device takes it: dev-b: it has no slot digits"):
        fleet.give("restart-module", device=DeviceId("dev-b"), slot="digits")
    with pytest.raises(Unfit, match="the selector means no device"):
        fleet.give("ping", selector="ring=z")
    assert count(fleet) == 1


def test_who_would_get_it_is_told_and_nobody_is_given_anything(fleet):
    """Of several by name: who is away, whose certificates are revoked, and who is not there at all."""
    for name in ("dev-on", "dev-revoked"):
        fleet.add_device(name)
    with fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-on").values(online=True))
        revoke_device(connection, fleet.now, DeviceId("dev-revoked"))
    several = ("dev-revoked", "dev-on", "dev-z", "dev-a", "dev-on")
    found = fleet.commands.look(Wish("ping", several=several))
    assert (found.devices, found.away) == (["dev-on", "dev-a"], ["dev-a"])
    reasons = {one.device: one.reasons[0] for one in found.misfits}
    assert reasons.keys() == {"dev-z", "dev-revoked"}
    assert "no such device" in reasons["dev-z"]
    assert "revoked" in reasons["dev-revoked"]
    assert count(fleet) == 0
    assert set(fleet.give("ping", several=several)[0]) == {"dev-on", "dev-a"}


def test_a_removed_device_is_sent_nothing_more(fleet):
    """What waits for it is cancelled, and it is given nothing."""
    given, _ = fleet.give("ping", selector="*")
    with fleet.database.write() as connection:
        remove_device(connection, fleet.now, DeviceId("dev-a"))
    assert fleet.command(given["dev-a"])["state"] == "cancelled"
    assert sent(fleet) == {given["dev-b"]}
    assert set(fleet.give("ping", selector="*")[0]) == {"dev-b"}
    with pytest.raises(Missing):
        fleet.give("ping", device=DeviceId("dev-a"))


def test_what_is_cancelled_is_not_sent(fleet):
    """Before it was sent and after; what is over cannot be cancelled."""
    given, _ = fleet.give("ping", selector="*")
    with fleet.database.write() as connection:
        fleet.commands.cancel(connection, given["dev-a"], by="token 1 (admin)")
    assert sent(fleet) == {given["dev-b"]}
    with fleet.database.write() as connection:
        fleet.commands.cancel(connection, given["dev-b"], by="token 1 (admin)")
    fleet.now += 3000
    assert sent(fleet) == set()
    assert {fleet.command(ident)["state"] for ident in given.values()} == {"cancelled"}
    assert ("command-cancelled", "dev-b", "token 1 (admin)") in told(fleet)
    with fleet.database.write() as connection:
        with pytest.raises(Conflict, match="it is over: cancelled"):
            fleet.commands.cancel(connection, given["dev-a"], by="")
        with pytest.raises(Missing):
            fleet.commands.cancel(connection, "0" * 32, by="")


def many(fleet, number):
    facts = Facts(device=DeviceId("dev-x"), number=1, issued=0.0, agent="0", host=HOST_FACTS, formats=READS)
    blank = {"labels": {"ring": "many"}, "certificate": "", "public_key": "", "enrolled": 0.0, "online": False}
    blank |= {"boot": 0, "facts_number": 1, "report_number": 0, "order_counter": 0, "order_published": 0}
    blank |= {"facts": canonical.encode(facts)}
    with fleet.database.write() as connection:
        connection.execute(insert(devices), [blank | {"id": f"many-{one:05}"} for one in range(number)])


def test_a_thousand_devices_take_a_bounded_number_of_statements(fleet):
    """To give commands to them, to send these, to look at them, and to have them sent when all come back at once."""
    many(fleet, 1000)
    said = []
    event.listen(fleet.database.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    given, _ = fleet.give("ping", selector="ring=many")
    assert len(given) == 1000
    assert len(said) < 20, said
    said.clear()
    assert len(sent(fleet) | sent(fleet)) == 1000
    assert len(said) < 20, said
    said.clear()
    with fleet.database.write() as connection:
        due.all_again(connection, fleet.now + 1)
        assert len(view.some(connection, limit=1000)) == 1000
    assert len(said) < 10, said
    fleet.now += 1
    assert len(sent(fleet) | sent(fleet)) == 1000


def test_a_request_has_a_bound(fleet, monkeypatch):
    """More devices than one request may have are refused, and nothing is given."""
    assert AT_MOST == 10_000
    monkeypatch.setattr("fleet.commands.whom.AT_MOST", 1)
    with pytest.raises(Invalid, match="2 devices are more than the 1 of one request"):
        fleet.give("ping", selector="*")
    assert count(fleet) == 0


def test_a_director_that_is_replaced_while_commands_are_signed_signs_them_anew(fleet):
    """No device is sent what the director of before has signed."""
    old, new = fleet.director, CryptoSigner.generate_ed25519()
    named = iter([old, new])
    fleet.commands = Commands(fleet.database, lambda _connection: next(named), fleet.clock)
    given, _ = fleet.give("ping", selector="*")
    fleet.director = new
    for device, ident in given.items():
        assert fleet.signed_command(ident).device == device
