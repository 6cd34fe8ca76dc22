"""A large fleet in a server's database, in seconds: some devices as they would have come, and copies of their rows."""

from typing import Final, NamedTuple

from sqlalchemy import Table, select, text, update

from fleet.folder import Folder
from fleet.rollouts.model import Policy, Wave
from fleet.settings import Settings
from fleet.setup import opened
from fleet.tables import devices, members, slot_revisions, slots
from modules.names import DeviceId, ModuleRef, Slug
from tests.doubles.fleet_rows import SmallFleet
from tests.parts.console_fleet import HOST, committed, ordered

SITES: Final = ("berlin", "lyon", "porto", "oslo")
# One in so many is among the canaries, which have a rollout under way.
CANARY: Final = 200
_TABLES: Final = (devices, members, slots, slot_revisions)


class Grown(NamedTuple):
    """The rows, and what stands in them: modules, the rollout under way, and who has which key."""

    rows: SmallFleet
    old: ModuleRef
    new: ModuleRef
    rollout: int
    names: list[DeviceId]


def grow(data: Folder, count: int) -> Grown:
    """So many devices of four sites, one module on all of them, another on its way to some; all have one key."""
    rows = SmallFleet(data.root, opened(Settings(data=data.root)))
    for site in SITES:
        rows.add_device(f"first-{site}", host=HOST, labels={"site": site})
    with rows.database.write() as connection:
        connection.execute(update(devices).values(online=True, last_seen=rows.now, enrolled=1.0))
    old, new = rows.add_module("defects"), rows.add_module("defects")
    rows.start(old, slot=Slug("camera"))
    rows.publish()
    for site in SITES:
        committed(rows, f"first-{site}")
    _copy(rows, count)
    with rows.database.write() as connection:
        # Numbers are the end of a name: some are away, some are not well, some are canaries.
        _change(connection, 50, f"online = 0, last_seen = {rows.now - 90_000}")
        _change(connection, 77, "health = 'degraded'")
        _change(connection, CANARY, "labels = json_set(labels, '$.ring', 'canary')")
    waves = Policy(waves=(Wave(percent=30), Wave(percent=100)))
    rollout = rows.start(new, slot=Slug("camera"), policy=waves, selector="ring=canary")
    rows.publish()
    with rows.database.read() as connection:
        names = list(connection.scalars(select(devices.c.id).where(devices.c.id.like("dev-%")).order_by(devices.c.id)))
    return Grown(rows, old, new, rollout, names)


def _copy(rows: SmallFleet, count: int) -> None:
    """Each copy has all rows of the one that it is a copy of, under a name of its own."""
    with rows.database.write() as connection:
        connection.execute(text("CREATE TEMP TABLE copies (name TEXT, first TEXT)"))
        sites = ", ".join(f"({number}, 'first-{site}')" for number, site in enumerate(SITES))
        connection.execute(
            text(
                f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}), "
                f"s(number, name) AS (VALUES {sites}) INSERT INTO copies "
                f"SELECT printf('dev-%06d', i), s.name FROM n JOIN s ON s.number = i % {len(SITES)}"
            )
        )
        for table in _TABLES:
            connection.execute(text(_copying(table)))
        connection.execute(text("DROP TABLE copies"))


def _copying(table: Table) -> str:
    key = "id" if table is devices else "device"
    others = ", ".join(f'"{one.name}"' for one in table.columns if one.name != key)
    return (
        f'INSERT INTO {table.name} ("{key}", {others}) SELECT copies.name, {others} '
        f'FROM copies JOIN {table.name} ON {table.name}."{key}" = copies.first'
    )


def _change(connection: object, every: int, values: str) -> None:
    chosen = f"id LIKE 'dev-%' AND CAST(substr(id, 5) AS INTEGER) % {every} = 0"
    connection.execute(text(f"UPDATE devices SET {values} WHERE {chosen}"))  # type: ignore[attr-defined]


def counter(grown: Grown) -> int:
    """Of the order that the copies have."""
    return ordered(grown.rows, grown.names[1], "camera")[0]
