"""The scoring image in a publisher's workspace: packed once for all tests of this machine, for that takes a core ten
seconds each time."""

import os
import shutil
import tempfile
from pathlib import Path

from fleet.client.images.store import add_from_engine
from fleet.client.workspace import Workspace
from modules.manifest import Image
from tests.parts.docker import one_at_a_time

NAME = "scoring:cpu"


def pack(workspace: Path, image: str) -> Image:
    """Have the engine's image there, as ``edgefleet images add`` does; what is there already stays.

    Args:
        workspace: the folder.
        image: its id in the engine.
    """
    kept = Path(tempfile.gettempdir()) / f"edgefleet-packed-{os.getuid()}" / image.removeprefix("sha256:")
    with one_at_a_time("packed"):
        if not kept.exists():
            shutil.rmtree(kept.parent, ignore_errors=True)  # those of other sources
            with tempfile.TemporaryDirectory(prefix="edgefleet-packing-") as draft:
                add_from_engine(image, Workspace(Path(draft) / "workspace"), lambda *_: None, name=NAME)
                shutil.copytree(Path(draft) / "workspace", kept)
        shutil.copytree(kept, workspace, dirs_exist_ok=True)
    return Workspace(workspace).image(NAME)
