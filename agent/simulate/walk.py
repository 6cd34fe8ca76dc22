"""One module's way on one simulated device: the phases of ``agent/phases.py``, to the end that its behaviour gives."""

import asyncio
import datetime as dt
from typing import Final, Protocol

from agent.clock import backoff
from agent.maintenance import why_closed
from agent.simulate.measuring import measured
from agent.simulate.place import Place
from agent.simulate.plan import LIES, Behaviour, Part, chance, provider
from modules.digests import Blob
from modules.errors import EdgefleetError, LinkLost, TransferStalled, Unfit, WrongAnswer
from modules.manifest import Manifest
from modules.names import DeviceId
from modules.needs import HostFacts, fits
from modules.protocol.order import SlotOrder
from modules.protocol.phases import Phase
from modules.protocol.report import Health, Reason

# What a real device's counter says of a module that does not stay up.
_RESTARTS: Final = 5
# What shows itself only some time after the commit.
_LATER: Final = frozenset({"reverts-later", "degrades-later", "restarts"})
# How long a device that waits for its window sleeps at most: its order may give it another one meanwhile.
_LOOK_AGAIN_S: Final = 5.0


class Host(Protocol):
    """The device, as a module's way needs it."""

    name: DeviceId
    part: Part
    facts: HostFacts

    def local_time(self) -> dt.datetime:
        """As it is where the device stands."""
        ...

    @property
    def pace_s(self) -> float:
        """How long a phase takes on average."""
        ...

    @property
    def most_probation_s(self) -> float: ...

    @property
    def most_window_s(self) -> float:
        """How long a window of measurements takes at most, however long it says that it took."""
        ...

    def move(self, place: Place, phase: str, reason: Reason | None = None) -> None:
        """The slot is in another phase; say so."""
        ...

    def say(self) -> None:
        """Send a report."""
        ...

    def lie(self, place: Place, behaviour: Behaviour) -> None: ...

    async def away(self, seconds: float) -> None:
        """Be offline for so long."""
        ...

    def stalled(self, error: EdgefleetError) -> None:
        """A pull did not come to its end, and is tried again."""
        ...

    async def manifest(self, ordered: SlotOrder) -> Manifest: ...

    async def pull(self, blobs: list[Blob]) -> None:
        """Bring these blobs here.

        Raises:
            TransferStalled, LinkLost: they did not come; it may be tried again.
        """
        ...


async def walk(host: Host, place: Place) -> None:
    """From *accepted* to the end that the behaviour of this module on this device gives it."""
    behaviour = host.part.with_module(place.module)
    if behaviour.kind in LIES:
        host.lie(place, behaviour)
        return
    try:
        manifest = await _manifest(host, place)
        await _fetch(host, place, manifest, behaviour)
        await _window(host, place)
        await _prove(host, place, manifest, behaviour)
    except EdgefleetError as error:
        reason = Reason(error.code, error.message)
        if place.phase in {Phase.STARTING, Phase.PROBATION}:
            host.move(place, Phase.REVERTING, reason)
            await _pause(host, place)
            host.move(place, Phase.REVERTED, reason)
        else:
            host.move(place, Phase.REJECTED, reason)
        return
    place.commit()
    host.move(place, Phase.COMMITTED)
    await _serve(host, place, behaviour)


async def _manifest(host: Host, place: Place) -> Manifest:
    manifest: Manifest | None = None
    tries = 0
    while manifest is None:
        try:
            manifest = await host.manifest(place.ordered)
        except (TransferStalled, LinkLost) as error:
            host.stalled(error)
            tries += 1
            await asyncio.sleep(backoff(tries, most_s=60.0))
    found = fits(manifest, host.facts, engine=place.ordered.engine)
    if found.runtime is None or found.unmet:
        raise Unfit("; ".join(found.unmet), element=place.module)
    wanted = provider(found.runtime.accelerator)
    place.provider = wanted if wanted in found.runtime.providers else found.runtime.providers[0]
    if host.part.with_module(place.module).kind == "wrong-provider":
        place.provider = "CPUExecutionProvider" if place.provider != "CPUExecutionProvider" else "SimulatedProvider"
    await _pause(host, place)
    host.move(place, Phase.FITTED)
    return manifest


