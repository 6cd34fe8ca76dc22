"""What gateway and modules count of themselves since they began: bounded documents, whoever wrote them.

Counts only grow. One that has gone back belongs to a new life: whoever counted has started again.
"""

from typing import Annotated

import msgspec

from modules.bounds import Count
from modules.latencies import BINS as LATENCIES
from modules.sketch import BINS

Bin = Annotated[int, msgspec.Meta(ge=0, lt=LATENCIES)]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway saw of one instance in the last ``seconds``: counts that only grow, until it starts again."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    requests: Count = 0
    errors: Count = 0
    latencies: Annotated[tuple[tuple[Bin, Count], ...], msgspec.Meta(max_length=LATENCIES)] = ()


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a module's server says of its own answers since it began: a module's word, so everything is bounded."""

    looked: Count = 0
    nan: Count = 0
    empty: Count = 0
    values: Annotated[tuple[Count, ...], msgspec.Meta(max_length=BINS)] = ()


class OfReplica(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica says of itself: of its answers, and the memory of its container in MiB; None: it does not say."""

    answers: Looked | None = None
    memory_mb: Annotated[float, msgspec.Meta(ge=0, le=1 << 33)] | None = None
