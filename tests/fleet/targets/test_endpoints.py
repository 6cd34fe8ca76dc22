"""Endpoints as they are asked for over the API: what is taken, what is refused and changes nothing, who may."""

import asyncio

import pytest
from sqlalchemy import insert, select

from fleet import tokens
from fleet.authority import Authority
from fleet.blobs import Blobs
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.registry import Registry
from fleet.target_tables import targets
from fleet.targets.endpoints import Endpoints
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.secrets import Sealer
from modules import access_tokens
from tests.parts.certificates import self_signed

PATH = "/api/v1/endpoints"


def wish(cloud, **more):
    return {"name": "digits", "target": "lab", "versions": {"v1": {"module": cloud.refs[0]}}} | more


async def create(cloud, **more):
    answer = await cloud.ask("POST", PATH, json=wish(cloud, **more))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def show(cloud, name="digits", by=None):
    return (await cloud.ask("GET", f"{PATH}/{name}", by)).json()


def token(cloud, *grants):
    with cloud.database.write() as connection:
        given = roles.plain(roles.check(grants))
        return tokens.create(connection, cloud.now, kind="api", role="", name="x", roles=given)


async def test_what_is_asked_for_is_shown_without_its_keys(cloud):
    """The wish is there with its defaults; no answer but that for keys has a key."""
    made = await create(cloud, settings={"memory_mb": 64}, primary_key="k" * 20)
    assert (made["state"], made["default"], made["settings"]["memory_mb"]) == ("updating", "v1", 64)
    assert made["versions"]["v1"]["weight"] == 100
    assert "k" * 20 not in str(made) + str(await show(cloud)) + str((await cloud.ask("GET", PATH)).json())
    assert (await cloud.ask("GET", f"{PATH}/digits/keys")).json()["primary"] == "k" * 20


async def test_a_copy_of_the_database_lets_nobody_in(cloud):
    """Neither key stands in a row as it is."""
    await create(cloud, primary_key="k" * 20, secondary_key="l" * 20)
    await cloud.ask("POST", f"{PATH}/digits/keys", json={"which": "primary", "key": "m" * 20})
    with cloud.database.read() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM endpoints").all())
        rows += str(connection.exec_driver_sql("SELECT * FROM events").all())
    assert not [letter for letter in "klm" if letter * 20 in rows]


async def test_a_target_that_does_not_answer_is_said(cloud):
    """The endpoint is not ready, and says in one sentence that the engine does not answer."""
    await create(cloud)
    async with asyncio.timeout(20):
        while (await show(cloud))["state"] != "failed":  # noqa: ASYNC110 - another task's row
            await asyncio.sleep(0.1)
    assert "the engine does not answer" in (await show(cloud))["why"]
    assert cloud.events("endpoint-failed")


async def test_where_a_target_is_reached_is_for_who_may_attach_it(cloud):
    """Others see its name, kind, region and state, and nowhere the engine's address; nor may they ask it who it is."""
    await create(cloud)
    async with asyncio.timeout(20):
        while (await show(cloud))["state"] != "failed":  # noqa: ASYNC110 - another task's row
            await asyncio.sleep(0.1)
    (whole,) = (await cloud.ask("GET", "/api/v1/targets")).json()
    assert (whole["at"], "nonexistent" in whole["trouble"]) == ("unix:///nonexistent.sock", True)
    viewer = token(cloud, Grant("viewer"))
    (seen,) = (await cloud.ask("GET", "/api/v1/targets", viewer)).json()
    assert seen == {one: whole[one] for one in ("name", "kind", "region", "state", "endpoints", "quota", "created")}
    assert seen["state"] == "failed"
    others = [seen, await show(cloud, by=viewer), (await cloud.ask("GET", "/api/v1/events", viewer)).json()]
    assert "nonexistent" not in str(others)
    assert (await cloud.ask("POST", "/api/v1/targets/lab/check", viewer)).status_code == 403
    assert "nonexistent" in (await cloud.ask("POST", "/api/v1/targets/lab/check")).json()["detail"]


