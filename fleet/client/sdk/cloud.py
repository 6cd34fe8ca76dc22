"""Services that run elsewhere than on this machine. The one place in the SDK that will speak to the server of them."""

from typing import Any, Final

from fleet.client.deployments.configuration import Configuration
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import ComputeTargetException, WebserviceException

_INSTEAD: Final = (
    "to try it on this machine: LocalWebservice.deploy_configuration(port=...); for devices: edgefleet rollouts start"
)


def deploy(workspace: Connection, name: str, configuration: Configuration | None, target: Any = None) -> Any:
    """Deploy to a container host or a cluster.

    Raises:
        WebserviceException: always, for now.
    """
    kind = "Aci" if configuration is None else type(configuration).__name__
    raise WebserviceException(f"deploying to {kind} is not available yet", element=name, remedy=_INSTEAD)


def find(workspace: Connection, name: str) -> Any:
    """A service that runs elsewhere.

    Raises:
        WebserviceException: always, for now: there is none.
    """
    raise WebserviceException(
        f"WebserviceNotFound: there is no service {name}", element=workspace.url, remedy="deploy it: Model.deploy"
    )


def every(workspace: Connection) -> list[Any]:
    """The services that run elsewhere: none yet."""
    return []


def target(workspace: Connection | None, name: str) -> Any:
    """A place to run on.

    Raises:
        ComputeTargetException: always, for now.
    """
    raise ComputeTargetException("targets are not available yet", element=name, remedy=_INSTEAD)
