"""What happens to a committed module that fails later, and to slots that the order no longer names."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.steps import Restart
from modules.errors import NoEngine
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from tests.doubles.engine import Behaviour, could_not_start
from tests.doubles.release import WRONG, make

FIRST = make("acme/digits:1")
SECOND = make("acme/digits:2")
THIRD = make("acme/digits:3")


async def crash_until(device, met):
    """Crash whatever the slot's committed module runs as, again and again."""

    def look():
        row = device.store.slot("main")
        if row and row.current and not met() and device.engine.answers(row.current.instance):
            device.engine.crash(row.current.instance)

    device.watch = look
    await device.until(met, flowing=2.0)
    device.watch = lambda: None


async def test_a_crashed_module_is_restarted_and_recovers(device):
    """A committed module that ended is started again under a new name; answering for a while clears its count."""
    await device.committed(FIRST)
    old = device.row().current.instance
    device.engine.crash(old)
    await device.restarted()

    assert device.row().current.instance != old
    assert device.route().current.instance == device.row().current.instance
    await device.until(lambda: device.row().upkeep.restarts == 0, flowing=1.0)
    assert device.row().phase is Phase.COMMITTED
    assert not (device.folder / "i" / old.rsplit("-")[-1]).exists()


async def test_what_does_not_answer_is_not_reported_as_serving(device):
    """While the committed module is down its report says why and who serves is nobody, also after a revert."""
    await device.committed(FIRST)
    device.engine.behaviours[SECOND.digest] = Behaviour(answer=WRONG)
    await device.order(main=SECOND)
    await device.phase(Phase.REVERTED)
    device.engine.start_errors = [could_not_start()] * 2
    device.engine.crash(device.row().current.instance)
    refused = could_not_start().message
    await device.until(lambda: (why := device.reported().current.reason) is not None and why.message == refused)

    assert (device.reported().current.state, device.reported().serving) == ("restarting", None)
    assert (device.reported().phase, device.reported().reason.code) == ("reverted", "wrong-answer")
    await device.until(lambda: device.reported().serving is not None, flowing=1.0)
    assert device.reported().serving.module == "acme/digits:1"
    await device.until(lambda: device.reported().current.state == "up", flowing=1.0)
    assert device.reported().current.reason is None


async def test_a_fallback_that_is_ordered_during_a_restart_holds(device):
    """The restarted module goes where the newest order says when it does not answer."""
    await device.committed(FIRST)
    device.engine.gates["start"] = asyncio.Event()
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: device.engine.held("start"))
    await device.order(main=FIRST.ordered(fallback="https://cloud.example/a"))
    device.engine.gates["start"].set()
    await device.until(device.served)

    assert device.row().current.routing.fallback == "https://cloud.example/a"


