"""``ComputeTarget`` and ``AksCompute``: the names that scripts import; the targets themselves are in ``cloud``."""

from typing import Any

from fleet.client.sdk import cloud
from fleet.client.sdk.connection import Connection


class ComputeTarget:
    """A place to run on, by its name.

    Raises:
        ComputeTargetException: as :func:`fleet.client.sdk.cloud.target`.
    """

    def __init__(self, workspace: Connection, name: str) -> None:
        found = cloud.target(workspace, name)
        self.workspace, self.name, self.type = workspace, name, str(found["kind"])

    @property
    def provisioning_state(self) -> str:
        """``Succeeded``, or ``Failed`` where it did not answer at the server's last look."""
        return "Failed" if cloud.target(self.workspace, self.name)["state"] == "failed" else "Succeeded"

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Nothing to wait for: a target is attached at once, or not at all."""
        if show_output:
            print(f"{self.name}: {self.provisioning_state}")

    @staticmethod
    def create(workspace: Connection, name: str, provisioning_configuration: Any) -> Any:
        return cloud.target(workspace, name)

    @staticmethod
    def attach(workspace: Connection, name: str, attach_configuration: Any) -> Any:
        return cloud.target(workspace, name)


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