@pytest.mark.parametrize(
    ("more", "status", "code", "word"),
    [
        ({"target": "none"}, 404, "missing", "target"),
        ({"name": "No Name"}, 422, "invalid", "valid"),
        ({"name": "score"}, 422, "invalid", "scoring address"),
        ({"versions": {"v1": {"module": "acme/none:1"}}}, 404, "missing", "module"),
        ({"versions": {"v.1": {"module": "acme/digits:1"}}}, 422, "invalid", "version"),
        ({"versions": {}}, 422, "invalid", "versions"),
        ({"default": "v2"}, 422, "invalid", "v2"),
        ({"settings": {"memory": 64}}, 422, "invalid", "memory"),
        ({"settings": {"cpu_cores": 1e400}}, 422, "invalid", ""),
        ({"settings": {"cpu_cores": 0}}, 422, "invalid", "cpu_cores"),
        ({"settings": {"memory_mb": 2**63}}, 422, "invalid", "memory_mb"),
        ({"settings": {"auth": "password"}}, 422, "invalid", "auth"),
        ({"settings": {"cors_origins": ["javascript:1"]}}, 422, "invalid", "cors_origins"),
        ({"settings": {"certificate": "nonsense"}}, 422, "invalid", "certificate"),
        ({"primary_key": "short"}, 422, "invalid", "key"),
        ({"primary_key": "k" * 16 + "\r\n"}, 422, "invalid", "key"),
        ({"primary_key": "k" * 20, "secondary_key": "k" * 20}, 422, "invalid", "same"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(cloud, refused, more, status, code, word):
    """Each refusal says what is wrong, and no endpoint is there afterwards."""
    body = wish(cloud, **more)
    if more.get("settings", {}).get("cpu_cores") == float("inf"):
        answer = await cloud.ask(
            "POST",
            PATH,
            content=str(body).replace("inf", "1e400").replace("'", '"'),
            headers={"Content-Type": "application/json"},
        )
    else:
        answer = await cloud.ask("POST", PATH, json=body)
    assert word in str(refused(answer, status, code))
    assert (await cloud.ask("GET", PATH)).json() == []


async def test_only_signed_modules_of_one_team_are_served(cloud, refused):
    """A draft is refused, with what to do; so are versions of two teams together."""
    draft = str(cloud.fleet.add_module("digits", sign_it=False))
    answer = await cloud.ask("POST", PATH, json=wish(cloud, versions={"v1": {"module": draft}}))
    assert "nobody signed" in refused(answer, 409, "conflict")["detail"]


async def test_weights_beyond_all_are_refused(cloud, refused):
    """The shares of what is not the default are at most everything."""
    versions = {name: {"module": cloud.refs[0], "weight": 60} for name in ("v1", "v2", "v3")}
    answer = await cloud.ask("POST", PATH, json=wish(cloud, versions=versions, default="v1"))
    assert "120 percent" in refused(answer, 422, "invalid")["detail"]


async def test_a_change_leaves_the_rest_as_it_was(cloud):
    """A setting alone changes; versions, other settings and keys stay; the default has what the others leave."""
    await create(cloud, settings={"memory_mb": 64})
    keys = (await cloud.ask("GET", f"{PATH}/digits/keys")).json()
    await cloud.ask("PATCH", f"{PATH}/digits", json={"settings": {"waiting": 5}})
    both = {"v1": {"module": cloud.refs[0]}, "v2": {"module": cloud.refs[1], "weight": 10, "replicas": 2}}
    changed = (await cloud.ask("PATCH", f"{PATH}/digits", json={"versions": both})).json()
    assert (changed["settings"]["waiting"], changed["settings"]["memory_mb"], changed["generation"]) == (5, 64, 3)
    assert {name: one["weight"] for name, one in changed["versions"].items()} == {"v1": 90, "v2": 10}
    assert (await cloud.ask("GET", f"{PATH}/digits/keys")).json() == keys


async def test_a_change_by_two_people_at_once_is_noticed(cloud, refused):
    """Who has not seen the newest generation is told so, and changes nothing."""
    first = await create(cloud)
    change = {"settings": {"waiting": 5}, "generation": first["generation"]}
    assert (await cloud.ask("PATCH", f"{PATH}/digits", json=change)).status_code == 200
    answer = await cloud.ask("PATCH", f"{PATH}/digits", json=change | {"settings": {"waiting": 6}})
    assert "changed meanwhile" in refused(answer, 409, "conflict")["detail"]
    assert (await show(cloud))["settings"]["waiting"] == 5


async def test_a_name_is_given_once(cloud, refused):
    """A second endpoint of a name is refused, the first stays."""
    await create(cloud)
    refused(await cloud.ask("POST", PATH, json=wish(cloud)), 409, "conflict")


async def test_one_key_at_a_time_is_changed(cloud):
    """The other is the same as before, the new one is long and new."""
    await create(cloud)
    before = (await cloud.ask("GET", f"{PATH}/digits/keys")).json()
    after = (await cloud.ask("POST", f"{PATH}/digits/keys", json={"which": "primary"})).json()
    assert after["secondary"] == before["secondary"]
    assert after["primary"] not in before.values()
    assert len(after["primary"]) >= 43


async def test_a_token_is_good_for_as_long_as_was_set(cloud, refused):
    """An endpoint of tokens gives tokens that expire, and no keys; one of keys gives no tokens."""
    await create(cloud, settings={"auth": "token", "token_life_s": 60})
    given = (await cloud.ask("POST", f"{PATH}/digits/token")).json()
    assert given["expires"] == int(cloud.now) + 60
    assert cloud.now < given["refresh_after"] < given["expires"]
    assert given["token"].startswith(f"{access_tokens._FORM}.{given['expires']}.")
    refused(await cloud.ask("GET", f"{PATH}/digits/keys"), 409, "conflict")
    await create(cloud, name="other")
    refused(await cloud.ask("POST", f"{PATH}/other/token"), 409, "conflict")


async def test_a_certificate_needs_its_own_key(cloud, refused, tmp_path):
    """A pair is taken, and the key is shown to nobody; the key of another certificate is refused."""
    pairs = [(tmp_path / f"{one}.pem", tmp_path / f"{one}.key") for one in "ab"]
    for pair in pairs:
        self_signed(*pair, "lab.example")
    certificate, key, other = pairs[0][0].read_text(), pairs[0][1].read_text(), pairs[1][1].read_text()
    made = await create(cloud, settings={"certificate": certificate}, certificate_key=key)
    assert key not in str(made)
    change = {"settings": {"certificate": certificate}, "certificate_key": other}
    refused(await cloud.ask("PATCH", f"{PATH}/digits", json=change), 422, "invalid")


async def test_a_target_with_endpoints_is_not_let_go(cloud, refused):
    """Its endpoints are named; without them it goes."""
    await create(cloud)
    assert "digits" in refused(await cloud.ask("DELETE", "/api/v1/targets/lab"), 409, "conflict")["detail"]


async def test_an_engine_without_tls_is_not_attached(cloud, refused):
    """TCP without certificates, or an address of no kind, is refused before anybody is asked."""
    for address in ("tcp://127.0.0.1:2375", "http://127.0.0.1:2375", "unix://relative", "ssh://", "file:///etc/passwd"):
        body = {"kind": "container", "attached": {"docker": address}}
        refused(await cloud.ask("PUT", "/api/v1/targets/other", json=body), 422, "invalid")
    assert [one["name"] for one in (await cloud.ask("GET", "/api/v1/targets")).json()] == ["lab"]


async def test_an_engine_that_does_not_answer_is_not_attached(cloud, refused):
    """It is tried first, and the answer says why not."""
    body = {"kind": "container", "attached": {"docker": "unix:///nonexistent.sock"}}
    answer = await cloud.ask("PUT", "/api/v1/targets/other", json=body)
    assert "does not answer" in refused(answer, 503, "target-trouble")["detail"]


async def test_endpoints_of_other_teams_do_not_exist_for_a_team(cloud, refused):
    """Rights for another team list none, show none and change none; rights for some devices are none here."""
    await create(cloud)
    theirs = token(cloud, Grant("admin", teams=("others",)))
    assert (await cloud.ask("GET", PATH, theirs)).json() == []
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/keys"), ("GET", "/logs"), ("POST", "/token")):
        refused(await cloud.ask(method, f"{PATH}/digits{path}", theirs), 404, "missing")
    answer = await cloud.ask("POST", PATH, theirs, json=wish(cloud, name="mine"))
    refused(answer, 404, "missing")
    some = token(cloud, Grant("admin", "site=berlin"))
    refused(await cloud.ask("GET", PATH, some), 403, "forbidden")


async def test_an_endpoint_that_is_being_removed_takes_no_change(cloud, refused):
    """It says so; a second removal is no error."""
    await create(cloud)
    assert (await cloud.ask("DELETE", f"{PATH}/digits")).json()["state"] == "removing"
    answer = await cloud.ask("PATCH", f"{PATH}/digits", json={"settings": {"waiting": 5}})
    assert "being removed" in refused(answer, 409, "conflict")["detail"]
    assert (await cloud.ask("DELETE", f"{PATH}/digits")).status_code == 200


async def test_a_module_that_an_endpoint_serves_is_not_removed(cloud, refused):
    """The endpoint is named; another version of the module goes."""
    await create(cloud)
    team, _, rest = cloud.refs[0].partition("/")
    name, _, version = rest.partition(":")
    answer = await cloud.ask("DELETE", f"/api/v1/modules/{team}/{name}/{version}")
    assert "endpoint digits" in refused(answer, 409, "conflict")["detail"]
    other = cloud.refs[1].rpartition(":")[2]
    assert (await cloud.ask("DELETE", f"/api/v1/modules/{team}/{name}/{other}")).status_code == 200


async def test_a_target_that_is_gone_for_ever_is_let_go_with_its_endpoints(cloud):
    """Said so, its rows go, and the event names what may be left there."""
    await create(cloud)
    assert (await cloud.ask("DELETE", "/api/v1/targets/lab?abandon=true")).status_code == 200
    assert (await cloud.ask("GET", PATH)).json() == (await cloud.ask("GET", "/api/v1/targets")).json() == []
    assert "abandoned there: digits" in cloud.events("target-detached")[0][0]


async def test_two_endpoints_of_a_target_never_have_one_port(cloud, refused):
    """The second is refused, when it is made and when it is changed; on another target the port is free."""
    await create(cloud, settings={"port": 30001})
    with cloud.database.write() as connection:
        row = connection.execute(select(targets)).one()._asdict()
        connection.execute(insert(targets).values(row | {"name": "other"}))
    await create(cloud, name="there", target="other", settings={"port": 30001})
    refused(await cloud.ask("POST", PATH, json=wish(cloud, name="other", settings={"port": 30001})), 409, "conflict")
    await create(cloud, name="other")
    refused(await cloud.ask("PATCH", f"{PATH}/other", json={"settings": {"port": 30001}}), 409, "conflict")


async def test_what_is_wrong_with_a_target_is_shown_there(cloud):
    """An engine that does not answer is the target's trouble."""
    await create(cloud)
    async with asyncio.timeout(20):
        while not (await cloud.ask("GET", "/api/v1/targets")).json()[0]["trouble"]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    assert "does not answer" in (await cloud.ask("GET", "/api/v1/targets")).json()[0]["trouble"]


async def test_a_default_has_what_the_others_leave_over_whatever_it_was_given(cloud):
    """The gateway is told the share that is shown, and not one that the default was once given."""
    both = {"v1": {"module": cloud.refs[0], "weight": 90}, "v2": {"module": cloud.refs[1], "weight": 10}}
    await create(cloud, versions=both, default="v1")
    both["v2"]["weight"] = 50
    assert (await cloud.ask("PATCH", f"{PATH}/digits", json={"versions": both})).status_code == 200
    folder = cloud.folder
    certificates = HostCertificates(Authority.load(folder.ca))
    wished = Endpoints(Registry(Blobs(folder.blobs)), Sealer(folder), certificates)
    with cloud.database.read() as connection:
        wanted = wished.wanted(wished.row(connection, "digits"))
    assert [one.weight for one in wanted.versions] == [50, 50]
