"""Whether a host can run a module, and why not.

``hardware`` on the device finds the facts, ``fleet`` asks before an order is made, ``agent`` asks again before it
fetches anything: all three with :func:`fits`.
"""

from typing import Annotated, Final

import msgspec

from modules.bounds import Cores, Line, Mebibytes, Word
from modules.manifest import Manifest, Runtime

ENGINES: Final = ("docker", "process")
# What computes on the processor itself and needs nothing else of the host.
ON_CPU: Final = (
    "CPUExecutionProvider",
    "DnnlExecutionProvider",
    "OpenVINOExecutionProvider",
    "XnnpackExecutionProvider",
)


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """Something that computes besides the CPU. Memory in MiB."""

    kind: Word
    name: Line
    providers: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)] = ()
    devices: Annotated[tuple[Line, ...], msgspec.Meta(max_length=256)] = ()
    memory_mb: Mebibytes = 0
    driver: Line = ""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can start a module: ``docker`` (Engine API, Podman's too) or ``process``."""

    name: Word
    version: Line = ""
    detail: Line = ""


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has. Cores are those granted by cgroup and affinity; memory and disk in MiB.

    ``thermal``: whether it says how hot it is; None: an agent of before, which does not tell.
    """

    platform: Word
    cpu_model: Line = ""
    cores: Cores = 1.0
    memory_mb: Mebibytes = 0
    disk_free_mb: Mebibytes = 0
    accelerators: Annotated[tuple[Accelerator, ...], msgspec.Meta(max_length=64)] = ()
    engines: Annotated[tuple[Engine, ...], msgspec.Meta(max_length=8)] = ()
    thermal: bool | None = None


class Fit(msgspec.Struct, frozen=True):
    """The answer: the runtime to use, or every reason why none fits."""

    runtime: Runtime | None
    engine: str
    unmet: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.unmet


def fits(manifest: Manifest, facts: HostFacts, *, engine: str = "docker", disk: bool = True) -> Fit:
    """Match a module with a host; ``engine`` is the one that the rollout asks for.

    Without ``disk``, free space is left out: a device that has the files already, or will have made room, knows better
    when it plans its pull.
    """
    unmet = []
    if engine not in {one.name for one in facts.engines}:
        unmet.append(f"no {engine} engine (has: {', '.join(one.name for one in facts.engines) or 'none'})")
    found = _runtime(manifest, facts, engine)
    if isinstance(found, str):
        unmet.append(found)
    needs = manifest.needs
    if needs.memory_mb > facts.memory_mb:
        unmet.append(f"needs {needs.memory_mb} MiB of memory, has {facts.memory_mb}")
    disk_mb = max(needs.disk_mb, sum(entry.length for entry in manifest.files) >> 20)
    if disk and disk_mb > facts.disk_free_mb:
        unmet.append(f"needs {disk_mb} MiB of disk, has {facts.disk_free_mb} free")
    if needs.cpu_cores > facts.cores:
        unmet.append(f"needs {needs.cpu_cores:g} cores, is granted {facts.cores:g}")
    return Fit(None if isinstance(found, str) else found, engine, tuple(unmet))


def _runtime(manifest: Manifest, facts: HostFacts, engine: str) -> Runtime | str:
    """The first runtime, in the publisher's order, that this host can run, or why it can run none."""
    kinds = {"cpu"} | {one.kind for one in facts.accelerators}
    here = [one for one in manifest.runtimes if one.platform == facts.platform]
    if not here:
        offered = ", ".join(sorted({one.platform for one in manifest.runtimes}))
        return f"no runtime for {facts.platform} (offers: {offered})"
    fitting = [one for one in here if one.accelerator in kinds]
    if not fitting:
        wanted = ", ".join(sorted({one.accelerator for one in here}))
        return f"no accelerator of the kinds it runs on ({wanted}); has: {', '.join(sorted(kinds))}"
    runnable = [one for one in fitting if one.image is not None or engine == "process"]
    if not runnable:
        return "no image in its runtime, so only the process engine could run it"
    return runnable[0]


def offered(facts: HostFacts, runtime: Runtime) -> frozenset[str]:
    """Execution providers that a host offers to a runtime: the processor's, and those of its kind of accelerator."""
    kinds = (one for one in facts.accelerators if one.kind == runtime.accelerator)
    return frozenset(ON_CPU) | {provider for one in kinds for provider in one.providers}
