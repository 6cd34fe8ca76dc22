"""Policies over the API: set, shown and removed, by whom, and for whose devices and modules."""

from urllib.parse import quote

import pytest
from sqlalchemy import update

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.target_tables import targets
from tests.fleet.people.conftest import house, made, passwords, refused_fixture
from tests.fleet.targets.conftest import cloud
from tests.fleet.targets.test_endpoints import create

__all__ = ["cloud", "house", "made", "passwords", "refused_fixture"]

PATH = "/api/v1/fallbacks"
MINE = f"{PATH}/acme/digits"
URL = "https://other.example/x"


def token(cloud, *grants):
    with cloud.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, cloud.now, kind="api", role="", name="x", roles=given)


async def put(cloud, by=None, **body):
    return await cloud.ask("PUT", MINE, by, json={"fallback": URL} | body)


async def test_what_is_set_is_shown_and_removed(cloud, refused):
    """With its endpoint's state, its costs, and why it says nothing for a version."""
    await create(cloud, settings={"devices": True})
    with cloud.database.write() as connection:
        connection.execute(update(targets).values(price_per_hour=2.0))
    body = {"group": "site=berlin", "fallback": "endpoint:digits", "on_demand": True, "linger_s": 60}
    body |= {"terms": {"when": ["unhealthy"], "requests_a_day": 5}, "money_a_day": 1.5}
    found = (await put(cloud, **body)).json()
    assert (found["module"], found["group"], found["endpoint"]) == ("acme/digits", "site=berlin", "digits")
    assert (found["when"], found["terms"], found["money_a_day"]) == (["unhealthy"], {"requests_a_day": 5}, 1.5)
    assert (found["costs"]["price_per_hour"], found["spent"]) == (2.0, False)
    assert (found["state"] in {"updating", "failed"}, found["by"]) == (True, "token 1 (admin)")
    one = f"{MINE}?group={quote('site=berlin')}"
    assert (await cloud.ask("GET", one)).json()["changed"] == found["changed"]
    assert [each["group"] for each in (await cloud.ask("GET", PATH)).json()] == ["site=berlin"]
    refused(await cloud.ask("GET", MINE), 404, "missing")
    assert (await cloud.ask("DELETE", one)).json()["state"] == "removed"
    refused(await cloud.ask("DELETE", one), 404, "missing")
    assert (await cloud.ask("GET", PATH)).json() == []


async def test_it_says_for_which_versions_it_says_nothing(cloud):
    """A version whose publisher allows no host is named, with the reason."""
    cloud.fleet.add_device("dev-a")
    ref = cloud.fleet.add_module("digits")
    cloud.fleet.start(ref, devices=("dev-a",))
    found = (await put(cloud)).json()
    assert list(found["refused"]) == [str(ref)]
    assert "allows the host other.example" in found["refused"][str(ref)]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"fallback": ""}, "nobody is named"),
        ({"linger_s": -1}, "linger_s"),
        ({"money_a_day": 1e12}, "money_a_day"),
        ({"terms": {"when": ["x"]}}, "when"),
        ({"group": "nonsense"}, "cannot read"),
        ({"group": "host.os=linux"}, "cannot bound"),
    ],
)
async def test_what_cannot_be_is_refused(cloud, refused, body, word):
    """With what is wrong; and nothing is kept."""
    assert word in str(refused(await put(cloud, **body), 422, "invalid"))
    assert (await cloud.ask("GET", PATH)).json() == []


async def test_policies_of_other_teams_do_not_exist_for_a_team(cloud, refused):
    """Rights for another team list none, show none, remove none, and set none."""
    await put(cloud)
    theirs = token(cloud, Grant("rollout-manager", teams=("others",)))
    assert (await cloud.ask("GET", PATH, theirs)).json() == []
    for method in ("GET", "DELETE"):
        refused(await cloud.ask(method, MINE, theirs), 404, "missing")
    refused(await put(cloud, theirs, fallback=URL), 404, "missing")
    ours = token(cloud, Grant("rollout-manager", teams=("acme",)))
    assert (await put(cloud, ours)).status_code == 200


async def test_an_endpoint_of_another_team_is_not_named(cloud, refused):
    """It does not exist for whoever has no rights for it."""
    await create(cloud, settings={"devices": True})
    theirs = token(cloud, Grant("rollout-manager", teams=("others",)))
    answer = await cloud.ask("PUT", f"{PATH}/others/digits", theirs, json={"fallback": "endpoint:digits"})
    refused(answer, 404, "missing")


