"""What the simulated devices are and how they behave, by share; the same seed makes the same fleet. Pure."""

import random
import zlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec

from modules import canonical
from modules.bounds import Mebibytes, Word
from modules.errors import Invalid
from modules.names import ModuleRef
from modules.needs import Accelerator, Engine, HostFacts

LIMIT: Final = 1 << 20
MOST: Final = 1000

# How a device behaves, or a module on every device.
Kind = Literal[
    "good",
    "fails-samples",
    "slow",
    "errors",
    "nan",
    "empty",
    "drifts",
    "wrong-later",
    "wrong-provider",
    "leaks",
    "large",
    "hot",
    "restarts",
    "reverts-later",
    "degrades-later",
    "offline",
    "flaps",
    "speaks-for-another",
    "unknown-phase",
    "goes-back",
]
LIES: Final = frozenset({"speaks-for-another", "unknown-phase", "goes-back"})
_PROVIDERS: Final = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_CPU: Final = "CPUExecutionProvider"

Share = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
T = TypeVar("T", "Behaviour", "Kit")


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How something behaves; ``share`` is held against the shares beside it.

    ``after_s`` is how long after its commit a module reverts, degrades or is started again; ``for_s`` how long a device
    is offline, and how long one that flaps stays connected. The others are what a bad module is measured at.
    """

    kind: Kind = "good"
    share: Share = 1.0
    after_s: Seconds = 10.0
    for_s: Seconds = 30.0
    p50_ms: Seconds = 4.0
    p95_ms: Seconds = 500.0
    error_percent: Percent = 20.0
    nan_percent: Percent = 20.0
    empty_percent: Percent = 20.0
    memory_mb: Mebibytes = 900
    memory_growth_mb_h: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 600.0
    temperature_c: Annotated[float, msgspec.Meta(ge=0, le=200)] = 95.0
    restarts: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3


class Kit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device is. The labels are set by whoever may: ``edgefleet simulate`` does it, a device cannot.

    ``utc_offset_h``: its clock is so many hours ahead of UTC.
    """

    share: Share = 1.0
    platform: Word = "linux/amd64"
    cores: Annotated[float, msgspec.Meta(gt=0, le=1024)] = 4.0
    memory_mb: Mebibytes = 4096
    disk_free_mb: Mebibytes = 32768
    accelerators: Annotated[tuple[Word, ...], msgspec.Meta(max_length=8)] = ()
    labels: dict[str, str] = {}
    utc_offset_h: Annotated[float, msgspec.Meta(ge=-14, le=14)] = 0.0

    def facts(self) -> HostFacts:
        return HostFacts(
            platform=self.platform,
            cpu_model="simulated",
            cores=self.cores,
            memory_mb=self.memory_mb,
            disk_free_mb=self.disk_free_mb,
            accelerators=tuple(
                Accelerator(kind=kind, name=f"simulated {kind}", providers=(provider(kind),))
                for kind in self.accelerators
            ),
            engines=(Engine(name="process"), Engine(name="docker")),
            thermal=True,
        )


class OfModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one module version behaves, on whichever device: these go before the device's own behaviour."""

    module: str
    behaviours: Annotated[tuple[Behaviour, ...], msgspec.Meta(min_length=1, max_length=MOST)]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole simulated fleet. Without a word: all devices are alike, and good."""

    devices: Annotated[tuple[Kit, ...], msgspec.Meta(min_length=1, max_length=MOST)] = (Kit(),)
    behaviours: Annotated[tuple[Behaviour, ...], msgspec.Meta(min_length=1, max_length=MOST)] = (Behaviour(),)
    modules: Annotated[tuple[OfModule, ...], msgspec.Meta(max_length=MOST)] = ()


class Part(NamedTuple):
    """What one device plays: its kit, its behaviour, and that of single modules on it."""

    kit: Kit
    behaviour: Behaviour
    of_module: dict[str, Behaviour]

    def with_module(self, module: str) -> Behaviour:
        return self.of_module.get(module, self.behaviour)


def read(data: bytes) -> Plan:
    """A plan written as JSON.

    Raises:
        Invalid: it is none; names the field.
    """
    plan = canonical.decode(data, Plan, limit=LIMIT, what="profiles")
    for one in plan.modules:
        ModuleRef.parse(one.module)
    names = [one.module for one in plan.modules]
    if len(set(names)) < len(names):
        raise Invalid("one module stands there twice", element="profiles.modules", remedy="give its behaviours once")
    return plan


def cast(plan: Plan, count: int, seed: int) -> list[Part]:
    """Who plays what, device by device: exactly these shares, and the same for the same plan, count and seed."""
    kits = _shared(plan.devices, count, f"{seed} devices")
    behaviours = _shared(plan.behaviours, count, f"{seed} behaviours")
    modules = {one.module: _shared(one.behaviours, count, f"{seed} {one.module}") for one in plan.modules}
    none: dict[str, Behaviour] = {}
    return [
        Part(kit, behaviour, {module: parts[number] for module, parts in modules.items()} or none)
        for number, (kit, behaviour) in enumerate(zip(kits, behaviours, strict=True))
    ]


def chance(*words: object) -> float:
    """A number from 0 to 1 that these words always give: chance without a generator for each device."""
    return zlib.crc32(" ".join(map(str, words)).encode()) / 0xFFFFFFFF


def provider(accelerator: str) -> str:
    return _PROVIDERS.get(accelerator, _CPU)


def _shared(parts: Sequence[T], count: int, seed: str) -> list[T]:
    """Each part as often as its share says (what is left over goes to the largest remainders), in a mixed order."""
    whole = sum(one.share for one in parts)
    exact = [one.share * count / whole for one in parts]
    times = [int(one) for one in exact]
    by_remainder = sorted(range(len(parts)), key=lambda at: times[at] - exact[at])
    for at in by_remainder[: count - sum(times)]:
        times[at] += 1
    dealt = [part for part, often in zip(parts, times, strict=True) for _ in range(often)]
    random.Random(seed).shuffle(dealt)  # noqa: S311 - it has to be the same each time
    return dealt
