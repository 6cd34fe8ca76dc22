"""What a device is, signed, at ``up/facts``; sent again when it changes."""

from typing import Final, Literal

import msgspec

from modules.names import DeviceField
from modules.needs import HostFacts

LIMIT: Final = 64 << 10


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope; ``number`` grows so that an old one cannot replace a newer one."""

    format: Literal["edgefleet.facts/1"] = "edgefleet.facts/1"
    device: DeviceField
    number: int
    issued: float
    agent: str
    host: HostFacts
