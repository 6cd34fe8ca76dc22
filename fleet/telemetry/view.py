"""Telemetry as the API shows it."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from fleet.devices import LIVE
from fleet.refusals import Missing
from fleet.tables import devices, telemetry, telemetry_history
from modules.names import DeviceId
from modules.protocol.telemetry import Sample, Telemetry

# Messages of the history in one answer; the newest of them.
MESSAGES: Final = 500


class Newest(NamedTuple):
    """The last sample of each slot (None: of the whole device) in a stream's newest message."""

    device: str
    stream: str
    received: float
    dropped: int
    samples: dict[str | None, Sample]


def newest(connection: Connection, only: Any) -> Iterator[Newest]:
    """Of the devices that a condition means, by id and stream."""
    wanted = select(telemetry).where(only).order_by(telemetry.c.device, telemetry.c.stream)
    for row in connection.execute(wanted):
        said = read(row.document)
        last: dict[str | None, Sample] = {sample.slot or None: sample for sample in said.samples}
        yield Newest(row.device, row.stream, row.received, said.dropped, last)


def read(document: bytes) -> Telemetry:
    """A stored message; it was checked when it was taken."""
    return msgspec.json.decode(document, type=Telemetry)


def of_device(connection: Connection, device: DeviceId, stream: str | None, since: float | None) -> dict[str, Any]:
    """What is known of one device: its newest figures, and with ``since`` (Unix seconds) its samples from then on.

    Raises:
        Missing: there is no such device.
    """
    row = connection.execute(select(devices.c.enrolled).where(devices.c.id == device, LIVE)).one_or_none()
    if row is None:
        raise Missing("there is no such device", element=device)
    mine = telemetry.c.device == device
    if stream is not None:
        mine &= telemetry.c.stream == stream
    found: dict[str, Any] = {
        "device": device,
        "streams": [
            {
                "stream": one.stream,
                "received": one.received,
                "dropped": one.dropped,
                "samples": [_sample(sample) for sample in one.samples.values()],
            }
            for one in newest(connection, mine)
        ],
    }
    if since is not None:
        # A device of this name that was removed has a history of its own.
        found["history"] = _history(connection, device, stream, max(since, row.enrolled))
    return found


def _history(connection: Connection, device: DeviceId, stream: str | None, since: float) -> list[dict[str, Any]]:
    mine = (telemetry_history.c.device == device) & (telemetry_history.c.received >= since)
    if stream is not None:
        mine &= telemetry_history.c.stream == stream
    wanted = select(telemetry_history).where(mine).order_by(telemetry_history.c.id.desc()).limit(MESSAGES)
    return [
        {"stream": row.stream, "received": row.received} | _sample(sample)
        for row in reversed(connection.execute(wanted).all())
        for sample in read(row.document).samples
        if not 0 < sample.at < since
    ]


def _sample(sample: Sample) -> dict[str, Any]:
    """``at`` is None where the device's clock had not been set."""
    return {"slot": sample.slot or None, "at": sample.at or None, "figures": sample.figures}
