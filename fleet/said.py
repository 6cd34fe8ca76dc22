"""What a message of a device says: decoded, and verified where it is signed."""

from typing import Final, NamedTuple

from fleet import device_keys
from fleet.device_keys import Keys
from modules import canonical
from modules.errors import Untrusted
from modules.names import DeviceId
from modules.protocol import commands as commands_wire
from modules.protocol import facts as facts_wire
from modules.protocol import report as report_wire
from modules.protocol import telemetry as telemetry_wire
from modules.protocol.commands import Answer
from modules.protocol.facts import Facts
from modules.protocol.report import Report, Status
from modules.protocol.telemetry import Telemetry
from modules.signing import ANSWER_TYPE, FACTS_TYPE, REPORT_TYPE, TELEMETRY_TYPE, opened

# The kind of answers to commands. Each counts, the first before the others, so that no newer one takes its place.
ANSWER: Final = "cmd"


class Inbound(NamedTuple):
    """One message of a device; ``kind`` is the topic level after ``up``."""

    device: DeviceId
    kind: str
    payload: bytes


class Said(NamedTuple):
    """A signed document, its bytes, and the device's next key where that has signed it."""

    document: Facts | Report | Telemetry | Answer
    data: bytes
    next_key: str = ""


# What a message says, or why it says nothing.
Document = Status | Said | Exception
# What is signed, by the topic level after ``up``: the document, its type in the envelope, and its bound in bytes.
_SIGNED: Final[dict[str, tuple[type[Facts | Report | Telemetry | Answer], str, int]]] = {
    "facts": (Facts, FACTS_TYPE, facts_wire.LIMIT),
    "report": (Report, REPORT_TYPE, report_wire.LIMIT),
    "telemetry": (Telemetry, TELEMETRY_TYPE, telemetry_wire.LIMIT),
    ANSWER: (Answer, ANSWER_TYPE, commands_wire.ANSWER_LIMIT),
}


def signed(message: Inbound, keys: Keys, now: float) -> Said:
    """What a signed message says.

    Raises:
        Untrusted: none of these keys signed it, or the document is another device's.
        Invalid: it cannot be read.
    """
    kind, payload_type, limit = _SIGNED[message.kind]
    accepted = keys.accepted(now)
    known = [device_keys.public(pem) for pem in accepted.values()]
    signed = opened(message.payload, payload_type=payload_type, keys=known, limit=limit)
    document = canonical.decode(signed.payload, kind, limit=limit, what=f"up/{message.kind}")
    if document.device != message.device:
        raise Untrusted(f"the document is {document.device}'s", element=message.device)
    by_next = keys.next if keys.next in {accepted[keyid] for keyid in signed.keyids} else None
    return Said(document, signed.payload, by_next or "")
