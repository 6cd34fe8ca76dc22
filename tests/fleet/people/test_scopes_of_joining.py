"""Who may let devices join for one group does it for that group alone: bundles, claims, readmissions, and who waits."""

import pytest
from sqlalchemy import select

from fleet import joins, tokens
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.tables import devices
from fleet.tables import pending as waiting
from modules import canonical
from modules.protocol.enrollment import EnrollPending, EnrollRequest
from tests.doubles.door import new_key, request
from tests.doubles.fleet_rows import SmallFleet

BERLIN = {"site": "berlin"}
JOINS, CLAIMS, PENDING = "/api/v1/joins", "/api/v1/claims", "/api/v1/pending"


@pytest.fixture
async def berlin(house, monkeypatch):
    """A device in Berlin and one in Rome, and a token of an installer for Berlin."""
    fleet = SmallFleet(house.folder.root, house.database)
    fleet.add_device("berlin-1", labels=BERLIN | {"ring": "canary"})
    fleet.add_device("rome-1", labels={"site": "rome"})
    house.scoped = token(house, "site=berlin")
    monkeypatch.setattr("fleet.metadata.Metadata.newest_root", lambda _metadata: b"root")
    return house


def token(house, *selectors):
    grants = roles.plain(roles.check(Grant("installer", one) for one in selectors))
    with house.database.write() as connection:
        return tokens.create(connection, house.now, kind="api", role="", name="x", roles=grants)


async def bundle(house, labels, by=None, **more):
    """The answer to a wish for a bundle, as an admin unless said."""
    return await house.ask("POST", "/api/v1/join-tokens", by, json={"labels": labels, "approve": True} | more)


async def waits(house, name, labels):
    """A device that waits for approval with a bundle of an admin's; its fingerprint."""
    given = (await bundle(house, labels)).json()["token"]
    asked = canonical.encode(EnrollRequest(token=given, csr=request(new_key()), name=name))
    answer = await house.http.post("/enroll", content=asked)
    return canonical.decode(answer.content, EnrollPending, limit=10_000, what="answer").fingerprint


def count(house):
    with house.database.read() as connection:
        return len(connection.execute(select(joins.joins.c.id)).all())


async def listed(house, path, by):
    return (await house.ask("GET", path, by)).json()


async def test_a_bundle_lets_devices_into_one_s_own_group_alone(berlin, refused):
    """403 that says which labels are missing, and no bundle; with them a device joins, and is in the group."""
    for labels in ({}, {"site": "rome"}, {"ring": "canary"}):
        document = refused(await bundle(berlin, labels, berlin.scoped), 403, "forbidden")
        assert document["remedy"] == "give them labels that are of site=berlin: --label KEY=VALUE"
    assert count(berlin) == 0
    answer = await bundle(berlin, BERLIN, berlin.scoped, approve=False)
    assert answer.status_code == 200, answer.text
    asked = EnrollRequest(token=answer.json()["token"], csr=request(new_key()), name="berlin-2")
    assert (await berlin.http.post("/enroll", content=canonical.encode(asked))).status_code == 200
    seen = [one["id"] for one in await listed(berlin, "/api/v1/devices", berlin.scoped)]
    assert seen == ["berlin-1", "berlin-2"]


async def test_a_bundle_lets_nobody_in_whose_name_decides_and_is_not_known(berlin, refused):
    """Rights for certain names: a claim for one of them, and no bundle under which any name may be taken."""
    for selector in ("id=berlin-7", "id!=rome-7", "id in (berlin-7,berlin-8)"):
        mine = token(berlin, selector)
        refused(await bundle(berlin, BERLIN, mine), 403, "forbidden")
        assert (await berlin.ask("POST", CLAIMS, mine, json={"device": "berlin-7"})).status_code == 200
        refused(await berlin.ask("POST", CLAIMS, mine, json={"device": "rome-7"}), 403, "forbidden")
        (one,) = await listed(berlin, JOINS, mine)
        assert one["name"] == "berlin-7"
        await berlin.ask("DELETE", f"{JOINS}/{one['id']}")
        with berlin.database.write() as connection:
            connection.execute(joins.joins.delete())


async def test_each_group_of_several_may_be_joined(berlin, refused):
    """Labels of either; where a label must not be, whoever has none of that key, too."""
    two = token(berlin, "site=berlin", "zone in (a,b),site!=rome")
    for labels in (BERLIN, {"zone": "a"}, {"zone": "b", "site": "oslo"}):
        assert (await bundle(berlin, labels, two)).status_code == 200
    for labels in ({"zone": "c"}, {"zone": "a", "site": "rome"}):
        refused(await bundle(berlin, labels, two), 403, "forbidden")
    assert len(await listed(berlin, JOINS, two)) == 3
    assert [one["labels"] for one in await listed(berlin, JOINS, berlin.scoped)] == [BERLIN]


