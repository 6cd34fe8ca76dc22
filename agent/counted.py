"""What gateway and modules count of themselves since they began: bounded documents, whoever wrote them.

Apart from ``agent.measure``, which few agents load: telemetry needs these two alone.
"""

from typing import Annotated

import msgspec

from agent.answering import Told
from agent.latencies import BINS as LATENCIES
from modules.bounds import Count
from modules.sketch import BINS

Bin = Annotated[int, msgspec.Meta(ge=0, lt=LATENCIES)]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway saw of one instance in the last ``seconds``: counts that only grow, until it starts again."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    requests: Count = 0
    errors: Count = 0
    latencies: Annotated[tuple[tuple[Bin, Count], ...], msgspec.Meta(max_length=LATENCIES)] = ()


def counted(told: Told) -> dict[str, Counted]:
    """The gateway's counts by instance; what cannot be read is left out, as from a gateway of before."""
    found: dict[str, Counted] = {}
    for slot in told.slots:
        try:
            found |= msgspec.convert(slot.get("counts", {}), dict[str, Counted])
        except msgspec.ValidationError:
            continue
    return found


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a module's server says of its own answers since it began: a module's word, so everything is bounded."""

    looked: Count = 0
    nan: Count = 0
    empty: Count = 0
    values: Annotated[tuple[Count, ...], msgspec.Meta(max_length=BINS)] = ()
