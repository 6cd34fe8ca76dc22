"""When a certificate is to be renewed, and when its end is near: shares of its life. Times are Unix seconds."""

import hashlib
from typing import Final

#: of its life, after which a certificate is renewed
DUE: Final = 2 / 3
# The devices of a site that enrolled together do not all ask in the same hour: spread over so much of the life before
# that. So a device that goes away has always a third of the life left, in which to come back.
SPREAD: Final = 1 / 12
#: of its life, after which somebody is told every day
LAST: Final = 9 / 10


def due_at(begins: float, ends: float, device: str = "") -> float:
    """When to renew: at two thirds of the life, for a device up to a twelfth sooner, always as much for one device."""
    share = DUE
    if device:
        share -= SPREAD * int.from_bytes(hashlib.sha256(device.encode()).digest()[:4]) / (1 << 32)
    return begins + share * (ends - begins)


def last_from(begins: float, ends: float) -> float:
    """When the last tenth of the life begins."""
    return begins + LAST * (ends - begins)
