"""A device measures a module where its order asks for it: who is asked, when, and what the report says of it."""

import asyncio

import msgspec
import pytest

from agent import measurer
from modules.counted import Counted
from modules.latencies import bin_of
from modules.protocol.order import Measure
from modules.protocol.phases import Phase
from modules.sketch import BINS
from tests.agent.workbench import bench
from tests.doubles.engine import Behaviour
from tests.doubles.release import RIGHT, WRONG, make

ONE, TWO = make("acme/digits:1"), make("acme/digits:2", probation_s=1.0)
ASKED = Measure(window_s=60, for_s=180)


def counts(requests, errors=0, ms=1.0, seconds=600.0):
    return Counted(seconds=seconds, requests=requests, errors=errors, latencies=((bin_of(ms / 1000), requests),))


def says(**answers):
    return msgspec.json.encode({"ready": True, "provider_in_use": "CPUExecutionProvider", **answers})


class Unwilling:
    """Never measures."""

    def due(self, _):
        return float("inf")


async def order(device, release=TWO, measure=ASKED, **more):
    device.server.blobs.update(release.blobs)
    device.shelf.keep_manifest(release.digest, release.data)
    await device.order(main=release.ordered(measure=measure, **more))


async def replaced(device, **more):
    """Version 1 has served and been counted; version 2 has taken its place, and is measured from now on."""
    await device.committed(ONE)
    device.counts = {device.row().current.instance: counts(5000, 5, ms=4.0)}
    await order(device, **more)
    await device.phase(Phase.PROBATION)
    await device.until(lambda: device.row().target.watched.before is not None)
    device.clock.advance(1.1)
    await device.phase(Phase.COMMITTED)
    await settled(device)


async def settled(device):
    """Whatever is due has been measured."""
    await device.passes(4)
    await device.until(lambda: device.loop._measuring is None)


async def window(device, *, seconds=60.0):
    """Let a window pass."""
    before = device.row().target.watched.spent_s
    device.clock.advance(seconds)
    await device.until(lambda: device.row().target.watched.spent_s > before)
    await settled(device)


def told(device):
    return device.reported()


async def test_it_measures_the_wanted_module_and_what_it_replaced(device):
    """Each window of the new module is reported, beside what was measured of the old one before traffic moved."""
    await replaced(device)
    assert told(device).measured is None
    before = told(device).before
    assert (before.requests, before.errors, before.seconds) == (5000, 5, 600)
    assert before.p50_ms == pytest.approx(4, rel=0.05)
    new = device.row().current.instance
    device.counts = {new: counts(300, 3, ms=12.0)}
    device.engine.behaviours[TWO.digest] = Behaviour(
        memory_mb=77.4, status=says(answers={"looked": 20, "nan": 2, "empty": 1, "values": [1] * BINS})
    )
    await window(device)
    first = told(device).measured

    assert (first.requests, first.errors, first.answers, first.nan, first.empty) == (300, 3, 20, 2, 1)
    assert first.p95_ms == pytest.approx(12, rel=0.05)
    assert (first.memory_mb, first.values, first.samples, first.agree) == (77, (1,) * BINS, 1, 1)
    device.counts = {new: counts(310, 3, ms=12.0)}
    await window(device)
    assert told(device).measured.requests == 10
    assert told(device).before == before


def numbers(device):
    """How many reports it has made; one that nobody acknowledges is said again, and is still the same."""
    return len({one.number for one in device.link.reports(device.key)})


async def test_there_is_one_report_for_each_window_and_then_none(device):
    """A device says what it measured as often as it was asked to, and stops when the time is over."""
    await replaced(device)
    reports = numbers(device)
    for number in (1, 2, 3):
        device.counts = {device.row().current.instance: counts(number * number)}
        await window(device, seconds=61.0)
        assert numbers(device) == reports + number
    asked = []
    device.watch = lambda: asked.append(device.loop._measuring)
    for _ in range(5):
        device.clock.advance(61.0)
        await device.passes(3)

    assert numbers(device) == reports + 3
    assert set(asked) <= {None}
    assert told(device).measured is not None, "the last window stays"


