"""One batch job for many devices, as the server takes it, shows it and brings it about."""

import pytest
from sqlalchemy import select, update

from fleet.tables import devices, events
from fleet.target_tables import jobs
from fleet.targets import batches
from fleet.targets.batches import member_name
from modules import canonical
from modules.protocol.batch import BATCH, JobReport
from modules.protocol.report import Report, Running, SlotReport
from tests.doubles.device import READS
from tests.fleet.targets.test_device_jobs import Site
from tests.fleet.targets.test_jobs import PATH as ALONE
from tests.fleet.targets.test_jobs import Grant, token

PATH = "/api/v1/batches"
BODY = {"name": "night", "inputs": "pictures", "outputs": "answers"}


class Sites(Site):
    """Three devices in Berlin that serve the module, one there that serves nothing, and one in Rome."""

    def __init__(self, cloud):
        super().__init__(cloud)
        formats = (*READS, BATCH)
        for name, city in (("cam-2", "berlin"), ("cam-3", "berlin"), ("idle-1", "berlin"), ("far-1", "rome")):
            self.fleet.add_device(name, formats=formats, labels={"site": city})
        self.said = {}
        for name in ("cam-1", "cam-2", "cam-3", "far-1"):
            self.tells(name)

    def tells(self, device, *said):
        self.said[device] = self.said.get(device, 10) + 1
        running = Running(module=self.ref, digest=self.digest)
        slot = SlotReport(slot="main", phase="committed", module=self.ref, digest=self.digest, serving=running)
        report = Report(
            device=device, number=self.said[device], issued=0.0, order=0, agent="1", slots=(slot,), jobs=said
        )
        with self.database.write() as connection:
            mine = devices.c.id == device
            connection.execute(update(devices).where(mine).values(report=canonical.encode(report)))

    async def begin(self, by=None, code=201, **more):
        whom = {} if "devices" in more else {"selector": "site=berlin"}
        answer = await self.cloud.ask("POST", PATH, by, json=BODY | {"module": self.ref} | whom | more)
        assert answer.status_code == code, answer.text
        return answer.json()

    def is_at(self, device, state, why="", **counts):
        """What a device says of its own job; the server looks at all of them."""
        with self.database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.device == device)).one()
        self.tells(device, JobReport(mark=row.mark, name="night", state=state, why=why, **counts))
        self.look_at_all()

    def look_at_all(self):
        for name in self.duty._names():
            self.duty.look(name)

    async def now(self, name="night"):
        answer = await self.cloud.ask("GET", f"{PATH}/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def sites(cloud):
    return Sites(cloud)


async def test_each_device_that_takes_it_has_a_job_of_one_name(sites):
    """Which is the folder of the answers on each; who takes it not is said, and no other device is told anything."""
    made = await sites.begin()
    assert [one["device"] for one in made["jobs"]] == ["cam-1", "cam-2", "cam-3"]
    assert made["misfits"] == [{"device": "idle-1", "why": "it does not serve this module; it serves nothing"}]
    assert (made["devices"], made["outputs"], made["selector"]) == (3, "answers/night", "site=berlin")
    sites.look_at_all()
    given = sites.given()
    assert {one.device for one in given} == {"cam-1", "cam-2", "cam-3"}
    assert {one.batch.name for one in given} == {"night"}
    assert len({one.batch.mark for one in given}) == 3


async def test_how_far_it_is_stands_in_one_place(sites):
    """Added up, and for each device; the whole has failed where one has, and only once all have ended."""
    await sites.begin()
    sites.look_at_all()
    sites.is_at("cam-1", "running", items=10, answered=4, set_aside=1)
    sites.is_at("cam-2", "paused", "applications have asked", items=5)
    now = await sites.now()
    assert (now["state"], now["states"]) == ("running", {"running": 1, "paused": 1, "starting": 1})
    assert (now["items"], now["answered"], now["set_aside"]) == (15, 4, 1)
    assert [one["why"] for one in now["jobs"] if one["device"] == "cam-2"] == ["applications have asked"]
    sites.is_at("cam-1", "failed", "too many")
    sites.is_at("cam-2", "done", items=5, answered=5)
    assert (await sites.now())["state"] == "starting"
    sites.is_at("cam-3", "done", items=1, answered=1)
    now = await sites.now()
    assert (now["state"], now["states"]) == ("failed", {"failed": 1, "done": 2})
    (listed,) = (await sites.cloud.ask("GET", PATH)).json()
    assert (listed["name"], listed["state"], "jobs" in listed) == ("night", "failed", False)


async def test_named_devices(sites):
    """Each of them once; one that is not there is said, and nothing is started."""
    assert "no such device" in (await sites.begin(code=404, devices=["cam-1", "cam-9"]))["detail"]
    assert (await sites.cloud.ask("GET", PATH)).json() == []
    made = await sites.begin(devices=["cam-3", "cam-1", "cam-3"])
    assert ([one["device"] for one in made["jobs"]], made["selector"]) == (["cam-1", "cam-3"], "2 devices")


async def test_it_is_cancelled_on_all(sites):
    """Those that have ended stay as they ended; a second time there is nothing to cancel."""
    await sites.begin()
    sites.look_at_all()
    sites.is_at("cam-1", "done")
    sites.is_at("cam-2", "running")
    found = (await sites.cloud.ask("POST", f"{PATH}/night/cancel")).json()
    assert found["states"] == {"done": 1, "cancelled": 2}
    sites.look_at_all()
    assert {one.device for one in sites.given() if one.name == "batch-cancel"} == {"cam-2", "cam-3"}
    again = await sites.cloud.ask("POST", f"{PATH}/night/cancel")
    assert (again.status_code, again.json()["detail"]) == (409, "all of it has ended")


async def test_its_name_is_one_among_all(sites):
    """Neither a job alone nor one of its own takes it before all of it has ended; then the next one has it."""
    await sites.begin()
    await sites.begin(code=409)
    await sites.start(code=409)
    await sites.start(code=409, name="night-cam-2")
    await sites.cloud.ask("POST", f"{PATH}/night/cancel")
    sites.look_at_all()
    await sites.start()
    assert (await sites.cloud.ask("GET", PATH)).json() == []
    await sites.begin(code=409)


async def test_what_no_device_takes_is_refused(sites):
    """A place that is a path, a limit of targets, both ways to say whom, more devices than may be, nobody at all."""
    for more in ({"inputs": "/etc"}, {"outputs": "pictures"}, {"settings": {"workers": 2}}, {"selector": "=x"}):
        assert (await sites.begin(code=422, **more))["code"] == "invalid"
    assert "either a selector or devices" in (await sites.begin(code=422, selector="*", devices=["cam-1"]))["detail"]
    assert "no device is meant" in (await sites.begin(code=422, selector="site=paris"))["detail"]
    assert "idle-1: it does not serve" in (await sites.begin(code=422, selector="id=idle-1"))["detail"]
    assert (await sites.cloud.ask("GET", ALONE)).json() == []


async def test_so_many_devices_at_most(sites, monkeypatch):
    """More are selected one part after the other."""
    monkeypatch.setattr(batches, "AT_MOST", 2)
    assert "4 devices are more than the 2" in (await sites.begin(code=422))["detail"]


async def test_it_takes_the_right_to_command_the_devices(sites):
    """A selector means those alone that whoever asks may command; and the module is of one's own team."""
    batch = Grant("rollout-manager")
    await sites.begin(by=token(sites.cloud, batch), code=403)
    await sites.begin(by=token(sites.cloud, Grant("operator")), code=403)
    mine = token(sites.cloud, batch, Grant("operator", selector="site=rome"))
    await sites.begin(by=mine, code=422)
    await sites.begin(by=mine, code=404, devices=["cam-1"])
    made = await sites.begin(by=mine, selector="*")
    assert [one["device"] for one in made["jobs"]] == ["far-1"]
    others = token(sites.cloud, Grant("rollout-manager", teams=("others",)))
    assert (await sites.cloud.ask("GET", f"{PATH}/night", others)).status_code == 404
    assert (await sites.cloud.ask("POST", f"{PATH}/night/cancel", others)).status_code == 404
    assert (await sites.cloud.ask("GET", PATH, others)).json() == []


async def test_who_started_it_is_in_the_history(sites):
    """One line for all, with how many take it not."""
    await sites.begin()
    with sites.database.read() as connection:
        wanted = select(events.c.message).where(events.c.kind == "batch-started")
        (line,) = connection.scalars(wanted).all()
    assert line == f"batch job night on 3 devices, 1 take it not: {sites.ref}"


@pytest.mark.parametrize("device", ["cam-1", "a" * 63, "b" * 57, "x--"])
def test_a_name_for_each(device):
    """However long the device's is; no two devices share one."""
    found = {member_name(name, device) for name in ("night", "n" * 63, "n" * 50 + "-x")}
    assert len(found) == 3
    assert all(len(one) <= 63 and not one.endswith("-") for one in found)
    assert member_name("night", device) != member_name("night", device[:-1] + "z")
