"""Jobs on a device with a simulated engine: begun, paused, ended, refused."""

import asyncio
import errno
import os

import msgspec
import pytest

from agent.batch import kept, places
from modules.errors import Invalid, NotReady
from modules.names import Digest
from modules.protocol.batch import MAX_JOBS
from tests.agent.batch.site import DONE, HALF, INSTANCE, MARK, serving


@pytest.fixture
async def site(folder):
    async with serving(folder) as made:
        yield made


async def test_it_runs_when_the_device_is_idle(site):
    """With the module's own limits and a little more, its two folders and nothing else; then it is done."""
    await site.duty.take(site.order)
    await site.turns(3)
    assert (site.job.state, site.runs()) == ("paused", False)
    assert "applications have asked" in site.job.why
    await site.quiet()
    assert (site.job.state, site.job.why, site.runs()) == ("running", "", True)
    launch = site.device.engine.launch(INSTANCE)
    place = site.here / "answers/night"
    assert (launch.task.inputs, launch.task.outputs) == (str(site.here / "pictures"), str(place))
    assert launch.folders == (launch.module_dir, str(site.here / "pictures"), str(place))
    assert launch.task.file_bytes == site.settings.batch_bytes
    assert "--state=/outputs/.state" in launch.task.arguments
    slot = site.device.engine.launch(site.device.row().current.instance)
    assert (launch.memory_mb, launch.secrets_dir) == (slot.memory_mb + 96, "")
    site.ends(f"noise\n{HALF}noise\n{DONE}")
    await site.turns()
    assert (site.job.state, site.job.items, site.job.answered, site.job.set_aside) == ("done", 4, 3, 1)
    assert INSTANCE not in site.device.engine._instances
    assert await site.duty.turn() is None


async def test_a_request_pauses_it(site):
    """At the next look; it goes on after the next quiet time, and that was no end of its own."""
    await site.duty.take(site.order)
    await site.quiet()
    site.device.engine.said[INSTANCE] = HALF
    site.requests += 1
    await site.turns()
    assert (site.job.state, site.job.answered, site.runs()) == ("paused", 2, False)
    assert site.device.engine.stops == [INSTANCE]
    await site.quiet()
    assert (site.job.state, site.job.starts, site.runs()) == ("running", 0, True)


async def test_the_loop_leaves_jobs_alone(site):
    """What no slot names is stopped, but for them."""
    await site.duty.take(site.order)
    await site.quiet()
    site.device.start()
    await site.device.passes(3)
    await site.device.stop()
    assert site.runs()


@pytest.mark.parametrize("ended", [False, True])
async def test_no_line_of_its_log_ends_the_duty(site, ended):
    """Brackets without end, half characters and endless numbers are no progress; the job goes on, and ends."""
    await site.duty.take(site.order)
    await site.quiet()
    deep = '{"items":4,"answered":3,"set_aside":1,"x":' + "[" * 60_000
    lines = f'{HALF}{deep}\n{{"items":{"9" * 5000}}}\n"\\ud800\n'
    if ended:
        site.ends(lines)
        await site.turns()
        assert (site.job.state, site.job.answered) == ("done", 2)
        return
    site.device.engine.said[INSTANCE] = lines
    await site.turns()
    assert (site.job.state, site.runs()) == ("running", True)


async def test_how_far_it_is_stands_in_the_report(site):
    """Now and then while it runs, and at its end."""
    await site.duty.take(site.order)
    await site.quiet()
    site.device.engine.said[INSTANCE] = HALF
    await site.turns()
    assert site.job.answered == 0
    site.device.clock.advance(31)
    await site.turns()
    site.device.start()
    await site.device.until(lambda: site.device.link.reports(site.device.key)[-1].jobs)
    await site.device.stop()
    said = site.device.link.reports(site.device.key)[-1].jobs[0]
    assert (said.mark, said.name, said.state, said.items, said.answered) == (MARK, "night", "running", 4, 2)


async def test_it_is_cancelled(site):
    """While it waits and while it runs; what was cancelled before its start came is never begun."""
    await site.duty.take(site.order)
    await site.quiet()
    assert site.duty.cancel(site.order) == "cancelled"
    await site.turns()
    assert (site.job.state, site.runs()) == ("cancelled", False)
    assert site.duty.cancel(site.order) == "it has ended: cancelled"
    later = msgspec.structs.replace(site.order, mark="1e" * 8)
    assert "not known" in site.duty.cancel(later)
    await site.duty.take(later)
    await site.quiet()
    assert not site.runs("batch." + "1e" * 8)


