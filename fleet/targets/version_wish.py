"""A version of an endpoint as somebody asks for it, and as it stands in the wish."""

import msgspec
from sqlalchemy import Connection

from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Missing
from fleet.registry import Registry
from fleet.targets.settings import Version
from modules.errors import Invalid
from modules.names import ModuleRef, Slug


class VersionWish(msgspec.Struct, frozen=True):
    """A version as somebody asks for it."""

    module: ModuleRef
    weight: int
    replicas: int


def version_of(
    registry: Registry, connection: Connection, name: Slug, one: VersionWish, scope: Scope = EVERYTHING
) -> Version:
    """A version as it stands in a wish.

    Raises:
        Missing: there is no such module, in this scope.
        Conflict: nobody signed it.
        Invalid: its share or replicas are out of bounds.
    """
    if not scope.has_team(one.module.team):
        raise Missing("there is no such module", element=str(one.module))
    _, digest = registry.signed(connection, one.module)
    known = {"module": str(one.module), "digest": digest, "weight": one.weight, "replicas": one.replicas}
    try:
        return msgspec.convert(known, Version)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element=f"version {name}") from error
