"""Rollouts of an endpoint's requests over the API: what is shown, who may, and what others may not do meanwhile."""

import pytest

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant

PATH = "/api/v1/endpoints"
POLICY = {"waves": [{"percent": 10}, {"percent": 100}]}


def token(cloud, *grants):
    with cloud.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, cloud.now, kind="api", role="", name="x", roles=given)


@pytest.fixture
async def endpoint(cloud):
    """An endpoint of the first module."""
    made = {"name": "digits", "target": "lab", "versions": {"v1": {"module": cloud.refs[0], "replicas": 2}}}
    answer = await cloud.ask("POST", PATH, json=made)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def start(cloud, by=None, **more):
    body = {"module": cloud.refs[1], "policy": POLICY} | more
    return await cloud.ask("POST", f"{PATH}/digits/rollouts", by, json=body)


async def test_what_is_started_is_a_rollout_like_any_other(cloud, endpoint):
    """It is listed and shown with its endpoint, versions and shares; paused and cancelled by the same routes."""
    made = (await start(cloud)).json()
    assert (made["endpoint"], made["before"], made["version"]) == ("digits", "v1", "v2")
    assert [(one["percent"], one["wave"]) for one in made["shares"]] == [(10, 1), (100, 2)]
    listed = (await cloud.ask("GET", "/api/v1/rollouts")).json()
    assert [(one["id"], one["endpoint"], one["slot"]) for one in listed] == [(made["id"], "digits", "")]
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = await cloud.ask("POST", f"/api/v1/rollouts/{made['id']}/{action}")
        assert answer.json()["state"] == state
    assert (await cloud.ask("GET", f"/api/v1/rollouts/{made['id']}/devices")).json() == []


async def test_a_policy_of_an_endpoint_builds_on_gates(cloud, endpoint):
    """Without a word its waves are judged by errors, latency and restarts, and what is bad goes back."""
    made = (await start(cloud, policy={})).json()
    assert made["policy"]["on_failure"] == "revert"
    assert {one["measure"] for one in made["policy"]["gates"]} == {"error_percent", "p95_ms", "restarts"}
    assert [one["percent"] for one in made["shares"]] == [5, 25, 100]


async def test_a_plan_is_shown_and_nothing_is_written(cloud, endpoint):
    """The shares of each wave, and no rollout."""
    body = {"module": cloud.refs[1], "policy": {"preset": "careful"}}
    planned = (await cloud.ask("POST", f"{PATH}/digits/rollouts/plan", json=body)).json()
    assert [one["percent"] for one in planned["waves"]] == [1, 5, 25, 100]
    assert (planned["before"], planned["version"]) == ("v1", "v2")
    assert (await cloud.ask("GET", "/api/v1/rollouts")).json() == []


async def test_shares_are_not_changed_by_hand_meanwhile(cloud, endpoint, refused):
    """The refusal names the rollout and what ends it; settings may change all the same."""
    made = (await start(cloud)).json()
    both = {"v1": {"module": cloud.refs[0], "replicas": 2}, "v2": {"module": cloud.refs[1], "weight": 50}}
    answer = await cloud.ask("PATCH", f"{PATH}/digits", json={"versions": both})
    said = refused(answer, 409, "conflict")
    assert f"rollout {made['id']}" in said["detail"]
    assert f"rollouts cancel {made['id']}" in str(said)
    changed = await cloud.ask("PATCH", f"{PATH}/digits", json={"settings": {"waiting": 5}})
    assert changed.json()["settings"]["waiting"] == 5


async def test_who_may_not_change_the_endpoint_starts_nothing(cloud, endpoint, refused):
    """Neither who looks, nor who approves, nor who has rights for some devices; of other teams it does not exist."""
    for grant in (Grant("viewer"), Grant("approver"), Grant("admin", "site=berlin")):
        refused(await start(cloud, token(cloud, grant)), 403, "forbidden")
    refused(await start(cloud, token(cloud, Grant("admin", teams=("others",)))), 404, "missing")
    assert (await cloud.ask("GET", "/api/v1/rollouts")).json() == []
    assert (await start(cloud, token(cloud, Grant("rollout-manager", teams=("acme",))))).status_code == 201


async def test_a_rollout_of_an_endpoint_is_seen_by_its_team_alone(cloud, endpoint, refused):
    """Rights for other teams, or for some devices, neither show it nor steer it."""
    made = (await start(cloud)).json()
    mine = token(cloud, Grant("rollout-manager", teams=("acme",)))
    assert [one["id"] for one in (await cloud.ask("GET", "/api/v1/rollouts", mine)).json()] == [made["id"]]
    for grant in (Grant("admin", teams=("others",)), Grant("admin", "site=berlin")):
        theirs = token(cloud, grant)
        assert (await cloud.ask("GET", "/api/v1/rollouts", theirs)).json() == []
        refused(await cloud.ask("GET", f"/api/v1/rollouts/{made['id']}", theirs), 404, "missing")
        refused(await cloud.ask("POST", f"/api/v1/rollouts/{made['id']}/revert", theirs), 404, "missing")


async def test_a_module_that_a_rollout_brings_is_not_removed(cloud, endpoint, refused):
    """Before its wave is open, too."""
    made = (await start(cloud, policy=POLICY | {"approval": True})).json()
    team, _, rest = cloud.refs[1].partition("/")
    name, _, version = rest.partition(":")
    answer = await cloud.ask("DELETE", f"/api/v1/modules/{team}/{name}/{version}")
    assert f"rollout {made['id']}" in refused(answer, 409, "conflict")["detail"]


async def test_devices_keep_no_module_beside_another(cloud, refused):
    """What a policy says of endpoints alone is refused for devices."""
    body = {"module": cloud.refs[0], "slot": "digits", "policy": {"keep": "1d"}}
    assert "endpoint" in refused(await cloud.ask("POST", "/api/v1/rollouts", json=body), 422, "invalid")["detail"]


async def test_a_rule_for_an_endpoint(cloud, endpoint, refused):
    """Added under the endpoint by who may change it, listed and removed with the others; by the gates of endpoints."""
    path = f"{PATH}/digits/auto-rollouts"
    body = {"name": "cloud", "model": "acme/digits", "tags": {"stage": "field"}, "replicas": 2}
    viewer, others = token(cloud, Grant("viewer")), token(cloud, Grant("rollout-manager", teams=("others",)))
    some = token(cloud, Grant("rollout-manager", "site=berlin"))
    refused(await cloud.ask("POST", path, viewer, json=body), 403, "forbidden")
    refused(await cloud.ask("POST", path, some, json=body), 403, "forbidden")
    refused(await cloud.ask("POST", path, others, json=body), 404, "missing")
    refused(await cloud.ask("POST", f"{PATH}/none/auto-rollouts", json=body), 404, "missing")
    made = (await cloud.ask("POST", path, json=body)).json()
    assert (made["endpoint"], made["model"], made["tags"]) == ("digits", "acme/digits", {"stage": "field"})
    assert len(made["policy"]["gates"]) == 3
    refused(await cloud.ask("POST", path, json=body), 409, "conflict")
    assert [one["endpoint"] for one in (await cloud.ask("GET", "/api/v1/auto-rollouts")).json()] == ["digits"]
    assert (await cloud.ask("GET", "/api/v1/auto-rollouts", some)).json() == []
    refused(await cloud.ask("DELETE", "/api/v1/auto-rollouts/cloud", some), 404, "missing")
    assert (await cloud.ask("DELETE", "/api/v1/auto-rollouts/cloud")).status_code == 200
