"""Several servers on one database: one leads, all answer, and another takes over when it is gone."""

import asyncio
import contextlib
import time

import pytest
from sqlalchemy import text

from fleet.db import Database
from fleet.leader import FolderLock, SessionLock
from modules.protocol.report import SlotReport
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))]
# A server that was killed is followed within this time.
FOLLOWS_S = stretched(10)
HOLDERS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2"


@pytest.fixture(params=KINDS)
def locks(request, tmp_path):
    """Two servers' locks on one database."""
    if request.param == "sqlite":
        yield FolderLock(tmp_path), FolderLock(tmp_path)
        return
    databases = [Database.of(request.getfixturevalue("cluster").shared(), tmp_path) for _ in range(2)]
    yield tuple(SessionLock(database.engine) for database in databases)
    for database in databases:
        database.close()


def test_one_leads_at_a_time(locks):
    """The other one gets it when it is given up, and not before."""
    first, second = locks
    assert first.take()
    assert first.holds()
    assert not second.take()
    assert not second.holds()
    first.give_up()
    assert not first.holds()
    ends = time.monotonic() + stretched(5)  # the database hears a moment later that the session has ended
    while not (taken := second.take()) and time.monotonic() < ends:
        time.sleep(0.01)
    assert taken
    second.give_up()


@pytest.mark.needs("postgres")
def test_a_session_that_the_database_ended_leads_no_more(cluster, tmp_path):
    """It is noticed when it is looked at, and the lead can be had again."""
    database = Database.of(cluster.shared(), tmp_path)
    lock = SessionLock(database.engine)
    assert lock.take()
    cluster.sql(HOLDERS)
    with pytest.raises(Exception, match=r"terminat|closed"):
        lock.holds()
    assert not lock.holds()
    assert lock.take()
    lock.give_up()
    database.close()


async def asked(http, path, condition):
    """The answer once it meets the condition."""
    async with asyncio.timeout(FOLLOWS_S):
        while not condition(answer := (await asyncio.to_thread(http.get, path)).json()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # another process brings it about: there is nothing to await
    return answer


async def ordered(http, owner, device, name):
    """A rollout that this server was asked for reaches the device; the order."""
    manifest = await asyncio.to_thread(owner.upload, name, {"model.onnx": name.encode()})
    await asyncio.to_thread(owner.sign, manifest)
    wish = {"module": str(manifest.ref), "slot": "digits", "engine": "process", "devices": [device.name]}
    rollout = checked(await asyncio.to_thread(lambda: http.post("/api/v1/rollouts", json=wish))).json()
    # A new session with the broker brings the older order again.
    while (order := await device.next_order(owner.director_keys)).slots["digits"].manifest != manifest.ref.target:
        pass
    return rollout, manifest, order


async def committed(http, device, rollout, manifest, order):
    """The device says that it runs it, has the receipt, and this server shows the rollout as done."""
    slot = order.slots["digits"]
    said = SlotReport(slot="digits", phase="committed", module=str(manifest.ref), digest=slot.digest)
    await device.acknowledgement(await device.report([said], order=order.counter))
    await asked(http, f"/api/v1/rollouts/{rollout['id']}", lambda shown: shown["state"] == "done")


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), KINDS[1]])
async def test_a_second_server_takes_over_from_one_that_was_killed(request, tmp_path, kind):
    """Both answer; what the second is asked for the first one does; killed, it is followed within seconds."""
    url = request.getfixturevalue("cluster").new() if kind == "postgresql" else ""
    tick = {} if url else {"tick_s": "1"}  # on PostgreSQL the leader looks for others' changes by itself
    data = await asyncio.to_thread(initialise, tmp_path / "data", url)
    with contextlib.ExitStack() as parts:
        running = parts.enter_context(broker(tmp_path / "broker", data))
        first = parts.enter_context(fleet_server(data, running, database=url, **tick))
        http = parts.enter_context(first.client())
        await asked(http, "/healthz", lambda said: said["leader"] and said["broker"] == "connected")
        second = parts.enter_context(fleet_server(data, running, database=url, **tick))
        other = parts.enter_context(second.client())
        owner = Publisher(other)
        await asyncio.to_thread(owner.found)
        device = Device(tmp_path / "dev", await asyncio.to_thread(join, other), "dev-two")
        checked(await asyncio.to_thread(device.enrol))
        async with device.connected():
            await device.send_facts()
            await asked(other, "/api/v1/devices/dev-two", lambda shown: shown["facts"] and shown["online"])
            await committed(other, device, *await ordered(other, owner, device, "digits"))
            said = await asked(other, "/healthz", lambda said: not said["leader"])
            assert said["broker"] == "another server has the session"
            assert (await asked(http, "/healthz", lambda said: said["leader"]))["broker"] == "connected"

            first.process.kill()
            await asked(other, "/healthz", lambda said: said["leader"] and said["broker"] == "connected")
            await committed(other, device, *await ordered(other, owner, device, "letters"))


@pytest.mark.needs("mosquitto", "postgres")
async def test_a_leader_whose_session_ends_stops_and_tries_again(cluster, tmp_path):
    """The API goes on meanwhile."""
    url = cluster.new()
    data = await asyncio.to_thread(initialise, tmp_path / "data", url)
    with (
        broker(tmp_path / "broker", data) as running,
        fleet_server(data, running, database=url) as server,
        server.client() as http,
    ):
        await asked(http, "/healthz", lambda said: said["leader"] and said["broker"] == "connected")
        # Whoever else wants the lead gets it first, and so the server cannot have it back at once.
        database = Database.of(url, tmp_path)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as rival:
            await asyncio.to_thread(cluster.sql, HOLDERS)
            take = text("SELECT pg_advisory_lock(:a, :b)"), {"a": 0x65666C74, "b": 2}
            await asyncio.to_thread(rival.execute, *take)
            await asked(http, "/healthz", lambda said: not said["leader"])
            checked(await asyncio.to_thread(http.get, "/api/v1/devices"))
            rival.invalidate()
        database.close()
        await asked(http, "/healthz", lambda said: said["leader"] and said["broker"] == "connected")
