"""Who has rights for one group sets, sees and removes secrets of its devices alone, now and of those that will join."""

import base64

import msgspec
import pytest
from sqlalchemy import select

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.secret_tables import secret_wishes, secrets
from modules.names import DeviceId
from modules.protocol.facts import Facts
from modules.sealing import new_key, public_half
from modules.signing import FACTS_TYPE
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet

PATH = "/api/v1/secrets"
TOKEN = {"name": "token", "slot": "digits"}


@pytest.fixture
async def berlin(house):
    """Two devices in Berlin and one in Rome, all with keys for secrets, and a token of an admin for Berlin."""
    house.fleet = SmallFleet(house.folder.root, house.database)
    for name in ("berlin-1", "berlin-2", "rome-1"):
        house.fleet.add_device(name, labels={"site": name.partition("-")[0]})
        more = {"issued": 0.0, "agent": "0", "host": HOST_FACTS, "sealing": public_half(new_key())}
        facts = Facts(device=DeviceId(name), number=2, **more)
        house.fleet.ingest.commit([house.fleet.said(name, "facts", facts, FACTS_TYPE)])
    house.scoped = token(house, Grant("admin", "site=berlin"))
    return house


def token(house, *grants):
    with house.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, house.now, kind="api", role="", name="x", roles=given)


async def put(house, by=None, value=b"first", **where):
    body = TOKEN | where | {"value": base64.b64encode(value).decode()}
    return await house.ask("POST", PATH, by, json=body)


async def take(house, by=None, **where):
    return await house.ask("POST", f"{PATH}/remove", by, json=TOKEN | where)


async def shown(house, by=None):
    """By selector the devices that each secret was set for, as they are listed."""
    listed = (await house.ask("GET", PATH, by)).json()
    return {one["selector"]: [device["device"] for device in one["devices"]] for one in listed}


def versions(house):
    with house.database.read() as connection:
        rows = connection.execute(select(secrets.c.device, secrets.c.version).where(secrets.c.sealed.is_not(None)))
        return dict(rows.all())


async def test_a_secret_is_set_for_one_s_own_group_and_for_whoever_joins_it(berlin, refused):
    """Its selector says so from then on; what was set elsewhere stays as it was."""
    await put(berlin)
    answer = await put(berlin, berlin.scoped)
    assert answer.json()["set"] == ["berlin-1", "berlin-2"]
    assert versions(berlin) == {"berlin-1": 2, "berlin-2": 2, "rome-1": 1}
    with berlin.database.read() as connection:
        assert set(connection.scalars(select(secret_wishes.c.selector))) == {"*", "site=berlin"}
    assert (await put(berlin, berlin.scoped, selector="id=berlin-2")).json()["set"] == ["berlin-2"]
    refused(await put(berlin, berlin.scoped, selector="site=rome"), 404, "missing")
    for outside in ("rome-1", "nobody-1"):
        document = refused(await put(berlin, berlin.scoped, devices=["berlin-1", outside]), 404, "missing")
        assert (document["detail"], document["element"]) == ("there is no such device", outside)
    assert versions(berlin) == {"berlin-1": 2, "berlin-2": 3, "rome-1": 1}


async def test_rights_for_two_groups_want_one_of_them_named(berlin, refused):
    """The selector is kept, and has to mean one group."""
    two = token(berlin, Grant("admin", "site=berlin"), Grant("admin", "site=rome"))
    document = refused(await put(berlin, two), 422, "invalid")
    assert document["remedy"] == "begin the selector with site=berlin or site=rome"
    assert (await put(berlin, two, selector="site=rome")).json()["set"] == ["rome-1"]
    await put(berlin, two, selector="site=berlin")
    assert (await take(berlin, two, selector="site=berlin")).json()["removed"] == ["berlin-1", "berlin-2"]
    assert await shown(berlin) == {"site=rome": ["rome-1"]}


async def test_secrets_of_others_are_not_listed_and_those_for_more_name_nobody_else(berlin):
    """One's own devices alone; of what was set for others, too, the selector is withheld."""
    await put(berlin, selector="site!=nowhere")
    await put(berlin, selector="site=rome")
    await put(berlin, devices=["rome-1"])
    await put(berlin, devices=["berlin-2"])
    await put(berlin, name="other", selector="site=berlin,id!=berlin-1")
    mine = await shown(berlin, berlin.scoped)
    assert mine == {
        "(it is set for more than your rights are for)": ["berlin-1", "berlin-2"],
        "id=berlin-2": ["berlin-2"],
        "site=berlin,id!=berlin-1": ["berlin-2"],
    }
    assert len(await shown(berlin)) == 5


async def test_a_secret_is_taken_from_one_s_own_devices_alone(berlin, refused):
    """With what was wished for them; who else has it keeps it, and goes on being wished for."""
    await put(berlin)
    await put(berlin, devices=["rome-1"])
    await put(berlin, berlin.scoped)
    await put(berlin, berlin.scoped, devices=["berlin-2"])
    refused(await take(berlin, berlin.scoped, devices=["rome-1"]), 404, "missing")
    refused(await take(berlin, berlin.scoped, selector="site=rome"), 404, "missing")
    assert (await take(berlin, berlin.scoped)).json()["removed"] == ["berlin-1", "berlin-2"]
    assert set(versions(berlin)) == {"rome-1"}
    assert set(await shown(berlin)) == {"*", "id=rome-1"}
    assert (await take(berlin)).json()["removed"] == ["rome-1"]
    assert await shown(berlin) == {}


async def test_rights_for_some_teams_modules_are_none_for_secrets(berlin, refused):
    """A slot belongs to no team: another team's module may read what is set there."""
    for grant in (Grant("admin", teams=("acme",)), Grant("admin", "site=berlin", ("acme",))):
        mine = token(berlin, grant)
        for answer in (await put(berlin, mine), await take(berlin, mine), await berlin.ask("GET", PATH, mine)):
            refused(answer, 403, "forbidden")
    assert versions(berlin) == {}


async def test_a_selector_that_grows_too_long_with_the_bound_is_refused(berlin, refused):
    """It is kept whole or not at all."""
    values = ",".join(f"v{number:03}" for number in range(97))
    long = f"ring in ({values})"
    assert len(long) < 500
    document = refused(await put(berlin, berlin.scoped, selector=long), 422, "invalid")
    assert document["detail"] == "the selector is longer than 500 characters"
    assert msgspec.json.encode(await shown(berlin)) == b"{}"
