"""What a gateway has counted, read from what it says of itself.

Apart from ``agent.measure``, which few agents load: telemetry needs this alone.
"""

import msgspec

from agent.answering import Told
from modules.counted import Counted


def counted(told: Told) -> dict[str, Counted]:
    """The gateway's counts by instance; what cannot be read is left out, as from a gateway of before."""
    found: dict[str, Counted] = {}
    for slot in told.slots:
        try:
            found |= msgspec.convert(slot.get("counts", {}), dict[str, Counted])
        except msgspec.ValidationError:
            continue
    return found
