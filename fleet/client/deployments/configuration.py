"""The three deployment configurations with every argument of Azure ML's: kept within bounds, or an error that helps.

None is what nobody said. The order of the fields is that of their arguments, which scripts may give without names.
"""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from modules.errors import Invalid

T = TypeVar("T", bound="Configuration")

Switch = bool | None
Words = dict[str, str] | None
Text = Annotated[str, Meta(max_length=4096)] | None
Pem = Annotated[str, Meta(min_length=1, max_length=4096)] | None
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")] | None
Namespace = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")] | None
Key = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{16,512}\Z")] | None
Port = Annotated[int, Meta(ge=1, le=65535)] | None
Cores = Annotated[float, Meta(gt=0, le=1024)] | None
Gigabytes = Annotated[float, Meta(gt=0, le=4096)] | None
Replicas = Annotated[int, Meta(ge=1, le=1000)] | None
Percent = Annotated[int, Meta(ge=1, le=100)] | None
Seconds = Annotated[int, Meta(ge=1, le=86400)] | None
Delay = Annotated[int, Meta(ge=0, le=86400)] | None
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)] | None
Times = Annotated[int, Meta(ge=1, le=1000)] | None
Requests = Annotated[int, Meta(ge=1, le=100_000)] | None
Version = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")] | None
Share = Annotated[int, Meta(ge=0, le=100)] | None

_SECRET: Final = frozenset({"primary_key", "secondary_key"})
# What only Azure has; where the value says no, nobody is missing anything.
_INSTEAD: Final = {
    "location": "leave it out: a service runs where its target is, which deployment_target names",
    "dns_name_label": "leave it out: the service's name is in its address; ssl_cname is a name of your own",
    "cmk_vault_base_url": "leave it out: the disks of your own machines are yours to encrypt",
    "cmk_key_name": "leave it out: the disks of your own machines are yours to encrypt",
    "cmk_key_version": "leave it out: the disks of your own machines are yours to encrypt",
    "vnet_name": "leave it out: the target's own network is used",
    "subnet_name": "leave it out: the target's own network is used",
    "blobfuse_enabled": "leave it out: models are files of the container, never mounted from a cloud",
    "gpu_cores": "leave it out: a module's manifest says which accelerators it can use",
}


class Configuration(msgspec.Struct, frozen=True):
    """What all three are: where it is to run, and nothing shown of keys."""

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        said = (
            f"{name}={'***' if name in _SECRET else repr(value)}" for name, value in given.items() if value is not None
        )
        return f"{type(self).__name__}({', '.join(said)})"


class Local(Configuration, frozen=True):
    """A container on this machine; without a port any that is free."""

    port: Port = None


class Aci(Configuration, frozen=True):
    """A container on a container host: small, for development and tests."""

    cpu_cores: Cores = None
    memory_gb: Gigabytes = None
    tags: Words = None
    properties: Words = None
    description: Text = None
    location: None = None
    auth_enabled: Switch = None
    ssl_enabled: Switch = None
    enable_app_insights: Switch = None
    ssl_cert_pem_file: Pem = None
    ssl_key_pem_file: Pem = None
    ssl_cname: Name = None
    dns_name_label: None = None
    primary_key: Key = None
    secondary_key: Key = None
    collect_model_data: Switch = None
    cmk_vault_base_url: None = None
    cmk_key_name: None = None
    cmk_key_version: None = None
    vnet_name: None = None
    subnet_name: None = None


class Aks(Configuration, frozen=True):
    """Replicas on Kubernetes."""

    autoscale_enabled: Switch = None
    autoscale_min_replicas: Replicas = None
    autoscale_max_replicas: Replicas = None
    autoscale_refresh_seconds: Seconds = None
    autoscale_target_utilization: Percent = None
    collect_model_data: Switch = None
    auth_enabled: Switch = None
    cpu_cores: Cores = None
    memory_gb: Gigabytes = None
    enable_app_insights: Switch = None
    scoring_timeout_ms: Milliseconds = None
    replica_max_concurrent_requests: Requests = None
    max_request_wait_time: Milliseconds = None
    num_replicas: Replicas = None
    primary_key: Key = None
    secondary_key: Key = None
    tags: Words = None
    properties: Words = None
    description: Text = None
    gpu_cores: None = None
    period_seconds: Seconds = None
    initial_delay_seconds: Delay = None
    timeout_seconds: Seconds = None
    success_threshold: Times = None
    failure_threshold: Times = None
    namespace: Namespace = None
    token_auth_enabled: Switch = None
    compute_target_name: Text = None
    cpu_cores_limit: Cores = None
    memory_gb_limit: Gigabytes = None
    blobfuse_enabled: None = None


