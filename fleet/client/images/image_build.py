"""Building our images on an engineer's machine: without a registry, and without a network in the build.

The image carries a label with the digest of all that it was built from, so that the same image is never built twice.
Wheels are fetched here, for the Python and the C library inside the base image, and installed there with
``--no-index``: so a proxy that re-signs TLS needs no place in the image, and what was installed is what was fetched.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.requirements import Requirement

from fleet.client.images.base_image import BASE, Progress, ask, make_sure_of_base
from fleet.client.images.docker_build import build, made_before
from fleet.client.images.own_wheel import deploy_folder, ingredients, make_own_wheel
from fleet.client.images.pip import Inside, pip
from modules.errors import NeedsOperator

DEPLOY: Final = deploy_folder()


class Recipe(NamedTuple):
    """What an image is made from: its Dockerfile, and the extras of edgefleet in it, each with its lock.

    ``packages`` are those of our own folders that run in it, ``folders`` what else its Dockerfile copies.
    """

    dockerfile: Path
    extras: tuple[str, ...]
    packages: tuple[str, ...]
    folders: tuple[Path, ...] = ()

    @property
    def locks(self) -> tuple[Path, ...]:
        """Those that are there: an installation may lack them."""
        files = (DEPLOY / f"locks/{extra}.txt" for extra in self.extras)
        return tuple(file for file in files if file.is_file())


_IMAGES: Final = DEPLOY / "images"
_ON_A_DEVICE: Final = ("agent", "hardware", "modules")
SCORING: Final = Recipe(_IMAGES / "scoring.Dockerfile", ("scoring",), ("modules",))
GATEWAY: Final = Recipe(_IMAGES / "gateway.Dockerfile", ("agent",), _ON_A_DEVICE)
AGENT: Final = Recipe(_IMAGES / "agent.Dockerfile", ("agent",), _ON_A_DEVICE)
# With the templates of the broker's configuration, which it renders.
SERVER: Final = Recipe(
    _IMAGES / "server.Dockerfile", ("fleet", "kubernetes", "postgres"), ("fleet", "modules"), (DEPLOY / "broker",)
)


def build_image(
    recipe: Recipe,
    *,
    client: Any,
    name: str,
    extra_requirements: Sequence[str] = (),
    base: str | None = None,
    progress: Progress,
) -> str:
    """Build an image, unless the engine has it already, and return its id (``sha256:...``).

    Args:
        recipe: which one.
        client: a Docker or Podman engine.
        name: the tag that the image gets.
        extra_requirements: packages that entry scripts import, as pip writes them.
        base: the image to build upon, pulled if the engine has not got it; without it ``python:3.11-slim``.
        progress: is told each step in a line.

    Raises:
        NeedsOperator: no base image, a broken installation, or a package that cannot be had; the message has the last
            words of the program that failed.
    """
    if not recipe.dockerfile.is_file():
        raise NeedsOperator(
            "edgefleet was installed without the image's Dockerfile",
            element=str(recipe.dockerfile),
            remedy="install edgefleet[client] with pip, or run this in a checkout",
        )
    base = base or BASE
    base_id = make_sure_of_base(client, base, progress)
    content = _content(recipe, base_id, extra_requirements)
    if made := made_before(client, content):
        progress(f"{name} is there already, built from the same sources and base image")
        made.tag(name)
        return str(made.id)
    inside = ask(client, base_id, base)
    with tempfile.TemporaryDirectory(prefix="edgefleet-image-") as folder:
        context = Path(folder)
        collect(recipe, context, inside, extra_requirements, progress)
        (context / "Dockerfile").write_bytes(recipe.dockerfile.read_bytes())
        return build(client, context, name, content, progress, arguments={"BASE": base})


def _content(recipe: Recipe, base: str, extra: Sequence[str]) -> str:
    """A digest of what the image is built from: base image, packages, recipe, and the code that runs in it."""
    files = {
        "Dockerfile": recipe.dockerfile,
        "build": Path(__file__),
        **{f"lock/{file.stem}": file for file in recipe.locks},
        **{f"{folder.name}/{file.name}": file for folder in recipe.folders for file in sorted(folder.iterdir())},
        **ingredients(recipe.packages),
    }
    whole = hashlib.sha256("\0".join((base, *sorted(extra), "")).encode())
    for name, file in files.items():
        if file.is_file():
            whole.update(name.encode() + b"\0")
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def collect(recipe: Recipe, context: Path, inside: Inside, extra: Sequence[str], progress: Progress) -> None:
    """Fill the build's context: every wheel that is to be in the image."""
    wheels = context / "wheels"
    progress("building the wheel of edgefleet")
    own = make_own_wheel(wheels)
    progress(f"fetching wheels for {inside}")
    fetch = ("download", f"--dest={wheels}", *inside.pip_options)
    pins = context / "pins.txt"
    for lock in recipe.locks:
        pip(*fetch, "--require-hashes", f"--requirement={lock}")
    # The locks cannot check packages that they do not know; beside them they hold the versions of the others still.
    pins.write_text("\n".join(pins_of(recipe, inside)))
    if extra or len(recipe.locks) < len(recipe.extras):
        pip(*fetch, f"--constraint={pins}", f"{own}[{','.join(recipe.extras)}]", *extra)
    for folder in recipe.folders:
        shutil.copytree(folder, context / folder.name)


def pins_of(recipe: Recipe, inside: Inside) -> list[str]:
    """What a recipe is locked to in an image with this Python, as ``name==version``."""
    there = {
        "python_version": inside.python, "python_full_version": f"{inside.python}.99", "sys_platform": "linux",
        "platform_system": "Linux", "os_name": "posix", "platform_machine": inside.machine,
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    locked = "\n".join(lock.read_text() for lock in recipe.locks)
    found = map(Requirement, re.findall(r"^\w\S*==[^\\\n]+", locked, re.MULTILINE))
    pins = (f"{one.name}{one.specifier}" for one in found if one.marker is None or one.marker.evaluate(there))
    return list(dict.fromkeys(pins))