async def test_without_being_asked_nothing_is_measured(device):
    """No order, no questions: neither the gateway nor the module nor the engine is asked."""
    await device.committed(ONE)
    await device.committed(TWO)
    for _ in range(5):
        device.clock.advance(100.0)
        await device.passes(3)
        assert device.loop._measuring is None

    assert (told(device).measured, told(device).before) == (None, None)


async def test_samples_that_it_no_longer_answers_are_counted(device):
    """A module that went wrong after its proof shows it in the next window."""
    await replaced(device)
    device.engine.behaviours[TWO.digest] = Behaviour(answer=WRONG)
    await window(device)
    assert (told(device).measured.samples, told(device).measured.agree) == (1, 0)
    device.engine.behaviours[TWO.digest] = Behaviour(answer=RIGHT)
    await window(device)

    assert (told(device).measured.samples, told(device).measured.agree) == (1, 1)


async def test_no_sample_is_asked_while_something_is_done_to_the_slot(device):
    """A newer order's download goes before, and the window is closed without samples."""
    await replaced(device)
    device.loop._tasks["main", "keep"] = asyncio.create_task(asyncio.sleep(60))
    await window(device)
    device.loop._tasks.pop(("main", "keep")).cancel()

    assert (told(device).measured.samples, told(device).measured.agree) == (0, 0)


async def test_what_the_samples_ask_is_in_no_window(device):
    """The agent's own questions do not pass for an application's: counts that they raise are left out."""
    await replaced(device)
    status, real = [20], device.loop._measurer._agrees

    async def agrees(placed, sample):
        status[0] += 100
        device.engine.behaviours[TWO.digest] = Behaviour(status=says(answers={"looked": status[0]}))
        return await real(placed, sample)

    device.loop._measurer._agrees = agrees
    device.engine.behaviours[TWO.digest] = Behaviour(status=says(answers={"looked": 20}))
    await window(device)
    assert told(device).measured.answers == 20
    await window(device)

    assert (told(device).measured.answers, told(device).measured.samples) == (0, 1)


@pytest.mark.parametrize(
    "status",
    [
        b"no JSON",
        b"\xff",
        says(answers={"looked": -1}),
        says(answers={"looked": 1 << 70}),
        says(answers={"looked": 9, "values": [1] * (BINS + 1)}),
        says(answers={"looked": 9, "values": ["much"]}),
        says(answers="many"),
        says(),
        b"[" * 60_000,
    ],
)
async def test_a_module_that_says_nonsense_is_not_believed(device, status):
    """What a module says of itself is bounded or left out; the rest of the window is told all the same."""
    await replaced(device)
    device.engine.behaviours[TWO.digest] = Behaviour(status=status)
    device.counts = {device.row().current.instance: counts(7)}
    await window(device)
    found = told(device).measured

    assert (found.requests, found.answers, found.values) == (7, 0, ())


async def test_an_agent_that_is_started_again_goes_on(folder):
    """What the old module did is kept, the window that was cut begins anew, and the time goes on."""
    async with bench(folder) as device:
        await replaced(device)
        await window(device)
        before, spent = device.row().target.watched.before, device.row().target.watched.spent_s
        device.clock.advance(50.0)
        device.counts = {device.row().current.instance: counts(1000)}
        await device.restart()
        await settled(device)
        device.counts = {device.row().current.instance: counts(1007)}
        device.clock.advance(50.0)
        await settled(device)
        assert device.row().target.watched.spent_s == spent
        device.clock.advance(11.0)
        await device.until(lambda: device.row().target.watched.spent_s > spent)
        await settled(device)

        assert told(device).measured.requests == 7
        assert told(device).before == before


