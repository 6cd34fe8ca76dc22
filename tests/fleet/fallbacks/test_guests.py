"""Who comes into an endpoint by its certificate, and that nobody is sent there before it knows of them."""

from sqlalchemy import update

from fleet.fallbacks import guests
from fleet.tables import devices, members

EVERY = ("dev-a", "dev-b", "dev-c")


def of(fleet):
    with fleet.database.read() as connection:
        return guests.of(connection, fleet.row())


def test_those_that_have_its_model_or_are_to_have_it_come_in(fleet):
    """Whichever version, and before its wave opens; no other device, none that was removed or is to have another."""
    fleet.endpoint(fleet.module())
    fleet.add_device("dev-other")
    fleet.start(fleet.add_module("faces"), devices=("dev-other",), slot="faces")
    assert of(fleet) == []
    fleet.start(fleet.module(), devices=EVERY, policy=fleet.one_by_one())
    assert fleet.phases(2) == {"dev-a": "ordered", "dev-b": "planned", "dev-c": "planned"}
    assert of(fleet) == list(EVERY)
    with fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-b").values(removed=1.0))
    assert of(fleet) == ["dev-a", "dev-c"]
    with fleet.database.write() as connection:
        connection.execute(update(members).where(members.c.device == "dev-c").values(current=False))
    assert of(fleet) == ["dev-a"]


def test_the_gateway_is_told_who_they_are(fleet):
    """Beside the authority and those that are revoked."""
    fleet.endpoint(fleet.module())
    told = fleet.wished.wanted(fleet.row(), ["ab"], ["dev-a"]).devices
    assert (told.only, told.revoked) == (["dev-a"], ["ab"])


def test_misfits_wait_until_it_knows_of_them(fleet):
    """Their clients would be refused there; an endpoint that does not answer holds up nobody."""
    fleet.endpoint(fleet.module())
    fleet.put()
    fleet.stands("ready", admitted=0)
    rollout = fleet.start(fleet.huge(), devices=("dev-a",))
    assert fleet.phases(rollout) == {"dev-a": "planned"}
    fleet.stands("ready", admitted=rollout)
    fleet.renew()
    assert fleet.phases(rollout) == {"dev-a": "ordered"}
