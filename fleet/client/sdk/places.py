"""Places to run on: the targets of the fleet server, as scripts name them."""

from typing import Any

from fleet.client.api import Fleet
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import ComputeTargetException, told_as
from modules.names import Slug, slug


def targets(workspace: Connection) -> list[str]:
    """The names of all places to run on."""
    with told_as(ComputeTargetException), workspace.fleet() as fleet:
        return sorted(one["name"] for one in fleet.targets())


def target(workspace: Connection, name: str) -> dict[str, Any]:
    """A place to run on.

    Raises:
        ComputeTargetException: there is none of this name.
    """
    with told_as(ComputeTargetException), workspace.fleet() as fleet:
        known = {one["name"]: one for one in fleet.targets()}
    if name not in known:
        raise ComputeTargetException(
            f"ComputeTargetNotFound: there is no target {name}, there is {', '.join(sorted(known)) or 'none'}",
            element=workspace.url,
            remedy="an admin attaches one: edgefleet targets attach",
        )
    found: dict[str, Any] = known[name]
    return found


def chosen(fleet: Fleet, wanted: Any) -> Slug:
    """The target that was named, or the only one."""
    if wanted is not None:
        return slug(str(getattr(wanted, "name", wanted)), what="target")
    known = [one["name"] for one in fleet.targets()]
    if len(known) != 1:
        raise ComputeTargetException(
            f"nothing says where it is to run; there is {', '.join(known) or 'no target'}",
            element="deployment_target",
            remedy="give deployment_target=ComputeTarget(workspace, NAME)"
            if known
            else "run: edgefleet targets attach",
        )
    return slug(known[0], what="target")
