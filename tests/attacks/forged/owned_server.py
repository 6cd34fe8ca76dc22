"""The fleet server as somebody runs it who owns its machine: the product's own, but for the looks that it takes.

It publishes whatever a team's key has signed, registered or not, and gives a device every blob that the manifest of its
order names, whether that can be read as a manifest or not. Database, orders, rights and pulls are as ever, so what
stops a forged module on its way is the device's.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
from sqlalchemy import Connection, select
from tuf.api.metadata import Metadata, Targets

import fleet.metadata
import fleet.rights
from fleet.__main__ import main
from fleet.tables import modules
from modules import program
from modules.canonical import UNREADABLE


def unread(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return None


def named(document: Any) -> Iterator[str]:
    """Every digest that stands anywhere in it."""
    if isinstance(document, str) and document.startswith("sha256:"):
        yield document
    elif isinstance(document, dict | list):
        for one in document.values() if isinstance(document, dict) else document:
            yield from named(one)


def unchecked(*, new: Mapping[str, bytes], **_: Any) -> dict[str, Metadata[Targets]]:
    return {role: Metadata[Targets].from_bytes(data) for role, data in new.items()}


def registered_alone(own: fleet.metadata.Metadata, connection: Connection, listing: Targets, **_: Any) -> list[str]:
    rows = connection.execute(select(modules.c.team, modules.c.name, modules.c.version))
    known = {f"modules/{row.team}/{row.name}/{row.version}.json" for row in rows}
    return _sign_modules(own, connection, listing, but=listing.targets.keys() - known)


_sign_modules = fleet.metadata.Metadata._sign_modules

if __name__ == "__main__":
    fleet.rights.manifests = SimpleNamespace(decode=unread)  # type: ignore[assignment]
    fleet.rights.named_digests = named  # type: ignore[assignment]
    fleet.metadata.check_team_files = unchecked  # type: ignore[assignment]
    fleet.metadata.Metadata._sign_modules = registered_alone  # type: ignore[method-assign]
    program.run("edgefleet-fleet", main)
