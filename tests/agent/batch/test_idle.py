"""When a device is idle: by what the gateway tells, what is being brought on, and how busy the processor is."""

import pytest

from agent.answering import Told
from agent.batch.idle import Idle, windows
from agent.settings import Settings
from agent.slots import Slot, Target, Upkeep, Wanted
from hardware.system import System
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from tests.doubles.clock import VirtualClock

HZ = 100


class Device:
    """A gateway that tells what a test says, and a processor of two cores that is as busy as it says."""

    def __init__(self, folder, **settings):
        self.clock = VirtualClock()
        self.system = System(folder)
        (folder / "proc").mkdir()
        self.told = Told(1, [])
        self.busy, self.ticks = 0, 1000 * HZ
        self.own = None
        self._write()
        self.idle = Idle(
            Settings(**{"batch_idle_s": 60.0, "batch_others_cpu": 0.5} | settings), self._tell, self.clock, self.system
        )

    async def _tell(self):
        return self.told

    def _write(self):
        idle = self.ticks - self.busy
        (self.system.root / "proc/stat").write_text(f"cpu  {self.busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")

    def counts(self, requests, in_flight=0):
        slot = {"slot": "main", "counts": {"main-1": {"requests": requests}}}
        self.told = Told(1, [slot | ({"in_flight": in_flight} if in_flight else {})])

    async def after(self, seconds, *, busy=0.0, own=0.0, slots=()):
        """Why not, so many seconds later, in which this share of both cores was busy, and the job used ``own``."""
        self.clock.advance(seconds)
        self.ticks += int(2 * seconds * HZ)
        self.busy += int(2 * seconds * HZ * busy)
        if self.own is not None:
            self.own += own
        self._write()
        return await self.idle.why_not(tuple(slots), self.own)


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path)


def slot(phase=Phase.COMMITTED, **more):
    upkeep = more.pop("upkeep", Upkeep())
    wanted = Wanted(module="acme/digits:2", digest="sha256:" + "a" * 64, engine="docker")
    return Slot(slot="main", target=Target(wanted=wanted, phase=phase, **more), upkeep=upkeep)


async def test_quiet_for_so_long(device):
    """From the first look on, and again after each request."""
    device.counts(5)
    assert "applications have asked in the last 60 s" in await device.after(0)
    assert "applications" in await device.after(59)
    assert await device.after(1) == ""
    device.counts(6)
    assert "applications" in await device.after(1)
    assert "applications" in await device.after(59)
    assert await device.after(1) == ""


async def test_a_request_that_takes_long_is_one(device):
    """It is counted when it has ended; until then it is in flight."""
    device.counts(5)
    await device.after(0)
    device.counts(5, in_flight=1)
    assert "applications" in await device.after(600)
    device.counts(5)
    assert "applications" in await device.after(59)
    assert await device.after(1) == ""


async def test_a_gateway_that_does_not_tell(device):
    """Nobody knows then whether anybody asks; its silence is no quiet time."""
    device.counts(0)
    await device.after(0)
    assert await device.after(100) == ""
    device.told = None
    assert "the gateway does not say" in await device.after(1)
    device.counts(0)
    assert "applications" in await device.after(30)
    assert await device.after(60) == ""


@pytest.mark.parametrize(
    "phase", [Phase.VERIFIED, Phase.STAGED, Phase.STARTING, Phase.PROBATION, Phase.REVERTING, Phase.REMOVING]
)
async def test_an_update_comes_first(device, phase):
    """From when it takes the processor and memory; not while it downloads, or waits for its window."""
    await device.after(0)
    assert "slot main is being brought to acme/digits:2" in await device.after(100, slots=[slot(phase)])
    for free in (Phase.COMMITTED, Phase.FETCHING, Phase.REJECTED):
        assert await device.after(1, slots=[slot(free)]) == ""
    waiting = slot(Phase.STAGED, reason=Reason("outside-window", "it waits"))
    assert await device.after(1, slots=[waiting]) == ""


async def test_a_module_that_is_down_comes_first(device):
    """It is being started again, for which it needs what there is."""
    await device.after(0)
    down = slot(upkeep=Upkeep(restarts=1, trouble=Reason("not-ready", "it ended")))
    assert "the module of slot main does not answer" in await device.after(100, slots=[down])


async def test_what_others_use_counts(device):
    """Over ten seconds at least, and without what the job itself uses."""
    assert await device.after(0) != ""
    assert "other programs use more than 50%" in await device.after(60, busy=0.6)
    assert "other programs" in await device.after(5, busy=0.1)
    assert await device.after(60, busy=0.4) == ""
    device.own = 0.0
    assert await device.after(2, busy=0.9, own=3.6) == ""
    assert await device.after(10, busy=0.9, own=17.0) == ""
    assert "other programs" in await device.after(60, busy=0.9, own=20.0)


async def test_what_is_not_measured_yet_begins_nothing_and_ends_nothing(device):
    """A job that has just begun is not ended for the want of a figure."""
    device.told = Told(1, [])
    await device.after(0)
    device.clock.advance(1000)
    device.idle._cpu.clear()
    assert "it is being measured" in await device.after(1)
    device.own = 0.5
    assert await device.after(1, busy=1.0) == ""


async def test_hours(tmp_path):
    """By the device's own clock, over midnight; not while that is not set."""
    device = Device(tmp_path, batch_hours="22:00-06:00")
    at = device.clock.local()
    device.clock.jump((22 - at.hour) * 3600 - at.minute * 60 - at.second - 60)
    await device.after(0)
    assert "it waits for its window" in await device.after(30)
    assert await device.after(31) == ""
    assert "it waits for its window" in await device.after(8 * 3600)
    device.clock.time = 1000.0
    assert "clock is not set" in await device.after(0)


def test_hours_are_a_window():
    """To the minute; the whole day where it ends as it begins."""
    assert [(one.begins, one.minutes) for one in windows("22:15-06:00")] == [("22:15", 465)]
    assert [(one.begins, one.minutes) for one in windows("08:00-08:00")] == [("08:00", 1440)]
    assert windows("") == ()
