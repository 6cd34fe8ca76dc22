"""Batch jobs on devices as the server brings them about: what is taken, which commands go out, what comes of them."""

import pytest
from sqlalchemy import select, update

from fleet.command_tables import commands
from fleet.mishaps import Mishaps
from fleet.tables import devices, events
from fleet.target_tables import jobs
from fleet.targets.device_jobs import REPORTS_S, DeviceJobs
from fleet.targets.jobs import BatchJobs
from fleet.targets.secrets import Sealer
from modules import canonical, signing
from modules.names import ModuleRef
from modules.protocol.batch import BATCH, JobReport
from modules.protocol.commands import Command
from modules.protocol.report import Report, Running, SlotReport
from tests.doubles.device import READS
from tests.fleet.targets.test_jobs import PATH, Grant, token

BODY = {"name": "night", "device": "cam-1", "inputs": "pictures", "outputs": "answers"}


class Site:
    """A fleet with a device that serves a module and takes jobs; ``look`` is what the duty does for one."""

    def __init__(self, cloud):
        self.cloud, self.database = cloud, cloud.database
        self.fleet = cloud.fleet
        self.ref = cloud.refs[0]
        with self.database.read() as connection:
            self.digest = self.fleet.registry.signed(connection, ModuleRef.parse(self.ref))[1]
        self.device = self.fleet.add_device("cam-1", formats=(*READS, BATCH), labels={"site": "berlin"})
        self.number = 0
        self.report()
        self.duty = DeviceJobs(
            database=self.database,
            clock=self.fleet.clock,
            wished=BatchJobs(self.fleet.registry, Sealer(cloud.folder)),
            commands=self.fleet.commands,
            mishaps=Mishaps(self.fleet.clock),
        )

    def report(self, *said, digest=""):
        """What the device says of its slot and its jobs."""
        self.number += 1
        running = Running(module=self.ref, digest=digest or self.digest)
        slot = SlotReport(slot="main", phase="committed", module=self.ref, digest=self.digest, serving=running)
        report = Report(
            device=self.device, number=self.number, issued=0.0, order=0, agent="1", slots=(slot,), jobs=said
        )
        with self.database.write() as connection:
            mine = devices.c.id == self.device
            connection.execute(update(devices).where(mine).values(report=canonical.encode(report)))

    def says(self, state, why="", **counts):
        """That the job which it was given is there."""
        self.report(JobReport(mark=self.row.mark, name="night", state=state, why=why, **counts))

    async def start(self, by=None, code=201, **more):
        answer = await self.cloud.ask("POST", PATH, by, json=BODY | {"module": self.ref} | more)
        assert answer.status_code == code, answer.text
        return answer.json()

    async def shown(self):
        return (await self.cloud.ask("GET", f"{PATH}/night")).json()

    def look(self):
        return self.duty.look("night")

    @property
    def row(self):
        with self.database.read() as connection:
            return connection.execute(select(jobs).where(jobs.c.name == "night")).one()

    def given(self):
        """The commands, as the device would read them."""
        with self.database.read() as connection:
            found = connection.scalars(select(commands.c.envelope).order_by(commands.c.number)).all()
        return [
            canonical.decode(signing.unverified(one, limit=1 << 16), Command, limit=1 << 16, what="x") for one in found
        ]

    def ends(self, state, reason="", name="batch-start"):
        """What the device answers to a command."""
        with self.database.write() as connection:
            over = {"state": state, "reason": reason, "ended": self.fleet.now, "look_at": None}
            connection.execute(update(commands).where(commands.c.name == name).values(**over))


@pytest.fixture
def site(cloud):
    return Site(cloud)


async def test_a_device_is_told_once_and_says_how_far_it_is(site):
    """By a signed command with the digest of the module and names of folders; then its reports count."""
    made = await site.start(settings={"match": "2026/*", "retries": 3})
    assert (made["device"], made["target"], made["state"], made["outputs"]) == (
        "cam-1",
        None,
        "starting",
        "answers/night",
    )
    assert (site.look(), site.look(), site.look()) == (True, False, False)
    (command,) = site.given()
    assert (command.name, command.device, command.slot) == ("batch-start", "cam-1", None)
    order = command.batch
    assert (order.mark, order.name, order.module) == (site.row.mark, "night", site.digest)
    assert (order.inputs, order.outputs, order.asking.match, order.asking.retries) == (
        "pictures",
        "answers",
        "2026/*",
        3,
    )
    assert (await site.shown())["why"] == "the device is offline"
    site.ends("done")
    site.look()
    assert (await site.shown())["why"] == "the device has taken it"
    site.says("paused", "applications have asked", items=9, answered=4)
    site.look()
    shown = await site.shown()
    assert (shown["state"], shown["why"], shown["items"], shown["answered"]) == (
        "paused",
        "applications have asked",
        9,
        4,
    )
    site.says("done", items=9, answered=8, set_aside=1)
    site.look()
    shown = await site.shown()
    assert (shown["state"], shown["answered"], shown["set_aside"]) == ("done", 8, 1)
    site.look()
    assert site.row.on_target == 0
    with site.database.read() as connection:
        kinds = connection.scalars(select(events.c.kind).where(events.c.kind.startswith("batch-"))).all()
    assert kinds == ["batch-started", "batch-done"]
    await site.start()


