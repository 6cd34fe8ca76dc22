"""The agent's own configuration: one TOML file, overridden by environment variables, frozen once read.

``EDGEFLEET_AGENT_<NAME>`` in capitals overrides the setting of that name; ``--config FILE`` or
``EDGEFLEET_AGENT_CONFIG`` names the file, ``/etc/edgefleet/agent.toml`` is read if it exists.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import BadSettings

DEFAULT_FILE: Final = Path("/etc/edgefleet/agent.toml")
_PREFIX: Final = "EDGEFLEET_AGENT_"
# In a variable, their parts are joined by commas.
_LISTS: Final = frozenset({"batch_inputs", "batch_outputs", "fallback_hosts", "telemetry_streams"})

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Bytes = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[int, msgspec.Meta(ge=0)]
LEAST_RATE: Final = 16 << 10
# A folder and the name under which batch jobs know it: images=/srv/images
Place = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?=/[^\x00-\x1f]+\Z")]
Hours = Annotated[str, msgspec.Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?\Z")]
Level = Annotated[str, msgspec.Meta(pattern="^(?i:debug|info|warning|error)$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, with its default. Folders are absolute; times in seconds, sizes in bytes."""

    #: survives restarts: database, identity, trust, modules, blobs; each agent of a machine needs its own
    state: str = "/var/lib/edgefleet"
    #: does not survive: the modules' sockets, the routing table; each agent's own; short, as a socket's path is
    runtime: str = "/run/edgefleet"
    #: the routing table, if it is to be elsewhere than in the runtime folder
    gateway_table: str = ""
    #: where the gateway listens, if systemd passes it no socket, and where doctor and status look for it
    gateway_address: str = "127.0.0.1:8700"
    #: numeric group that may reach the modules' sockets; -1 is the agent's own
    gateway_group: int = -1
    #: the container engine's Unix socket; Podman's too
    docker_socket: str = "/var/run/docker.sock"
    #: a Python with edgefleet[scoring]; naming one allows the process engine, which isolates nothing
    process_interpreter: str = ""
    #: how often the modules are looked at
    poll_s: Seconds = 5.0
    #: how long a module may take to answer a look
    probe_timeout_s: Seconds = 5.0
    #: how long a module gets to finish its requests when it is stopped
    stop_grace_s: Seconds = 10.0
    #: MQTT keep-alive: how long a lost link stays unnoticed
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 300
    #: auto: large blobs over HTTPS where blob_url is known and answers, else over MQTT; mqtt: all over MQTT
    pull_by: Literal["auto", "mqtt"] = "auto"
    #: where blobs are fetched over HTTPS, if it is another address than the join bundle's
    blob_url: Annotated[str, msgspec.Meta(max_length=500)] = ""
    #: how long a block is waited for at least; on a slow link longer, as measured
    block_timeout_s: Seconds = 5.0
    #: how often a block is asked for before the pull pauses
    block_tries: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    #: how long a paused pull waits at first
    pull_retry_s: Seconds = 5.0
    #: whether blocks are taken from broadcasts: auto (where the link is quick enough), always or never
    broadcast: Literal["auto", "always", "never"] = "auto"
    #: most bytes a second to ask for, 16384 or more; 0: as many as go. With a limit, broadcasts are not taken
    pull_bytes_s: Rate = 0
    #: bytes of the disk that are never filled
    disk_reserve: Bytes = 64 << 20
    #: bytes that blobs nobody runs may take, before the oldest are removed
    blob_budget: Bytes = 8 << 30
    #: cloud addresses that an order may name beside those that the publisher allows
    fallback_hosts: tuple[str, ...] = ()
    #: how often telemetry is taken; 0: never
    telemetry_every_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 300.0
    #: which: host, gateway, modules
    telemetry_streams: tuple[Literal["host", "gateway", "modules"], ...] = ("host", "gateway", "modules")
    #: how long samples wait for others, to go in one message
    telemetry_send_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 900.0
    #: bytes of samples that are kept while the server cannot be reached, before the least important are dropped
    telemetry_bytes: Annotated[int, msgspec.Meta(ge=64 << 10)] = 4 << 20
    #: bytes of telemetry that are sent in a day at most
    telemetry_day_bytes: Annotated[int, msgspec.Meta(ge=64 << 10)] = 2 << 20
    #: folders that batch jobs may read, each with its name, as images=/srv/images; none: this device takes no jobs
    batch_inputs: tuple[Place, ...] = ()
    #: folders below which batch jobs may write, each job into a folder of its own
    batch_outputs: tuple[Place, ...] = ()
    #: bytes that one job may write
    batch_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 1 << 30
    #: a job runs only if no application has asked any slot for so long
    batch_idle_s: Seconds = 60.0
    #: and only while other programs use less of the processor than this share of all cores
    batch_others_cpu: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    #: and only at this time of day, as 22:00-06:00; empty: at any
    batch_hours: Hours = ""
    #: whether the fleet's operators may ask what serves here from afar (edgefleet try)
    try_module: bool = True
    #: debug, info, warning or error
    log_level: Level = "info"

    @property
    def identity(self) -> Path:
        return Path(self.state) / "identity"

    @property
    def trust(self) -> Path:
        return Path(self.state) / "trust"

    @property
    def blobs(self) -> Path:
        return Path(self.state) / "blobs"

    @property
    def modules(self) -> Path:
        return Path(self.state) / "modules"

    @property
    def instances(self) -> Path:
        """Sockets live here; short, because a socket's path holds 107 bytes."""
        return Path(self.runtime) / "i"

    @property
    def secrets(self) -> Path:
        """Modules' secrets while they run; only where this is a tmpfs."""
        return Path(self.runtime) / "secrets"

    @property
    def table(self) -> Path:
        return Path(self.gateway_table or f"{self.runtime}/gateway/table.json")


def load(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        BadSettings: the file cannot be read, or a setting is unknown or out of bounds; names it.
    """
    named = file or (Path(environ[_PREFIX + "CONFIG"]) if _PREFIX + "CONFIG" in environ else None)
    values = _file(named or DEFAULT_FILE) if named or DEFAULT_FILE.exists() else {}
    for name, text in environ.items():
        if name.startswith(_PREFIX) and name != _PREFIX + "CONFIG":
            key = name.removeprefix(_PREFIX).lower()
            values[key] = [part.strip() for part in text.split(",") if part.strip()] if key in _LISTS else text
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(
            str(error), element=str(named or "environment"), remedy="see edgefleet-agent settings"
        ) from error
    if 0 < settings.pull_bytes_s < LEAST_RATE:
        raise BadSettings(
            f"{settings.pull_bytes_s} bytes a second are too few: a block takes longer than it is waited for",
            element="pull_bytes_s",
            remedy=f"allow {LEAST_RATE} or more, or 0 for no limit",
        )
    return settings


def _file(path: Path) -> dict[str, object]:
    try:
        values = msgspec.toml.decode(path.read_bytes())
    except (OSError, *UNREADABLE) as error:
        raise BadSettings(str(error), element=str(path), remedy="correct the file or name another") from error
    if not isinstance(values, dict):
        raise BadSettings("it is no table of settings", element=str(path))
    return values
