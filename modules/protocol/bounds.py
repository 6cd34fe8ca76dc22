"""Bounded types of the wire: what a number, a text or a list may be at most, checked while a document is decoded.

Every integer is exact in JSON for every reader (2^53 - 1) and fits SQLite's 64 bits; every time lies within the years
that :class:`datetime.datetime` and people know; every text has an end.
"""

from typing import Annotated, Final

import msgspec

MAX_COUNT: Final = (1 << 53) - 1
# 9999-12-31: beyond it, datetime raises.
MAX_TIME: Final = 253_402_300_799

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
# Unix seconds.
Time = Annotated[float, msgspec.Meta(ge=0, le=MAX_TIME)]
WholeTime = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
# A code, a phase, an engine, a provider.
Word = Annotated[str, msgspec.Meta(max_length=100)]
# A reference, a version, a path.
Line = Annotated[str, msgspec.Meta(max_length=500)]
# A sentence for the operator.
Sentence = Annotated[str, msgspec.Meta(max_length=2000)]
# A row of numbers that starts again at 1 where a device has lost its database; empty: a device of before.
Epoch = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16})?\Z")]
