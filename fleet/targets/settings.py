"""What an endpoint is wished to be: its versions and its settings, as they are stored and as the API takes them."""

from typing import Annotated, Any, Final, Literal

import msgspec

from modules.batch_program import Asking
from modules.bounds import Line, Text
from modules.errors import Invalid
from modules.manifest import Names
from modules.names import DigestField, SlugField

MAX_VERSIONS: Final = 8
MAX_REPLICAS: Final = 32
ALL: Final = 100

Cores = Annotated[float, msgspec.Meta(ge=0.01, le=1024)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
HostName = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?\Z")]
Namespace = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?\Z")]
Origin = Annotated[str, msgspec.Meta(pattern=r"^(\*|https?://[^/\s]{1,300})\Z")]


_CLUSTER: Final = (
    *(f"autoscale_{name}" for name in ("max", "min", "target", "refresh_s")),
    *(f"probe_{name}" for name in ("period_s", "delay_s", "timeout_s", "successes", "failures")),
    "namespace",
)


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version behind an endpoint: a signed module, its share of the requests in percent, and its replicas."""

    module: Line
    digest: DigestField
    weight: Annotated[int, msgspec.Meta(ge=0, le=ALL)] = 0
    replicas: Annotated[int, msgspec.Meta(ge=1, le=MAX_REPLICAS)] = 1


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an endpoint serves.

    ``cpu_cores`` and ``memory_mb`` (MiB) bound each replica; 0 MiB: what the module's manifest asks for. Each replica
    works on ``concurrent`` requests at a time, ``waiting`` more wait for ``wait_s`` seconds, and an answer may take
    ``answer_s`` seconds. ``auth`` is what clients need: a key, a token that expires after ``token_life_s`` seconds, or
    nothing. With ``devices`` those of this fleet come in by their own certificates, over TLS. Pages of
    ``cors_origins`` may read the answers. On a container host it listens at ``port``; 0: one that is free; and a
    replica that keeps a request waiting and gives no sign of life for ``silent_s`` seconds is asked no more until it
    gives one, what waits there goes to another. ``host_name`` stands in its address instead of the target's. Where it
    runs only while devices need it, there is a replica of the default version for each ``devices_per_replica`` of them,
    and for each ``requests_per_replica`` requests a second (0: no matter): at least as many as that version says, and
    ``replicas_max`` at most (0: never more than the version says).

    The rest is for Kubernetes alone. With an ``autoscale_max`` the cluster keeps from ``autoscale_min`` to so many
    replicas of each version, as many as hold their use of CPU at ``autoscale_target`` percent, and changes their number
    once in ``autoscale_refresh_s`` seconds at most. A replica is asked whether it answers each ``probe_period_s``
    seconds, ``probe_delay_s`` after its start, and has ``probe_timeout_s``; after ``probe_failures`` without an answer
    it is started anew, and after ``probe_successes`` it is asked by clients again. ``namespace``: the target's own.
    """

    cpu_cores: Cores = 1.0
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64
    waiting: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 256
    wait_s: Seconds = 10.0
    answer_s: Seconds = 60.0
    silent_s: Seconds = 10.0
    auth: Literal["key", "token", "none"] = "key"
    token_life_s: Annotated[int, msgspec.Meta(ge=60, le=30 * 86400)] = 12 * 3600
    devices: bool = False
    cors_origins: Annotated[tuple[Origin, ...], msgspec.Meta(max_length=64)] = ()
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    # The certificate with its chain, in PEM; empty: plain HTTP, or, for devices, one of the fleet's own authority. Its
    # key is among the secrets.
    certificate: Annotated[str, msgspec.Meta(max_length=64 << 10)] = ""
    host_name: HostName = ""
    replicas_max: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLICAS)] = 0
    devices_per_replica: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 50
    requests_per_replica: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    autoscale_max: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLICAS)] = 0
    autoscale_min: Annotated[int, msgspec.Meta(ge=1, le=MAX_REPLICAS)] = 1
    autoscale_target: Annotated[int, msgspec.Meta(ge=1, le=100)] = 70
    autoscale_refresh_s: Annotated[int, msgspec.Meta(ge=1, le=1800)] = 15
    probe_period_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 10
    probe_delay_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 0
    probe_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5
    probe_successes: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    probe_failures: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    namespace: Namespace = ""
    description: Text = ""
    tags: Names = {}
    properties: Names = {}


class BatchSettings(Asking, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a batch job asks, and what bounds all its workers together; on a cluster those of each of its ``pods``."""

    cpu_cores: Cores = 1.0
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0
    pods: Annotated[int, msgspec.Meta(ge=1, le=32)] = 1


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was asked for. The default version answers what the weights of the others leave over."""

    versions: Annotated[dict[SlugField, Version], msgspec.Meta(min_length=1, max_length=MAX_VERSIONS)]
    default: SlugField
    settings: Settings = Settings()


def check(wish: Wish) -> Wish:
    """The wish, if its parts belong together.

    Raises:
        Invalid: the default is no version of it, or the weights are more than all.
    """
    if wish.default not in wish.versions:
        known = ", ".join(sorted(wish.versions))
        raise Invalid(f"the default {wish.default!r} is not one of its versions: {known}", element="default")
    total = sum(one.weight for name, one in wish.versions.items() if name != wish.default)
    if total > ALL:
        raise Invalid(f"the versions' weights are {total} percent together", element="weight", remedy="100 at most")
    if wish.settings.autoscale_max and wish.settings.autoscale_min > wish.settings.autoscale_max:
        raise Invalid("more replicas at least than at most", element="autoscale_min", remedy="lower it")
    return wish


def only_on_a_cluster(given: Settings) -> list[str]:
    """The settings that mean something on Kubernetes alone, and are not as they are without being said."""
    plain = Settings()
    return [name for name in _CLUSTER if getattr(given, name) != getattr(plain, name)]


def only_on_a_host(given: Settings) -> list[str]:
    """The settings that mean something on a container host alone, likewise."""
    return ["silent_s"] if given.silent_s != Settings().silent_s else []


def batch_settings(given: dict[str, Any]) -> BatchSettings:
    """A batch job's settings from JSON.

    Raises:
        Invalid: one is unknown or out of bounds; it says which.
    """
    try:
        return msgspec.convert(given, BatchSettings)
    except msgspec.ValidationError as error:
        names = ", ".join(BatchSettings.__struct_fields__)
        raise Invalid(f"{error}", element="settings", remedy=f"there are {names}") from error


def settings(given: dict[str, Any], before: Settings | None = None) -> Settings:
    """Settings from JSON; what is not given stays as it was.

    Raises:
        Invalid: one is unknown or out of bounds; it says which.
    """
    known = {} if before is None else msgspec.to_builtins(before)
    try:
        return msgspec.convert(known | given, Settings)
    except msgspec.ValidationError as error:
        names = ", ".join(Settings.__struct_fields__)
        raise Invalid(f"{error}", element="settings", remedy=f"there are {names}") from error
