"""``Workspace``: a fleet server, as scripts written for Azure ML know the place of their models and services."""

import os
from pathlib import Path
from typing import Any, Self

import msgspec

from fleet.client.sdk.compute import ComputeTarget
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.environment import Environment
from fleet.client.sdk.exceptions import WorkspaceException, told_as
from fleet.client.sdk.model import Model
from fleet.client.sdk.webservice import Webservice
from fleet.client.sdk.workspace_file import described, logged_in
from modules.manifest import Image


class Workspace(Connection):
    """The server of ``edgefleet login``; subscription and resource group are kept as they are written, without effect.

    ``auth`` is taken and not used: who speaks is said by the login's token.

    Raises:
        WorkspaceException: nobody has logged in.
    """

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = "",
        auth: Any = None,
        **_: Any,
    ) -> None:
        with told_as(WorkspaceException):
            super().__init__(logged_in(workspace_name, subscription_id=subscription_id, resource_group=resource_group))

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | None = None,
        auth: Any = None,
        _logger: Any = None,
        _file_name: str | None = None,
    ) -> Self:
        """The server that a file names, sought as :mod:`fleet.client.sdk.workspace_file` says; else the login's.

        Raises:
            WorkspaceException: the file cannot be used, or no server is known.
        """
        workspace = object.__new__(cls)
        with told_as(WorkspaceException):
            Connection.__init__(workspace, described(path, _file_name))
        return workspace

    @classmethod
    def get(
        cls,
        name: str,
        auth: Any = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        **_: Any,
    ) -> Self:
        """The server of the login, under this name.

        Raises:
            WorkspaceException: nobody has logged in.
        """
        return cls(subscription_id or "", resource_group or "", name)

    @property
    def subscription_id(self) -> str:
        return self._described.subscription_id

    @property
    def resource_group(self) -> str:
        return self._described.resource_group

    @property
    def location(self) -> str:
        """The fleet server's address."""
        return self.url

    @property
    def models(self) -> dict[str, Model]:
        """The newest version of each model, by its name."""
        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def environments(self) -> dict[str, Environment]:
        """Those that are kept on this machine, by name."""
        return Environment.list(self)

    @property
    def webservices(self) -> dict[str, Webservice]:
        """The services of this workspace, by name."""
        return {service.name: service for service in Webservice.list(self)}

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The places to run on, by name."""
        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def images(self) -> dict[str, Image]:
        """The images of this user's own workspace, by name."""
        return {image.name: image for image in self.packed.images()}

    def get_details(self) -> dict[str, str]:
        """Name and address."""
        return {"name": self.name, "location": self.url, "resourceGroup": self.resource_group}

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write a file for :meth:`from_config`, without the token, which stays with the login."""
        file = Path(path or ".", ".azureml", file_name or "config.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        names = {
            "subscription_id": self.subscription_id,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
        }
        file.write_bytes(msgspec.json.format(msgspec.json.encode(names), indent=2))

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, url={self.url!r})"
