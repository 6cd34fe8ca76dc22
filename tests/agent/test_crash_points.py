"""At each write and each side effect of each step the agent dies, the disk or the engine fails, or the engine hangs.

The points are not listed here: a first run of each scenario passes them and names them, so a new phase, step, write or
effect is covered by itself.
"""

import asyncio
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agent.gateway import table as gateway_table
from agent.phases import TABLE
from agent.routes import table
from agent.steps import Step
from modules.errors import NoSpace
from modules.manifest import SecretFile
from modules.protocol.order import Window
from modules.protocol.phases import Phase
from tests.agent.conftest import short_folder
from tests.agent.crashing import Crashing, Dead
from tests.agent.secret_bench import SecretBench
from tests.agent.workbench import FACTS, Bench, bench
from tests.doubles.engine import Behaviour
from tests.doubles.release import WRONG, make
from tests.parts.pace import stretched

# A killed agent closes nothing. The kernel would; here it is the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]
FILES = make("acme/digits:1", secrets=tuple(SecretFile(name=name, reload="file") for name in ("key", "token")))
SIGNALLED = make("acme/digits:1", secrets=tuple(SecretFile(name=name, reload="signal") for name in ("key", "token")))
AT_START = make("acme/digits:1", secrets=tuple(SecretFile(name=name) for name in ("key", "token")))
VALUES = tuple({name: f"{name}-{version}".encode() for name in ("key", "token")} for version in (1, 2))
OLD, GOOD, NEW = (make(f"acme/digits:{version}") for version in (1, 2, 3))
FLOWING_S = 20.0
DAY_S = 86_400
WITHIN_S = stretched(10.0)
LOOK_S = 0.002


class Scenario(NamedTuple):
    """What the device has, what happens then, the phase in which its slot must end, and which module runs in the end.

    ``served``: whether somebody answers all the while. ``secrets`` are what its files have before and in the end.
    """

    prepare: Callable
    happens: Callable
    ends: Phase | None
    runs: object
    served: bool = True
    secrets: tuple[dict[str, bytes], ...] = ()


async def nothing(_):
    pass


async def has_good(device):
    await device.committed(GOOD)


async def has_two(device):
    await device.committed(GOOD)
    await device.committed(NEW)


async def has_bad(device):
    await has_two(device)
    device.engine.behaviours[NEW.digest] = Behaviour(exits=True)


async def stopped_at_revert(device):
    """An agent that died while it stopped the candidate that failed."""
    await device.committed(GOOD)
    await wrong(device)
    device.engine.gates["stop"] = asyncio.Event()
    await device.phase(Phase.REVERTING)
    await device.until(lambda: device.engine.held("stop"))
    await device.kill()
    device.engine.gates.clear()


async def update(device):
    await device.order(main=NEW)


async def update_in_its_window(device):
    """It opens twenty minutes after the device's clock began."""
    device.server.blobs.update(NEW.blobs)
    device.shelf.keep_manifest(NEW.digest, NEW.data)
    await device.order(main=NEW.ordered(windows=(Window(begins="08:20", minutes=24 * 60 - 60),)))


async def wrong(device):
    device.engine.behaviours[NEW.digest] = Behaviour(answer=WRONG)
    await device.order(main=NEW)


async def dies_later(device):
    device.engine.behaviours[NEW.digest] = Behaviour(dies_after_s=100.0)
    await device.order(main=NEW)


async def unfit(device):
    device.host.facts = msgspec.structs.replace(FACTS, memory_mb=1)
    await device.order(main=NEW)


async def fallback(device):
    await device.order(main=GOOD.ordered(fallback="https://cloud.example/a"))


async def crash(device):
    device.engine.crash(device.row().current.instance)


async def on_probation(device):
    await device.committed(GOOD)
    await update(device)
    await device.phase(Phase.PROBATION)


async def engine_restarts(device):
    device.engine.restart()


async def remove(device):
    await device.order()


def sealed(device, version):
    return {name: device.sealed(value, version, name=name) for name, value in VALUES[version - 1].items()}


def gives(release):
    """How a scenario begins that has its secrets replaced, and ends."""

    async def prepare(device):
        await device.settled(release, **sealed(device, 1))

    async def happens(device):
        await device.give(release, **sealed(device, 2))

    return prepare, happens, Phase.COMMITTED, release


async def start(device):
    if device.task is None:
        device.start()


