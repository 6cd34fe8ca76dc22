"""A package made: the folder laid out, and upon an image of this machine built."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments import package_context
from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.environments.package_context import APPLICATION, CONFIG_MAP, ROOT, Application, Base
from fleet.client.images.base_image import Registry
from fleet.client.images.docker_build import build, made_before
from fleet.client.images.docker_engine import docker_engine
from fleet.client.images.image_build import SCORING, build_image
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.package_readme import readme
from fleet.client.sdk.service_folder import lay_script, scoring_image, without_code
from fleet.client.workspace import SCORING_IMAGE
from modules.triggers.settings import TOPIC

NAME: Final = "edgefleet-package"
_MODULE: Final = "module"
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_LABEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is packaged. Without a label that of its content is given; ``trigger`` are the variables of one."""

    models: tuple[ModelVersion, ...]
    config: Resolved | None
    dockerfile: bool = False
    name: str = NAME
    label: str = ""
    trigger: Mapping[str, str] = {}


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Where the package is: an image's name and label, or a folder; and the registry that its base image is from."""

    location: str
    image_id: str = ""
    registry: Registry = Registry()


def wanted(
    models: Sequence[ModelVersion],
    config: Resolved | None,
    *,
    dockerfile: bool,
    name: str | None,
    label: str | None,
    trigger: Mapping[str, str],
) -> Wanted:
    """What was asked for.

    Raises:
        UserErrorException: it cannot be; the message names the argument.
    """
    if config is None and len(models) != 1:
        raise UserErrorException(
            f"{len(models)} models, and nothing says how they are served",
            element="inference_config",
            remedy="give an InferenceConfig, or a single model that is served without code",
        )
    if name is not None and not _NAME.fullmatch(name):
        raise UserErrorException(
            f"{name!r} is no name of an image", element="image_name", remedy="write lower case letters, digits, - and /"
        )
    if label is not None and not _LABEL.fullmatch(label):
        raise UserErrorException(
            f"{label!r} is no label of an image", element="image_label", remedy="write letters, digits, ., _ and -"
        )
    return Wanted(
        models=tuple(models), config=config, dockerfile=dockerfile, name=name or NAME, label=label or "",
        trigger=trigger,
    )  # fmt: skip


def make(workspace: Connection, what: Wanted, context: Path, line: Callable[[str], None]) -> Made:
    """Lay the package out in an empty folder, and build its image unless only the files were asked for.

    Raises:
        EdgefleetError: as the services that it calls.
    """
    said = ""

    def step(text: str, *_: object) -> None:
        nonlocal said
        if text != said:
            line(text)
        said = text

    with docker_engine() as engine:
        application, image = _laid(workspace, what, engine, context, step)
        _write_map(workspace, what.models, context)
        if application.asks_broker:
            package_context.add_trigger(context)
        if not what.dockerfile:
            package_context.finish(context, package_context.upon(_image(workspace, what, engine, step, line, image)),
                                   application)  # fmt: skip
            return _built(engine, what, context, line)
        environment = what.config.environment if what.config else None
        base: Base = package_context.self_contained(context, environment, client=engine, progress=line)
    tag = f"{what.name}:{what.label}" if what.label else what.name
    (context / package_context.README).write_text(readme(tag, base, application))
    package_context.finish(context, base, application)
    line(f"written: the Dockerfile and what it copies, upon {base.image}")
    return Made(location=str(context), registry=base.registry)


def _laid(
    workspace: Connection, what: Wanted, engine: Any, context: Path, step: Callable[..., None]
) -> tuple[Application, str]:
    """The application's files; and the image that a model without code was proved in."""
    folder = context / APPLICATION
    folder.mkdir()
    broker = what.trigger.get("EDGEFLEET_TRIGGER") == TOPIC
    if what.config is not None:
        variables = lay_script(workspace, folder, what.models, what.config, step)
        return Application(variables=variables, trigger=what.trigger, asks_broker=broker), ""
    (folder / _MODULE).mkdir()
    laid = without_code(workspace, engine, folder / _MODULE, what.models[0], step)
    arguments = ("--module", f"{ROOT}/{_MODULE}")
    return Application(arguments=arguments, trigger=what.trigger, asks_broker=broker), laid.image


def _image(
    workspace: Connection,
    what: Wanted,
    engine: Any,
    step: Callable[..., None],
    line: Callable[[str], None],
    proved: str,
) -> str:
    """What the application is laid upon."""
    if what.config is not None and what.config.environment is not None:
        return what.config.environment.build_image(client=engine, progress=line).image_id
    if what.trigger:
        # An image that was kept may be of before there were triggers.
        return build_image(SCORING, client=engine, name=SCORING_IMAGE, progress=line)
    return proved or scoring_image(workspace, engine, step)


def _built(engine: Any, what: Wanted, context: Path, line: Callable[[str], None]) -> Made:
    content = package_context.digest_of(context)
    location = f"{what.name}:{what.label or content[:12]}"
    if made := made_before(engine, content):
        line(f"{location} is there already, built from the same files")
        made.tag(location)
        return Made(location=location, image_id=str(made.id))
    return Made(location=location, image_id=build(engine, context, location, content, line, arguments={}))


def _write_map(workspace: Connection, models: Sequence[ModelVersion], context: Path) -> None:
    """Which models these are, as programs that know Azure ML's file look for it."""
    known = {
        one.name: {
            "id": one.id, "internalId": str(one.ref), "name": one.name, "version": one.version, "tags": one.tags,
            "properties": one.properties, "description": one.description,
            "createdTime": one.created_time.isoformat() if one.created_time else None,
        }
        for one in models
    }  # fmt: skip
    versions: dict[str, dict[str, Any]] = {}
    for one in models:
        versions.setdefault(one.name, {})[str(one.version)] = {"id": one.id, "internalId": str(one.ref)}
    document = {"accountContext": {"accountName": workspace.name}, "models": known, "modelsInfo": versions}
    (context / CONFIG_MAP).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