async def test_cancelled_in_the_middle_of_a_look(site):
    """What the look was about to write would bring it back."""
    await site.duty.take(site.order)
    await site.turns()
    site.device.clock.advance(61)
    site.meanwhile = lambda: site.duty.cancel(site.order)
    await site.turns()
    assert (site.job.state, site.device.engine._instances.get(INSTANCE)) == ("cancelled", None)


async def test_cancelled_in_the_middle_of_its_start(site):
    """Whatever the look was about to write, it is over, and its container goes."""
    await site.duty.take(site.order)
    await site.turns()
    site.device.clock.advance(61)
    site.device.engine.gates["start"] = asyncio.Event()
    turn = asyncio.create_task(site.duty.turn())
    await site.device.until(lambda: site.device.engine.held("start"))
    site.duty.cancel(site.order)
    site.device.engine.gates["start"].set()
    await turn
    await site.turns()
    assert (site.job.state, site.runs()) == ("cancelled", False)


@pytest.mark.parametrize("code", [1, 3, 4, 5])
async def test_its_own_words_are_the_end(site, code):
    """Too many failed, or the module cannot be served: the last line says it."""
    await site.duty.take(site.order)
    await site.quiet()
    site.ends(f"{HALF}too many inputs failed\n", code=code)
    await site.turns()
    assert (site.job.state, site.job.why, site.job.answered) == ("failed", "too many inputs failed", 2)


async def test_what_does_not_come_further_is_given_up(site):
    """Ten ends in a row; those between which it came further do not count."""
    await site.duty.take(site.order)
    for number in range(9):
        await site.quiet()
        site.ends("killed\n", code=137, oom=number == 0)
        await site.turns()
        assert (site.job.state, site.job.starts) == ("paused", number + 1)
    await site.quiet()
    site.ends(HALF, code=137)
    await site.turns()
    assert (site.job.state, site.job.starts) == ("paused", 1)
    for _ in range(9):
        await site.quiet()
        site.ends(HALF, code=137)
        await site.turns()
    assert (site.job.state, site.job.starts) == ("failed", 10)
    assert "10 times without coming further" in site.job.why


async def test_a_power_cut_is_no_fault_of_its(site):
    """However often: the boot is another one."""
    await site.duty.take(site.order)
    for _ in range(12):
        await site.quiet()
        assert site.runs()
        site.device.engine.power_cut()
        site.device.clock.reboot()
        await site.device.kill()
        site.begin()
    await site.quiet()
    assert (site.job.state, site.job.starts, site.runs()) == ("running", 0, True)


async def test_a_full_disk_of_the_agent_holds_it_up_alone(site, monkeypatch):
    """What cannot be written down is not begun; it is tried again."""
    await site.duty.take(site.order)
    await site.turns()
    site.device.clock.advance(61)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(kept, "put", full)
        assert await site.duty._guarded() == 30.0
        assert not site.runs()
    await site.quiet()
    assert site.runs()


async def test_what_cannot_be_started_says_why(site):
    """And is tried again, without an end."""
    await site.duty.take(site.order)
    await site.turns()
    site.device.clock.advance(61)
    site.device.engine.start_errors = [NotReady("the engine could not start it")]
    assert await site.duty._guarded() == 30.0
    assert (site.job.state, site.job.starts) == ("paused", 0)
    assert "could not start it" in site.job.why
    await site.quiet()
    assert site.runs()


async def test_one_after_another(site):
    """The next one waits for its turn, whichever name it has."""
    second = msgspec.structs.replace(site.order, mark="1e" * 8, name="morning")
    await site.duty.take(site.order)
    await site.duty.take(second)
    await site.quiet()
    assert (site.runs(), site.runs("batch." + "1e" * 8)) == (True, False)
    assert site.job.why == "it waits for its turn"
    site.ends(DONE)
    await site.turns()
    await site.quiet()
    assert site.runs("batch." + "1e" * 8)


