"""The server's settings: environment (``EDGEFLEET_FLEET_...``) and command line, checked once."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from modules.protocol.topics import PREFIX

Port = Annotated[int, Field(ge=0, le=65535)]
DAY_S = 86400


class Settings(BaseSettings):
    """Every setting, with its bounds. Times in seconds, sizes in bytes.

    ``broker_host`` and ``broker_port`` are what devices are told; the server itself connects to ``broker_service_host``
    (the same host unless set) at ``broker_service_port``, the listener for services.
    """

    model_config = SettingsConfigDict(env_prefix="EDGEFLEET_FLEET_", frozen=True)

    data: Path = Path("edgefleet-fleet")
    host: str = "0.0.0.0"
    port: Port = 8443
    tls: bool = True
    public_url: str | None = None

    broker_host: str = "localhost"
    broker_port: Port = 8883
    broker_service_host: str | None = None
    broker_service_port: Port = 8884
    broker_prefix: str = PREFIX
    broker_ca: Path | None = None
    broker_certificate: Path | None = None
    broker_key: Path | None = None

    order_life_s: Annotated[int, Field(ge=3600, le=365 * DAY_S)] = 30 * DAY_S
    certificate_life_s: Annotated[int, Field(ge=3600, le=730 * DAY_S)] = 90 * DAY_S
    max_blob_bytes: Annotated[int, Field(ge=1 << 20)] = 16 << 30
    tick_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    block_workers: Annotated[int, Field(ge=1, le=64)] = 4

    @property
    def url(self) -> str:
        """The address that devices and operators are given."""
        scheme = "https" if self.tls else "http"
        host = "localhost" if self.host in {"0.0.0.0", "::"} else self.host
        return (self.public_url or f"{scheme}://{host}:{self.port}").rstrip("/")
