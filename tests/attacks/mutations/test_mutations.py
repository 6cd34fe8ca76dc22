"""No order, command, manifest, metadata or block, however changed, gets an unverified file opened.

Each example changes an honest world in one to three places and lets the device's own code go to the end: it accepts,
fetches, stages, starts. What must hold then stands in ``holds.py``, who may open what in ``openings.py``, and the ways
of an attacker in ``attacks.py``. A failure prints the attacks, as few and as small as were found.
"""

import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from modules.signing import ORDER_TYPE
from tests.agent.conftest import short_folder
from tests.attacks.mutations.device import Device
from tests.attacks.mutations.drawn import on_commands, on_orders
from tests.attacks.mutations.holds import Heard, Signed, holds, serves_next
from tests.attacks.mutations.instant import InstantLoop
from tests.attacks.mutations.openings import Openings, heard
from tests.attacks.mutations.scene import Scene
from tests.attacks.mutations.world import COMMANDS, NEXT, NOW, SLOTS, World

MANY, MOST = 500, 100_000
# One example in so many is followed by an honest order. Three in four are about orders, the others about commands.
_HONEST = st.integers(0, 9).map(lambda number: number == 7)  # 0 would come more often
_EXAMPLE = st.integers(0, 3).flatmap(
    lambda number: st.tuples(st.just(number == 0), on_commands if number == 0 else on_orders, _HONEST)
)


class Ground:
    """The world, a device's state in it that has accepted an order before, and the loop in which it all happens."""

    def __init__(self) -> None:
        self.world = World()
        self.loop = InstantLoop()
        self.strange: list[str] = []
        # Examples in which a module was started, or a command followed.
        self.followed = 0
        self.loop.set_exception_handler(lambda _, context: self.strange.append(str(context)))
        self.state = short_folder()
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        device = Device(Scene(self.world), self.state)
        order = self.world.signed(self.world.order(counter=1, issued=NOW - 100), ORDER_TYPE)
        accepted = await device.verifier.accept(order)
        device.store.keep(accepted.roles)
        for name, value in accepted.marks.items():
            device.store.raise_number(name, value)
        # The release before: its blocks are a source of the next one's.
        await device.puller.blob(self.world.releases["acme/digits:1"].manifest.files[0], device.blobs)
        device.close()
        for path in (self.state / "modules").iterdir():
            path.unlink()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        shutil.rmtree(self.state)

    def tried(self, attacks, *, commands: bool = False, honest: bool = False) -> tuple[Device, set[tuple[str, str]]]:
        """One example; returns the device as it was left, and who opened something."""
        scene = Scene(self.world)
        if commands:
            scene.give_commands()
        for attack in attacks:
            attack.on(scene)
        if commands:
            scene.orders = []
        folder = Path(tempfile.mkdtemp(prefix="ef-", dir=self.state.parent))
        try:
            shutil.copytree(self.state, folder, dirs_exist_ok=True)
            return self.loop.run_until_complete(self._lived(scene, folder, honest=honest))
        finally:
            shutil.rmtree(folder)

    async def _lived(self, scene: Scene, folder: Path, *, honest: bool):
        signed, said = Signed(scene), Heard()
        openings = Openings(str(folder), signed.holds)
        logger = logging.getLogger("agent")
        logger.addHandler(said)
        device = Device(scene, folder, right=signed.right)
        try:
            with heard(openings):
                await device.deliver()
                await device.work()
            holds(scene, device, signed, openings, said)
            self.followed += bool(device.engine.launches or device.followed())
            if honest and not scene.poisoned:
                await self._goes_on(scene, device, openings)
                holds(scene, device, signed, openings, said)
                serves_next(device, NEXT)
        finally:
            logger.removeHandler(said)
            device.close()
        assert not self.strange, self.strange
        return device, openings.seen

    async def _goes_on(self, scene: Scene, device: Device, openings: Openings) -> None:
        scene.honest_again()
        device.engine.held.swapped = None
        last = max(int(one) for name, one in device.store.numbers().items() if name.startswith("counter"))
        # An order of a stolen key may have moved the device's time on, by a day at most.
        order = scene.world.order({"next": NEXT}, counter=last + 1, expires=NOW + 3 * 86_400)
        scene.orders = [scene.world.signed(order, ORDER_TYPE)]
        device.clock.advance(600.0)
        with heard(openings):
            await device.deliver()
            await device.work()


@pytest.fixture(scope="module")
def ground():
    quiet = [logging.getLogger(name) for name in ("agent", "tuf", "securesystemslib")]
    before = [(one.level, one.propagate) for one in quiet]
    for one in quiet:
        one.setLevel(logging.ERROR)
        one.propagate = False
    ground = Ground()
    yield ground
    ground.close()
    for one, (level, propagate) in zip(quiet, before, strict=True):
        one.setLevel(level)
        one.propagate = propagate


def tried(ground, **more) -> None:
    """So many examples, each held against everything."""

    @settings(
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **{"phases": (Phase.explicit, Phase.generate, Phase.shrink), **more},
    )
    @given(_EXAMPLE)
    def example(drawn) -> None:
        commands, attacks, honest = drawn
        ground.tried(attacks, commands=commands, honest=honest)

    example()


def test_without_an_attack_everything_is_followed(ground):
    """The honest order starts both modules and the honest commands are done, so that the rest shows something; and
    whoever is on the list of the verifier has opened something."""
    device, opened = ground.tried([], honest=True)
    started = [launch.slot for launch, _, _ in device.engine.launches]
    assert started == [*SLOTS, "next"]
    assert {("tests/attacks/mutations/docker.py", "read_all"), ("agent/shelf.py", "Shelf.samples")} <= opened

    device, _ = ground.tried([], commands=True)
    assert (device.ends, device.telemetry.collected, device.renewed) == (1, 1, 1)
    assert len(COMMANDS) == 4


@pytest.mark.timeout(600)
@pytest.mark.long
def test_no_change_gets_an_unverified_file_opened(ground):
    """Five hundred, the same each time; many of them get far, for one that is refused at once shows little."""
    before = ground.followed
    tried(ground, max_examples=MANY, derandomize=True)
    assert ground.followed - before > MANY // 5


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_no_change_gets_an_unverified_file_opened_whatever_it_is(ground):
    """A hundred thousand, others each time; a failure prints how to have it again."""
    tried(ground, max_examples=MOST)
