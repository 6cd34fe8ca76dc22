"""Maintenance windows: a device fetches at once, and switches when its own clock says that it may."""

import asyncio
import time
from datetime import datetime, timedelta

import pytest

from agent.clock import BUILT, SystemClock
from agent.maintenance import opening, why_closed
from agent.plan import Seen, plan
from agent.steps import Start
from modules.protocol.order import Window
from modules.protocol.phases import Phase
from tests.agent.workbench import bench
from tests.doubles.release import make
from tests.doubles.rows import slot_row

# VirtualClock begins on a Friday, at 08:00.
SATURDAY_NIGHT = Window(days=("sat",), begins="22:30", minutes=120)
FRIDAY_MORNING = Window(days=("fri",), begins="07:30", minutes=60)
EACH_DAY = Window(begins="22:30", minutes=120)
ACROSS_THE_WEEK = Window(days=("sun",), begins="23:30", minutes=60)
WEEK_S = 7 * 86400
ONE, TWO = make("acme/digits:1"), make("acme/digits:2")


def moment(day, clock):
    """A day of the week in January 2027 (the 11th is a Monday)."""
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    return datetime.fromisoformat(f"2027-01-{11 + days.index(day)}T{clock}")


@pytest.mark.parametrize(
    ("windows", "now", "found"),
    [
        pytest.param([SATURDAY_NIGHT], ("sat", "22:29:59"), (1.0, "Sat", "22:30"), id="a second before"),
        pytest.param([SATURDAY_NIGHT], ("sat", "22:30:00"), (0.0, "", ""), id="from its first minute"),
        pytest.param([SATURDAY_NIGHT], ("sun", "00:29:59"), (0.0, "", ""), id="over midnight"),
        pytest.param([SATURDAY_NIGHT], ("sun", "00:30:00"), (WEEK_S - 7200, "Sat", "22:30"), id="not then"),
        pytest.param([SATURDAY_NIGHT], ("fri", "22:30:00"), (86400.0, "Sat", "22:30"), id="on no other day"),
        pytest.param([EACH_DAY], ("wed", "23:00:00"), (0.0, "", ""), id="on each day where none is named"),
        pytest.param([EACH_DAY], ("wed", "00:30:00"), (22 * 3600, "Wed", "22:30"), id="and then on the same day"),
        pytest.param([ACROSS_THE_WEEK], ("mon", "00:29:00"), (0.0, "", ""), id="over the end of the week"),
        pytest.param([ACROSS_THE_WEEK], ("mon", "00:30:00"), (WEEK_S - 3600, "Sun", "23:30"), id="no longer"),
        pytest.param([SATURDAY_NIGHT, FRIDAY_MORNING], ("fri", "07:00:00"), (1800.0, "Fri", "07:30"), id="the next"),
        pytest.param([SATURDAY_NIGHT, FRIDAY_MORNING], ("fri", "08:00:00"), (0.0, "", ""), id="any that is open"),
    ],
)
def test_when_a_window_opens(windows, now, found):
    """It opens in the minute it begins, stays open for its minutes, and comes again a week later."""
    next_one = opening(windows, moment(*now))

    assert (next_one.in_s, next_one.day, next_one.at) == found


def test_a_whole_day_is_always_open():
    """A window of 24 hours on each day leaves no gap, wherever it begins."""
    whole = Window(begins="13:07", minutes=24 * 60)
    begin = moment("mon", "00:00:00")

    assert {opening([whole], begin + timedelta(minutes=n)).in_s for n in range(0, 7 * 24 * 60, 7)} == {0.0}


def test_a_clock_that_is_not_set_opens_no_window():
    """A device in 1970 does not know what time it is: it waits, and says that; without windows it need not know."""
    why, _ = why_closed([EACH_DAY], None)

    assert (why.code, "clock is not set" in why.message) == ("outside-window", True)
    assert why_closed([], None) is None