@pytest.mark.parametrize(
    ("state", "reason", "why"),
    [
        ("refused", "the owner has given no folder this name", "the owner has given no folder this name"),
        ("failed", "no slot serves it", "no slot serves it"),
        ("expired", "", "its command is expired"),
        ("cancelled", "", "its command is cancelled"),
    ],
)
async def test_what_a_device_does_not_take_has_failed(site, state, reason, why):
    """In its own words."""
    await site.start()
    site.look()
    site.ends(state, reason)
    site.look()
    shown = await site.shown()
    assert (shown["state"], shown["why"]) == ("failed", why)


async def test_a_device_that_has_forgotten_it(site):
    """Its state was lost: after ten minutes nothing is waited for."""
    await site.start()
    site.look()
    site.ends("done")
    site.fleet.now += REPORTS_S - 1
    site.look()
    assert site.row.state == "starting"
    site.fleet.now += 2
    site.look()
    assert (site.row.state, (await site.shown())["why"]) == ("failed", "the device knows nothing of it any more")


async def test_cancelled_the_device_is_told(site):
    """Until it has said so the name is taken; one that never heard of the job hears nothing."""
    await site.start()
    await site.cloud.ask("POST", f"{PATH}/night/cancel")
    assert site.look() is False
    assert (site.row.on_target, site.given()) == (0, [])
    await site.start()
    site.look()
    site.says("running")
    site.look()
    assert (await site.cloud.ask("POST", f"{PATH}/night/cancel")).status_code == 200
    assert (site.look(), site.look()) == (True, False)
    start, cancel = site.given()
    assert (cancel.name, cancel.batch) == ("batch-cancel", start.batch)
    await site.start(code=409)
    site.says("cancelled")
    site.look()
    assert (site.row.state, site.row.on_target) == ("cancelled", 0)


async def test_one_that_ended_meanwhile_is_not_told_to_end(site):
    """It was done when somebody cancelled it."""
    await site.start()
    site.look()
    await site.cloud.ask("POST", f"{PATH}/night/cancel")
    site.says("done", items=9, answered=9)
    assert site.look() is False
    assert ([one.name for one in site.given()], site.row.on_target) == (["batch-start"], 0)


async def test_a_removed_device_has_failed_it(site):
    """And a job that was cancelled waits for nobody."""
    await site.start()
    site.look()
    with site.database.write() as connection:
        connection.execute(update(devices).values(removed=1.0))
    site.look()
    assert (site.row.state, (await site.shown())["why"]) == ("failed", "the device was removed from the fleet")


async def test_a_newer_agents_words(site):
    """A state that this server does not know is no running job."""
    await site.start()
    site.look()
    site.says("levitating", "because")
    site.look()
    assert (site.row.state, (await site.shown())["why"]) == ("failed", "the device says that it is levitating")


async def test_what_a_device_cannot_do_is_refused_at_once(site):
    """No such device, nothing that it serves, an agent of before; limits and paths that only targets have."""
    assert "no such device" in (await site.start(code=404, device="cam-2"))["detail"]
    assert "either a target or a device" in (await site.start(code=422, target="lab"))["detail"]
    assert "either a target or a device" in (await site.start(code=422, device=None))["detail"]
    for more in (
        {"inputs": "/etc"},
        {"outputs": ".."},
        {"inputs": "answers"},
        *({"settings": {one: 2}} for one in ("workers", "pods")),
    ):
        await site.start(code=422, **more)
    site.report(digest="sha256:" + "b" * 64)
    assert "it does not serve this module" in (await site.start(code=422))["detail"]
    site.fleet.add_device("old-1")
    assert "knows no batch jobs" in (await site.start(code=422, device="old-1"))["detail"]
    site.fleet.add_device("new-1", host=None)
    assert "has not said yet what it is" in (await site.start(code=422, device="new-1"))["detail"]
    assert (await site.cloud.ask("GET", PATH)).json() == []


async def test_it_takes_the_right_to_command_the_device(site):
    """Of that very device: whoever runs jobs on targets does not command devices for that."""
    batches = Grant("rollout-manager")
    await site.start(by=token(site.cloud, batches), code=403)
    await site.start(by=token(site.cloud, Grant("operator")), code=403)
    await site.start(by=token(site.cloud, batches, Grant("operator", selector="site=rome")), code=404)
    await site.start(by=token(site.cloud, batches, Grant("operator", selector="site=berlin")))


async def test_no_command_of_that_kind_by_hand(site):
    """It is a job that is started and cancelled, so that everybody sees it."""
    for name in ("batch-start", "batch-cancel"):
        answer = await site.cloud.ask("POST", "/api/v1/commands", json={"name": name, "device": "cam-1"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_its_log_stays_on_the_device(site):
    """Which is said."""
    await site.start()
    answer = await site.cloud.ask("GET", f"{PATH}/night/logs")
    assert (answer.status_code, answer.json()["detail"]) == (409, "the log of a job on a device stays there")
