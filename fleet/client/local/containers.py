"""Containers on this machine as a device would start them: exactly this image, nothing writable, few rights, limits."""

import os
from pathlib import Path
from typing import Any, Final

from fleet.client.screen import Step
from modules.errors import NoEngine
from modules.images import archive, check_held, image_ids, read_config
from modules.manifest import Image

# The same place, variable and limits as on a device (agent/engines).
MODULE_MOUNT: Final = "/module"
NO_TELEMETRY: Final = {"ORT_DISABLE_TELEMETRY": "1"}
_PIDS: Final = 128


def hardened(*, memory_mb: int | None, cpus: float | None) -> dict[str, Any]:
    """What every container gets, in the words of Docker's client: whoever starts one adds network and mounts."""
    return {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "user": f"{os.getuid()}:{os.getgid()}",
        "pids_limit": _PIDS,
        "mem_limit": f"{memory_mb}m" if memory_mb else None,
        "memswap_limit": f"{memory_mb}m" if memory_mb else None,
        "nano_cpus": round(cpus * 1e9) if cpus else None,
        "tmpfs": {"/tmp": "size=64m,noexec,nosuid,nodev,mode=1777"},  # noqa: S108  inside the container
    }


def held_image(engine: Any, image: Image, blobs: Path, step: Step) -> str:
    """The engine's own id of exactly this image; loaded from the workspace where the engine has not got it.

    Raises:
        NoEngine: it was loaded and is not there.
        Untrusted: the engine's image of that id has other layers.
    """
    config = read_config(image, blobs)
    for attempt in ("held", "loaded"):
        for name in image_ids(image):
            found = _inspect(engine, name)
            if found is not None:
                check_held(image, config, engine_id=found["Id"], engine_layers=found["RootFS"]["Layers"])
                return str(found["Id"])
        if attempt == "held":
            step(f"loading image {image.name}", 0, 0)
            list(engine.api.load_image(archive(image, blobs)))
    raise NoEngine("Docker loaded the image and does not show it", element=image.name, remedy="see docker images")


def _inspect(engine: Any, name: str) -> dict[str, Any] | None:
    from docker.errors import ImageNotFound  # noqa: PLC0415  a tenth of a second, for registering alone

    try:
        found: dict[str, Any] = engine.api.inspect_image(name)
    except ImageNotFound:
        return None
    return found
