"""The task of telemetry beside all others: it looks when it is time to, and nothing that happens to it ends it."""

import asyncio
import contextlib
import sqlite3

import pytest

from agent import wiring
from agent.settings import Settings, load
from modules.errors import BadSettings
from tests.agent.telemetry.stand import Stand
from tests.parts.pace import stretched

PREFIX = "EDGEFLEET_AGENT_TELEMETRY_"


@contextlib.asynccontextmanager
async def running(stand: Stand):
    task = asyncio.create_task(stand.duty.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition):
    async with asyncio.timeout(stretched(10)):
        while not condition():  # noqa: ASYNC110 - a file that another task writes sets no event
            await asyncio.sleep(0.005)


def looks(stand):
    return sum(len(one.samples) for one in stand.once()) + waiting(stand)


def waiting(stand):
    with contextlib.closing(sqlite3.connect(stand.file)) as db:
        return db.execute("SELECT count(*) FROM samples").fetchone()[0]


async def test_it_looks_at_once_and_then_at_its_times(stand):
    """The first samples are there when the agent has just begun; an acknowledgement sends what is due, and no look."""
    device = stand(telemetry_send_s=0.0)
    async with running(device):
        await until(lambda: len(device.messages()) == 1)
        device.clock.advance(61.0)
        device.duty._looks.set()
        await until(lambda: waiting(device) == 1)
        device.ack(1)
        await until(lambda: len(device.messages()) == 2)
        device.ack(2)
        await until(lambda: device.kept.pending() is None)
        await asyncio.sleep(0.05)
        assert looks(device) == 2


async def test_a_network_that_swallows_everything_holds_up_no_look(stand):
    """A message may wait for its receipt for minutes: samples are taken meanwhile, and a new session does not wait."""
    device = stand(telemetry_send_s=0.0)
    device.link.swallows = True
    async with running(device):
        await until(lambda: device.kept.pending() is not None)
        for count in range(1, 4):
            device.clock.advance(61.0)
            device.duty._looks.set()
            await until(lambda count=count: waiting(device) == count)
        device.link.swallows = False
        device.duty.on_connect()
        await until(lambda: [one.number for one in device.messages()] == [1])


async def test_a_look_that_fails_ends_nothing(stand, caplog):
    """A defect in a look, a full disk, a store that cannot be written: said once, and the next look is tried."""
    device = stand(telemetry_streams=("gateway", "host"))

    async def broken():
        raise RuntimeError("a defect")

    device.duty._gateway._told = broken
    async with running(device) as task:
        for _ in range(5):
            await asyncio.sleep(0.02)
            device.clock.advance(61.0)
            device.duty._looks.set()
        assert not task.done()
        assert caplog.text.count("it is tried again") == 1
        device.duty._gateway._told = device._told
        device.clock.advance(61.0)
        device.duty._looks.set()
        await until(lambda: len(device.messages()) > 0)


async def test_a_folder_that_cannot_be_written_ends_nothing(stand, caplog):
    """The state's disk is gone: the task goes on, and telemetry comes back with the disk."""
    device = stand()
    device.duty._kept._path = device.folder / "gone" / "telemetry.db"
    async with running(device) as task:
        await until(lambda: "no telemetry" in caplog.text)
        assert not task.done()
        (device.folder / "gone").mkdir()
        device.clock.advance(61.0)
        device.duty._looks.set()
        await until(lambda: len(device.messages()) == 1)
    assert device.kept.state().dropped == {"host": 1}


def test_where_it_is_off_nothing_of_it_is_there(tmp_path):
    """0 seconds, or no stream: no task that looks, no file."""
    for settings in (Settings(telemetry_every_s=0), Settings(telemetry_streams=())):
        found = wiring._telemetry(settings, None)
        found.on_connect()
        found.on_ack(1, "")
        assert type(found).__module__ == "agent.wiring"
    assert list(tmp_path.iterdir()) == []


def test_its_settings_are_checked():
    """Streams by name, with commas between in a variable; what no device measures is refused."""
    found = load(environ={f"{PREFIX}STREAMS": "host, modules", f"{PREFIX}EVERY_S": "0"})
    assert (found.telemetry_streams, found.telemetry_every_s) == (("host", "modules"), 0)
    for name, value in (("STREAMS", "weather"), ("EVERY_S", "-1"), ("DAY_BYTES", "10"), ("BYTES", "10")):
        with pytest.raises(BadSettings, match="telemetry_"):
            load(environ={f"{PREFIX}{name}": value})
