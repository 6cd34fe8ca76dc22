"""The server's settings: environment (``EDGEFLEET_FLEET_...``) and command line, checked once."""

import os
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from fleet.limits import LEAST, LabelLimit, read_label_limits
from fleet.people.roles import read_mapping
from modules.errors import BadSettings
from modules.protocol.topics import PREFIX

Port = Annotated[int, Field(ge=0, le=65535)]
DAY_S = 86400
DAY_TELEMETRY = 2 << 20


def _enough(rate: int) -> int:
    if 0 < rate < LEAST:
        raise BadSettings(
            f"{rate} bytes a second are too few: a block takes longer than a device waits for it",
            element="pull_bytes_s or device_bytes_s",
            remedy=f"allow {LEAST} or more, or 0 for no limit",
        )
    return rate


def _readable(limits: str) -> str:
    read_label_limits(limits)
    return limits


def _usable_issuer(address: str) -> str:
    parts = urlsplit(address)
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if address and not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and loopback))):
        raise BadSettings("this is no address of a provider", element="oidc_issuer", remedy="write https://host/path")
    return address.rstrip("/")


def _readable_roles(mapping: str) -> str:
    read_mapping(mapping)
    return mapping


_SECRETS: Final = "EDGEFLEET_FLEET_SECRETS_DIR"
Rate = Annotated[int, Field(ge=0), AfterValidator(_enough)]


