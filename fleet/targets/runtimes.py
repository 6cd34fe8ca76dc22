"""How a module runs on a target: which of its runtimes, with how much memory."""

from typing import Final

from fleet.targets.contract import Module
from fleet.targets.settings import Settings
from modules.errors import Unfit
from modules.manifest import Runtime

CPU: Final = "cpu"
DEFAULT_MB: Final = 512


def chosen(module: Module, platform: str, accelerator: str = CPU) -> Runtime:
    """The runtime of a module for a target's accelerator, or else its CPU.

    Raises:
        Unfit: it has none with an image for this platform.
    """
    for kind in dict.fromkeys((accelerator, CPU)):
        for one in module.manifest.runtimes:
            if one.image is not None and (one.platform, one.accelerator) == (platform, kind):
                return one
    imaged = (one for one in module.manifest.runtimes if one.image is not None)
    offered = ", ".join(sorted({f"{one.platform} {one.accelerator}" for one in imaged})) or "no platform"
    here = f"{platform} with a CPU" if accelerator == CPU else f"{platform} with {accelerator} or a CPU"
    raise Unfit(
        f"the module has images for {offered}, and this target is {here}",
        element=str(module.manifest.ref),
        remedy="register a version for it, or choose another target",
    )


def memory_mb(module: Module, settings: Settings) -> int:
    """What bounds a replica, in MiB: what the endpoint's settings say, or else the manifest."""
    manifest = module.manifest
    return settings.memory_mb or manifest.proof.limits.memory_mb or manifest.needs.memory_mb or DEFAULT_MB