# fmt: off
SCENARIOS = {
    "a first module":                Scenario(nothing, update, Phase.COMMITTED, NEW, served=False),
    "an update":                     Scenario(has_good, update, Phase.COMMITTED, NEW),
    "an update in its window":       Scenario(has_good, update_in_its_window, Phase.COMMITTED, NEW),
    "an update that answers wrong":  Scenario(has_good, wrong, Phase.REVERTED, GOOD),
    "an update that dies later":     Scenario(has_good, dies_later, Phase.REVERTED, GOOD),
    "an update that does not fit":   Scenario(has_good, unfit, Phase.REJECTED, GOOD),
    "a revert that goes on":         Scenario(stopped_at_revert, start, Phase.REVERTED, GOOD),
    "another fallback":              Scenario(has_good, fallback, Phase.COMMITTED, GOOD),
    "a crash":                       Scenario(has_good, crash, Phase.COMMITTED, GOOD, served=False),
    "a committed module that fails": Scenario(has_bad, crash, Phase.REVERTED, GOOD, served=False),
    "an engine that restarts":       Scenario(on_probation, engine_restarts, Phase.COMMITTED, NEW, served=False),
    "secrets in files":              Scenario(*gives(FILES), secrets=VALUES),
    "secrets by a signal":           Scenario(*gives(SIGNALLED), secrets=VALUES),
    "secrets at a start":            Scenario(*gives(AT_START), served=False, secrets=VALUES),
    "a removal":                     Scenario(has_good, remove, None, None, served=False),
}
# fmt: on


# The others take minutes.
# The ordinary run has most of them die; these take half of the time, and a case of their like is left.
SELDOM = {"an update in its window", "a committed module that fails", "an update that dies later"}
MOST = [pytest.param(name, marks=pytest.mark.long) if name in SELDOM else name for name in SCENARIOS]
SOME = [name if name in {"an update", "a crash"} else pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS]


class Run:
    """One run of a scenario on a device of its own, struck at ``at``; an empty one is struck nowhere."""

    def __init__(self, scenario: Scenario, patch) -> None:
        self.scenario, self.patch = scenario, patch
        self.passed: list[str] = []

    async def __call__(self, at: str = "", way: str = "dies") -> bool:
        """Whether it was struck; asserts that it ended well."""
        folder = short_folder()
        try:
            async with bench(folder, SecretBench if self.scenario.secrets else Bench) as device:
                await self.scenario.prepare(device)
                with self.patch.context() as patch:
                    crashing = Crashing(device, patch, at=at, way=way)
                    await self._happens(device)
                    ends_it = way in {"dies", "hangs"}
                    await self._settles(device, lambda: crashing.struck and ends_it)
                    if crashing.struck and ends_it:
                        await self._power_off(device, crashing)
                if device.task is None:
                    device.start()
                    await self._redelivered(device)
                    await self._settles(device)
                self._ended_well(device, way)
                self.passed = crashing.passed
                return crashing.struck
        finally:
            shutil.rmtree(folder)

    async def _happens(self, device) -> None:
        try:
            await self.scenario.happens(device)
        except NoSpace:
            await self.scenario.happens(device)  # the order was not taken, and waits
        except (Dead, OSError):
            pass

    async def _redelivered(self, device) -> None:
        """The broker has the order retained, and the server sends it again when it was not answered."""
        if self.scenario.happens not in {crash, start, engine_restarts}:
            await self.scenario.happens(device)

    async def _settles(self, device, over=lambda: False) -> None:
        async with asyncio.timeout(WITHIN_S):
            quiet = 0
            while quiet < 3 and not over():
                if self.scenario.served:
                    assert device.served(), f"nobody answers: {device.route()}"
                self._secrets_whole(device)
                device.clock.advance(FLOWING_S)
                passes = device.loop.passes
                await asyncio.sleep(LOOK_S)
                quiet = quiet + (device.loop.passes > passes) if self._settled(device) else 0

    def _secrets_whole(self, device) -> None:
        """Each file of a module that serves is wholly the old or wholly the new one, and no trouble of the module's."""
        row = device.store.slot("main")
        if not self.scenario.secrets or row is None or row.current is None:
            return
        # Drafts come and go while one looks.
        if found := device.files(row.current.instance):
            assert found.keys() == VALUES[0].keys() or not self.scenario.served, found
            assert all(value in {values[name] for values in self.scenario.secrets} for name, value in found.items())
        assert not self.scenario.served or row.upkeep.state == "up", row.upkeep

    def _settled(self, device) -> bool:
        row = device.store.slot("main")
        runs = {self.scenario.runs.digest} if self.scenario.runs else set()
        upkeep = row.upkeep.state == "up" if row else True
        return (
            (row.phase if row else None) == self.scenario.ends
            and upkeep
            and device.engine.running() == runs
            and not (row and row.current and row.current.ungiven)
            and not device.loop._tasks
            and not device.loop._stopping
        )

    async def _power_off(self, device, crashing) -> None:
        device.task.cancel()
        crashing.release()
        await asyncio.wait([device.task])
        device.task = None
        device.store.close()
        device.build()

    def _ended_well(self, device, way) -> None:
        scenario, row = self.scenario, device.store.slot("main")
        # With a full disk the committed module is started again under the name that it had.
        starts = device.engine.starts if way != "fails" else []
        assert len(starts) == len(set(starts)), "an instance was started twice"
        instances = {path.name for path in (device.folder / "i").glob("*")}
        placed = row.current if row else None
        assert instances == ({Path(placed.socket).parent.name} if placed else set()), "a folder is left over"
        told = gateway_table.read(device.folder / "gateway" / "table.json")
        assert told == table(device.store.slots(), generation=told.generation, identity=device.folder / "gateway")
        # The image of what was ordered may not have come; of no other version but the two that are kept there is one.
        kept = {one.wanted.digest: one for one in (placed, row.previous if row else None) if one}
        images = {device.shelf.manifest(digest).runtimes[0].image.manifest.sha256 for digest in kept}
        wanted = {device.shelf.manifest(row.wanted.digest).runtimes[0].image.manifest.sha256} if row else set()
        assert images <= device.engine.named <= images | wanted, "an image is left over, or one is missing"
        if scenario.secrets:
            assert device.files(placed.instance) == scenario.secrets[-1], "the secrets are not those that were ordered"
            if scenario.runs is SIGNALLED:
                assert device.engine.signals[-1] == (placed.instance, scenario.secrets[-1]), "the last signal was early"
            folders = {path.name for path in (device.memory / "secrets").iterdir()}
            assert folders == instances, "the secrets of another instance are left over"
        condemned = device.store.failed(NEW.digest) is not None
        assert condemned is (scenario.ends is Phase.REVERTED), "the content is blamed for what happened, or is not"
        if row:
            assert device.chain().count("committed") <= 1


