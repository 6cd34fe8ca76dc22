"""Batch jobs as they are asked for over the API: what is taken, what is refused, and who may."""

import json
from types import SimpleNamespace

import msgspec
import pytest
from sqlalchemy import update

from fleet import selectors, tokens
from fleet.mishaps import Mishaps
from fleet.people import roles
from fleet.people.roles import Grant
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Conflict, TargetTrouble
from fleet.target_tables import jobs, targets
from fleet.targets import batch_program, kinds
from fleet.targets.contract import Job, JobStanding
from fleet.targets.job_duty import BringingJobs, _with_what_is_known
from fleet.targets.jobs import BatchJobs, free_names
from fleet.targets.settings import BatchSettings
from modules.data_rule import DataRule
from modules.errors import Invalid
from tests.doubles.wishes import version

PATH = "/api/v1/batch-jobs"


def places(cloud, text="in,out", region=""):
    with cloud.database.write() as connection:
        document = f'{{"docker": "unix:///nonexistent.sock", "batch_places": "{text}", "region": "{region}"}}'
        connection.execute(update(targets).values(attached=document))


async def start(cloud, by=None, code=201, **more):
    places(cloud)
    return await started(cloud, by, code, **more)


async def started(cloud, by=None, code=201, **more):
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


async def test_several_pods_on_a_cluster_alone(cloud):
    """A container host is one machine."""
    assert (await start(cloud, code=422, settings={"pods": 2}))["element"] == "pods"
    known = {"namespace": "models", "images": "present", "content_url": "https://fleet.example"}
    attached = json.dumps(known | {"batch_places": "in,out"})
    with cloud.database.write() as connection:
        connection.execute(update(targets).values(kind="kubernetes", attached=attached))
    assert (await started(cloud, settings={"pods": 2}))["settings"]["pods"] == 2


async def test_the_answers_are_not_among_the_inputs(cloud):
    """Else each run would find more of them."""
    places(cloud, "in,in/out")
    body = {"name": "night", "target": "lab", "module": cloud.refs[0], "inputs": "in", "outputs": "in/out"}
    answer = await cloud.ask("POST", PATH, json=body)
    assert (answer.status_code, answer.json()["detail"]) == (422, "the outputs lie in the inputs")
    body |= {"inputs": "in/out", "outputs": "in"}
    assert (await cloud.ask("POST", PATH, json=body)).status_code == 201


@pytest.mark.parametrize(("regions", "there"), [((), "eu-west"), (("eu-west",), ""), (("eu-west", "berlin"), "us")])
async def test_data_that_may_not_go_there_do_not(cloud, regions, there):
    """What never leaves its site, a target that says no region, and one of another region."""
    places(cloud, region=there)
    cloud.refs[0] = str(cloud.fleet.add_module("private", data=DataRule(kind="personal", regions=regions)))
    refused = await started(cloud, code=422)
    assert "the module's data (personal)" in refused["detail"]
    assert f"the target is in {there or 'a region that nobody says'}" in refused["detail"]
    assert (await cloud.ask("GET", PATH)).json() == []


async def test_a_target_that_is_now_elsewhere_is_told_no_more_of_them(cloud):
    """Attached anew with another region, it is not asked again; the job has failed, and says why."""
    places(cloud, region="berlin")
    cloud.refs[0] = str(cloud.fleet.add_module("private", data=DataRule(kind="personal", regions=("berlin",))))
    await started(cloud)
    use = cloud.http._transport.app.state.services
    bringing = BringingJobs(
        database=cloud.database, clock=use.clock, wished=use.jobs, targets=use.targets, mishaps=Mishaps(use.clock)
    )
    asked = []

    class Host:
        def bring_job(self, job):
            asked.append(job)
            return JobStanding(state="running")

        job_logs = end_job = bring_job

    with cloud.database.read() as connection:
        row = BatchJobs.row(connection, "night")
    assert bringing._brought(row, Host(), "berlin").state == "running"
    stands = bringing._brought(row, Host(), "us")
    assert (stands.state, len(asked)) == ("failed", 1)
    assert "the target is in us" in stands.why


