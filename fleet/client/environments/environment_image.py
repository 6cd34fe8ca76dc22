"""The image of an environment: the scoring image, and above it one layer with the user's own packages."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments.requirements import Requirements
from fleet.client.environments.wheels import WheelSet, forget, locked
from fleet.client.images.base_image import BASE, OLDEST_PYTHON, Progress, Registry, ask, make_sure_of_base
from fleet.client.images.docker_build import build, made_before, tag_of
from fleet.client.images.image_build import DEPLOY, SCORING, build_image, pins_of
from fleet.client.images.pip import Inside
from modules.errors import Invalid, NeedsOperator

DOCKERFILE: Final = DEPLOY / "images/environment.Dockerfile"
# The engine's names belong to everybody: an environment takes none that somebody may have given to an image.
TAG_PREFIX: Final = "edgefleet-environment/"
_NEWEST_PYTHON: Final = 14
# Steps fetch things, as apt-get does; packages never need a network.
STEPS_NETWORK: Final = "default"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that an environment's image is made from."""

    name: str
    requirements: Requirements
    base_image: str = ""
    registry: Registry = Registry()
    steps: str = ""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """An image by its id, and the wheels that were locked for it."""

    image_id: str
    base: str
    python: str
    wheels: WheelSet


def build_environment_image(
    recipe: Recipe, *, client: Any, store: Path, upgrade: bool = False, progress: Progress
) -> Built:
    """Build the image, unless the engine has it already; ``store`` keeps the wheels, ``upgrade`` locks them anew.

    Raises:
        Invalid: the environment asks for a Python that the image has not got.
        NeedsOperator: the base image, a package or a step cannot be had.
    """
    base, base_id, inside = base_of(recipe, client=client, progress=progress)
    scoring_tag = f"edgefleet-scoring:base-{base_id.removeprefix('sha256:')[:12]}"
    scoring = build_image(SCORING, client=client, name=scoring_tag, base=base, progress=progress)
    pins = pins_of(SCORING, inside)
    if upgrade:
        forget(recipe.requirements, inside, pins, store)
    wheels = locked(recipe.requirements, inside, pins, store, progress)
    tag = tag_of(TAG_PREFIX + recipe.name)
    with tempfile.TemporaryDirectory(prefix="edgefleet-environment-") as folder:
        context = Path(folder)
        collect(context, wheels.beside(pins))
        (context / "Dockerfile").write_text(instructions(recipe))
        content = _content(context, scoring)
        if made := made_before(client, content):
            progress(f"{tag} is there already, built from the same packages and base image")
            made.tag(tag)
            image_id = str(made.id)
        else:
            arguments = {"BASE": base, "SCORING": scoring, "BASE_PACKAGES": "yes" if recipe.base_image else "no"}
            network = STEPS_NETWORK if recipe.steps else "none"
            image_id = build(client, context, tag, content, progress, arguments=arguments, network=network)
    return Built(image_id=image_id, base=base, python=inside.python, wheels=wheels)


def base_of(recipe: Recipe, *, client: Any, progress: Progress) -> tuple[str, str, Inside]:
    """The image that it is built upon: its name, its id, and what is inside.

    Raises:
        Invalid: the environment asks for a Python that the image has not got.
        NeedsOperator: it cannot be had.
    """
    base = recipe.registry.full_name(recipe.base_image or _usual_base(recipe.requirements))
    base_id = make_sure_of_base(client, base, progress, recipe.registry)
    inside = ask(client, base_id, base)
    if not recipe.requirements.accepts(inside.python):
        raise Invalid(
            f"the environment asks for Python {recipe.requirements.python}, this image has {inside.python}",
            element=base,
            remedy=f"name an image with that Python, or have it built for this one: --python {inside.python}",
        )
    return base, base_id, inside


def _usual_base(requirements: Requirements) -> str:
    """The image with the oldest Python that both the scoring server and the environment can use."""
    major, oldest = OLDEST_PYTHON
    for minor in range(oldest, _NEWEST_PYTHON + 1):
        if requirements.accepts(f"{major}.{minor}"):
            return BASE if minor == oldest else f"python:{major}.{minor}-slim"
    raise NeedsOperator(
        f"there is no image for this Python: the scoring server runs on {major}.{oldest} to {major}.{_NEWEST_PYTHON}",
        element=f"python{requirements.python}",
        remedy=f"write python={major}.{oldest}, or leave the file as it is and say --python {major}.{oldest}",
    )


def collect(context: Path, wheels: WheelSet) -> None:
    """Fill the build's context: wheels that the scoring image has not got, and their lock."""
    folder = context / "packages"
    folder.mkdir()
    for wheel in wheels.wheels:
        (folder / wheel.file.name).write_bytes(wheel.file.read_bytes())
    (folder / "lock.txt").write_text(wheels.lock)


def instructions(recipe: Recipe) -> str:
    """The Dockerfile for that context, which is told BASE, SCORING and BASE_PACKAGES."""
    lines = [DOCKERFILE.read_text()]
    for name, value in sorted(recipe.requirements.variables.items()):
        lines.append(f"ENV {name}={quoted(value)}\n")
    if recipe.steps:
        lines += ["USER 0:0\n", recipe.steps, "USER 10001:10001\n"]
    # Last, so that the steps before it need not be done again for another set of packages.
    lines.append("COPY --from=packages /layers /\n")
    return "".join(lines)


def quoted(value: str) -> str:
    """A variable's value as a Dockerfile has it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", " ")
    return f'"{escaped}"'


def _content(context: Path, scoring: str) -> str:
    """A digest of what the image is built from; the lock has the digest of each wheel."""
    whole = hashlib.sha256(scoring.encode())
    for name in ("Dockerfile", "packages/lock.txt"):
        whole.update(b"\0" + hashlib.sha256((context / name).read_bytes()).digest())
    return whole.hexdigest()