async def test_who_has_some_devices_sets_policies_for_these(cloud, refused):
    """What is not said is cut to them; policies that reach further they neither see nor remove."""
    await put(cloud)
    some = token(cloud, Grant("rollout-manager", "site=berlin"))
    assert (await put(cloud, some)).json()["group"] == "site=berlin"
    assert [one["group"] for one in (await cloud.ask("GET", PATH, some)).json()] == ["site=berlin"]
    refused(await cloud.ask("DELETE", MINE, some), 404, "missing")
    two = token(cloud, Grant("rollout-manager", "site=berlin"), Grant("rollout-manager", "site=lyon"))
    assert "several groups" in refused(await put(cloud, two), 422, "invalid")["detail"]


async def test_who_may_only_look_sets_nothing(cloud, refused):
    """A viewer sees the policies."""
    await put(cloud)
    viewer = token(cloud, Grant("viewer"))
    assert len((await cloud.ask("GET", PATH, viewer)).json()) == 1
    refused(await put(cloud, viewer), 403, "forbidden")


async def test_a_price_is_the_operators(cloud, refused):
    """It is said of a target, and shown there; what is no price is refused."""
    path = "/api/v1/targets/lab"
    assert (await cloud.ask("PATCH", path, json={"price_per_hour": 2.5})).json()["price_per_hour"] == 2.5
    assert (await cloud.ask("GET", "/api/v1/targets")).json()[0]["price_per_hour"] == 2.5
    refused(await cloud.ask("PATCH", path, json={"price_per_hour": -1}), 422, "invalid")
    refused(await cloud.ask("PATCH", f"{path}x", json={"price_per_hour": 1}), 404, "missing")


async def test_a_policy_is_looked_at_before_it_is_set(cloud, refused):
    """What would change is told as for setting it, with the same refusals; nothing is set."""
    cloud.fleet.add_device("dev-a", labels={"site": "berlin"})
    cloud.fleet.start(cloud.fleet.add_module("digits", fallback_hosts=("other.example",)), devices=("dev-a",))
    cloud.fleet.publish()
    path = f"{MINE}/preview"
    found = (await cloud.ask("POST", path, json={"fallback": URL, "group": "site=berlin"})).json()
    assert [(one["device"], one["before"]) for one in found["named"]] == [("dev-a", "nobody")]
    assert (await cloud.ask("GET", PATH)).json() == []
    assert "nobody is named" in str(refused(await cloud.ask("POST", path, json={"fallback": ""}), 422, "invalid"))
    refused(await cloud.ask("POST", path, json={"remove": True}), 404, "missing")
    await put(cloud)
    gone = (await cloud.ask("POST", path, json={"remove": True})).json()
    assert [(one["device"], one["after"]) for one in gone["named"]] == [("dev-a", "nobody")]
    refused(await cloud.ask("POST", path, token(cloud, Grant("viewer")), json={"fallback": URL}), 403, "forbidden")
    some = token(cloud, Grant("rollout-manager", "site=lyon"))
    assert (await cloud.ask("POST", path, some, json={"fallback": URL})).json()["named"] == []
    refused(await cloud.ask("POST", path, some, json={"remove": True}), 404, "missing")


async def test_who_may_see_a_policy_sees_what_was_sent(cloud, refused):
    await put(cloud, terms={"requests_a_day": 5})
    found = (await cloud.ask("GET", f"{MINE}/requests", token(cloud, Grant("viewer")))).json()
    assert (found["sent"], found["a_day"], found["devices"]) == (0, 5, 0)
    refused(await cloud.ask("GET", f"{MINE}/requests?group=site%3Dlyon"), 404, "missing")
    some = token(cloud, Grant("viewer", "site=berlin"))
    refused(await cloud.ask("GET", f"{MINE}/requests", some), 404, "missing")


async def test_an_endpoints_costs_are_told_by_the_day(cloud, refused):
    await create(cloud)
    found = (await cloud.ask("GET", "/api/v1/endpoints/digits/costs?days=7")).json()
    assert (len(found["days"]), found["price_per_hour"]) == (7, 0.0)
    assert {one["cost"] for one in found["days"]} == {0.0}
    refused(await cloud.ask("GET", "/api/v1/endpoints/digits/costs?days=0"), 422, "invalid")
    refused(await cloud.ask("GET", "/api/v1/endpoints/none/costs"), 404, "missing")