class Settings(BaseSettings):
    """Every setting, with its bounds. Times in seconds, sizes in bytes.

    ``broker_host`` and ``broker_port`` are what devices are told; the server itself connects to ``broker_service_host``
    (the same host unless set) at ``broker_service_port``, the listener for services.
    """

    model_config = SettingsConfigDict(env_prefix="EDGEFLEET_FLEET_", frozen=True)

    #: the data folder that init made: database, keys, blobs
    data: Path = Path("edgefleet-fleet")
    #: address of a PostgreSQL database, postgresql://USER:PASSWORD@HOST/NAME, where it is not SQLite in the data folder
    database: SecretStr = SecretStr("")
    #: address that the server listens on
    host: str = "0.0.0.0"
    #: port of the API and of enrolment; 0 takes a free one
    port: Port = 8443
    #: off only behind a proxy that speaks TLS
    tls: bool = True
    #: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, with commas between
    trusted_proxies: str = ""
    #: names under which it may be asked besides its certificate's, public_url's and loopback, with commas between
    allowed_hosts: str = ""
    #: how long a client may take to agree on TLS
    handshake_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    #: how long the head of a request may take
    head_s: Annotated[float, Field(gt=0, le=3600)] = 15.0
    #: how long a body may take, beside a second for each 4 KiB
    body_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    #: address that devices and operators are given, where it is another than host and port
    public_url: str | None = None

    #: who certifies public_url, where it is not the fleet's own CA: a PEM file, or system for what devices trust anyway
    public_ca: Path | None = None

    #: the web console at /console
    console: bool = True
    #: port where devices fetch blobs over HTTPS with their certificate, instead of over MQTT; not set: nowhere
    blob_port: Port | None = None
    #: address of that port that new join bundles name, where it is another than public_url's host and blob_port
    blob_url: Annotated[str, Field(pattern=r"^https://[^/?#\s]+/?$")] | None = None

    #: the broker as devices reach it
    broker_host: str = "localhost"
    #: the broker's listener for devices
    broker_port: Port = 8883
    #: the broker as this server reaches it, where it is another
    broker_service_host: str | None = None
    #: the broker's listener for services
    broker_service_port: Port = 8884
    #: first levels of every topic
    broker_prefix: str = PREFIX
    #: PEM file of the broker's authority, where it is not the fleet's own; new join bundles carry it
    broker_ca: Path | None = None
    #: PEM file of the server's certificate for the broker, where it is not the one that init made
    broker_certificate: Path | None = None
    #: PEM file of its key
    broker_key: Path | None = None

    #: how long an order may be accepted; it is renewed in time
    order_life_s: Annotated[int, Field(ge=3600, le=365 * DAY_S)] = 30 * DAY_S
    #: how long a device's certificate holds
    certificate_life_s: Annotated[int, Field(ge=3600, le=730 * DAY_S)] = 90 * DAY_S
    #: whether who joins waits for an operator's word, where its bundle says nothing else
    approve_joins: bool = False
    #: how long a device waits for approval
    pending_life_s: Annotated[int, Field(ge=3600, le=365 * DAY_S)] = 7 * DAY_S
    #: how long a log-in holds that is not used
    session_idle_s: Annotated[int, Field(ge=60, le=30 * DAY_S)] = 3600
    #: how long a log-in holds, however much it is used
    session_life_s: Annotated[int, Field(ge=300, le=90 * DAY_S)] = 12 * 3600
    #: how long a new token holds, where it is not said
    token_life_s: Annotated[int, Field(ge=300, le=3650 * DAY_S)] = 90 * DAY_S
    #: how long a new token may be said to hold
    token_most_s: Annotated[int, Field(ge=300, le=3650 * DAY_S)] = 365 * DAY_S
    #: whether a rollout begins only once somebody else than who started it has approved it
    four_eyes: bool = False
    #: address of an OpenID Connect provider where operators may log in; not set: nowhere
    oidc_issuer: Annotated[str, AfterValidator(_usable_issuer)] = ""
    #: what that provider calls this server
    oidc_client_id: str = ""
    #: the secret that goes with it, where there is one
    oidc_client_secret: SecretStr = SecretStr("")
    #: PEM file of that provider's authority, where it is none that everybody trusts
    oidc_ca: Path | None = None
    #: the claim that names an operator
    oidc_name_claim: str = "email"
    #: the claim whose values say which roles an operator has
    oidc_claim: str = "groups"
    #: roles by the values of that claim, as JSON: {"edge-admins": [{"role": "admin"}]}
    oidc_roles: Annotated[str, AfterValidator(_readable_roles)] = "{}"
    #: largest upload
    max_blob_bytes: Annotated[int, Field(ge=1 << 20)] = 16 << 30
    #: largest sum of uploads that nobody has signed
    max_uploads_bytes: Annotated[int, Field(ge=0)] = 64 << 30
    #: how long an upload is kept
    keep_uploads_s: Annotated[int, Field(ge=60, le=365 * DAY_S)] = 14 * DAY_S
    #: how often rollouts are looked at when nothing happens
    tick_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    #: how long events are kept; the newest thousand stay
    keep_events_s: Annotated[int, Field(ge=DAY_S)] = 365 * DAY_S
    #: how long it is kept what was decided for a slot; the newest ten decisions of each stay, and what a rollout needs
    keep_history_s: Annotated[int, Field(ge=DAY_S)] = 365 * DAY_S
    #: how long devices and history of a rollout are kept after its last change, where it has ended and nothing needs it
    keep_rollouts_s: Annotated[int, Field(ge=DAY_S)] = 730 * DAY_S
    #: how long telemetry is kept; the newest of each device stays
    keep_telemetry_s: Annotated[int, Field(ge=3600)] = 7 * DAY_S
    #: how long a command that is over is kept; the event of it stays as long as events do
    keep_commands_s: Annotated[int, Field(ge=DAY_S)] = 90 * DAY_S
    #: how long it is kept what a device sent as a command's result, as log lines or a diagnosis
    keep_results_s: Annotated[int, Field(ge=3600)] = 7 * DAY_S
    #: bytes of each device's stream of telemetry that are kept of a day; of more, only the newest
    telemetry_day_bytes: Annotated[int, Field(ge=1 << 10)] = DAY_TELEMETRY
    #: start although this server can read the offline keys; for a demonstration only
    insecure_demo_keys: bool = False
    #: whether /metrics is answered without a token
    open_metrics: bool = False
    #: whether a block that several devices wait for is sent once, for all of them
    broadcast: bool = True
    #: how long a device may still fetch what an order named that a newer one has replaced
    replaced_order_s: Annotated[int, Field(ge=1, le=DAY_S)] = 600
    #: most bytes a second for all pulls and broadcasts; 0: as many as go
    pull_bytes_s: Rate = 0
    #: most bytes a second for each device, which then takes part in no broadcast; 0: as many as go
    device_bytes_s: Rate = 0
    #: the same for devices with a label, with commas between, as link=lte:50000; the lowest that fits a device counts
    device_limits: Annotated[str, AfterValidator(_readable)] = ""
    #: threads that read blocks for devices
    block_workers: Annotated[int, Field(ge=1, le=64)] = 4

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, then the environment, then the files of ``EDGEFLEET_FLEET_SECRETS_DIR``.

        There a setting may be a file, as ``edgefleet_fleet_database``, so that a secret need not be in the environment,
        which whoever may look at a container sees.
        """
        folder = os.environ.get(_SECRETS)
        if folder is None:
            return init_settings, env_settings
        if not Path(folder).is_dir():
            raise BadSettings("there is no such folder", element=_SECRETS, remedy="name the folder with such files")
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, folder)

    @property
    def label_limits(self) -> tuple[LabelLimit, ...]:
        """What ``device_limits`` says."""
        return read_label_limits(self.device_limits)

    @property
    def more_hosts(self) -> frozenset[str]:
        """The hosts of ``allowed_hosts``."""
        return frozenset(one.strip() for one in self.allowed_hosts.split(",") if one.strip())

    @property
    def blobs_at(self) -> str:
        """The address where devices fetch blobs over HTTPS; empty where they do not."""
        if self.blob_port is None:
            return ""
        host = urlsplit(self.url).hostname or "localhost"
        host = f"[{host}]" if ":" in host else host
        return (self.blob_url or f"https://{host}:{self.blob_port}").rstrip("/")

    @property
    def url(self) -> str:
        """The address that devices and operators are given."""
        scheme = "https" if self.tls else "http"
        host = "localhost" if self.host in {"0.0.0.0", "::"} else self.host
        host = f"[{host}]" if ":" in host else host
        return (self.public_url or f"{scheme}://{host}:{self.port}").rstrip("/")
