"""``edgefleet environments``: what entry scripts run in, from the files that their authors have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.client import config
from fleet.client.environments import options
from fleet.client.environments.environment import LOCK, Environment
from fleet.client.environments.store import build_environment
from fleet.client.images.base_image import Registry
from fleet.client.screen import Json, Screen, size
from fleet.client.workspace import Workspace
from modules.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="Build, list, show, save and remove what entry scripts run in.")
_NAME_ONE = "name --conda-file, --requirements, --environment or --base-image"


@app.command()
def build(
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="Its name (default: as its file says).")] = "",
    conda_file: options.CondaFile = None,
    requirements: options.RequirementsFile = None,
    kept: options.Kept = None,
    base_image: options.BaseImage = "",
    registry: options.RegistryAddress = "",
    registry_username: options.RegistryUser = "",
    registry_password: options.RegistryPassword = "",
    python: options.Python = "",
    docker_steps: options.DockerSteps = None,
    upgrade: options.Upgrade = False,
    docker: Annotated[
        bool, typer.Option("--docker/--no-docker", help="An image, or without Docker a virtual environment.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Build the image that an entry script needs, from conda's or pip's file, and bring it into the workspace."""
    screen = Screen(as_json=as_json)
    chosen = options.Chosen(
        conda_file=conda_file, requirements=requirements, kept=kept, base_image=base_image, python=python,
        registry=Registry(address=registry, username=registry_username, password=registry_password),
        docker_steps=docker_steps,
    )  # fmt: skip
    environment = chosen.environment(name)
    if environment is None:
        raise Invalid("no environment is named", element="environments build", remedy=_NAME_ONE)
    document = _document(environment)
    if docker:
        with screen.progress() as step:
            image, built = build_environment(
                environment, Workspace(config.home() / "workspace"), step, line=screen.remark, upgrade=upgrade
            )
        document |= {
            "image": image.name,
            "config": image.config.sha256,
            "python": built.python,
            "base_image": built.base,
            "size": sum(blob.length for blob in (image.manifest, image.config, *image.layers)),
            "lock": built.wheels.lock.splitlines(),
        }
    else:
        document["python"] = environment.build_local(use_docker=False, upgrade=upgrade, progress=screen.remark)
        document["lock"] = _lock(environment)
    screen.show(document, lambda it: _show(it, environment, document))


@app.command("list")
def list_environments(*, as_json: Json = False) -> None:
    """List the environments that are kept on this machine."""
    found = Environment.list_kept()
    Screen(as_json=as_json).show(
        [_document(one) for one in found],
        lambda it: it.table(
            ("NAME", "PYTHON", "BASE IMAGE", "PACKAGES"),
            (
                (one.name, one.requirements.python or "any", one.base_image or "usual", len(one.requirements.packages))
                for one in found
            ),
            empty="No environments yet: edgefleet environments build --conda-file FILE",
        ),
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An environment kept on this machine.")], *, as_json: Json = False
) -> None:
    """Show one environment: what became of each line of its file, and what is locked."""
    environment = Environment.get(name)
    document = _document(environment) | {"lock": _lock(environment)}
    Screen(as_json=as_json).show(document, lambda it: _show(it, environment, document))


@app.command()
def save(
    name: Annotated[str, typer.Argument(help="An environment kept on this machine.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write it to.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace one that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write an environment to a folder, for another machine: edgefleet environments build --environment FOLDER."""
    environment = Environment.get(name)
    environment.save_to_directory(folder, overwrite=overwrite)
    Screen(as_json=as_json).show(_document(environment), lambda it: it.say(str(folder)))


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="An environment kept on this machine.")], *, as_json: Json = False
) -> None:
    """Forget an environment and its lock; an image that was made of it stays until it is removed itself."""
    environment = Environment.get(name)
    environment.forget()
    Screen(as_json=as_json).show(_document(environment), lambda it: it.say(f"{name} is removed"))


def _lock(environment: Environment) -> list[str]:
    file = config.home() / "environments" / environment.name / LOCK
    return file.read_text().splitlines() if file.is_file() else []


def _document(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "base_image": environment.base_image,
        "entries": [
            {"entry": one.text, "became": one.became, "note": one.note} for one in environment.requirements.entries
        ],
    }


def _show(screen: Screen, environment: Environment, document: dict[str, Any]) -> None:
    screen.table(
        ("ENTRY", "BECAME", "WHY"),
        ((one.text or "(added)", one.became or "left out", one.note) for one in environment.requirements.entries),
        empty="No packages.",
    )
    screen.fields(
        [
            ("environment", environment.name),
            ("image", document.get("config")),
            ("python", document.get("python")),
            ("base image", document.get("base_image")),
            ("size", size(document["size"]) if "size" in document else ""),
            ("locked", f"{len(document['lock'])} packages"),
        ]
    )
