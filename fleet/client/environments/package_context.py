"""The folder that a package's image is built from: on this machine upon an image that is here, or anywhere with Docker.

What is to be built anywhere has every wheel in it, and its Dockerfile makes the scoring image, the environment's and
the application's in one: it asks for a base image, and for no network.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments.environment import Environment, wheels_store
from fleet.client.environments.environment_image import (
    Recipe,
    base_of,
    collect,
    instructions,
    quoted,
)
from fleet.client.environments.requirements import Requirements
from fleet.client.environments.wheels import locked
from fleet.client.images.base_image import Progress, Registry
from fleet.client.images.image_build import DEPLOY, SCORING, pins_of
from fleet.client.images.image_build import collect as collect_scoring
from fleet.client.images.pip import pip
from modules.errors import NeedsOperator

APPLICATION: Final = "azureml-app"
CONFIG_MAP: Final = "model_config_map.json"
ROOT: Final = "/var/azureml-app"
PORT: Final = 5001
DATA: Final = "/data"
README: Final = "README.txt"
# All that stands at the top of such a folder: whoever writes it again removes these first.
PARTS: Final = (APPLICATION, CONFIG_MAP, "Dockerfile", "wheels", "packages", "trigger", README)
_BROKER_LOCK: Final = DEPLOY / "locks/broker.txt"
# Where the server's own code is in the scoring image.
_CODE: Final = "/opt/edgefleet/code"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """What is served: arguments and variables of the scoring server, and of the trigger before it, if there is one."""

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    trigger: Mapping[str, str] = {}
    asks_broker: bool = False


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """How a Dockerfile begins, and the image that it asks for."""

    head: str
    image: str
    registry: Registry = Registry()


def upon(image_id: str) -> Base:
    """An image of this machine's engine."""
    return Base(head=f"FROM {image_id}\n", image=image_id)


def self_contained(context: Path, environment: Environment | None, *, client: Any, progress: Progress) -> Base:
    """Fill the folder with all wheels; the engine is asked what is inside the base image.

    Raises:
        Invalid, NeedsOperator: as for an environment's image.
    """
    recipe = environment.recipe() if environment is not None else Recipe(name="", requirements=Requirements())
    base, _, inside = base_of(recipe, client=client, progress=progress)
    collect_scoring(SCORING, context, inside, (), progress)
    (context / "pins.txt").unlink()
    head = _told(SCORING.dockerfile.read_text(), "BASE", base)
    if environment is not None:
        pins = pins_of(SCORING, inside)
        wheels = locked(recipe.requirements, inside, pins, wheels_store(), progress)
        collect(context, wheels.beside(pins))
        # Which stages the second file goes on from is said before the first stage, where all of them see it.
        head = head.replace(f"ARG BASE={base}\n", f"ARG BASE={base}\nARG SCORING=scoring\n", 1)
        head += "\n" + _told(instructions(recipe), "BASE_PACKAGES", "yes" if recipe.base_image else "no")
    return Base(head=head, image=base, registry=recipe.registry)


def add_trigger(context: Path) -> None:
    """The library that speaks with brokers, which is pure Python, as a folder.

    Raises:
        NeedsOperator: it cannot be had.
    """
    if not _BROKER_LOCK.is_file():
        raise NeedsOperator(
            "edgefleet was installed without its locks", element=str(_BROKER_LOCK),
            remedy="install edgefleet[client] with pip, or run this in a checkout",
        )  # fmt: skip
    found = re.search(r"^paho-mqtt==.*?(?=^\S|\Z)", _BROKER_LOCK.read_text(), re.MULTILINE | re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="edgefleet-trigger-") as scratch:
        asked = Path(scratch, "asked.txt")
        asked.write_text(found[0] if found else "")
        pip(
            "install", f"--target={context / 'trigger'}", "--no-deps", "--no-compile", "--only-binary=:all:",
            "--require-hashes", f"--requirement={asked}",
        )  # fmt: skip


def finish(context: Path, base: Base, application: Application) -> None:
    """Write the Dockerfile, and let everybody read what the image's user must read."""
    lines = [base.head, f"COPY {APPLICATION} {ROOT}\n", f"COPY {CONFIG_MAP} {ROOT}/{CONFIG_MAP}\n"]
    variables = dict(application.variables) | dict(application.trigger)
    lines += [f"ENV {name}={quoted(value)}\n" for name, value in sorted(variables.items())]
    if application.asks_broker:
        lines.append(f"COPY trigger {_CODE}\n")
    lines.append(f"EXPOSE {PORT}\n")
    if application.trigger:
        # A volume that is new takes the owner of the folder that it covers.
        lines.append(f"USER 0:0\nRUN install --directory --owner=10001 --group=10001 {DATA}\nUSER 10001:10001\n")
        lines.append('ENTRYPOINT ["python", "-m", "modules.triggers"]\n')
        command = list(application.arguments)
    else:
        lines.append('ENTRYPOINT ["python", "-m", "modules.scoring"]\n')
        command = [*application.arguments, "--host", "0.0.0.0", "--port", str(PORT)]
    lines.append(f"CMD {json.dumps(command)}\n")
    (context / "Dockerfile").write_text("".join(lines))
    for path in (context, *context.rglob("*")):
        runs = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if runs else 0o644)


def digest_of(context: Path) -> str:
    """The same for the same files, wherever the folder is."""
    whole = hashlib.sha256()
    for path in sorted(one for one in context.rglob("*") if one.is_file()):
        whole.update(path.relative_to(context).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def copy(context: Path, target: Path) -> None:
    """Write the folder to another place, over what an earlier one has left there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        there = target / name
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        else:
            there.unlink(missing_ok=True)
    shutil.copytree(context, target, dirs_exist_ok=True)


def _told(dockerfile: str, argument: str, value: str) -> str:
    """A Dockerfile that needs not be told an argument."""
    return re.sub(
        rf"^ARG {argument}(=.*)?$", lambda _: f"ARG {argument}={value}", dockerfile, count=1, flags=re.MULTILINE
    )
