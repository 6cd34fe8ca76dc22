"""What a device measures of a module while it serves: for the gates of a rollout. A part of ``up/report``.

Counts are of one window, which the device closes and replaces; they say nothing of single requests. Everything is
bounded: a sketch (modules/sketch.py) is some hundred bytes, whatever was answered.
"""

from typing import Annotated, Final

import msgspec

from modules.bounds import Count, Mebibytes, Real
from modules.sketch import BINS

# Samples that a device asks again in one window.
MOST_SAMPLES: Final = 16
Sketch = Annotated[tuple[Count, ...], msgspec.Meta(max_length=BINS)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One window of one module in one slot.

    ``requests`` and ``errors`` (answers of 500 and above, and none) and the latencies in milliseconds are those that
    applications saw at the gateway. ``answers`` were looked at by the module's server, of which ``nan`` had a number
    that is none and ``empty`` had none; ``values`` is the sketch of their numbers. ``samples`` were asked again while
    it served, of which ``agree`` gave the reference's answer. Memory in MiB, its growth in MiB an hour since it served.
    """

    seconds: Seconds
    requests: Count = 0
    errors: Count = 0
    p50_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    answers: Count = 0
    nan: Count = 0
    empty: Count = 0
    values: Sketch = ()
    samples: Count = 0
    agree: Count = 0
    memory_mb: Mebibytes | None = None
    memory_growth_mb_h: Real | None = None
    temperature_c: Real | None = None