async def test_an_agent_that_dies_while_traffic_moves_still_knows_what_was_before(folder):
    """During probation the old module is still there, and so are its counts."""
    async with bench(folder) as device:
        await device.committed(ONE)
        device.counts = {device.row().current.instance: counts(5000)}
        device.loop._make_measurer = Unwilling
        await order(device)
        await device.phase(Phase.PROBATION)
        assert device.row().target.watched.before is None
        await device.restart()
        await device.until(lambda: device.row().target.watched.before is not None)

        assert device.row().target.watched.before.requests == 5000


async def test_a_long_wait_for_a_window_measures_whole_windows_of_the_old_one(device):
    """While the candidate waits, nothing is reported of it; at the switch its last window is what counts."""
    await device.committed(ONE)
    old = device.row().current.instance
    device.counts = {old: counts(5000)}
    windows = ({"begins": "09:00", "minutes": 60},)
    await order(device, windows=windows)
    await device.phase(Phase.STAGED)
    await settled(device)
    reports = numbers(device)
    for requests in (5100, 5150):
        device.clock.advance(60.0)
        device.counts = {old: counts(requests)}
        await settled(device)
    assert numbers(device) == reports
    device.clock.advance(3600.0)
    device.counts = {old: counts(5151)}
    await device.phase(Phase.PROBATION)
    await device.until(lambda: device.row().target.watched.before is not None)

    assert device.row().target.watched.before.requests in (1, 50)


async def test_an_order_that_no_longer_asks_ends_it(device):
    """What was measured is forgotten with the wish to know it; the module is left alone."""
    await replaced(device)
    await window(device)
    await order(device, measure=msgspec.UNSET)
    await settled(device)

    assert (told(device).measured, told(device).before, told(device).phase) == (None, None, "committed")
    assert len(device.engine.starts) == 2


async def test_a_restarted_module_is_measured_from_its_new_start(device):
    """A new instance counts from zero: its window has nothing of the one that crashed."""
    await replaced(device)
    old = device.row().current.instance
    device.counts = {old: counts(900, 900)}
    device.clock.advance(30.0)
    await settled(device)
    device.engine.crash(old)
    await device.until(lambda: device.row().current.instance != old and device.served())
    new = device.row().current.instance
    await settled(device)
    device.counts = {new: counts(40)}
    await window(device)

    assert (told(device).measured.requests, told(device).measured.errors) == (40, 0)


async def test_a_module_that_replaced_nothing_has_no_before(device):
    """An earlier start of the same module is no predecessor."""
    first = make("acme/digits:3", probation_s=1.0)
    await order(device, release=first)
    await device.phase(Phase.PROBATION)
    await settled(device)
    device.clock.advance(1.1)
    await device.phase(Phase.COMMITTED)
    old = device.row().current.instance
    await window(device)
    device.engine.crash(old)
    await device.until(lambda: device.row().current.instance != old and device.served())
    await settled(device)
    await window(device)

    assert told(device).before is None
    assert told(device).measured is not None


async def test_other_windows_are_measured_when_an_order_says_so(device):
    """An order that asks for shorter windows gets them, and what was before is still known."""
    await replaced(device)
    before = device.row().target.watched.before
    await order(device, measure=Measure(window_s=10, for_s=180))
    await settled(device)
    await window(device, seconds=10.0)

    assert 10 <= told(device).measured.seconds < 20
    assert told(device).before == before


async def test_what_is_absurd_is_brought_within_bounds(device):
    """A row or report that nobody could read again is never written."""
    await replaced(device)
    device.engine.behaviours[TWO.digest] = Behaviour(memory_mb=1e30)
    await window(device)
    await device.until(lambda: device.row().target.watched.measured is not None)

    assert told(device).measured.memory_mb == 1 << 33


async def test_only_some_of_many_samples_are_asked(device, monkeypatch):
    """A module with thousands of samples is not asked them all over again in every window."""
    monkeypatch.setattr(measurer, "MOST_SAMPLES", 3)
    many = make("acme/digits:3", probation_s=1.0, bodies=tuple(b'{"x": [%d]}' % n for n in range(5)))
    await replaced(device, release=many)
    await window(device)

    assert (told(device).measured.samples, told(device).measured.agree) == (3, 3)
