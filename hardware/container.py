"""From what a host has and what a module can use to what its container is given of the host. Pure."""

import msgspec

from modules.manifest import Runtime
from modules.needs import HostFacts


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Device nodes, the numeric groups that own them, GPUs that a vendor's toolkit brings in, and environment."""

    devices: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    environment: dict[str, str] = {}


def access(facts: HostFacts, runtime: Runtime) -> Access:
    """Only the accelerators of the runtime's own kind; a runtime for the CPU gets nothing."""
    mine = [one for one in facts.accelerators if one.kind == runtime.accelerator]
    if not mine:
        return Access()
    if runtime.accelerator == "nvidia":
        # The driver's libraries must match the kernel's, so NVIDIA's toolkit brings them in, and the nodes with them.
        return Access(gpus=("all",), environment={"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"})
    return Access(devices=tuple(dict.fromkeys(node for one in mine for node in one.devices)))
