"""Telemetry: what a device measures of itself as it goes, at ``up/telemetry/<stream>``; signed like its reports.

Nothing is decided by it, and it may come late: a device keeps samples on its disk, puts several into one message, and
deletes none before ``down/ack`` says that it is in the server's database. One message is under way at a time, so that
the highest number that was committed says it of all before.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from modules.bounds import Count, Epoch, Number, Real, Time
from modules.names import DeviceField, SlugField

LIMIT: Final = 64 << 10
MAX_SAMPLES: Final = 512
MAX_FIGURES: Final = 32
# What devices send: of the machine, of what applications see at the gateway, of the modules. The broker's rules name
# each, so that a device can leave no more retained messages there than there are streams.
HOST: Final = "host"
GATEWAY: Final = "gateway"
MODULES: Final = "modules"
STREAMS: Final = (HOST, GATEWAY, MODULES)
# Figures of the gateway: requests that came while a slot had more to do than it can, and those that were turned away.
PRESSED: Final = ("overloaded", "refused")
# And those that an endpoint in the cloud answered.
BY_CLOUD: Final = "fallback"
# An endpoint that stands still is started for a slot of whose requests so large a part finds it overloaded; one that
# runs is kept for any. So it does not go to and fro.
STARTS_AT: Final = 0.05

# Of a stream or a figure; no label or column may be called otherwise.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]

Figures = Annotated[dict[Name, Real], msgspec.Meta(max_length=MAX_FIGURES)]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one moment, of a slot or (without one) of the whole device.

    ``at`` is in Unix seconds by the device's clock, 0 where that had not been set.
    """

    at: Time
    slot: SlugField | msgspec.UnsetType = msgspec.UNSET
    figures: Figures


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope; ``samples`` in the order in which they were taken.

    ``number`` grows with each message of any stream and is never used twice in its epoch. ``dropped`` counts the
    samples of this stream that the device had no room for, since its epoch began.
    """

    format: Literal["edgefleet.telemetry/1"] = "edgefleet.telemetry/1"
    device: DeviceField
    stream: Name
    number: Number
    issued: Time
    epoch: Epoch = ""
    dropped: Count = 0
    samples: Annotated[tuple[Sample, ...], msgspec.Meta(min_length=1, max_length=MAX_SAMPLES)]


def too_much(figures: Mapping[str, float]) -> float:
    """Which part of a slot's requests came while it had more to do than it can, or was turned away: 0 to 1."""
    overloaded, refused = (max(0.0, figures.get(name, 0.0)) for name in PRESSED)
    part = max(overloaded, refused)
    return part / max(figures.get("requests", 0.0) + refused, part) if part else 0.0