async def test_what_it_never_can_is_refused_at_once(site):
    """Another module, another folder, a name that is at work, one too many."""
    for changed, why in (
        ({"module": Digest("sha256:" + "b" * 64)}, "no slot of this device serves"),
        ({"inputs": "answers"}, "no folder this name"),
        ({"outputs": "pictures"}, "no folder this name"),
    ):
        with pytest.raises(Invalid, match=why):
            await site.duty.take(msgspec.structs.replace(site.order, **changed))
    assert site.jobs == ()
    await site.duty.take(site.order)
    await site.duty.take(site.order)
    with pytest.raises(Invalid, match="has not ended here"):
        await site.duty.take(msgspec.structs.replace(site.order, mark="1e" * 8))
    for number in range(1, MAX_JOBS):
        await site.duty.take(msgspec.structs.replace(site.order, mark=f"{number:016x}", name=f"n{number}"))
    with pytest.raises(Invalid, match="16 jobs wait"):
        await site.duty.take(msgspec.structs.replace(site.order, mark="1e" * 8, name="more"))
    assert len(site.jobs) == MAX_JOBS


async def test_those_that_have_ended_make_room(site):
    """The oldest go first."""
    for number in range(MAX_JOBS + 3):
        order = msgspec.structs.replace(site.order, mark=f"{number:016x}", name=f"n{number}")
        await site.duty.take(order)
        site.duty.cancel(order)
    assert [one.order.name for one in site.jobs] == [f"n{number}" for number in range(3, MAX_JOBS + 3)]


async def test_an_update_takes_its_module_away(site):
    """It was for that version; its answers so far stay, and its container goes."""
    await site.duty.take(site.order)
    await site.quiet()
    row = site.device.row()
    other = msgspec.structs.replace(row.current.wanted, digest=Digest("sha256:" + "b" * 64))
    site.device.store.save(row.with_(current=msgspec.structs.replace(row.current, wanted=other)))
    await site.turns(2)
    assert (site.job.state, site.runs()) == ("failed", False)
    assert "no slot of this device serves" in site.job.why


async def test_nothing_without_confinement(site):
    """The process engine would let it see all files of the agent's user."""
    row = site.device.row()
    plain = msgspec.structs.replace(row.current.wanted, engine="process")
    site.device.store.save(row.with_(current=msgspec.structs.replace(row.current, wanted=plain)))
    with pytest.raises(Invalid, match="confines nothing"):
        await site.duty.take(site.order)


async def test_the_disk_keeps_its_reserve(site):
    """It pauses while less is free, and has failed where it wrote more than it may itself."""
    await site.duty.take(site.order)
    await site.quiet()
    site.duty._settings = msgspec.structs.replace(site.settings, disk_reserve=1 << 60)
    await site.turns()
    assert (site.job.state, site.runs()) == ("paused", False)
    assert "no more than the reserve" in site.job.why
    site.duty._settings = msgspec.structs.replace(site.settings, batch_bytes=1 << 20)
    folder = places.answers(site.here / "answers", "night", os.getgid())
    (folder / "large").write_bytes(b"x" * (2 << 20))
    await site.turns(2)
    assert site.job.state == "failed"
    assert "more in it than 1048576 bytes (batch_bytes)" in site.job.why


async def test_too_little_memory(site):
    """What serves needs what is left."""
    (site.here / "machine/proc/meminfo").write_text("MemFree: 1 kB\nMemAvailable: 1000 kB\n")
    await site.duty.take(site.order)
    await site.quiet()
    assert not site.runs()
    assert "MiB of memory, and less is free" in site.job.why


async def test_an_agent_that_ends_leaves_no_job_at_work(site):
    """Nobody would see when it has to pause; the next agent takes it up again."""
    await site.duty.take(site.order)
    await site.quiet()
    task = asyncio.create_task(site.duty.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not site.runs()
    site.begin()
    await site.quiet()
    assert (site.job.starts, site.runs()) == (0, True)


async def test_a_list_that_cannot_be_read_is_forgotten(site):
    """What another version wrote, or nobody; its containers go."""
    await site.duty.take(site.order)
    await site.quiet()
    site.device.store.keep_document(kept.JOBS, b"[1, 2]")
    await site.turns()
    assert (site.jobs, site.runs()) == ((), False)
