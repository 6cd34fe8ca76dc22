"""Bundles for many devices: a group, an end, a list without secrets, and taking one back."""

import pytest
from sqlalchemy import select, text

from fleet import joins, tokens
from fleet.db import Database, configuration
from fleet.refusals import JoinRevoked, JoinSpent, Missing, WrongName
from fleet.tables import devices
from modules.errors import Invalid
from modules.names import DeviceId
from tests.doubles.door import Door, new_key


@pytest.fixture
def door(database):
    return Door(database)


def listed(door):
    with door.database.read() as connection:
        return joins.view_all(connection)


def revoke(door, join):
    with door.database.write() as connection:
        return joins.revoke(connection, door.now, join)


def test_each_device_of_a_bundle_gets_its_labels(door):
    """As many devices as it is for, and all of them in its group."""
    token = door.bundle(uses=2, labels={"site": "berlin", "ring": "canary"})
    for _ in range(2):
        door.ask(new_key(), token)
    with door.database.read() as connection:
        rows = connection.scalars(select(devices.c.labels)).all()
    assert rows == [{"site": "berlin", "ring": "canary"}] * 2
    with pytest.raises(JoinSpent):
        door.ask(new_key(), token)


@pytest.mark.parametrize("labels", [{"id": "x"}, {"host.os": "linux"}, {"Site": "x"}, {"site": "a b"}])
def test_a_label_that_no_selector_could_name_makes_no_bundle(door, labels):
    """It is refused where it is written, and nothing is left behind."""
    with pytest.raises(Invalid):
        door.bundle(labels=labels)
    assert listed(door) == []


def test_the_list_says_who_made_what_and_never_a_token(door):
    """Id, by whom, what is left, until when, which labels; no text or hash of a token."""
    token = door.bundle(uses=3, labels={"site": "berlin"}, by="token 1 (admin)", life_s=600)
    door.ask(new_key(), token)
    (shown,) = listed(door)
    assert {name: shown[name] for name in ("by", "uses", "uses_left", "labels", "kind")} == {
        "by": "token 1 (admin)", "uses": 3, "uses_left": 2, "labels": {"site": "berlin"}, "kind": "bundle",
    }  # fmt: skip
    assert shown["expires"] == pytest.approx(door.now + 600)
    for secret in (token, token.removeprefix("eft_"), tokens.hashed(token)):
        assert secret not in str(shown)


def test_nobody_joins_with_a_bundle_that_was_taken_back(door):
    """Neither new devices nor those that wait, nor the device that joined with it; that one stays a device."""
    token, key = door.bundle(uses=3), new_key()
    door.ask(key, token, DeviceId("dev-a"))
    revoke(door, listed(door)[0]["id"])
    for one in (new_key(), key):
        with pytest.raises(JoinRevoked, match="took this join bundle back"):
            door.ask(one, token)
    with door.database.read() as connection:
        assert connection.scalars(select(devices.c.id)).all() == ["dev-a"]
    with pytest.raises(Missing):
        revoke(door, listed(door)[0]["id"])


def test_a_bundle_for_one_name_gives_no_other(door):
    """Whoever asks for another name is refused; without a name it gets that one."""
    door.ask(new_key(), door.bundle(), DeviceId("dev-a"))
    token = door.bundle(name=DeviceId("dev-a"), readmit=True)
    with pytest.raises(WrongName, match="for dev-a"):
        door.ask(new_key(), token, DeviceId("dev-b"))
    assert door.ask(new_key(), token).device == "dev-a"


def test_bundles_of_before_go_on_letting_devices_in(tmp_path):
    """The migration takes tokens that were made for joining along, with their uses and their end."""
    from alembic import command  # noqa: PLC0415 - of this test alone

    made = Database.of("", tmp_path / "fleet.sqlite")
    with made.engine.connect().execution_options(write=True) as connection:
        command.upgrade(configuration(connection), "0010")
    token = tokens.make()
    with made.write() as connection:
        connection.execute(
            text(
                "INSERT INTO tokens (kind, hash, role, uses_left, created, expires) "
                "VALUES ('join', :h, 'device', 1, 0, 9e9)"
            ),
            {"h": tokens.hashed(token)},
        )
    made.migrate()
    door = Door(made)
    door.ask(new_key(), token)
    with pytest.raises(JoinSpent):
        door.ask(new_key(), token)
    made.close()