async def _fetch(host: Host, place: Place, manifest: Manifest, behaviour: Behaviour) -> None:
    await _pause(host, place)
    host.move(place, Phase.FETCHING)
    if behaviour.kind == "offline":
        await host.away(behaviour.for_s)
    tries = 0
    while True:
        try:
            await host.pull(_blobs(manifest, place, host.facts))
            break
        except (TransferStalled, LinkLost) as error:
            host.stalled(error)
            tries += 1
            await asyncio.sleep(backoff(tries, most_s=60.0))
    host.move(place, Phase.VERIFIED)
    await _pause(host, place)
    host.move(place, Phase.STAGED)


async def _window(host: Host, place: Place) -> None:
    """Wait in *staged* until the order lets the device switch."""
    while closed := why_closed(place.ordered.windows or (), host.local_time()):
        reason, wait_s = closed
        if place.reason != reason:
            place.reason = reason
            host.say()
        await asyncio.sleep(min(wait_s, _LOOK_AGAIN_S))
    place.reason = None


def _blobs(manifest: Manifest, place: Place, facts: HostFacts) -> list[Blob]:
    found: list[Blob] = list(manifest.files)
    runtime = fits(manifest, facts, engine=place.ordered.engine).runtime
    if place.ordered.engine == "docker" and runtime is not None and runtime.image is not None:
        found += [runtime.image.manifest, runtime.image.config, *runtime.image.layers]
    return found


async def _prove(host: Host, place: Place, manifest: Manifest, behaviour: Behaviour) -> None:
    await _pause(host, place)
    host.move(place, Phase.STARTING)
    await _pause(host, place)
    if behaviour.kind == "fails-samples":
        raise WrongAnswer("the answer is another than the reference's", element="samples")
    host.move(place, Phase.PROBATION)
    await asyncio.sleep(min(manifest.proof.probation_s, host.most_probation_s))


async def _serve(host: Host, place: Place, behaviour: Behaviour) -> None:
    """What is measured while it serves, and what becomes of it later."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    ends = began + behaviour.after_s if behaviour.kind in _LATER else None
    measure = place.ordered.measure or None
    window = min(float(measure.window_s), host.most_window_s) if measure else 0.0
    if measure and place.before is None and place.previous is not None:
        # A device measures what it is to replace while the new one is on its way.
        replaced = host.part.with_module(place.previous.module)
        place.before = measured(replaced, host.name, float(measure.window_s), 0.0)
    measured_until = began + measure.for_s if measure else began
    while True:
        due = loop.time() + window if measure and loop.time() + window <= measured_until else None
        if due is None and ends is None:
            return
        if due is not None and (ends is None or due <= ends):
            await asyncio.sleep(due - loop.time())
            assert measure is not None  # noqa: S101 - it is due
            place.measured = measured(behaviour, host.name, float(measure.window_s), loop.time() - began)
            host.say()
            continue
        assert ends is not None  # noqa: S101 - one of both is
        await asyncio.sleep(ends - loop.time())
        if behaviour.kind != "restarts":
            break
        ends, place.health = None, Health(state="restarting", restarts=behaviour.restarts)
        host.say()
    if behaviour.kind == "degrades-later":
        why = Reason("not-ready", "it ended again and again")
        place.health = Health(state="degraded", restarts=_RESTARTS, reason=why)
        host.move(place, Phase.DEGRADED, why)
        return
    why = Reason("not-ready", "it ended too often after it was committed")
    host.move(place, Phase.REVERTING, why)
    await _pause(host, place)
    place.go_back()
    host.move(place, Phase.REVERTED, why)


async def _pause(host: Host, place: Place) -> None:
    await asyncio.sleep(host.pace_s * (0.5 + chance(host.name, place.module, place.phase)))