async def test_a_restart_that_ends_after_the_commit_puts_nothing_back(device):
    """The old module comes up again when the new one has taken its place, and could not be stopped: that stays so."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    started = device.engine.gates["start"] = asyncio.Event()
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: device.engine.held("start"))
    stop = device.engine.stop

    async def refuse(instance, *, grace_s):
        raise NoEngine("busy")

    device.engine.stop = refuse
    device.clock.advance(SECOND.manifest.proof.probation_s + 1)
    await device.phase(Phase.COMMITTED)
    committed = device.row().current
    started.set()
    await device.until(lambda: device.engine.running() == {FIRST.digest, SECOND.digest})
    await device.passes(5)
    assert device.row().current == committed

    device.engine.stop = stop
    await device.until(lambda: device.engine.running() == {SECOND.digest} and not device.loop._tasks, flowing=0.1)

    assert device.row().current == committed
    assert (device.row().upkeep.state, device.serves()) == ("up", "acme/digits:2")


async def test_a_restart_of_what_was_replaced_meanwhile_starts_nothing(device):
    """Where a commit or a revert has put another instance in the place, the older decision to restart is dropped."""
    await device.committed(FIRST)
    await device.stop()
    decided = device.row()
    replaced = decided.with_(current=msgspec.structs.replace(decided.current, instance="main-other"))
    device.store.save(replaced)
    starts = list(device.engine.starts)

    await device.executor.take(Restart(decided, Reason("not-ready", "it ended")))

    assert device.engine.starts == starts
    assert device.row() == replaced, "nor does it count as a restart of the one that is there"


async def test_the_gateway_is_told_at_once_where_a_restarted_module_is(device):
    """The restart itself tells it, whenever the loop looks again; the loop stands still here."""
    await device.committed(FIRST)
    await device.stop()
    old = device.row().current.instance
    device.engine.crash(old)
    await device.executor.take(Restart(device.row(), Reason("not-ready", "it ended"), ended=True))

    assert device.row().current.instance != old
    assert device.route().current.instance == device.row().current.instance


async def test_a_silent_module_is_restarted_after_three_probes(device):
    """An instance that runs without answering its health path counts as dead after three probes, not before."""
    await device.committed(FIRST)
    device.engine.behaviours[FIRST.digest] = Behaviour(hangs=True)
    await device.until(lambda: device.row().upkeep.restarts > 0)
    device.engine.behaviours.clear()
    await device.until(device.served, flowing=1.0)


async def test_a_module_that_hangs_holds_up_nobody_else(device):
    """While one module never answers its probe, another that was killed is started again at once."""
    await device.order(main=FIRST, side=THIRD)
    for slot in ("main", "side"):
        await device.phase(Phase.PROBATION, slot=slot)
    device.clock.advance(1000)
    for slot in ("main", "side"):
        await device.phase(Phase.COMMITTED, slot=slot)
    device.loop._observer._probe_timeout_s = 60.0  # longer than this test may take
    device.engine.behaviours[FIRST.digest] = Behaviour(slow_s=60.0)
    await device.passes(3)
    device.engine.crash(device.row("side").current.instance)

    await device.restarted("side")
    assert device.row("main").upkeep.restarts == 0
    await device.stop()  # and with it the probe that is still under way


async def test_what_was_seen_before_a_restart_is_no_evidence_after_it(device):
    """A look that began before the new instance was there does not have it killed as gone."""
    await device.committed(FIRST)
    listed = device.engine.gates["list"] = asyncio.Event()
    device.engine.gates["start"] = asyncio.Event()
    listed.set()
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: device.row().upkeep.restarts == 1)
    listed.clear()  # the next look sees no instance, and is held with what it saw
    await device.until(lambda: device.engine.held("list"))
    device.engine.gates["start"].set()
    await device.until(lambda: device.engine.answers(device.row().current.instance))
    await device.until(lambda: not any(lane == "keep" for _, lane in device.loop._tasks))
    new = device.row().current.instance
    listed.set()
    await device.passes(3)

    assert (device.row().current.instance, device.row().upkeep.restarts) == (new, 1)


async def test_a_module_that_keeps_failing_goes_back_to_the_previous(device):
    """After five restarts without recovery the previous version gets the slot, and the content is remembered."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    await crash_until(device, lambda: device.row().phase in {Phase.REVERTING, Phase.REVERTED})
    await device.phase(Phase.REVERTED, flowing=1.0)

    assert device.serves() == "acme/digits:1"
    assert device.served()
    assert device.row().current.wanted.digest == FIRST.digest
    assert device.store.failed(SECOND.digest) is not None
    assert device.chain()[-3:] == ["committed", "reverting", "reverted"]


