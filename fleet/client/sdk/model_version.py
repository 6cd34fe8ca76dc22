"""What is known of one registered version of a model; what services are made of, whoever found it."""

from datetime import UTC, datetime

import msgspec

from fleet.client import arguments
from fleet.client.answers import Module
from fleet.client.sdk import registry
from fleet.client.sdk.resource_configuration import ResourceConfiguration
from modules.errors import Invalid
from modules.names import ModuleRef


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Under the names that Azure ML has for it; ``ref`` is the module."""

    ref: ModuleRef
    name: str
    version: int | str
    tags: dict[str, str]
    properties: dict[str, str]
    description: str
    signed: bool
    created_time: datetime | None = None
    model_framework: str | None = None
    model_framework_version: str | None = None
    run_id: str | None = None
    resource_configuration: ResourceConfiguration | None = None

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"


def version_of(module: Module) -> ModelVersion:
    """What the server's answer says."""
    manifest, ref = registry.manifest_of(module), ModuleRef.parse(module.ref)
    told = {key: value for key, value in manifest.properties.items() if key.startswith(registry.OWN)}
    version = str(ref.version)
    return ModelVersion(
        ref=ref,
        name=_name(told.get(registry.NAME, ""), ref),
        version=int(version) if version.isdigit() else version,
        tags=dict(manifest.tags),
        properties={key: value for key, value in manifest.properties.items() if key not in told},
        description=manifest.description,
        signed=module.state == "signed",
        created_time=datetime.fromtimestamp(module.created, UTC) if module.created is not None else None,
        model_framework=told.get(registry.FRAMEWORK),
        model_framework_version=told.get(registry.FRAMEWORK_VERSION),
        run_id=told.get(registry.RUN),
        resource_configuration=_resources(told),
    )


def _name(given: str, ref: ModuleRef) -> str:
    """The name as it was given, if it is the module's, for it becomes a folder's; else the module's own."""
    try:
        return given if given and arguments.model_name(given) == ref.name else str(ref.name)
    except Invalid:
        return str(ref.name)


def _resources(told: dict[str, str]) -> ResourceConfiguration | None:
    if not {registry.CPU, registry.MEMORY} & told.keys():
        return None
    cpu, memory = told.get(registry.CPU), told.get(registry.MEMORY)
    return ResourceConfiguration(float(cpu) if cpu else None, float(memory) if memory else None)
