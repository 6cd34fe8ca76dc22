"""Named tokens: no more than their maker, for a while, known by their last use, and gone at once."""

import pytest
from alembic import command
from sqlalchemy import column, select, table

from fleet import tokens as token_rows
from fleet.db import Database, configuration
from fleet.people.identify import of_token
from fleet.people.roles import Grant
from fleet.tables import tokens

TOKENS = "/api/v1/tokens"
DAY_S = 86400


async def make(house, name, token=None, **more):
    return await house.ask("POST", TOKENS, token, json={"name": name, **more})


@pytest.fixture
async def bert(house):
    """The personal token of an operator with two roles, one of them for Berlin alone."""
    house.add("bert", Grant("operator", "site=berlin"), Grant("releaser", "*", ("acme", "other")))
    csrf = (await house.log_in("bert")).json()["csrf"]
    made = await house.http.post(TOKENS, json={"name": "laptop"}, headers={"X-Edgefleet-Csrf": csrf})
    return made.json()["token"]


async def test_a_token_may_do_no_more_than_its_maker(house, bert, refused):
    """No other role, no wider group, no other team; less is fine."""
    for role in (
        {"role": "admin"},
        {"role": "operator"},
        {"role": "operator", "selector": "site=paris"},
        {"role": "operator", "selector": "ring=canary"},
        {"role": "releaser"},
        {"role": "releaser", "teams": ["acme", "third"]},
    ):
        document = refused(await make(house, "ci", bert, roles=[role]), 403, "forbidden")
        assert "no more than you" in document["detail"]
    narrow = [{"role": "operator", "selector": "ring=canary,site=berlin"}, {"role": "releaser", "teams": ["acme"]}]
    assert (await make(house, "ci", bert, roles=narrow)).status_code == 201
    refused(await make(house, "ci2", bert, roles=[{"role": "boss"}]), 422, "invalid")


async def test_a_token_loses_what_its_operator_loses_at_once(house, bert):
    """Roles are those of both: taken from the operator, they are gone from the token; disabled, it holds no more."""
    assert (await house.ask("GET", "/api/v1/devices", bert)).status_code == 200
    await house.ask("PATCH", "/api/v1/operators/bert", json={"roles": [{"role": "releaser", "teams": ["acme"]}]})
    assert (await house.ask("GET", "/api/v1/devices", bert)).status_code == 403
    assert (await house.ask("GET", "/api/v1/modules", bert)).status_code == 200
    await house.ask("PATCH", "/api/v1/operators/bert", json={"disabled": True})
    assert (await house.ask("GET", "/api/v1/modules", bert)).status_code == 401


async def test_a_token_ends_after_ninety_days_or_when_it_was_said_within_the_most(house, refused):
    """And one that was made with another token ends no later than that one."""
    usual, said = (await make(house, "usual")).json(), (await make(house, "said", expires_s=3600)).json()["token"]
    refused(await make(house, "long", expires_s=366 * DAY_S), 422, "invalid")
    child = (await make(house, "child", said, expires_s=DAY_S)).json()["token"]
    house.now += 3601
    for one in (said, child):
        assert (await house.ask("GET", "/api/v1/devices", one)).status_code == 401
    house.now += 90 * DAY_S - 3602
    assert (await house.ask("GET", "/api/v1/devices", usual["token"])).status_code == 200
    house.now += 2
    assert (await house.ask("GET", "/api/v1/devices", usual["token"])).status_code == 401


async def test_a_name_is_used_once_at_a_time(house, bert, refused):
    """Twice is refused with what to do; after it was revoked it is free; others have names of their own."""
    assert (await make(house, "ci", bert)).status_code == 201
    document = refused(await make(house, "ci", bert), 409, "conflict")
    assert "edgefleet tokens revoke ci" in document["remedy"]
    ((said, by),) = house.events("people-refused")
    assert "[conflict]" in said
    assert by == "bert (token laptop)"
    assert (await make(house, "ci")).status_code == 201
    await house.ask("DELETE", f"{TOKENS}/ci", bert)
    assert (await make(house, "ci", bert)).status_code == 201
    for name in ("", "CI", "a b", "12"):
        refused(await make(house, name, bert), 422, "invalid")


async def test_a_revoked_token_takes_along_what_was_made_with_it(house, refused):
    """Whoever stole one and made others with it has none left."""
    first = (await make(house, "first")).json()
    second = (await make(house, "second", first["token"])).json()
    third = (await make(house, "third", second["token"])).json()
    gone = (await house.ask("DELETE", f"{TOKENS}/{first['id']}")).json()["revoked"]
    assert gone == [first["id"], second["id"], third["id"]]
    for one in (first, second, third):
        refused(await house.ask("GET", "/api/v1/devices", one["token"]), 401, "unauthorised")
    refused(await house.ask("DELETE", f"{TOKENS}/{first['id']}"), 404, "missing")


async def test_everybody_sees_and_revokes_their_own_and_an_admin_all(house, bert, refused):
    """Another's token is answered as one that is not there."""
    other = (await make(house, "other")).json()
    assert {one["name"] for one in (await house.ask("GET", TOKENS, bert)).json()} == {"laptop"}
    assert {one["name"] for one in (await house.ask("GET", TOKENS)).json()} >= {"laptop", "other"}
    refused(await house.ask("DELETE", f"{TOKENS}/{other['id']}", bert), 404, "missing")
    refused(await house.ask("DELETE", f"{TOKENS}/other", bert), 404, "missing")
    mine = next(one["id"] for one in (await house.ask("GET", TOKENS)).json() if one["name"] == "laptop")
    assert (await house.ask("DELETE", f"{TOKENS}/{mine}")).status_code == 200
    assert (await house.ask("GET", "/api/v1/devices", bert)).status_code == 401
    assert [by for _, by in house.events("token-revoked")] == ["token 1 (admin)"]


async def test_the_last_use_is_known_to_the_minute_and_costs_a_write_a_minute(house):
    """The row changes once a minute, however many requests there are."""
    await house.ask("GET", "/api/v1/devices")
    begun = house.now
    for _ in range(50):
        await house.ask("GET", "/api/v1/devices")

    def used():
        with house.database.read() as connection:
            return connection.execute(select(tokens.c.last_used).where(tokens.c.id == 1)).scalar_one()

    assert used() == begun
    house.now += 59
    await house.ask("GET", "/api/v1/devices")
    assert used() == begun
    house.now += 1
    await house.ask("GET", "/api/v1/devices")
    assert used() == begun + 60


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def test_a_token_of_an_older_server_holds_as_before(kind, request, tmp_path):
    """The new tables come with the next start; the token keeps the role that it was made with, everywhere."""
    url = request.getfixturevalue("cluster").new() if kind == "postgresql" else ""
    database = Database.of(url, tmp_path / "fleet.sqlite")
    with database.engine.connect().execution_options(write=True, patience_s=60) as connection:
        command.upgrade(configuration(connection), "0010")
    text = "eft_" + "a" * 43
    with database.write() as connection:
        values = {"kind": "api", "hash": token_rows.hashed(text), "role": "analyst", "created": 1.0}
        old = table("tokens", *map(column, values))
        connection.execute(old.insert().values(**values))
    database.migrate()
    with database.read() as connection:
        who = of_token(token_rows.holder(connection, 2.0, text, kind="api"))
    database.close()
    assert who.name == "token 1 (analyst)"
    assert who.permissions == ["fleet:export"]
    assert who.scope("fleet:export").unlimited
