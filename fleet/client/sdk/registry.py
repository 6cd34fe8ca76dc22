"""Models in the fleet server's registry, found by what Azure ML knows of them: name, version, tags, properties."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fleet.client import arguments
from fleet.client.answers import Module
from fleet.client.api import Fleet
from fleet.client.publishing.download import module_folder
from fleet.client.screen import Step
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import ModelNotFoundException, UserErrorException
from modules.digests import sha256
from modules.errors import Untrusted
from modules.manifest import Manifest
from modules.names import ModuleRef, Version

# Properties of a module that hold what the SDK is told and a manifest has no field for.
OWN: Final = "sdk."
NAME: Final = f"{OWN}name"
FRAMEWORK: Final = f"{OWN}framework"
FRAMEWORK_VERSION: Final = f"{OWN}framework_version"
RUN: Final = f"{OWN}run_id"
CPU: Final = f"{OWN}cpu"
MEMORY: Final = f"{OWN}memory_in_gb"

# Theirs: "key", or ["key", "value"], in a list; or a dictionary.
Filter = Sequence[str | Sequence[str]] | dict[str, str] | None


def find(connection: Connection, fleet: Fleet, name: str, version: object = None) -> Module:
    """The model of that name, in that version or its newest.

    Raises:
        ModelNotFoundException: there is none; the message names what there is.
        EdgefleetError: as :class:`Fleet`.
    """
    slug = arguments.model_name(name)
    found = [one for one in fleet.modules() if ModuleRef.parse(one.ref).name == slug]
    teams = {ModuleRef.parse(one.ref).team for one in found}
    if len(teams) > 1 or connection.named_team():
        # Several teams may have one name: the workspace's own is meant.
        team = connection.team(fleet)
        found = [one for one in found if ModuleRef.parse(one.ref).team == team]
    versions = {str(ModuleRef.parse(one.ref).version): one for one in found}
    if not versions:
        raise ModelNotFoundException(
            f"there is no model {name} in the workspace", element=connection.url, remedy="register it: Model.register"
        )
    if version is not None and str(version) not in versions:
        raise ModelNotFoundException(
            f"there is no version {version} of {name}, there is {', '.join(sorted(versions))}",
            element=connection.url,
            remedy="name one of them, or none for the newest",
        )
    chosen = str(version) if version is not None else max(versions, key=Version.parse)
    return fleet.module(ModuleRef.parse(versions[chosen].ref))


def every(connection: Connection, fleet: Fleet, *, name: str | None = None, latest: bool = False) -> Iterator[Module]:
    """The models, each with its manifest, a model's newest version first; of the named team where one is."""
    team, slug = connection.named_team(), arguments.model_name(name) if name else None
    seen = set()
    for one in fleet.modules():
        ref = ModuleRef.parse(one.ref)
        if (team and ref.team != team) or (slug and ref.name != slug):
            continue
        if latest and (ref.team, ref.name) in seen:
            continue
        seen.add((ref.team, ref.name))
        yield fleet.module(ref)


def manifest_of(module: Module) -> Manifest:
    """The manifest, which the answer for one module always has."""
    assert module.manifest is not None  # noqa: S101  asked for one by one
    return module.manifest


def has(values: dict[str, str], wanted: Filter, *, what: str) -> bool:
    """Whether the tags or properties are there, with the values where the filter has some.

    Raises:
        UserErrorException: this is no filter.
    """
    pairs: Sequence[Any] = list(wanted.items()) if isinstance(wanted, dict) else list(wanted or ())
    for one in pairs:
        pair = (one,) if isinstance(one, str) else tuple(one)
        if len(pair) not in {1, 2}:
            raise UserErrorException(f"{one!r} is not a filter", element=what, remedy="write ['key', ['key', 'value']]")
        if pair[0] not in values or (len(pair) > 1 and values[pair[0]] != str(pair[1])):
            return False
    return True


def as_packed(connection: Connection, fleet: Fleet, ref: ModuleRef, folder: Path, step: Step) -> None:
    """Fill the folder with a model's manifest and files; what was signed must be what its team signed.

    Raises:
        Untrusted: the server has something else.
        EdgefleetError: as :class:`Fleet`.
    """
    data = module_folder(ref, fleet, connection.packed, folder, step)
    if fleet.module(ref).state != "signed":
        return
    signed = connection.trusted(fleet).signed_digest(ref)
    if signed != sha256(data):
        raise Untrusted(
            f"the server has {sha256(data)}, the team signed {signed or 'nothing'}", element=str(ref),
            remedy="do not run it; find out who changed it",
        )  # fmt: skip
