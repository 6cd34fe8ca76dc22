"""Rows of telemetry: the newest message of each device and stream, and a history of all, with a bound for each day."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from fleet.tables import telemetry, telemetry_history
from modules.names import DeviceId
from modules.protocol.telemetry import Telemetry

_DAY_S: Final = 86400
# Of one device; today's agents have three.
MAX_STREAMS: Final = 8
_CHANGED: Final = ("number", "received", "document", "day", "day_bytes")
_UPDATE: Final = (
    update(telemetry)
    .where(telemetry.c.device == bindparam("of_device"), telemetry.c.stream == bindparam("of_stream"))
    .values({name: bindparam(name) for name in _CHANGED})
)


class Taken(NamedTuple):
    """A message that is news: whose, what it says, and its bytes."""

    device: DeviceId
    said: Telemetry
    data: bytes


def write(
    connection: Connection,
    now: float,
    taken: Sequence[Taken],
    *,
    day_bytes: int,
    tell: Callable[[str, str, DeviceId], None],
) -> None:
    """Store messages, of each device at most one.

    What is more than ``day_bytes`` of a device's stream in a day is its newest, and in no history.
    """
    known = {
        (row.device, row.stream): row
        for row in connection.execute(
            select(telemetry.c.device, telemetry.c.stream, telemetry.c.day, telemetry.c.day_bytes).where(
                telemetry.c.device.in_([one.device for one in taken])
            )
        )
    }
    streams = {device: {stream for who, stream in known if who == device} for device, _ in known}
    today = int(now // _DAY_S)
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for device, said, data in taken:
        row = known.get((device, said.stream))
        if row is None and len(streams.get(device, ())) >= MAX_STREAMS:
            tell("telemetry-not-kept", f"it has more than {MAX_STREAMS} streams, {said.stream} is not kept", device)
            continue
        before = row.day_bytes if row is not None and row.day == today else 0
        after = before + len(data)
        if after <= day_bytes:
            history.append({"device": device, "stream": said.stream, "received": now, "document": data})
        elif before <= day_bytes:
            words = f"its {said.stream} is more than {day_bytes} bytes a day: until tomorrow only the newest is kept"
            tell("telemetry-not-kept", words, device)
        values = {"number": said.number, "received": now, "document": data, "day": today, "day_bytes": after}
        if row is None:
            new.append({"device": device, "stream": said.stream} | values)
        else:
            changed.append({"of_device": device, "of_stream": said.stream} | values)
    for statement, values_of in ((insert(telemetry), new), (_UPDATE, changed), (insert(telemetry_history), history)):
        if values_of:
            connection.execute(statement, values_of)


def forget(connection: Connection, device: DeviceId) -> None:
    """The newest of a device that is removed; its history goes with time, as all does."""
    connection.execute(delete(telemetry).where(telemetry.c.device == device))