async def test_bundles_of_others_are_neither_seen_nor_taken_back(berlin, refused):
    """404 as for a number that no bundle has; one for one's own group that somebody else has made is taken back."""
    for labels in (BERLIN, {"site": "rome"}, {}):
        assert (await bundle(berlin, labels)).status_code == 200
    (mine,) = await listed(berlin, JOINS, berlin.scoped)
    assert mine["labels"] == BERLIN
    others = [one["id"] for one in await listed(berlin, JOINS, None) if one["id"] != mine["id"]]
    assert len(others) == 2
    for other in others:
        refused(await berlin.ask("DELETE", f"{JOINS}/{other}", berlin.scoped), 404, "missing")
    assert (await berlin.ask("DELETE", f"{JOINS}/{mine['id']}", berlin.scoped)).status_code == 200
    gone = {one["id"]: one["revoked"] is not None for one in await listed(berlin, JOINS, None)}
    assert gone == {mine["id"]: True} | dict.fromkeys(others, False)


async def test_a_claim_is_for_a_device_of_one_s_own_group(berlin, refused):
    """By its labels; another key takes the name of a device in the group, and of none outside or that is gone."""
    refused(await berlin.ask("POST", CLAIMS, berlin.scoped, json={"device": "new-1"}), 403, "forbidden")
    mine = {"device": "new-1", "labels": BERLIN}
    assert (await berlin.ask("POST", CLAIMS, berlin.scoped, json=mine)).status_code == 200
    again = {"device": "berlin-1", "readmit": True}
    assert (await berlin.ask("POST", CLAIMS, berlin.scoped, json=again)).status_code == 200
    away = again | {"labels": {"site": "rome"}}
    refused(await berlin.ask("POST", CLAIMS, berlin.scoped, json=away), 403, "forbidden")
    for name in ("rome-1", "nobody-1"):
        body = {"device": name, "readmit": True, "labels": BERLIN}
        document = refused(await berlin.ask("POST", CLAIMS, berlin.scoped, json=body), 404, "missing")
        assert document["detail"] == "there is no such device"
    assert [one["name"] for one in await listed(berlin, JOINS, berlin.scoped)] == ["berlin-1", "new-1"]


async def test_other_hardware_takes_the_place_of_one_s_own_devices_alone(berlin, refused):
    """A bundle for a name in the group, seen by whoever has rights for it as long as the device is there."""
    path = "/api/v1/devices/{}/readmit".format
    assert (await berlin.ask("POST", path("berlin-1"), berlin.scoped, json={})).status_code == 200
    refused(await berlin.ask("POST", path("rome-1"), berlin.scoped, json={}), 404, "missing")
    assert (await berlin.ask("POST", path("rome-1"), json={})).status_code == 200
    assert [one["name"] for one in await listed(berlin, JOINS, berlin.scoped)] == ["berlin-1"]
    with berlin.database.write() as connection:
        connection.execute(devices.update().where(devices.c.id == "berlin-1").values(labels={"site": "rome"}))
    assert await listed(berlin, JOINS, berlin.scoped) == []


async def test_who_waits_is_seen_approved_and_rejected_in_one_s_own_group_alone(berlin, refused):
    """404 as for a name under which nobody waits, and it waits on."""
    mine, other, theirs = [
        await waits(berlin, name, labels)
        for name, labels in (("berlin-2", BERLIN), ("berlin-3", BERLIN), ("rome-2", {"site": "rome"}))
    ]
    await waits(berlin, "berlin-4", {})  # a name says nothing
    assert [one["name"] for one in await listed(berlin, PENDING, berlin.scoped)] == ["berlin-2", "berlin-3"]
    for name in ("rome-2", "berlin-4"):
        for action, body in (("approve", {"fingerprint": theirs}), ("reject", {})):
            refused(await berlin.ask("POST", f"{PENDING}/{name}/{action}", berlin.scoped, json=body), 404, "missing")
    approved = await berlin.ask("POST", f"{PENDING}/berlin-2/approve", berlin.scoped, json={"fingerprint": mine})
    assert approved.status_code == 200, approved.text
    assert (await berlin.ask("POST", f"{PENDING}/berlin-3/reject", berlin.scoped, json={})).status_code == 200
    with berlin.database.read() as connection:
        found = dict(connection.execute(select(waiting.c.name, waiting.c.state)).all())
    assert found == {"berlin-2": "approved", "berlin-3": "rejected", "berlin-4": "waiting", "rome-2": "waiting"}
    assert other != mine
