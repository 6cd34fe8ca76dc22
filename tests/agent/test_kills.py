"""The agent is killed in each phase and started again over the same disk: it goes on, and the slot is served on."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from agent.phases import TABLE
from agent.store import Store
from modules.protocol.phases import Phase
from tests.agent.workbench import FACTS
from tests.doubles.engine import Behaviour
from tests.doubles.release import WRONG, make

GOOD = make("acme/digits:1")
NEW = make("acme/digits:2")
TO_STAGED = ["accepted", "fitted", "fetching", "verified", "staged"]
PROVED = ["starting", "probation", "committed"]


class Kill(NamedTuple):
    """What holds the agent in a phase until it is killed, what lets it go on, and the phases in the end."""

    phase: Phase
    holds: Callable
    frees: Callable
    chain: list[str]


def gate(call):
    return lambda device: device.engine.gates.update({call: asyncio.Event()})


def open_gates(device):
    device.engine.gates.clear()


def silent(device):
    device.server.silent = True


def audible(device):
    device.server.silent = False


def no_engine(device):
    device.host.facts = msgspec.structs.replace(FACTS, engines=())


def engine_again(device):
    device.host.facts = FACTS


def fails_at_the_start(device):
    device.engine.behaviours[NEW.digest] = Behaviour(answer=WRONG)
    gate("stop")(device)


def nothing(_):
    pass


# fmt: off
KILLS = [
    Kill(Phase.ACCEPTED,  no_engine,          engine_again, [*TO_STAGED, *PROVED]),
    Kill(Phase.FETCHING,  silent,             audible,      [*TO_STAGED, *PROVED]),
    Kill(Phase.VERIFIED,  gate("load"),       open_gates,   [*TO_STAGED, *PROVED]),
    Kill(Phase.STARTING,  gate("start"),      open_gates,   [*TO_STAGED, "starting", "staged", *PROVED]),
    Kill(Phase.PROBATION, nothing,            nothing,      [*TO_STAGED, *PROVED]),
    Kill(Phase.REVERTING, fails_at_the_start, open_gates,   [*TO_STAGED, "starting", "reverting", "reverted"]),
    Kill(Phase.COMMITTED, gate("stop"),       open_gates,   [*TO_STAGED, *PROVED]),
]
# fmt: on


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.phase)
async def test_a_killed_agent_goes_on(device, kill):
    """After a kill the new agent goes on where the table says, ends where the old one would have, and tidies."""
    await device.committed(GOOD)
    device.watch = lambda: _served(device)
    kill.holds(device)
    await device.order(main=NEW)
    await device.phase(kill.phase, flowing=5.0)
    before = set(device.engine.starts)
    await device.restart()
    kill.frees(device)
    await device.phase(Phase(kill.chain[-1]), flowing=5.0)

    assert device.chain() == kill.chain
    winner = NEW if kill.chain[-1] == "committed" else GOOD
    await device.until(lambda: device.engine.running() == {winner.digest}, flowing=1.0)
    assert device.row().current.wanted.digest == winner.digest
    if kill.phase is Phase.PROBATION:
        assert set(device.engine.starts) == before, "what ran was started again"
    await device.stop()


async def test_a_candidate_that_kills_the_agent_is_given_up(device):
    """A start during which the agent dies is tried three times, then the content counts as failed."""
    await device.committed(GOOD)
    device.watch = lambda: _served(device)
    gate("start")(device)
    await device.order(main=NEW)
    for attempt in (1, 2, 3):
        await device.until(
            lambda now=attempt: (row := device.row().target).phase is Phase.STARTING and row.attempts == now
        )
        await device.restart()
    await device.phase(Phase.REVERTED)

    assert device.chain() == [*TO_STAGED, *["starting", "staged"] * 3, "reverting", "reverted"]
    assert "given up after 3 starts" in device.row().reason.message
    assert device.store.failed(NEW.digest) is not None
    await device.stop()


async def test_an_order_whose_adoption_is_cut_leaves_nothing(device, monkeypatch):
    """Rows, waivers and the order itself are written together: after a cut the device is what it was."""
    await device.committed(GOOD)
    before = device.store.slots()

    def cut(*_):
        raise ConnectionAbortedError

    with monkeypatch.context() as power:
        power.setattr(Store, "keep_document", cut)
        with pytest.raises(ConnectionAbortedError):
            await device.order(main=NEW)
    await device.restart()
    await device.passes(3)

    assert device.store.slots() == before
    await device.order(main=NEW)
    await device.phase(Phase.PROBATION)
    await device.stop()


async def test_an_agent_that_starts_on_a_full_disk_goes_on_when_there_is_room(device):
    """With a row to resume and nothing writable, the loop goes round, and resumes it later."""
    await device.committed(GOOD)
    gate("start")(device)
    await device.order(main=NEW)
    await device.phase(Phase.STARTING)
    await device.kill()
    open_gates(device)
    device.store._db.execute("PRAGMA query_only = ON")
    device.start()
    await device.passes(3)
    assert device.row().phase is Phase.STARTING

    device.store._db.execute("PRAGMA query_only = OFF")
    await device.phase(Phase.PROBATION)
    await device.stop()


async def test_a_killed_agent_serves_without_any_network(device):
    """A restarted agent writes the routing table and lets the committed module run on, the link and the server gone."""
    await device.committed(GOOD)
    started = list(device.engine.starts)
    device.link.connected, device.server.down = False, True
    (device.folder / "gateway" / "table.json").unlink()
    await device.restart()
    await device.passes()

    assert device.serves() == "acme/digits:1"
    assert device.served()
    assert device.engine.starts == started
    await device.stop()


async def test_after_a_power_cut_the_committed_module_is_started_again(device):
    """With nothing running any more, the committed module comes back without any network."""
    await device.committed(GOOD)
    await device.kill()
    device.engine.power_cut()
    device.link.connected, device.server.down = False, True
    device.start()
    await device.until(device.served, flowing=0.5)

    assert device.serves() == "acme/digits:1"
    await device.stop()


async def test_a_pull_goes_on_after_a_kill(device):
    """Blocks that arrived before the kill are not fetched a second time."""
    big = make("acme/digits:3", model=bytes(range(256)) * 256 * 40)
    device.server.lose[big.manifest.files[0].sha256, 39] = 1000
    await device.order(main=big)
    await device.until(lambda: len(device.server.sent_of(big.manifest.files[0])) >= 39)
    await device.restart()
    device.server.lose.clear()
    await device.phase(Phase.PROBATION, flowing=1.0)

    assert device.server.sent_of(big.manifest.files[0]) == list(range(40))
    await device.stop()


async def test_a_half_pulled_module_does_not_hold_up_supervision(device):
    """While a pull hangs, a crashed committed module is started again."""
    await device.committed(GOOD)
    device.server.silent = True
    await device.order(main=NEW)
    await device.phase(Phase.FETCHING)
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: device.served() and len(device.engine.starts) == 2, flowing=0.1)

    assert device.row().phase is Phase.FETCHING
    await device.stop()


def _served(device):
    assert device.served(), f"nobody answers: {device.route()}"


def test_the_kills_cover_every_phase_that_takes_time():
    """Every phase in which an agent can be found is killed in some test, or is a moment without any wait."""
    moments = {Phase.FITTED, Phase.STAGED}
    others = {Phase.REVERTED, Phase.REJECTED, Phase.REMOVING}  # see test_supervision

    assert {kill.phase for kill in KILLS} | moments | others == set(TABLE)
