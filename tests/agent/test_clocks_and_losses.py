"""Clocks that jump, databases that are lost, disks that are full: what served goes on serving."""

import pytest

from agent.store import Store
from modules.errors import NoSpace
from modules.protocol.phases import Phase
from tests.doubles.engine import Behaviour
from tests.doubles.release import make

FIRST, SECOND = make("acme/digits:1"), make("acme/digits:2")
TEN_DAYS = 864_000.0


@pytest.mark.parametrize("jump", [TEN_DAYS, -TEN_DAYS, -1_800_000_000.0], ids=["+10 days", "-10 days", "1970"])
async def test_a_clock_that_is_set_neither_ends_a_probation_nor_prolongs_it(device, jump):
    """A probation lasts as long as it was ordered to, whatever the wall's clock says meanwhile."""
    await device.order(main=FIRST)
    await device.phase(Phase.PROBATION)
    device.clock.jump(jump)
    await device.passes(3)
    assert device.row().phase is Phase.PROBATION

    device.clock.advance(FIRST.manifest.proof.probation_s + 1)
    await device.phase(Phase.COMMITTED)


@pytest.mark.parametrize("jump", [TEN_DAYS, -TEN_DAYS], ids=["+10 days", "-10 days"])
async def test_a_clock_that_is_set_during_a_start_condemns_nothing(device, jump):
    """How long a module may take to become ready is not measured with a clock that jumps."""
    device.engine.behaviours[FIRST.digest] = Behaviour(hangs=True)
    await device.order(main=FIRST)
    await device.phase(Phase.STARTING)
    device.clock.jump(jump)
    device.engine.behaviours.clear()
    await device.phase(Phase.PROBATION)


async def test_a_module_is_restarted_at_once_though_the_clock_begins_in_1970(device):
    """A device without a battery, offline after a power cut: what held the next restart back was another boot's."""
    await device.committed(FIRST)
    device.engine.crash(device.row().current.instance)
    await device.restarted()
    assert device.row().upkeep.restart_after > device.clock.monotonic()
    device.engine.power_cut()
    device.clock.jump(-1_800_000_000.0)
    device.clock.reboot()
    await device.restart()

    await device.until(device.served)
    await device.stop()


