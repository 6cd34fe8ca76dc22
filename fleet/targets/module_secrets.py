"""Secrets of modules at endpoints: set, listed without their values, taken away; kept with what lets clients in.

Each version's replicas get those that its module declares (``secret_files.py``).
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from fleet import events
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.targets.endpoints import Endpoints, wish_of
from fleet.targets.secret_files import check_length
from fleet.targets.secrets import ModuleSecret
from modules.errors import Invalid
from modules.protocol.order import MAX_SECRETS

SET, NOT_SET = "set", "not set"


def put(
    connection: Connection, now: float, wished: Endpoints, endpoint: str, name: str, value: bytes, *, by: str
) -> dict[str, Any]:
    """Set a secret of an endpoint, or set it anew.

    Raises:
        Missing: there is no such endpoint.
        Invalid: it is empty, too long, or one too many.
    """
    row = wished.row(connection, endpoint)
    check_length(name, value)
    opened = wished.opened(row)
    before = opened.modules.get(name)
    if before is None and len(opened.modules) >= MAX_SECRETS:
        raise Invalid(f"an endpoint has at most {MAX_SECRETS} secrets", element=name, remedy="remove one")
    version = (before.version if before else 0) + 1
    new = opened.modules | {name: ModuleSecret(value=value, version=version, at=now, by=by)}
    wished.reseal(connection, now, row, msgspec.structs.replace(opened, modules=new))
    events.record(connection, now, "secret-set", f"{name} for endpoint {endpoint}, version {version}", by=by)
    return {"name": name, "endpoint": endpoint, "version": version}


def take(
    connection: Connection, now: float, wished: Endpoints, registry: Registry, endpoint: str, name: str, *, by: str
) -> dict[str, Any]:
    """Take a secret of an endpoint away.

    Raises:
        Missing: there is no such endpoint or secret.
        Conflict: the module of one of its versions requires it.
    """
    row = wished.row(connection, endpoint)
    opened = wished.opened(row)
    if name not in opened.modules:
        raise Missing("no such secret is set there", element=name, remedy="see edgefleet secrets list --endpoint")
    for version, one in wish_of(row).versions.items():
        if (need := registry.declared(one.digest).get(name)) is not None and need.required:
            raise Conflict(
                f"the module of version {version} requires it",
                element=name,
                remedy="remove the version, serve a module that does without, or set another value",
            )
    left = {other: one for other, one in opened.modules.items() if other != name}
    wished.reseal(connection, now, row, msgspec.structs.replace(opened, modules=left))
    events.record(connection, now, "secret-removed", f"{name} of endpoint {endpoint}", by=by)
    return {"name": name, "endpoint": endpoint}


def view(connection: Connection, wished: Endpoints, registry: Registry, endpoint: str) -> list[dict[str, Any]]:
    """The secrets that an endpoint has, and those that its modules declare and that are not set. No value.

    Raises:
        Missing: there is no such endpoint.
    """
    row = wished.row(connection, endpoint)
    have = wished.opened(row).modules
    declared: dict[str, bool] = {}
    for version in wish_of(row).versions.values():
        for need in registry.declared(version.digest).values():
            declared[need.name] = declared.get(need.name, False) or need.required
    shown = []
    for name in sorted(declared.keys() | have.keys()):
        one = have.get(name)
        about = {"name": name, "state": SET if one else NOT_SET, "required": declared.get(name, False)}
        stands = (
            {"version": one.version, "at": one.at, "by": one.by} if one else {"version": None, "at": None, "by": ""}
        )
        shown.append(about | stands)
    return shown
