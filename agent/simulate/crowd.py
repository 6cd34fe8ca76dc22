"""All simulated devices in one event loop: connected as quickly as the server can follow, tended, ended politely."""

import asyncio
import random
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from agent.simulate import identities
from agent.simulate.device import Device
from agent.simulate.plan import Part
from agent.simulate.world import World
from modules.errors import BadSettings
from modules.protocol.telemetry import MAX_FIGURES

# Devices whose first report is under way: a server that is asked more at once would only put it off.
_GREETING: Final = 400
_GREETED_WITHIN_S: Final = 60.0
_LOOK_S: Final = 0.05
# Each device is looked after this often: pings are due after its keep-alive.
_TEND_S: Final = 15.0
_SLICES: Final = 100
# So many sessions begin before what came is read.
_BREATH: Final = 10
_GOODBYE_S: Final = 10.0
# Bytes of a message of telemetry without its figures, and of each of these.
_AROUND: Final = 190
_FIGURE: Final = 21
# Files beside the sockets.
_OTHER_FILES: Final = 200


class Crowd:
    """The devices, and the tasks that keep them going."""

    def __init__(self, world: World, parts: list[Part], *, state: Path) -> None:
        self._world = world
        facts = {number: kit.facts() for number, kit in {id(part.kit): part.kit for part in parts}.items()}
        self.devices = [
            Device(
                world,
                name,
                part,
                facts=facts[id(part.kit)],
                signer=identities.signer(state, name),
                identity=identities.place(state, name),
            )
            for name, part in zip(world.names, parts, strict=True)
        ]

    async def connect(self) -> None:
        """Open every session; only so many at once as the server has not heard yet."""
        for number, device in enumerate(self.devices):
            await device.open()
            await _until(partial(self._heard, number + 1 - _GREETING), _GREETED_WITHIN_S)
            if not number % _BREATH:
                await asyncio.sleep(0)
        await _until(partial(self._heard, len(self.devices)), _GREETED_WITHIN_S)

    def _heard(self, devices: int) -> bool:
        """Whether the server has the first report of so many."""
        return self._world.tally.greeted >= devices

    async def tend(self) -> None:
        """For ever: each device's keep-alive."""
        await self._in_turn(_TEND_S, Device.tend)

    async def measure(self, every_s: float, size: int) -> None:
        """For ever: telemetry from each device, about so many bytes before its envelope, which the server keeps."""
        count = max(1, (size - _AROUND) // _FIGURE)
        names = [f"simulated_{number:02}" for number in range(min(count, MAX_FIGURES))]
        samples = [names] * (count // len(names))
        await self._in_turn(every_s, lambda device: device.measure([dict.fromkeys(one, _figure()) for one in samples]))

    async def _in_turn(self, every_s: float, act: Callable[[Device], None]) -> None:
        slices = min(_SLICES, len(self.devices))
        while True:
            for first in range(slices):
                for device in self.devices[first::slices]:
                    act(device)
                await asyncio.sleep(every_s / slices)

    async def close(self) -> None:
        """Every device says that it goes."""
        for device in self.devices:
            device.close()
        await _until(lambda: not any(device.waiting for device in self.devices), _GOODBYE_S)


def _figure() -> float:
    return round(random.uniform(1, 100), 2)  # noqa: S311 - no secret


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    """Wait for something, or no longer."""
    ends = time.monotonic() + within_s
    while not condition() and time.monotonic() < ends:  # noqa: ASYNC110 - of thousands of devices, none tells us
        await asyncio.sleep(_LOOK_S)


def make_room(devices: int) -> None:
    """Let this process have a socket for each device.

    Raises:
        BadSettings: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = devices + _OTHER_FILES
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard) if hard >= 0 else hard))
    except (ValueError, OSError) as error:
        raise BadSettings(
            f"{devices} devices need {wanted} open files, and {hard} are allowed",
            element="ulimit -n",
            remedy="raise the limit of open files, or simulate fewer devices",
        ) from error


def say(text: str) -> None:
    """A line on stderr; on a terminal it replaces the one before."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    else:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
