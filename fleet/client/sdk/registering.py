"""``Model.register``: what ONNX Runtime serves is checked and proved; all else is kept as the files that it is."""

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client import arguments
from fleet.client.answers import Module
from fleet.client.images.store import build as build_image
from fleet.client.publishing.publish import Registered
from fleet.client.publishing.register import Model as Wanted
from fleet.client.publishing.register import register as register_served
from fleet.client.publishing.register_files import register_files
from fleet.client.screen import Screen, Step
from fleet.client.sdk import registry
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import ModelPathNotFoundException, UserErrorException
from fleet.client.sdk.resource_configuration import ResourceConfiguration
from fleet.client.signing.sign import sign
from fleet.client.workspace import SCORING_IMAGE
from modules.names import Slug

ONNX: Final = "Onnx"
FRAMEWORKS: Final = ("Custom", ONNX, "TensorFlow", "ScikitLearn")
_GRAPHS: Final = frozenset({".onnx", ".ort"})
_MIB: Final = 1024


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Model.register`` was given, under its names."""

    path: Path
    name: str
    tags: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    description: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    child_paths: Collection[str] | None = None
    sample_input: Any = None
    resources: ResourceConfiguration | None = None
    run_id: str | None = None

    @property
    def served(self) -> bool:
        """Whether it is served without code: an ONNX graph, unless somebody says that it is something else."""
        return self.framework == ONNX or (self.framework is None and self.path.suffix in _GRAPHS)


def framework_named(text: str | None) -> str | None:
    """A framework's name as ``Model.Framework`` has it.

    Raises:
        UserErrorException: there is no such framework.
    """
    if text is None:
        return None
    found = {one.lower(): one for one in FRAMEWORKS}.get(str(text).lower())
    if found is None:
        raise UserErrorException(
            f"{text!r} is not a framework", element="model_framework", remedy=f"one of {', '.join(FRAMEWORKS)}"
        )
    return found


def register(connection: Connection, what: Registration) -> Module:
    """Pack, send and sign it; a draft where no place of the team's key is known.

    Raises:
        EdgefleetError: as the services that it calls.
    """
    if not what.path.exists():
        raise ModelPathNotFoundException(
            "there is no such file or folder", element=str(what.path), remedy="correct model_path"
        )
    with connection.fleet() as fleet, connection.progress() as step:
        team = connection.team(fleet)
        trusted = connection.trusted(fleet)
        trusted.expect_team(team)
        # A passphrase that is wrong is said before the work, not after it.
        signers = connection.signers(team)
        wanted = _wanted(what, team)
        if what.served:
            _make_sure_of_image(connection, step)
            done = _served(what, wanted, lambda it: register_served(it, fleet, connection.packed, step))
        else:
            done = register_files(wanted, fleet, connection.packed, step, only=what.child_paths or ())
        ref = done.manifest.ref
        if signers:
            sign(ref, signers=signers, fleet=fleet, trusted=trusted, workspace=connection.packed, step=step)
        else:
            connection.say_draft(ref)
        return fleet.module(ref)


def _wanted(what: Registration, team: Slug) -> Wanted:
    name = arguments.model_name(what.name)
    resources = what.resources or ResourceConfiguration()
    own = {
        registry.NAME: what.name if what.name != name else None,
        registry.FRAMEWORK: what.framework,
        registry.FRAMEWORK_VERSION: what.framework_version,
        registry.RUN: what.run_id,
        registry.CPU: resources.cpu,
        registry.MEMORY: resources.memory_in_gb,
    }
    properties = _words(what.properties, "properties") | {key: str(one) for key, one in own.items() if one is not None}
    tags = _words(what.tags, "tags") | ({"run_id": what.run_id} if what.run_id else {})
    memory = resources.memory_in_gb
    return Wanted(
        path=what.path, team=team, name=name, framework="onnx" if what.served else None, tags=tags,
        properties=properties, description=what.description or "",
        memory_mb=max(16, round(memory * _MIB)) if memory and what.served else None,
    )  # fmt: skip


def _words(values: dict[str, Any] | None, what: str) -> dict[str, str]:
    if values is not None and not isinstance(values, dict):
        raise UserErrorException(f"{values!r} is not a dictionary", element=what, remedy="write {'key': 'value'}")
    if taken := [key for key in values or {} if str(key).startswith(registry.OWN)]:
        raise UserErrorException(
            f"names that begin with {registry.OWN} are the SDK's", element=f"{what}.{taken[0]}", remedy="choose another"
        )
    return {str(key): str(value) for key, value in (values or {}).items()}


def _served(what: Registration, wanted: Wanted, register_it: Callable[[Wanted], Registered]) -> Registered:
    """Registered with the request that is to be a sample, if one was given."""
    sample = what.sample_input
    if what.child_paths:
        raise UserErrorException(
            "parts of a folder are for models that a script opens", element="child_paths", remedy="name the ONNX file"
        )
    if sample is None or isinstance(sample, str | Path):
        given = (Path(sample),) if sample is not None else ()
        return register_it(msgspec.structs.replace(wanted, samples=given))
    with tempfile.TemporaryDirectory(prefix="edgefleet-sample-") as folder:
        file = Path(folder, "sample.json")
        try:
            file.write_bytes(msgspec.json.encode({"body": sample}))
        except (TypeError, ValueError) as error:
            raise UserErrorException(
                f"this is not a request: {error}",
                element="sample_input_dataset",
                remedy="give a request's JSON, as {'input': [[1.0, 2.0]]}, or the path of a file with one",
            ) from error
        return register_it(msgspec.structs.replace(wanted, samples=(file,)))


def _make_sure_of_image(connection: Connection, step: Step) -> None:
    """A model is proved in the scoring image, which is built where the user has none."""
    if not connection.packed.images():
        build_image(SCORING_IMAGE, (), connection.packed, step, line=Screen(as_json=False).remark)
