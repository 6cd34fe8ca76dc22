"""Bounded types of every document: what a number, a text or a list may be at most, checked while it is decoded.

Every integer is exact in JSON for every reader (2^53 - 1) and fits SQLite's 64 bits; every time lies within the years
that :class:`datetime.datetime` and people know; every text has an end. ``tests/modules/test_bounds.py`` walks all
documents and finds a field without a bound.
"""

from typing import Annotated, Final

import msgspec

MAX_COUNT: Final = (1 << 53) - 1
# 9999-12-31: beyond it, datetime raises.
MAX_TIME: Final = 253_402_300_799
MAX_REAL: Final = 1e15
LONGEST_S: Final = 7 * 86400.0

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
# Unix seconds.
Time = Annotated[float, msgspec.Meta(ge=0, le=MAX_TIME)]
WholeTime = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]
# MiB of memory or disk; as bytes it is still exact in JSON.
Mebibytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 33)]
Cores = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
# Any other number of people's: neither infinite nor absurd.
Real = Annotated[float, msgspec.Meta(ge=-MAX_REAL, le=MAX_REAL)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
# A code, a phase, an engine, a provider.
Word = Annotated[str, msgspec.Meta(max_length=100)]
# A reference, a version, a path, a host's name.
Line = Annotated[str, msgspec.Meta(max_length=500)]
# A secret's name, which is the name of its file.
SecretName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")]
# A sentence for the operator.
Sentence = Annotated[str, msgspec.Meta(max_length=2000)]
# An https address with a path.
Address = Annotated[str, msgspec.Meta(max_length=2000)]
# Where an endpoint is, in the words of whoever runs it: eu-west, berlin.
Region = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?\Z")]
# Certificates of authorities, in PEM.
Authorities = Annotated[str, msgspec.Meta(max_length=16 << 10)]
# A description; the words that people hang on their models.
Text = Annotated[str, msgspec.Meta(max_length=64 << 10)]
# A row of numbers that starts again at 1 where a device has lost its database; empty: a device of before.
Epoch = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16})?\Z")]