async def strike_everywhere(name, monkeypatch, ways):
    """Strike at each point; each has the next of ``ways``."""
    run = Run(SCENARIOS[name], monkeypatch)
    await run()
    points = list(dict.fromkeys(run.passed))
    missed = []
    for point, way in zip(points, ways, strict=False):
        if way == "hangs" and " engine." not in point and " secrets." not in point:
            continue
        try:
            if not await run(point, way) and not await run(point, way):
                missed.append(point)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{way} at {point}: {error!r}") from error
    # When there is time to tidy, and how far one lane is when the other does something, differs from run to run.
    assert len(missed) <= len(points) / 3, missed


@pytest.mark.parametrize("name", MOST)
async def test_it_may_die_anywhere(name, monkeypatch):
    """Wherever it dies, it converges, does nothing twice, leaves nothing behind, and who worked answered throughout."""
    await strike_everywhere(name, monkeypatch, itertools.repeat("dies"))


@pytest.mark.parametrize("name", SOME)
async def test_anything_may_fail_once(name, monkeypatch):
    """A write or file that meets a full disk, or an engine that is busy, is tried again, and is no module's fault."""
    await strike_everywhere(name, monkeypatch, itertools.repeat("fails"))


@pytest.mark.parametrize("name", SOME)
async def test_the_engine_may_hang_anywhere(name, monkeypatch):
    """A call that never returns, or a secret that is never written, ends with the agent, and the next one goes on."""
    await strike_everywhere(name, monkeypatch, itertools.repeat("hangs"))


def jumps(seconds):
    return lambda device: device.clock.jump(seconds)


def begins_in_1970(device):
    device.clock.time = 5.0


def loses_blobs(device):
    for path in (device.folder / "blobs").iterdir():
        path.unlink()


# A device that does not know what time it is rightly waits for its window.
WITHOUT_WINDOW = [one for one in SOME if "an update in its window" not in getattr(one, "values", ())]


@pytest.mark.parametrize("name", WITHOUT_WINDOW)
async def test_the_clock_may_be_set_anywhere(name, monkeypatch):
    """Ten days on, ten days back, or to 1970, in turn: nothing ends early, waits for it, or is condemned for it."""
    ways = itertools.cycle([jumps(10 * DAY_S), jumps(-10 * DAY_S), begins_in_1970])
    await strike_everywhere(name, monkeypatch, ways)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.long
async def test_the_blobs_may_go_anywhere(name, monkeypatch):
    """Whatever has been fetched is gone from one moment to the next: it is fetched again where it is needed."""
    await strike_everywhere(name, monkeypatch, itertools.repeat(loses_blobs))


async def test_every_phase_and_step_is_struck(monkeypatch):
    """The scenarios pass each phase of the table and each step there is; a new one asks for a scenario here."""
    passed = []
    for scenario in SCENARIOS.values():
        run = Run(scenario, monkeypatch)
        await run()
        passed += run.passed
    phases, steps = ({name.split()[part] for name in passed} for part in (0, 1))

    assert phases - {"none"} == {str(phase) for phase in TABLE}
    assert steps - {"Adopt", "Resume", "Tidy"} == {step.__name__ for step in Step.__subclasses__()}