async def test_what_clients_send_condemns_no_committed_version(device):
    """Ended again and again with a client's request in its hands, it is degraded and started on and on, and is neither
    reverted nor remembered as failed; why is told. Once clients leave it in peace, it has recovered."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.under_request = lambda instance: instance == device.row().current.instance
    await crash_until(device, lambda: device.row().upkeep.restarts > 7)

    assert (device.row().standing, device.row().phase) == (Phase.DEGRADED, Phase.COMMITTED)
    assert device.store.failed(SECOND.digest) is None
    whys = [slot.current.reason for one in device.link.reports(device.key) for slot in one.slots if slot.current]
    assert any(why and "with a client's request in its hands" in why.message for why in whys)
    await device.until(lambda: device.row().upkeep.restarts == 0, flowing=5.0)
    assert device.row().upkeep.excused == 0
    assert device.serves() == "acme/digits:2"


async def test_silence_is_not_excused_by_a_request(device):
    """One that runs and does not answer its probes is judged as ever, whoever waits for it."""
    await device.committed(FIRST)
    device.under_request = lambda _: True
    device.engine.behaviours[FIRST.digest] = Behaviour(hangs=True)
    await device.until(lambda: device.row().upkeep.restarts > 0)

    assert device.row().upkeep.excused == 0


async def test_a_module_that_ends_without_a_client_is_not_excused_by_another_time(device):
    """Ends with a client's request in between do not help one that ends by itself five times."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.under_request = lambda instance: int(instance.rpartition("-")[2]) % 2 == 0
    await crash_until(device, lambda: device.row().phase in {Phase.REVERTING, Phase.REVERTED})

    assert device.store.failed(SECOND.digest) is not None
    assert "failed 5 restarts" in device.row().target.reason.message


async def test_a_module_with_nothing_before_it_is_retried_for_ever(device):
    """Without a previous version it becomes degraded, is started on and on, and is committed again when it recovers."""
    await device.committed(FIRST)
    await crash_until(device, lambda: device.row().upkeep.restarts > 7)

    assert (device.row().standing, device.row().phase) == (Phase.DEGRADED, Phase.COMMITTED)
    await device.until(lambda: device.row().standing is Phase.COMMITTED, flowing=5.0)
    assert device.served()
    assert device.row().reason is None
    assert device.chain()[-2:] == ["probation", "committed"], "what was ordered did not move"


async def test_a_failing_restart_is_told_and_tried_again(device):
    """A restart that the engine refuses is reported on the committed row, and forgotten when the next one recovers."""
    await device.committed(FIRST)
    device.engine.start_errors = [could_not_start(), NoEngine("down")]
    device.engine.crash(device.row().current.instance)
    await device.until(device.served, flowing=0.5)
    await device.until(lambda: device.row().upkeep.restarts == 0, flowing=1.0)

    assert {("committed", "not-ready"), ("committed", "no-engine")} <= set(device.said())
    assert device.row().reason is None


async def test_a_module_that_answers_but_is_not_ready_again_does_not_serve(device):
    """One whose restarts run, and never become ready, goes back to the previous; why its last one failed is told."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.engine.behaviours[SECOND.digest] = Behaviour(status=b"{}")
    device.engine.crash(device.row().current.instance)
    await device.phase(Phase.REVERTED, flowing=2.0)
    await device.until(device.served)

    assert "failed 5 restarts" in device.row().reason.message
    assert "its status cannot be read" in device.row().reason.message
    assert device.serves() == "acme/digits:1"
    assert [one.instance for one in await device.engine.list()] == [device.row().current.instance]


async def test_a_failing_old_module_does_not_condemn_the_new_one(device):
    """While a candidate is on probation, the old module's failing restarts leave the candidate alone."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    device.engine.behaviours[FIRST.digest] = Behaviour(exits=True)
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: device.row().upkeep.restarts >= 2, flowing=1.0)

    assert device.row().phase is Phase.PROBATION
    device.clock.advance(400)
    await device.phase(Phase.COMMITTED)
    await device.until(lambda: device.engine.running() == {SECOND.digest}, flowing=1.0)
    assert device.row().current.wanted.digest == SECOND.digest
    assert device.store.failed(SECOND.digest) is None


async def test_a_dead_engine_decides_nothing(device):
    """While the engine does not answer, nothing is restarted or reverted; the row stays as it is."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    device.engine.down = True
    before = device.row()
    await device.passes(5)
    device.clock.advance(1000)
    await device.passes(5)

    assert device.row() == before
    device.engine.down = False
    await device.phase(Phase.COMMITTED)


async def test_a_revert_waits_for_the_engine(device):
    """The traffic is back at once; the stop of the bad candidate is tried until the engine answers again."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    stop = device.engine.stop
    broken = True

    async def refuse(instance, *, grace_s):
        if broken:
            raise NoEngine("down")
        await stop(instance, grace_s=grace_s)

    device.engine.stop = refuse
    device.engine.crash(device.row().candidate.instance)
    await device.until(lambda: ("reverting", "no-engine") in device.said(), flowing=0.1)

    assert device.serves() == "acme/digits:1"
    broken = False
    await device.phase(Phase.REVERTED, flowing=1.0)