async def test_a_power_cut_on_probation_condemns_nothing(device):
    """It says nothing of the candidate: it is started, proved and tried again, while the committed one comes back."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    device.engine.power_cut()
    device.clock.reboot()
    await device.restart()

    await device.until(lambda: device.chain().count("probation") == 2)
    device.clock.advance(SECOND.manifest.proof.probation_s + 1)
    await device.phase(Phase.COMMITTED)
    assert device.row().current.wanted.digest == SECOND.digest
    assert device.store.failed(SECOND.digest) is None
    await device.stop()


async def test_an_agent_that_starts_again_in_the_same_boot_goes_on_counting(device):
    """A probation is not begun anew by a restart of the agent alone, and nothing is started again."""
    await device.order(main=FIRST)
    await device.phase(Phase.PROBATION)
    device.clock.advance(FIRST.manifest.proof.probation_s - 1)
    starts = len(device.engine.starts)
    await device.restart()
    await device.passes()
    assert device.row().phase is Phase.PROBATION
    device.clock.advance(2)
    await device.phase(Phase.COMMITTED)
    assert len(device.engine.starts) == starts
    await device.stop()


async def test_no_expiry_stops_what_runs(device):
    """Years after the order, the metadata and the certificates have expired, offline, a module serves, is started again
    when it ends, and comes back after a power cut."""
    await device.committed(FIRST)
    device.clock.jump(3 * 365 * 86_400.0)
    await device.passes(3)
    assert device.served()
    device.engine.crash(device.row().current.instance)
    await device.restarted()
    device.engine.power_cut()
    device.clock.reboot()
    await device.restart()

    await device.until(device.served)
    assert device.serves() == "acme/digits:1"
    await device.stop()


@pytest.mark.parametrize("kept", [True, False], ids=["with what was kept", "with nothing"])
async def test_a_lost_database_takes_nothing_away_that_serves(device, kept):
    """Offline, what runs goes on serving and is not stopped as left over; the order comes, and nothing restarts."""
    await device.committed(FIRST)
    serving, starts = device.serves(), list(device.engine.starts)
    await device.stop()
    device.store.close()
    for path in device.folder.glob("agent.db*"):
        path.unlink()
    if not kept:
        (device.folder / "agent.kept.json").unlink()
    device.build()
    device.start()
    await device.passes(3)

    assert device.serves() == serving == "acme/digits:1"
    assert device.served()
    assert (device.engine.stops, device.engine.starts) == ([], starts)
    assert (device.folder / "modules" / FIRST.digest.removeprefix("sha256:")).is_dir()
    await device.order(main=FIRST)
    await device.until(lambda: device.row().phase in {Phase.PROBATION, Phase.COMMITTED})
    if kept:
        assert device.engine.starts == starts
    await device.until(device.served)
    await device.stop()


async def test_a_rebuilt_device_still_supervises(device):
    """What was rebuilt is kept alive like what was never lost."""
    await device.committed(FIRST)
    await device.stop()
    device.store.close()
    (device.folder / "agent.db").write_bytes(b"damaged" * 1000)
    device.build()
    device.start()
    await device.passes()
    device.engine.crash(device.row().current.instance)

    await device.restarted()
    await device.stop()


async def test_a_crashed_module_comes_back_though_the_disk_is_full(device, monkeypatch, caplog):
    """The restart cannot be written down, and is done all the same, with growing pauses and one line in the log for
    each time that the disk is full."""
    await device.committed(FIRST)
    instance = device.row().current.instance

    def full(self, *_):
        raise NoSpace("database or disk is full", element="agent.db")

    def told():
        return caplog.text.count("cannot be written down")

    with monkeypatch.context() as disk:
        disk.setattr(Store, "_write", full)
        disk.setattr(Store, "save", full)
        device.engine.images.clear()
        for pause in (0.0, 1.0, 2.0):
            device.engine.crash(instance)
            if pause:
                await stays_down(device)
            device.clock.advance(pause * 1.2)  # and the most that chance adds
            await is_up_again(device)
            assert told() == 1
        device.engine.crash(instance)
        device.clock.advance(3.0)
        await stays_down(device)
        device.clock.advance(2.0)
        await is_up_again(device)
        assert device.engine.stops == [instance] * 4, "what is left of it goes first"
        assert device.engine.images, "and somebody may have removed its image"
    assert device.row().current.instance == instance

    device.engine.crash(instance)
    await device.until(lambda: device.row().current.instance != instance, flowing=1.0)
    await device.restarted()
    with monkeypatch.context() as disk:
        disk.setattr(Store, "_write", full)
        disk.setattr(Store, "save", full)
        device.engine.crash(device.row().current.instance)
        await device.until(device.served, flowing=1.0)
        await is_up_again(device)
    assert told() == 2
    await device.stop()


async def is_up_again(device):
    """It answers, and its restart has come to its end, which no row can say."""
    await device.until(lambda: device.served() and not device.loop._tasks)


async def stays_down(device):
    """No restart is tried meanwhile."""
    starts = len(device.engine.starts)
    await device.passes(5)
    assert len(device.engine.starts) == starts


async def test_nothing_is_committed_that_the_gateway_was_not_told(device):
    """Without a gateway that uses the new table a probation goes on, says why, and begins anew once there is one."""
    device.no_gateway = "the gateway uses routing table 1 and not yet 2"
    await device.order(main=FIRST)
    await device.phase(Phase.PROBATION)
    device.clock.advance(FIRST.manifest.proof.probation_s + 1)
    await device.until(lambda: device.row().reason is not None)
    assert (device.row().phase, device.row().reason.code) == (Phase.PROBATION, "link-lost")
    assert "not yet 2" in device.row().reason.message
    device.clock.advance(600)
    await device.passes(3)
    assert device.row().phase is Phase.PROBATION

    device.no_gateway = ""
    device.clock.advance(FIRST.manifest.proof.probation_s - 10)
    await device.passes(3)
    assert device.row().phase is Phase.PROBATION, "it has had no traffic for the whole of its probation"
    await device.phase(Phase.COMMITTED, flowing=5.0)


async def test_a_candidate_that_breaks_while_its_commit_waits_is_reverted(device):
    """Waiting for the gateway is no time off from the probation."""
    await device.committed(FIRST)
    device.no_gateway = "the gateway does not answer"
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    device.clock.advance(SECOND.manifest.proof.probation_s + 1)
    await device.until(lambda: device.row().reason is not None)
    device.engine.crash(device.row().candidate.instance)

    await device.phase(Phase.REVERTED)
    assert device.serves() == "acme/digits:1"
