"""Batch jobs as they are asked for over the API: what is taken, what is refused, and who may."""

import pytest
from sqlalchemy import update

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.target_tables import jobs, targets
from fleet.targets import kinds
from modules.errors import Invalid

PATH = "/api/v1/batch-jobs"


def places(cloud, text="in,out"):
    with cloud.database.write() as connection:
        document = f'{{"docker": "unix:///nonexistent.sock", "batch_places": "{text}"}}'
        connection.execute(update(targets).values(attached=document))


async def start(cloud, by=None, code=201, **more):
    places(cloud)
    body = {"name": "night", "target": "lab", "module": cloud.refs[0], "inputs": "in", "outputs": "out"} | more
    answer = await cloud.ask("POST", PATH, by, json=body)
    assert answer.status_code == code, answer.text
    return answer.json()


def token(cloud, *grants):
    with cloud.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, cloud.now, kind="api", role="", name="x", roles=given)


async def test_what_is_asked_for_is_shown(cloud):
    """With its defaults, where the answers will be, and that the engine does not answer."""
    made = await start(cloud, settings={"workers": 2})
    assert (made["state"], made["outputs"], made["settings"]["workers"]) == ("starting", "out/night", 2)
    assert [one["name"] for one in (await cloud.ask("GET", PATH)).json()] == ["night"]


async def test_only_places_that_the_target_was_attached_with(cloud):
    """No other volume or folder of the host, nor both the same; no setting that nobody knows."""
    elsewhere = ({"inputs": "/etc"}, {"outputs": "/var"}, {"inputs": "out"}, {"inputs": "in/../x"}, {"inputs": ""})
    unknown = ({"nobody": 1}, {"workers": 0}, {"match": "a\n"})
    for more in (*elsewhere, *({"settings": one} for one in unknown)):
        assert (await start(cloud, code=422, **more))["code"] == "invalid"
    assert (await cloud.ask("GET", PATH)).json() == []


@pytest.mark.parametrize("place", ["/", "/srv/../etc", "edgefleet.main.digits.door", "a b", "-v"])
def test_what_is_no_place_is_refused_at_attaching(place):
    """A volume of the fleet's own has keys of endpoints."""
    with pytest.raises(Invalid):
        kinds.read("container", {"docker": "unix:///s.sock", "batch_places": f"good,{place}"})


async def test_rights_go_by_the_team_of_the_module(cloud):
    """Another team's operator sees no such job and starts none; a viewer starts none."""
    other = token(cloud, Grant("rollout-manager", teams=("other",)))
    await start(cloud, by=other, code=404)
    await start(cloud)
    for path in ("night", "night/logs"):
        assert (await cloud.ask("GET", f"{PATH}/{path}", other)).status_code == 404
    assert (await cloud.ask("POST", f"{PATH}/night/cancel", other)).status_code == 404
    assert (await cloud.ask("GET", PATH, other)).json() == []
    await start(cloud, by=token(cloud, Grant("viewer")), code=403, name="two")
    await start(cloud, by=token(cloud, Grant("rollout-manager", teams=("acme",))), name="two")


async def test_a_name_is_free_once_its_job_has_ended(cloud):
    """A job that is cancelled stays so, and holds its name, target and module until nothing of it is left."""
    await start(cloud)
    assert (await start(cloud, code=409))["detail"] == "a job of this name has not ended"
    assert (await cloud.ask("POST", f"{PATH}/night/cancel")).json()["state"] == "cancelled"
    assert (await cloud.ask("POST", f"{PATH}/night/cancel")).status_code == 409
    assert (await start(cloud, code=409))["element"] == "batch job night"
    assert (await cloud.ask("DELETE", "/api/v1/targets/lab")).status_code == 409
    name, version = cloud.refs[0].removeprefix("acme/").split(":")
    assert "night" in (await cloud.ask("DELETE", f"/api/v1/modules/acme/{name}/{version}")).text
    with cloud.database.write() as connection:
        connection.execute(update(jobs).values(on_target=0))
    assert (await start(cloud))["state"] == "starting"
    with cloud.database.write() as connection:
        connection.execute(update(jobs).values(on_target=0))
    assert (await cloud.ask("DELETE", "/api/v1/targets/lab")).status_code == 200