async def test_what_a_target_says_of_a_job(cloud):
    """How far it was stays known, an outage ends nothing, and it has gone once nothing of it is left there."""
    await start(cloud)
    use = cloud.http._transport.app.state.services
    bringing = BringingJobs(
        database=cloud.database, clock=use.clock, wished=use.jobs, targets=use.targets, mishaps=Mishaps(use.clock)
    )

    class Host:
        away, left = False, True

        def bring_job(self, job):
            if self.away:
                raise TargetTrouble("the engine does not answer", element="container host")
            return JobStanding(state="running", starts=1)

        def end_job(self, name):
            return not self.left

        job_logs = bring_job

    host = Host()
    with cloud.database.read() as connection:
        row = BatchJobs.row(connection, "night")._asdict()
    before = JobStanding(state="running", items=9, answered=4)
    row |= {"state": "running", "standing": msgspec.json.encode(before).decode()}
    assert bringing._brought(SimpleNamespace(**row), host, "").items == 9
    host.away = True
    stands = bringing._brought(SimpleNamespace(**row), host, "")
    assert (stands.state, stands.items, "does not answer" in stands.why) == ("running", 9, True)
    cancelled = SimpleNamespace(**row | {"state": "cancelled"})
    assert bringing._brought(cancelled, host, "") == before
    host.left = False
    assert bringing._brought(cancelled, host, "") is None


async def test_what_was_seen_before_is_no_news(cloud):
    """Of a job that was cancelled meanwhile, and of one of before that had its name."""
    await start(cloud)

    def note(standing, **changed):
        with cloud.database.write() as connection:
            row = BatchJobs.row(connection, "night")._asdict()
            BatchJobs.note(connection, cloud.now, SimpleNamespace(**row | changed), standing)
            return BatchJobs.row(connection, "night")

    running = JobStanding(state="running")
    assert note(running, mark="of-before").state == "starting"
    await cloud.ask("POST", f"{PATH}/night/cancel")
    assert note(running, state="starting").state == "cancelled"
    assert note(None, mark="of-before").on_target == 1
    assert note(None).on_target == 0


async def test_another_teams_job_is_not_forgotten_for_its_name(cloud):
    """Though it has ended, which frees the name for its own team."""
    await start(cloud)
    others = Scope((Area(selectors.parse("*"), frozenset({"other"})),))
    with cloud.database.write() as connection:
        connection.execute(update(jobs).values(on_target=0))
        with pytest.raises(Conflict, match="taken"):
            free_names(connection, "night", ("night",), others)
        free_names(connection, "night", ("night",), EVERYTHING)
    assert (await cloud.ask("GET", PATH)).json() == []


def test_each_worker_has_a_model_of_its_own_in_memory():
    """Where nobody says how much all of them may have."""
    given = {"name": "night", "mark": "m", "module": version().module, "inputs": "in", "outputs": "out"}
    one, three = (Job(**given, settings=BatchSettings(workers=number)) for number in (1, 3))
    assert batch_program.memory_mb(three) == 3 * batch_program.memory_mb(one)


def test_who_says_nothing_of_how_far_it_is_is_as_far_as_before():
    """A program that starts again has not said it yet."""
    before = JobStanding(items=9, answered=4, set_aside=1)
    assert _with_what_is_known(before, JobStanding(state="running", starts=2)) == JobStanding(
        state="running", starts=2, items=9, answered=4, set_aside=1
    )
    now = JobStanding(items=9, answered=5)
    assert _with_what_is_known(before, now) == now
    fewer = JobStanding(items=9, answered=3)  # one of its pods has not said it yet
    assert _with_what_is_known(before, fewer) == before


@pytest.mark.parametrize("place", ["/claim", "Claim", "claim/", "claim/../x", "claim//x", "a,claim/.hidden", "-c"])
def test_what_is_no_claim_is_refused_at_attaching(place):
    """A claim's name, or a folder of it."""
    known = {"namespace": "models", "images": "present", "content_url": "https://fleet.example"}
    kinds.read("kubernetes", known | {"batch_places": "claim,share/in/2026"})
    with pytest.raises(Invalid, match="no claim"):
        kinds.read("kubernetes", known | {"batch_places": f"good,{place}"})


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
