"""The versions of an ``AksEndpoint``: made, changed and taken away, each with its share of the requests.

What holds for the whole endpoint here (processor, memory, time-outs, scaling, probes) may be said for a version as long
as it is what the endpoint has, or the version is its only one.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fleet.client.answers import Endpoint
from fleet.client.deployments.configuration import AksVersions, configured
from fleet.client.deployments.endpoint_wish import EndpointWish, wished
from fleet.client.sdk import cloud
from fleet.client.sdk.exceptions import UserErrorException, WebserviceException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.version_notes import Note, noted, without_versions, written
from modules.names import slot_name

_ALL: Final = 100
# What a version has of its own; the rest of a wish is the endpoint's.
_OF_VERSION: Final = frozenset({"tags", "properties", "description"})


class VersionType(enum.Enum):
    """What a version is in an experiment: the one that the others are compared with, or one of those."""

    control = "Control"
    treatment = "Treatment"


class AksVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as it stood when it was asked for; ``traffic_percentile`` as somebody set it."""

    name: str
    is_default: bool
    version_type: VersionType
    traffic_percentile: int
    module: str
    num_replicas: int
    ready_replicas: int
    tags: dict[str, str]
    properties: dict[str, str]
    description: str

    @property
    def is_control_version_type(self) -> bool:
        return self.version_type is VersionType.control


class EndpointVersions(cloud.Service):
    """What an endpoint with versions can do beside what every service can."""

    VersionType = VersionType

    @property
    def versions(self) -> dict[str, AksVersion]:
        """Its versions, by name."""
        one = self.found()
        return {name: _seen(one, name) for name in one.versions}

    def create_version(
        self,
        version_name: str,
        *,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        traffic_percentile: int | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        **settings: Any,
    ) -> None:
        """Add a version; the requests that no percentage names go to the default one.

        Without models it has those of the default version. ``settings`` are arguments of ``deploy_configuration``.

        Raises:
            WebserviceException: there is one of this name, nothing says what it serves, or the percentages are above
                100 together; the message says why.
        """
        one = self.found()
        if version_name in one.versions:
            raise WebserviceException(
                f"there is a version {version_name} already",
                element=self.name,
                remedy="give another name, or update_version()",
            )
        if models is None and inference_config is None:
            raise WebserviceException(
                "nothing says what this version serves",
                element=f"version {version_name}",
                remedy="give models, an inference_config, or both",
            )
        given = _Given(traffic_percentile, is_default, is_control_version_type)
        self._put(one, version_name, models, inference_config, given, settings)

    def update_version(
        self,
        version_name: str,
        *,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        traffic_percentile: int | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        **settings: Any,
    ) -> None:
        """Change a version; what is left out stays, and no request fails meanwhile.

        Raises:
            WebserviceException: there is none of this name, or as :meth:`create_version`.
        """
        one = self.found()
        self._expect(one, version_name)
        given = _Given(traffic_percentile, is_default, is_control_version_type)
        self._put(one, version_name, models, inference_config, given, settings)

    def delete_version(self, version_name: str) -> None:
        """Take a version away; its requests go to the default one.

        The default version's place goes to the control, or to whoever has the largest share.

        Raises:
            WebserviceException: there is none of this name, or no other.
        """
        one = self.found()
        self._expect(one, version_name)
        kept = {name: _seen(one, name) for name in one.versions if name != version_name}
        if not kept:
            raise WebserviceException(
                "the only version cannot be deleted",
                element=f"version {version_name}",
                remedy="delete() takes the whole endpoint away",
            )
        default = one.default
        if version_name == default:
            heirs = kept.values()
            default = max(heirs, key=lambda it: (it.is_control_version_type, it.traffic_percentile)).name
        self._ask(one, kept, default, {})

    def update(
        self,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        wait: bool = False,
        **changes: Any,
    ) -> None:
        """Change what the whole endpoint has: who comes in, tags, properties, description, and its settings.

        Raises:
            WebserviceException: something is a version's; or the server refuses.
        """
        own = {"models": models, "inference_config": inference_config} | {
            name: changes.get(name) for name in ("version_name", "traffic_percentile", "num_replicas")
        }
        if said := [name for name, value in own.items() if value is not None]:
            raise WebserviceException(
                "this is a version's, and not the endpoint's", element=", ".join(said), remedy="use update_version()"
            )
        with told_as(UserErrorException):
            made = configured(AksVersions, changes)
        self.change(None, None, made, wait=wait)

    def serialize(self) -> dict[str, Any]:
        """All that is known of it, as JSON takes it."""
        return super().serialize() | {
            "versions": {name: msgspec.to_builtins(version) for name, version in self.versions.items()}
        }

    def _expect(self, one: Endpoint, version: str) -> None:
        if version not in one.versions:
            raise WebserviceException(
                f"there is no version {version}, there is {', '.join(one.versions)}",
                element=self.name,
                remedy="name one of them, or create_version()",
            )

    def _put(
        self,
        one: Endpoint,
        name: str,
        models: Sequence[Any] | None,
        inference: InferenceConfig | None,
        given: "_Given",
        settings: dict[str, Any],
    ) -> None:
        """Have the server make a version anew, or another one."""
        for kept in ("version_name", "auth_enabled", "token_auth_enabled", "primary_key", "secondary_key"):
            if settings.get(kept) is not None:
                raise WebserviceException(
                    "this is the endpoint's, and not a version's", element=kept, remedy="update()"
                )
        with told_as(WebserviceException):
            wish = wished(configured(AksVersions, settings | {"version_name": name}), change=True, where=name)
        before = _seen(one, name) if name in one.versions else None
        shared = _shared(one, wish, only=before is not None and len(one.versions) == 1)
        default = _default(one, name, given)
        share = given.traffic_percentile if given.traffic_percentile is not None else _share(before)
        if not isinstance(share, int) or isinstance(share, bool) or not 0 <= share <= _ALL:
            raise WebserviceException(
                f"{share!r} is no percentage", element="traffic_percentile", remedy="give a whole number from 0 to 100"
            )
        version = _version(before, name, wish, given, is_default=name == default, share=share)
        every = {other: _seen(one, other) for other in one.versions} | {name: version}
        if given.is_control_version_type:
            # As in Azure ML, one version alone is the control.
            every = {
                other: msgspec.structs.replace(
                    known, version_type=VersionType.control if other == name else VersionType.treatment
                )
                for other, known in every.items()
            }
        if (total := sum(known.traffic_percentile for known in every.values())) > _ALL:
            raise WebserviceException(
                f"the versions have {total} percent of the requests together",
                element="traffic_percentile",
                remedy="lower another one first: " + ", ".join(f"{a} {b.traffic_percentile}" for a, b in every.items()),
            )
        if models is not None or inference is not None:
            with told_as(WebserviceException), self.workspace.fleet() as fleet:
                like = one.versions[name if before else one.default].module
                known = [model.known for model in models] if models is not None else self._models(fleet, like)
                every[name] = msgspec.structs.replace(version, module=self._module(known, inference))
        self._ask(one, every, default, shared)

    def _ask(
        self, one: Endpoint, versions: Mapping[str, AksVersion], default: str, settings: Mapping[str, Any]
    ) -> None:
        """Have the server bring these versions about, if nobody has changed the endpoint meanwhile."""
        notes = {
            name: Note(
                traffic_percentile=version.traffic_percentile,
                control=version.is_control_version_type,
                description=version.description,
                tags=version.tags,
                properties=version.properties,
            )
            for name, version in versions.items()
        }
        with told_as(WebserviceException), self.workspace.fleet() as fleet:
            properties = without_versions(one.settings["properties"]) | written(notes)
            wanted = {
                name: {"module": version.module, "weight": version.traffic_percentile, "replicas": version.num_replicas}
                for name, version in versions.items()
            }
            request = {"versions": wanted, "default": default, "generation": one.generation}
            fleet.change_endpoint(slot_name(self.name), request | {"settings": {**settings, "properties": properties}})


