"""A candidate that somebody ended, above all an engine that was started again, is started again and not condemned."""

import asyncio

import pytest

from agent.engines.contract import Instance
from agent.verdict import Evidence, stopped
from modules.protocol.phases import Phase
from tests.agent.test_execute import stops
from tests.doubles.engine import Behaviour
from tests.doubles.release import make

GOOD = make("acme/digits:1")
NEW = make("acme/digits:2")


async def ends_committed(device):
    await device.phase(Phase.PROBATION, flowing=1.0)
    device.clock.advance(NEW.manifest.proof.probation_s + 1)
    await device.phase(Phase.COMMITTED, flowing=1.0)
    await device.until(lambda: device.engine.running() == {NEW.digest}, flowing=1.0)
    assert device.store.failed(NEW.digest) is None


@pytest.mark.parametrize("code", [0, 143, 137])
async def test_an_engine_that_restarts_on_probation_condemns_nothing(device, code):
    """Everything that ran was asked to end: the candidate begins its probation anew, the committed one comes back."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    device.engine.restart(code=code)
    await device.until(lambda: device.row().target.stopped == 1, flowing=0.1)

    assert device.chain()[-2:] != ["probation", "reverting"]
    await ends_committed(device)


async def test_a_stopped_candidate_is_cleared_away_before_it_is_started_again(device):
    """The traffic goes back to the committed module first."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    candidate, told = device.row().candidate.instance, stops(device)
    device.engine.gates["start"] = asyncio.Event()
    device.engine.crash(candidate, code=0)
    await device.until(lambda: device.engine.held("start"))

    ((instance, route),) = told
    assert (instance, route.current.module, route.previous) == (candidate, "acme/digits:1", None)
    device.engine.gates["start"].set()
    await ends_committed(device)


async def test_a_candidate_that_takes_the_agent_down_with_it_is_given_up(device):
    """Each start is counted before it is made, and three are enough."""
    await device.committed(GOOD)
    device.engine.gates["start"] = asyncio.Event()
    await device.order(main=NEW)
    for times in (1, 2, 3):
        await device.until(lambda: device.engine.held("start"))
        assert device.row().target.attempts == times
        await device.restart()
    await device.phase(Phase.REVERTED)

    assert "given up after 3 starts" in device.store.failed(NEW.digest).message
    assert device.serves() == "acme/digits:1"
    await device.stop()


async def test_a_manifest_that_was_changed_once_it_was_staged_is_said_and_waited_with(device):
    """In both places where it is. Nothing has been started, so nothing is condemned; the committed module serves on."""
    await device.committed(GOOD)
    device.engine.gates["load"] = asyncio.Event()
    await device.order(main=NEW)
    await device.until(lambda: device.engine.held("load"))
    for place in (device.shelf._manifest(NEW.digest), device.shelf.path(NEW.digest) / "manifest.json"):
        place.unlink(missing_ok=True)
        place.write_bytes(b"{}")
    device.engine.gates["load"].set()
    await device.until(lambda: device.row().reason is not None)

    assert (device.row().phase, device.row().reason.code) == (Phase.STAGED, "untrusted")
    assert device.row().target.not_before > device.clock.monotonic()
    assert device.serves() == "acme/digits:1"


async def test_an_engine_that_was_away_condemns_nothing(device):
    """Whatever the exit code: it was the engine that went, and came back without what ran."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    device.engine.down = True
    await device.passes()
    device.engine.restart(code=137)
    device.engine.down = False
    await device.until(lambda: device.row().target.stopped == 1, flowing=0.1)

    await ends_committed(device)


async def test_an_engine_that_was_away_earlier_is_no_excuse(device):
    """The candidate was seen running afterwards, and ended then by itself."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    device.engine.down = True
    await device.passes()
    device.engine.down = False
    await device.passes()
    device.engine.crash(device.row().candidate.instance)
    await device.phase(Phase.REVERTED, flowing=0.1)

    assert device.store.failed(NEW.digest) is not None


async def test_a_candidate_that_is_ended_while_it_is_proved_is_started_again(device):
    """The engine restarts before the candidate was ready."""
    await device.committed(GOOD)
    device.engine.behaviours[NEW.digest] = Behaviour(hangs=True)
    await device.order(main=NEW)
    await device.until(lambda: NEW.digest in device.engine.running())
    device.engine.behaviours.clear()
    device.engine.restart()
    await device.until(lambda: device.row().target.stopped == 1, flowing=0.1)

    assert device.chain()[5:7] == ["starting", "staged"], "it was never ready"
    await ends_committed(device)


async def test_a_candidate_that_always_ends_in_good_order_is_reverted(device):
    """Three times are enough, whoever ends it."""
    await device.committed(GOOD)
    await device.order(main=NEW)
    for times in (1, 2):
        await device.phase(Phase.PROBATION, flowing=1.0)
        device.engine.crash(device.row().candidate.instance, code=0)
        await device.until(lambda times=times: device.row().target.stopped == times, flowing=0.1)
    await device.phase(Phase.PROBATION, flowing=1.0)
    device.engine.crash(device.row().candidate.instance, code=0)
    await device.phase(Phase.REVERTED, flowing=0.1)

    assert "exit code 0" in device.store.failed(NEW.digest).message
    assert device.serves() == "acme/digits:1"


@pytest.mark.parametrize(
    ("state", "code", "oom", "ended_by_somebody"),
    [
        ("created", None, False, True),  # an engine that was killed while it started it
        ("exited", 137, False, True),
        ("exited", 137, True, False),
        ("exited", 1, False, False),
        ("exited", 255, False, False),
        ("running", None, False, False),
    ],
)
def test_who_ended_it(state, code, oom, ended_by_somebody):
    """Nobody who has only been killed, or was never started, is to blame; memory and every other end are its own."""
    seen = Instance(
        instance="main-1", slot="main", digest=NEW.digest, state=state, exit_code=code, oom=oom, started_at=0.0
    )

    assert stopped(Evidence(instance=seen)) is ended_by_somebody
