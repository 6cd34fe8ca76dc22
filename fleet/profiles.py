"""What publishers measured of modules, for each kind of hardware the newest; nothing acts on it, people read it."""

from typing import Annotated, Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select

from fleet.refusals import Conflict, Missing
from fleet.tables import modules
from fleet.upload_tables import profiles
from modules.names import ModuleRef

KINDS: Final = 50
_Figure = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement, as fleet/client/local/profile.py makes it; times in milliseconds, memory in MiB."""

    cpu: _Figure
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None
    mean_ms: _Figure | None = None
    p95_ms: _Figure | None = None
    per_second: _Figure | None = None
    peak_mb: _Figure | None = None
    problem: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Cores and gigabytes that are recommended, and the measurements that say so."""

    cpu: _Figure
    memory_gb: _Figure
    runs: Annotated[tuple[Run, ...], msgspec.Meta(max_length=100)] = ()


def keep(connection: Connection, now: float, ref: ModuleRef, hardware: str, measured: Measured, *, by: str) -> None:
    """Keep what was measured, instead of what was measured on the same kind of hardware before.

    Raises:
        Missing: there is no such module.
        Conflict: so many kinds have been measured already.
    """
    module = _module(connection, ref)
    mine = profiles.c.module == module
    connection.execute(delete(profiles).where(mine, profiles.c.hardware == hardware))
    if (connection.scalar(select(func.count()).select_from(profiles).where(mine)) or 0) >= KINDS:
        raise Conflict(f"{KINDS} kinds of hardware have been measured already", element="hardware")
    row = {"module": module, "hardware": hardware, "created": now, "by": by}
    connection.execute(insert(profiles).values(**row, document=msgspec.json.encode(measured)))


def of(connection: Connection, ref: ModuleRef) -> list[dict[str, Any]]:
    """What was measured of a module, by kind of hardware.

    Raises:
        Missing: there is no such module.
    """
    mine = select(profiles).where(profiles.c.module == _module(connection, ref)).order_by(profiles.c.hardware)
    return [_shown(row) for row in connection.execute(mine)]


def _module(connection: Connection, ref: ModuleRef) -> int:
    mine = (modules.c.team == ref.team) & (modules.c.name == ref.name) & (modules.c.version == str(ref.version))
    there = mine & modules.c.digest.is_not(None) & (modules.c.state != "removed")
    found: int | None = connection.scalar(select(modules.c.id).where(there))
    if found is None:
        raise Missing("there is no such module", element=str(ref))
    return found


def _shown(row: Row[Any]) -> dict[str, Any]:
    measured: dict[str, Any] = msgspec.json.decode(row.document)
    return measured | {"hardware": row.hardware, "created": row.created, "by": row.by}