class _Given(msgspec.Struct, frozen=True):
    """What was said of a version's part in the whole; None where nothing was."""

    traffic_percentile: int | None
    is_default: bool | None
    is_control_version_type: bool | None


def _seen(one: Endpoint, name: str) -> AksVersion:
    """A version, with what is known of it."""
    version, note = one.versions[name], noted(one.settings["properties"], name)
    share = version.weight
    if name == one.default:
        # It has at least what it was given, and what the others leave over.
        share = min(share, share if note.traffic_percentile is None else note.traffic_percentile)
    return AksVersion(
        name=name,
        is_default=name == one.default,
        version_type=VersionType.control if note.control else VersionType.treatment,
        traffic_percentile=share,
        module=version.module,
        num_replicas=version.replicas,
        ready_replicas=version.ready,
        tags=note.tags,
        properties=note.properties,
        description=note.description,
    )


def _version(
    before: AksVersion | None, name: str, wish: EndpointWish, given: _Given, *, is_default: bool, share: int
) -> AksVersion:
    """The version as it is to be; its module may be another one yet."""
    control = given.is_control_version_type
    if control is None:
        control = before is not None and before.is_control_version_type
    return AksVersion(
        name=name,
        is_default=is_default,
        version_type=VersionType.control if control else VersionType.treatment,
        traffic_percentile=share,
        module=before.module if before else "",
        num_replicas=wish.replicas or (before.num_replicas if before else 1),
        ready_replicas=before.ready_replicas if before else 0,
        tags=wish.settings.get("tags", before.tags if before else {}),
        properties=wish.settings.get("properties", before.properties if before else {}),
        description=wish.settings.get("description", before.description if before else ""),
    )


def _share(before: AksVersion | None) -> int:
    return before.traffic_percentile if before else 0


def _default(one: Endpoint, name: str, given: _Given) -> str:
    """Which version is the default one from now on."""
    if given.is_default is False and name == one.default:
        raise WebserviceException(
            "one version is always the default", element=f"version {name}", remedy="set is_default=True of another one"
        )
    return name if given.is_default else one.default


def _shared(one: Endpoint, wish: EndpointWish, *, only: bool) -> dict[str, Any]:
    """The settings that are to change with a version, because it is the only one.

    Raises:
        WebserviceException: they would change for other versions, too.
    """
    wanted = {name: value for name, value in wish.settings.items() if name not in _OF_VERSION | {"auth"}}
    other = {name: value for name, value in wanted.items() if one.settings.get(name) != value}
    if other and not only:
        said = ", ".join(f"{name} is {one.settings.get(name)}, not {value}" for name, value in other.items())
        raise WebserviceException(
            f"all versions of an endpoint have the same: {said}",
            element=f"endpoint {one.name}",
            remedy="leave it out, change it for all with update(), or deploy an endpoint of its own",
        )
    return other