def test_the_time_zone_is_the_devices_own(monkeypatch):
    """Local time follows the zone that is set now, summer time included: clocks there are read as people read them."""
    clock, real = SystemClock(), time.localtime
    monkeypatch.setattr(time, "localtime", lambda: real(1_800_000_000))  # Friday, 08:00 UTC
    try:
        monkeypatch.setenv("TZ", "EST5")
        assert clock.local() == moment("fri", "03:00:00")
        monkeypatch.setenv("TZ", "<+14>-14")
        assert clock.local() == moment("fri", "22:00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_loop_looks_again_when_the_window_opens():
    """Once it is said what is waited for, nothing is done until then, and exactly then the start is."""
    slot = slot_row(TWO.wanted(), phase=Phase.STAGED, windows=(EACH_DAY,))
    nothing = Seen(evidence={})
    (said,) = plan((slot,), nothing, now=1000.0, poll_s=1e6, local=moment("fri", "22:00:00")).steps
    waiting = plan((slot.with_(reason=said.reason),), nothing, now=1000.0, poll_s=1e6, local=moment("fri", "22:00:00"))

    assert (waiting.steps, waiting.look_again) == ((), 1000.0 + 1800.0)
    assert plan((slot,), nothing, now=2800.0, poll_s=1e6, local=moment("fri", "22:30:00")).steps == (Start(slot),)


class TestDevice:
    """The whole agent on a simulated clock."""

    async def staged(self, device, *windows):
        """Version 1 serves, version 2 waits for its window."""
        await device.committed(ONE)
        await self.order(device, *windows)
        await device.phase(Phase.STAGED)
        await device.until(lambda: device.row().reason is not None)

    async def order(self, device, *windows, release=TWO, **more):
        device.server.blobs.update(release.blobs)
        device.shelf.keep_manifest(release.digest, release.data)
        await device.order(main=release.ordered(windows=windows, **more))

    async def test_it_fetches_at_once_and_switches_in_its_window(self, device):
        """Everything is there long before; the old module serves until the window opens, then the new one."""
        await self.staged(device, EACH_DAY)
        await device.passes(3)
        assert device.serves() == "acme/digits:1"
        assert device.reported().phase == "staged"
        assert device.reported().reason.code == "outside-window"
        assert "opens Fri 22:30" in device.reported().reason.message
        device.server.blobs.clear()  # nothing more is asked of anybody
        device.clock.advance(14.4 * 3600)
        await device.passes(3)
        assert device.row().phase is Phase.STAGED
        device.clock.advance(0.2 * 3600)
        await device.phase(Phase.PROBATION)

        assert device.serves() == "acme/digits:2"
        assert device.row().reason is None

    async def test_it_waits_through_restarts_of_agent_and_machine(self, folder):
        """Neither makes it switch early, or fetch again, and it opens all the same."""
        async with bench(folder) as device:
            await self.staged(device, EACH_DAY)
            loads = device.engine.loads
            await device.restart()
            await device.passes(3)
            await device.kill()
            device.engine.power_cut()
            device.clock.reboot()
            device.start()
            await device.until(device.served)
            await device.passes(3)
            assert device.row().phase is Phase.STAGED
            assert device.serves() == "acme/digits:1"
            device.clock.advance(15 * 3600)
            await device.phase(Phase.PROBATION)

            assert device.engine.loads == loads

    async def test_an_order_without_windows_lets_it_go_on_at_once(self, device):
        """An operator who cannot wait takes the windows away: nothing is fetched or staged anew."""
        await self.staged(device, SATURDAY_NIGHT)
        await self.order(device)
        await device.phase(Phase.PROBATION)

        assert device.chain().count("staged") == 1
        assert device.chain().count("fetching") == 1

    async def test_other_windows_are_waited_for(self, device):
        """A new order's windows take effect at once, and the report names them."""
        await self.staged(device, SATURDAY_NIGHT)
        await self.order(device, EACH_DAY)
        await device.until(lambda: "Fri 22:30" in device.row().reason.message)

        assert device.chain().count("staged") == 1

    async def test_a_start_that_an_order_broke_off_waits_for_the_new_window(self, device):
        """What was being started when its window was moved is stopped, and started when the new one opens."""
        device.engine.gates["start"] = asyncio.Event()
        await self.order(device)
        await device.until(lambda: device.engine.held("start"))
        await self.order(device, EACH_DAY)
        await device.until(lambda: device.row().reason is not None)
        device.engine.gates.pop("start").set()

        assert (device.row().phase, device.row().candidate) == (Phase.STAGED, None)

    async def test_what_is_committed_is_left_alone(self, device):
        """Windows say when to switch, not when to run: neither a new window nor a crash outside it stops it."""
        await device.committed(ONE)
        await self.order(device, EACH_DAY, release=ONE)
        await device.passes(3)
        assert device.row().phase is Phase.COMMITTED
        device.engine.crash(device.row().current.instance)
        await device.until(lambda: device.row().upkeep.state == "up" and device.served(), flowing=1.0)

        assert len(device.engine.starts) == 2

    async def test_removal_waits_for_no_window(self, device):
        """An order that no longer names the slot takes it away now."""
        await self.staged(device, EACH_DAY)
        await device.order()

        await device.until(lambda: device.store.slot("main") is None)

    async def test_a_clock_that_is_set_later_opens_the_window(self, folder):
        """A device without a battery waits, says why, and switches once it knows that it is time."""
        async with bench(folder) as device:
            device.clock.time = 1000.0
            await self.order(device, EACH_DAY, release=ONE)
            await device.phase(Phase.STAGED)
            await device.until(lambda: device.row().reason is not None)
            assert "clock is not set" in device.reported().reason.message
            device.clock.jump(BUILT.timestamp() + 22.6 * 3600)

            await device.phase(Phase.PROBATION)
