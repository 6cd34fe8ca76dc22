"""The folder of probes that ``edgefleet-fleet broker-probes`` wrote: certificates, and where the broker is."""

import time
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from fleet.doors import Place
from modules.bounds import Line, Time
from modules.canonical import UNREADABLE
from modules.errors import BadSettings
from modules.names import DeviceField
from modules.protocol.topics import Topics

FILE: Final = "probes.json"
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["edgefleet.broker-probes/1"]
    host: Line
    port: _Port
    service_host: Line
    service_port: _Port
    prefix: Line
    own: DeviceField
    other: DeviceField
    expires: Time


class Probes:
    """Two devices' names and certificates, the server's, and those that no broker should let in."""

    def __init__(self, folder: Path) -> None:
        """Read a folder.

        Raises:
            BadSettings: there are no probes, or they have expired.
        """
        try:
            self._file = msgspec.json.decode((folder / FILE).read_bytes(), type=_File)
        except (OSError, *UNREADABLE) as error:
            raise BadSettings(
                f"there are no probes: {error}", element=str(folder), remedy="edgefleet-fleet broker-probes FOLDER"
            ) from error
        if self._file.expires <= time.time():
            raise BadSettings(
                "these probes have expired: they hold for an hour",
                element=str(folder),
                remedy="remove the folder and run edgefleet-fleet broker-probes FOLDER again",
            )
        self._folder = folder
        self.own, self.other = self._file.own, self._file.other
        self.topics = Topics(self._file.prefix)
        self.devices = Place(self._file.host, self._file.port, folder / "ca.pem")
        self.services = Place(self._file.service_host, self._file.service_port, folder / "ca.pem")

    def certificate(self, name: str) -> Path:
        """The PEM file of ``own``, ``other``, ``expired``, ``foreign`` and so on; its key lies beside it."""
        return self._folder / f"{name}.pem"
