"""``ComputeTarget`` and ``AksCompute``: the names that scripts import; the targets themselves are in ``places``."""

from typing import Any, NoReturn, Self

from fleet.client.sdk import places
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import ComputeTargetException


class ComputeTarget:
    """A place to run on, by its name.

    Raises:
        ComputeTargetException: as :func:`fleet.client.sdk.places.target`.
    """

    def __init__(self, workspace: Connection, name: str) -> None:
        found = places.target(workspace, name)
        self.workspace, self.name, self.type = workspace, name, str(found["kind"])

    @property
    def provisioning_state(self) -> str:
        """``Succeeded``, or ``Failed`` where it did not answer at the server's last look."""
        return "Failed" if places.target(self.workspace, self.name)["state"] == "failed" else "Succeeded"

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Nothing to wait for: a target is attached at once, or not at all."""
        if show_output:
            print(f"{self.name}: {self.provisioning_state}")

    @classmethod
    def create(cls, workspace: Connection, name: str, provisioning_configuration: Any = None) -> Self:
        """The target of this name, which an admin has attached; nothing is made."""
        return cls(workspace, name)

    @classmethod
    def attach(cls, workspace: Connection, name: str, attach_configuration: Any = None) -> Self:
        """The target of this name, which an admin has attached."""
        return cls(workspace, name)

    @classmethod
    def list(cls, workspace: Connection) -> "list[ComputeTarget]":
        """All targets."""
        return [ComputeTarget(workspace, name) for name in places.targets(workspace)]

    def get_status(self) -> str:
        """As ``provisioning_state``."""
        return self.provisioning_state

    def serialize(self) -> dict[str, Any]:
        """What is known of it, as JSON takes it."""
        return {
            "name": self.name,
            "computeType": self.type,
            "provisioningState": self.provisioning_state,
            "workspaceName": self.workspace.name,
        }

    def delete(self) -> NoReturn:
        """Targets are an admin's to let go.

        Raises:
            ComputeTargetException: always.
        """
        raise ComputeTargetException(
            "a target is let go by an admin", element=self.name, remedy=f"run: edgefleet targets detach {self.name}"
        )

    detach = delete

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace.name}, name={self.name})"


class AksCompute(ComputeTarget):
    """A cluster."""

    class ClusterPurpose:
        """What a cluster is for."""

        FAST_PROD = "FastProd"
        DEV_TEST = "DevTest"

    @staticmethod
    def provisioning_configuration(**given: Any) -> dict[str, Any]:
        """Kept as it was given, for whoever creates the target."""
        return given

    @staticmethod
    def attach_configuration(**given: Any) -> dict[str, Any]:
        """Kept as it was given, for whoever attaches the target."""
        return given