async def test_a_removed_slot_stops_and_is_forgotten(device):
    """A slot that the order no longer names loses its instance, its route and its row, even after a kill on the way."""
    await device.committed(FIRST)
    device.engine.down = True
    await device.order()
    await device.phase(Phase.REMOVING)
    await device.restart()
    await device.passes()
    assert device.route() is None

    device.engine.down = False
    await device.until(lambda: device.store.slots() == (), flowing=1.0)
    assert device.engine.running() == set()
    await device.stop()


async def test_a_removed_slot_forgets_what_it_had_on_disk(device):
    """The module's folder goes with the slot."""
    await device.committed(FIRST)
    assert device.shelf.path(FIRST.digest).is_dir()
    await device.order()

    await device.until(lambda: not device.shelf.path(FIRST.digest).exists(), flowing=1.0)


async def test_a_superseded_candidate_is_stopped(device):
    """A newer order takes the place of a candidate on probation: the traffic goes back, and it is stopped."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    await device.order(main=THIRD)
    assert device.serves() == "acme/digits:1"
    await device.phase(Phase.PROBATION)

    assert device.serves() == "acme/digits:3"
    await device.until(lambda: SECOND.digest not in device.engine.running(), flowing=0.1)


async def test_a_superseded_candidate_is_stopped_while_the_newer_module_is_fetched(device):
    """It does not run on, and hold memory, for the hours that a download may take."""
    await device.committed(FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.PROBATION)
    device.server.silent = True
    await device.order(main=THIRD)
    ordered = device.clock.monotonic()
    await device.until(lambda: SECOND.digest not in device.engine.running(), flowing=0.1)

    assert device.clock.monotonic() - ordered < 5, "it was stopped only after the fetch gave up"
    await device.phase(Phase.FETCHING)
    assert device.engine.running() == {FIRST.digest}
    assert device.serves() == "acme/digits:1"


async def test_a_pull_that_is_superseded_ends(device):
    """A newer order ends the pull of the module that it replaces."""
    device.server.silent = True
    await device.order(main=SECOND)
    await device.phase(Phase.FETCHING)
    await device.order(main=THIRD)
    device.server.silent = False
    await device.phase(Phase.PROBATION, flowing=0.5)

    assert not device.server.sent_of(SECOND.manifest.files[0])


async def test_ordered_back_to_what_runs_nothing_is_done(device):
    """An order for the committed module while another is on its way drops the other and starts nothing."""
    await device.committed(FIRST)
    device.server.silent = True
    await device.order(main=SECOND)
    await device.phase(Phase.FETCHING)
    await device.order(main=FIRST)
    await device.passes(3)

    assert device.row().phase is Phase.COMMITTED
    assert len(device.engine.starts) == 1


async def test_slots_do_not_wait_for_each_other(device):
    """While one slot's pull hangs, another slot's module goes the whole way."""
    device.server.lacks = {SECOND.manifest.files[0].sha256}
    await device.order(main=SECOND, side=FIRST)
    await device.phase(Phase.PROBATION, slot="side", flowing=0.1)

    assert device.row().phase is Phase.FETCHING
    await device.stop()


async def test_a_failed_module_is_tried_again_only_with_a_waiver(device):
    """The same bytes are rejected from memory; a waiver for their digest lets them be tried again."""
    await device.committed(FIRST)
    device.engine.behaviours[SECOND.digest] = Behaviour(exits=True)
    await device.order(main=SECOND)
    await device.phase(Phase.REVERTED)
    device.engine.behaviours.clear()
    await device.order(main=FIRST)
    await device.order(main=SECOND)
    await device.phase(Phase.REJECTED)

    await device.order(main=SECOND, waivers=[SECOND.digest])
    await device.phase(Phase.PROBATION)


async def test_a_bug_in_a_step_leaves_the_other_slots_alone(device, monkeypatch):
    """A step that ends with an unexpected error is tried again, and the loop goes on."""
    calls = []
    lay_out = device.shelf.lay_out

    def surprise(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        lay_out(*arguments)

    monkeypatch.setattr(device.shelf, "lay_out", surprise)
    await device.order(main=FIRST)
    await device.phase(Phase.PROBATION, flowing=0.1)

    assert len(calls) == 2


async def test_a_full_disk_does_not_end_supervision(device):
    """While nothing can be written, the loop goes round; when there is room again, it goes on by itself."""
    await device.committed(FIRST)
    device.store._db.execute("PRAGMA query_only = ON")
    device.engine.crash(device.row().current.instance)
    await device.passes(5)
    assert device.task is not None
    assert not device.task.done()

    device.store._db.execute("PRAGMA query_only = OFF")
    await device.until(device.served, flowing=0.5)


async def test_a_network_that_swallows_everything_does_not_hold_up_supervision(device):
    """While a report is neither delivered nor refused, a crashed module is started again and the loop goes round."""
    await device.committed(FIRST)
    device.link.swallows = True
    device.engine.crash(device.row().current.instance)
    await device.until(device.served, flowing=0.1)
    await device.passes(3)
    await device.stop()


@pytest.mark.parametrize("left", [1, 2])
async def test_left_over_instances_are_stopped(device, left):
    """What a crash left running, and no row names, is stopped when the agent has nothing else to do."""
    await device.committed(FIRST)
    await device.tidied()
    await device.stop()
    launch = device.engine.launch(device.row().current.instance)
    for number in range(left):
        folder = device.folder / "i" / f"x{number}"
        folder.mkdir()
        other = msgspec.structs.replace(launch, instance=f"main-00000000-x{number}", socket_dir=str(folder))
        await device.engine.start(other)
    device.start()
    await device.until(lambda: len(device.engine.stops) == left)

    assert device.served()
    await device.stop()


async def test_what_cannot_be_stopped_keeps_its_folder(device):
    """A left-over that the engine does not stop yet still runs there; it goes, with its folder, once it is stopped."""
    await device.committed(FIRST)
    await device.tidied()
    await device.stop()
    folder = device.folder / "i" / "x0"
    folder.mkdir()
    launch = device.engine.launch(device.row().current.instance)
    other = msgspec.structs.replace(launch, instance="main-00000000-x0", socket_dir=str(folder))
    await device.engine.start(other)
    stop, tries = device.engine.stop, []

    async def refuse(instance, *, grace_s):
        tries.append(instance)
        raise NoEngine("busy")

    device.engine.stop = refuse
    device.loop._pruned = None
    device.start()
    await device.until(lambda: len(tries) > 2)
    assert folder.is_dir()

    device.engine.stop = stop
    await device.until(lambda: not folder.exists())
    assert device.engine.stops == [other.instance]
    await device.stop()


async def test_a_module_may_not_write_to_the_host_once_it_serves(device):
    """The folder of its socket is sealed before the first sample, at each restart, and at the agent's start."""
    await device.committed(FIRST)
    folder = Path(device.row().current.socket).parent
    assert folder.stat().st_mode & 0o7777 == 0o2750
    device.engine.crash(device.row().current.instance)
    await device.restarted()
    folder = Path(device.row().current.socket).parent
    assert folder.stat().st_mode & 0o7777 == 0o2750

    folder.chmod(0o2770)
    (folder / "left").touch()
    await device.restart()
    await device.passes()
    assert folder.stat().st_mode & 0o7777 == 0o2750
    assert [path.name for path in folder.iterdir()] == ["s.sock"]
    assert device.served()
    await device.stop()


async def test_a_slot_forgotten_before_its_folder_was_pruned_leaves_nothing(device):
    """An agent that died between the two prunes at its next start, though no slot is left."""
    await device.committed(FIRST)
    await device.stop()
    await device.engine.stop(device.row().current.instance, grace_s=1)
    device.store.forget("main")
    device.store.close()
    device.build()
    device.start()
    await device.until(lambda: not any(path.is_dir() for path in (device.folder / "modules").iterdir()))
    await device.stop()
