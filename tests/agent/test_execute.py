"""The way of a module through the device, as its rows, its reports and the routing table tell it."""

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from agent import supply
from modules import manifest
from modules.errors import EngineBusy
from modules.manifest import Limits, Needs
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from modules.settable import Adjustable
from tests.doubles.engine import Behaviour
from tests.doubles.release import WRONG, Release, make

WHOLE = ["accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "committed"]


async def test_a_good_module_goes_the_whole_way(device):
    """An ordered module is fitted, fetched, staged, started, proved, put on probation and committed."""
    await device.committed(make())

    assert device.chain() == WHOLE
    assert device.serves() == "acme/digits:1"
    assert device.row().current.provider == "CPUExecutionProvider"


async def test_the_new_module_takes_over_only_when_proved(device):
    """A second version gets the traffic when its samples were answered right, and the first stops at the commit."""
    first, second = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    await device.order(main=second)
    await device.phase(Phase.PROBATION)

    assert device.serves() == "acme/digits:2"
    assert device.route().previous.module == "acme/digits:1"
    assert device.engine.running() == {first.digest, second.digest}

    device.clock.advance(301)
    await device.phase(Phase.COMMITTED)
    await device.until(lambda: device.engine.running() == {second.digest})
    assert device.row().previous.wanted.digest == first.digest


async def test_an_image_for_which_there_is_no_space_waits(device, monkeypatch):
    """A device whose engine has no room for what the image unpacks to says so before it fetches, and goes on by itself
    once there is room."""
    plain = make()
    image = plain.manifest.runtimes[0].image
    runtime = msgspec.structs.replace(
        plain.manifest.runtimes[0], image=msgspec.structs.replace(image, unpacked_bytes=1 << 40)
    )
    data = manifest.encode(msgspec.structs.replace(plain.manifest, runtimes=(runtime,)))
    large = Release(manifest.decode(data), data, plain.blobs)
    device.engine.store = device.folder
    await device.order(main=large)
    await device.until(lambda: device.row().reason is not None and device.row().reason.code == "no-space")
    assert device.row().phase is Phase.FETCHING
    assert "to be fetched and unpacked" in device.row().reason.message
    assert not device.blobs.has(image.layers[0])

    monkeypatch.setattr("agent.supply.shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1 << 41)))
    await device.phase(Phase.PROBATION, flowing=10.0)


async def test_the_gateway_knows_of_a_commit_before_the_old_module_stops(device):
    """Nothing that a table still names is stopped: by then nobody can be sent to the old module any more."""
    await device.committed(make("acme/digits:1"))
    old, told = device.row().current.instance, stops(device)
    await device.committed(make("acme/digits:2"))
    await device.until(lambda: told)

    ((instance, route),) = told
    assert (instance, route.previous) == (old, None)
    assert route.current.instance == device.row().current.instance


def stops(device):
    """Which instances are stopped from now on, each with the route that the gateway had been told by then."""
    stop, told = device.engine.stop, []

    async def watched(instance, *, grace_s):
        told.append((instance, device.route()))
        await stop(instance, grace_s=grace_s)

    device.engine.stop = watched
    return told


async def test_the_gateway_knows_of_a_revert_before_the_bad_module_stops(device):
    """A candidate that was wrong, and a committed module that does not stay up: the traffic goes first."""
    first, second = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    await device.order(main=second)
    await device.phase(Phase.PROBATION)
    candidate, told = device.row().candidate.instance, stops(device)
    device.engine.crash(candidate)
    await device.phase(Phase.REVERTED)
    ((instance, route),) = told
    assert (instance, route.current.module, route.previous) == (candidate, "acme/digits:1", None)

    await device.order(main=second, waivers=[second.digest])
    await device.phase(Phase.PROBATION)
    device.clock.advance(301)
    await device.phase(Phase.COMMITTED)
    device.engine.behaviours[second.digest] = Behaviour(exits=True)
    device.engine.crash(device.row().current.instance)
    await device.phase(Phase.REVERTED, flowing=2.0)
    _, route = told[-1]
    assert (route.current.module, route.current.instance) == ("acme/digits:1", device.row().current.instance)


async def test_the_gateway_knows_of_a_removal_before_the_module_stops(device):
    """Nobody is sent to what is being removed."""
    await device.committed(make())
    told = stops(device)
    device.engine.gates["stop"] = asyncio.Event()
    await device.order()
    await device.until(lambda: device.engine.held("stop"))
    assert device.row().phase is Phase.REMOVING, "it is forgotten when it has stopped"
    device.engine.gates["stop"].set()
    await device.until(lambda: device.store.slots() == ())

    assert {route is None for _, route in told} == {True}


async def test_a_wrong_answer_is_reverted_and_remembered(device):
    """A module that answers a sample wrong never gets traffic, and its content is remembered as failed."""
    first, bad = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    device.engine.behaviours[bad.digest] = Behaviour(answer=WRONG)
    await device.order(main=bad)
    await device.phase(Phase.REVERTED)

    assert device.serves() == "acme/digits:1"
    assert device.row().reason.code == "wrong-answer"
    assert device.store.failed(bad.digest).code == "wrong-answer"
    await device.until(lambda: device.engine.running() == {first.digest})


async def test_a_revert_that_the_engine_holds_up_is_tried_again_after_a_while(device, monkeypatch):
    """A busy engine is asked once to stop the bad module, and again when the pause is over, not at each look."""
    first, bad = make("acme/digits:1"), make("acme/digits:2")
    await device.committed(first)
    device.engine.behaviours[bad.digest] = Behaviour(answer=WRONG)
    asked = []

    async def busy(instance, **_):
        asked.append(instance)
        raise EngineBusy("not now")

    monkeypatch.setattr(device.engine, "stop", busy)
    await device.order(main=bad)
    await device.until(lambda: asked)
    await device.passes(6)
    assert (device.row().phase, len(asked)) == (Phase.REVERTING, 1)
    assert device.serves() == "acme/digits:1"
    monkeypatch.undo()
    await device.phase(Phase.REVERTED, flowing=1.0)

    assert device.store.failed(bad.digest).code == "wrong-answer"
    assert device.row().reason.code == "wrong-answer"


async def test_a_module_that_is_too_slow_is_reverted(device):
    """The median of the samples is held against the manifest's limit."""
    slow = make(limits=Limits(latency_ms=1.0))
    device.engine.behaviours[slow.digest] = Behaviour(slow_s=0.02)
    await device.order(main=slow)
    await device.phase(Phase.REVERTED)

    assert device.row().reason.code == "over-limit"
    assert "latency" in device.row().reason.message


async def test_a_module_may_use_all_that_it_is_allowed(device):
    """A limit is what may be reached, not what must be missed."""
    exact = make(limits=Limits(memory_mb=64))
    device.engine.behaviours[exact.digest] = Behaviour(memory_mb=64.0)

    await device.committed(exact)


async def test_the_gateway_is_told_the_modules_memory(device):
    """It refuses bodies by it: the proof's limit, else what the module needs, else what a container gets anyway."""
    kinds = [
        ({"limits": Limits(memory_mb=64), "needs": Needs(memory_mb=32)}, 64),
        ({"needs": Needs(memory_mb=256)}, 256),
        ({"needs": Needs(memory_mb=0)}, 128),
    ]
    for number, (more, told) in enumerate(kinds):
        await device.committed(make(f"acme/digits:{number}", **more))
        assert device.route().current.memory_mb == told
        assert device.engine.launch(device.row().current.instance).memory_mb == told


async def test_a_module_without_samples_serves_unproved(device):
    """ready-only: it is committed when it is ready, and every report says that nothing was proved."""
    await device.committed(make(prove="ready-only"))
    await device.until(lambda: device.said()[-1][0] == "committed")

    assert device.link.reports(device.key)[-1].slots[0].serving.proved is False


async def test_the_order_may_shorten_the_probation(device):
    """An adjusted probation holds instead of the manifest's, and is no setting of the module's server."""
    release = make(adjustable={"probation_s": Adjustable(default=300.0)})
    await device.order(main=release)
    await device.phase(Phase.PROBATION)
    device.server.blobs.update(release.blobs)
    await device.order(main=release.ordered(settings={"probation_s": 20.0}))
    await device.phase(Phase.PROBATION)

    assert device.row().candidate.probation_s == 20.0
    assert device.engine.launch(device.row().candidate.instance).settings == {}
    device.clock.advance(21)
    await device.phase(Phase.COMMITTED)


async def test_an_image_that_the_engine_holds_is_not_fetched(device):
    """Layers move only to a device whose engine has not got the signed image, and it is loaded once."""
    first = make("acme/digits:1")
    image = first.manifest.runtimes[0].image
    device.engine.images.add(image.manifest.sha256)
    await device.committed(first)

    assert device.server.sent_of(image.layers[0]) == []
    assert device.server.sent_of(image.config) == [0]
    assert device.engine.loads == 0


async def test_the_candidate_gets_the_gateways_folder(device):
    """Its socket lies in a folder of its own that only the agent and the gateway's group may enter."""
    await device.committed(make())
    launch = device.engine.launch(device.row().current.instance)

    assert mode(launch.socket_dir) == 0o2750  # it was open until the socket was bound
    assert launch.slot == "main"
    assert launch.providers == ("CPUExecutionProvider",)


def mode(path):
    return Path(path).stat().st_mode & 0o7777


async def test_how_far_a_fetch_is_and_why_it_is_slow_can_be_seen(device, monkeypatch):
    """The share of what was missing, in thousandths, and the detour that it takes; both go with the fetch."""
    monkeypatch.setattr(supply, "_TELL_EVERY_S", 0.0)
    device.puller.detour = "the quicker way is closed"
    seen = []

    def look(block):
        seen.append(device.row())
        return [block]

    device.server.mangle = look
    await device.order(main=make())
    await device.phase(Phase.PROBATION)

    shares = [row.target.progress for row in seen if row.target.progress is not None]
    assert len(set(shares)) > 1
    assert shares == sorted(shares)
    assert all(0.0 <= share <= 1.0 and share == round(share, 3) for share in shares)
    assert {row.reason for row in seen if row.target.progress is not None} == {
        Reason("detour", "the quicker way is closed")
    }
    assert (device.row().target.progress, device.row().reason) == (None, None)


async def test_a_start_for_which_the_engine_has_no_time_counts_for_nothing(device):
    """It says nothing of the candidate, and is tried again after the shortest pause."""
    device.engine.start_errors = [EngineBusy("not now")]
    await device.order(main=make())
    await device.until(lambda: device.row().reason is not None)
    target = device.row().target

    assert (target.phase, target.attempts, target.candidate) == (Phase.STAGED, 0, None)
    assert 4.0 <= target.not_before - device.clock.monotonic() <= 6.0


async def test_what_fails_again_and_again_is_tried_ever_more_seldom_and_said_once(device, caplog):
    """The pauses double; the log has one line for as long as the reason is the same."""
    device.server.down = True
    await device.order(main=make())
    for tries in (1, 2, 3):
        await device.until(lambda tries=tries: device.row().target.attempts == tries)
        pause = device.row().target.not_before - device.clock.monotonic()
        assert 0.8 <= pause / (5.0 * 2 ** (tries - 1)) <= 1.2
        device.clock.advance(pause)

    assert caplog.text.count(" waits ") == 1
    device.server.down = False
    await device.phase(Phase.PROBATION, flowing=5.0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error", "blobs/x"), "blobs/x: Input/output error"),
        (OSError("nobody knows"), "disk: nobody knows"),
    ],
)
async def test_what_the_disk_says_is_in_the_report(device, monkeypatch, error, said):
    """Which file, and what is wrong with it, as far as that is known."""

    def fails(*_):
        raise error

    monkeypatch.setattr(device.shelf, "lay_out", fails)
    await device.order(main=make())
    await device.until(lambda: device.row().reason is not None)

    assert device.row().reason.message.startswith(said)