class AksVersions(Aks, frozen=True):
    """The first of several versions behind one endpoint: its name, and its share of the requests in percent."""

    version_name: Version = None
    traffic_percentile: Share = None


def configured(kind: type[T], given: dict[str, Any], *, where: dict[str, str] | None = None) -> T:
    """The configuration that these arguments describe; ``where`` says what each is called for the user.

    Raises:
        Invalid: an argument that nobody knows, with the nearest that is known; one that means nothing here, with what
            to write instead; a value out of bounds; or two that cannot go together.
    """
    called = where or {}
    values: dict[str, Any] = {}
    for name, value in given.items():
        shown = called.get(name, name)
        if name not in kind.__struct_fields__:
            raise unknown(shown, kind.__struct_fields__)
        if value is None:
            continue
        if name in _INSTEAD and value is not False and value != 0:
            raise Invalid("this has no meaning here", element=shown, remedy=_INSTEAD[name])
        if name not in _INSTEAD:
            values[name] = _checked(kind, name, value, shown)
    made = kind(**values)
    for message, remedy, names in _quarrels(made):
        raise Invalid(message, element=" and ".join(called.get(name, name) for name in names), remedy=remedy)
    return made


def unknown(name: str, known: Iterable[str]) -> Invalid:
    """The error for a name that nobody knows."""
    names = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    remedy = f"did you mean {names[near[0]]}?" if near else f"there are: {', '.join(names.values())}"
    return Invalid("nobody knows this key", element=name, remedy=remedy)


def _checked(kind: type[Configuration], name: str, value: Any, shown: str) -> Any:
    """The value, of the field's type and within its bounds; words of tags and properties as text."""
    if name in {"tags", "properties"} and isinstance(value, dict):
        value = {str(key): str(one) for key, one in value.items()}
    field = next(one for one in msgspec.structs.fields(kind) if one.name == name)
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        said = "***" if name in _SECRET else repr(value)[:80]
        raise Invalid(f"{said} cannot be used: {error}", element=shown, remedy="correct the value") from error


Quarrels = Iterable[tuple[str, str, tuple[str, ...]]]


def _quarrels(made: Configuration) -> Quarrels:
    """Pairs of settings of which one would have no effect, or that contradict each other."""
    if isinstance(made, Aci):
        yield from _about_tls(made)
    if isinstance(made, Aks):
        yield from _about_replicas(made)
        if made.auth_enabled and made.token_auth_enabled:
            yield "keys and tokens at once", "choose one of them", ("auth_enabled", "token_auth_enabled")
    if isinstance(made, Aci | Aks):
        has_keys = made.primary_key is not None or made.secondary_key is not None
        if has_keys and made.auth_enabled is False:
            yield "keys, and nobody is asked for them", "leave the keys out", ("auth_enabled", "primary_key")
        if made.primary_key is not None and made.primary_key == made.secondary_key:
            yield "both keys are the same", "choose two, so that one can be replaced", ("primary_key", "secondary_key")


def _about_tls(made: Aci) -> Quarrels:
    files = (made.ssl_cert_pem_file, made.ssl_key_pem_file)
    if made.ssl_enabled and not all(files):
        yield "TLS without a certificate and its key", "name both files", ("ssl_cert_pem_file", "ssl_key_pem_file")
    if not made.ssl_enabled and any(files):
        yield "a certificate, and TLS is off", "set it to true, or leave the files out", ("ssl_enabled",)


def _about_replicas(made: Aks) -> Quarrels:
    if made.autoscale_enabled and made.num_replicas is not None:
        both = ("autoscale_enabled", "num_replicas")
        yield "a fixed number of replicas, and one that changes", "keep one of them", both
    most = made.autoscale_max_replicas
    if most is not None and (made.autoscale_min_replicas or 1) > most:
        both = ("autoscale_min_replicas", "autoscale_max_replicas")
        yield "the lowest number is above the highest", "exchange them", both
    for least, limit in (("cpu_cores", "cpu_cores_limit"), ("memory_gb", "memory_gb_limit")):
        wanted, allowed = getattr(made, least), getattr(made, limit)
        if wanted is not None and allowed is not None and wanted > allowed:
            yield "more is wanted than the limit allows", "raise the limit", (least, limit)
