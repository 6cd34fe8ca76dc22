"""What a device is, signed, at ``up/facts``; sent again when it changes."""

from typing import Annotated, Final, Literal

import msgspec

from modules.bounds import Epoch, Number, Time, Word
from modules.names import DeviceField
from modules.needs import HostFacts

LIMIT: Final = 64 << 10
# Among the formats of a device that follows the terms of a fallback.
FALLBACKS: Final = "edgefleet.fallback/1"
# And of one whose owner lets operators ask its modules from afar.
TRIES: Final = "edgefleet.try-module/1"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope; ``number`` grows within its epoch, so that an old one cannot replace a newer one.

    ``formats`` are the documents that this device reads, as ``edgefleet.order/1``; none: a device of before.
    ``sealing`` is the public half of its key for secrets (modules/sealing.py); empty: it has none.
    """

    format: Literal["edgefleet.facts/1"] = "edgefleet.facts/1"
    device: DeviceField
    number: Number
    issued: Time
    agent: Word
    host: HostFacts
    epoch: Epoch = ""
    formats: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)] = ()
    sealing: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
