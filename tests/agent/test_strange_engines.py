"""An engine that answers what nobody understands, or hangs: the agent goes on, and takes no silence for evidence."""

import asyncio

import pytest

from agent import loop, observe
from agent.host import Host
from tests.doubles.engine import SimulatedEngine
from tests.doubles.release import make

FIRST = make("acme/digits:1")


@pytest.mark.parametrize(
    "error", [KeyError("Labels"), TypeError("null"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "")]
)
async def test_a_list_that_nobody_understands_is_no_evidence(device, monkeypatch, caplog, error):
    """It is said once; what serves is not touched, and looked after again once the engine makes sense."""
    await device.committed(FIRST)
    serving = device.row().current.instance

    async def strange():
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(device.engine, "list", strange)
        await device.passes(5)
    assert caplog.text.count("does not understand") == 1
    assert device.row().current.instance == serving
    assert (device.engine.stops, device.served()) == ([], True)

    device.engine.crash(serving)
    await device.restarted()


async def test_an_engine_that_hangs_holds_up_no_pass(device, monkeypatch):
    """The watchdog sees the loop go round; the list that comes too late is of another time, and counts for nothing."""
    await device.committed(FIRST)
    serving, answers, asked = device.row().current.instance, asyncio.Event(), 0

    async def hangs():
        nonlocal asked
        asked += 1
        await answers.wait()
        return []

    monkeypatch.setattr(observe, "LISTED_WITHIN_S", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(device.engine, "list", hangs)
        await device.passes(5)
        assert asked == 1, "an engine that hangs is not asked again and again"
        patched.undo()
        answers.set()
    await device.passes(3)

    assert device.row().current.instance == serving
    assert device.row().upkeep.restarts == 0
    assert device.served()


async def test_a_look_at_the_host_that_takes_long_holds_up_no_pass(device, monkeypatch):
    """Its engine may be the one that hangs."""

    async def hangs():
        await asyncio.Event().wait()

    monkeypatch.setattr(loop, "_HOST_WITHIN_S", 0.01)
    monkeypatch.setattr(device.host, "look", hangs)
    device.clock.advance(61)
    await device.passes(5)
    await device.stop()


async def test_facts_that_nobody_understands_leave_the_engine_out(device, tmp_path, monkeypatch):
    """The host is known all the same, and so are its other engines."""

    async def strange():
        raise ValueError("version new")

    other = SimulatedEngine(device.clock)
    other.name = "process"
    monkeypatch.setattr(device.engine, "facts", strange)
    facts = await Host({"docker": device.engine, "process": other}, tmp_path).look()

    assert facts.cores > 0
    assert len(facts.engines) == 1


async def test_a_pass_that_meets_a_defect_is_tried_again(device, monkeypatch, caplog):
    """Supervision does not end with it: it is told once, and orders are still taken."""
    await device.committed(FIRST)
    look = device.loop._observer.look
    broken = True

    async def fails(*arguments):
        if broken:
            raise LookupError("a defect")
        return await look(*arguments)

    monkeypatch.setattr(device.loop._observer, "look", fails)
    await device.passes(3)
    assert caplog.text.count("a pass failed") == 1
    assert "LookupError" in caplog.text

    broken = False
    device.engine.crash(device.row().current.instance)
    await device.restarted()


async def test_what_cannot_be_removed_fails_no_pass(device, monkeypatch, caplog):
    """A file in the way of tidying up is told once for the rows as they are, and not at each look."""
    await device.committed(FIRST)
    (device.folder / "modules" / "link").symlink_to(device.folder)
    (device.folder / "blobs" / "loop").symlink_to("loop")

    def fails(*_):
        raise PermissionError(13, "Permission denied", "blobs/x")

    monkeypatch.setattr(device.blobs, "prune", fails)
    await device.committed(make("acme/digits:2"))
    await device.until(lambda: "needed could be removed" in caplog.text)
    await device.passes(5)
    told = caplog.text.count("needed could be removed")
    await device.passes(5)

    assert caplog.text.count("needed could be removed") == told
    assert "a pass failed" not in caplog.text
    assert device.served()
