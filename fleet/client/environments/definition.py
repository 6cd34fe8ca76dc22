"""Azure ML's own JSON for an environment, also inside its inferenceconfig.json: each key has an effect or an error."""

from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments.conda_file import read_conda
from fleet.client.environments.environment import Environment
from fleet.client.environments.requirements import Entry
from fleet.client.images.base_image import Registry
from modules.errors import Invalid

_THEIRS: Final = "mcr.microsoft.com/azureml/"
_PYTHON_KEYS: Final = frozenset(
    {"condaDependencies", "condaDependenciesFile", "interpreterPath", "userManagedDependencies"}
)
FILE: Final = "azureml_environment.json"
# Theirs for its own bookkeeping, or for the places where it trains: nothing in a module could differ by them.
_WITHOUT_EFFECT: Final = frozenset(
    {"$schema", "assetId", "autoRebuild", "databricks", "inferencingStackVersion", "tags", "version"}
)
_DOCKER_WITHOUT_EFFECT: Final = frozenset(
    {"arguments", "enabled", "platform", "sharedVolumes", "shmSize", "baseImageRegistry", "baseImage"}
)


class _Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``baseImageRegistry``; ``registryIdentity`` is a cloud's own way to log in."""

    address: str | None = None
    username: str | None = None
    password: str | None = None
    registry_identity: Any = msgspec.field(name="registryIdentity", default=None)


def registry(value: Any, where: str) -> Registry:
    """A private registry, as ``{address, username, password}``.

    Raises:
        Invalid: something else.
    """
    try:
        found = msgspec.convert(value or {}, _Registry)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element=where, remedy="write address, username and password") from error
    if found.registry_identity:
        raise Invalid(
            "a cloud's own identity has no meaning here",
            element=f"{where}.registryIdentity",
            remedy="log in with username and password",
        )
    return Registry(address=found.address or "", username=found.username or "", password=found.password or "")


def read_definition(document: dict[str, Any], *, where: str, folder: Path, name: str = "") -> Environment:
    """The environment that an inline definition describes; files that it names are sought in ``folder``.

    Raises:
        Invalid: a key that has no effect here, or what it names cannot be used.
    """
    given = {key: value for key, value in document.items() if value not in (None, {}, [], "", False)}
    for key in given.keys() - _WITHOUT_EFFECT - {"name", "python", "docker", "environmentVariables"}:
        raise _no_effect(f"{where}.{key}")
    environment = _python(given.get("python") or {}, f"{where}.python", folder)
    docker = _object(given.get("docker") or {}, f"{where}.docker")
    for key, value in docker.items():
        if key not in _DOCKER_WITHOUT_EFFECT and value:
            raise _no_effect(f"{where}.docker.{key}")
    variables = _object(given.get("environmentVariables") or {}, f"{where}.environmentVariables")
    image, entries = _image(docker.get("baseImage"), f"{where}.docker.baseImage")
    return msgspec.structs.replace(
        environment,
        name=name or str(given.get("name") or environment.name),
        base_image=image,
        registry=registry(docker.get("baseImageRegistry"), f"{where}.docker.baseImageRegistry"),
        requirements=msgspec.structs.replace(
            environment.requirements,
            entries=(*entries, *environment.requirements.entries),
            variables=environment.requirements.variables | {key: str(one) for key, one in variables.items()},
        ),
    )


def _python(value: Any, where: str, folder: Path) -> Environment:
    section = _object(value, where)
    for key in section.keys() - _PYTHON_KEYS:
        if section[key]:
            raise _no_effect(f"{where}.{key}")
    if section.get("interpreterPath") not in (None, "", "python"):
        raise _no_effect(f"{where}.interpreterPath")
    if section.get("userManagedDependencies"):
        return Environment(name="")
    if file := section.get("condaDependenciesFile"):
        return Environment.from_conda_specification("", folder / str(file))
    if inline := section.get("condaDependencies"):
        data = msgspec.json.encode(inline)
        found, requirements = read_conda(data, where=f"{where}.condaDependencies")
        # JSON is YAML too.
        return Environment(name=found, requirements=requirements, source_name="conda_dependencies.yml", source=data)
    return Environment(name="")


def _image(value: Any, where: str) -> tuple[str, tuple[Entry, ...]]:
    """The base image, and a note where it is one of theirs: made for their servers, and on their registry alone."""
    if not isinstance(value or "", str):
        raise Invalid("this is not the name of an image", element=where, remedy="write it as text")
    if value and value.startswith(_THEIRS):
        return "", (Entry(text=value, became="", note="Azure ML's own base image: the usual one stands in its place"),)
    return value or "", ()


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid("this is not a JSON object", element=where)
    return value


def _no_effect(where: str) -> Invalid:
    return Invalid(
        "this key has no effect on a module",
        element=where,
        remedy="take it out, or set what it says in an image of your own: baseImage",
    )
