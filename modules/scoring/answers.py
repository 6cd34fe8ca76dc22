"""What a model's answers are like: how many had a number that is none, how many were empty, how numbers are spread.

A sample of them, at a bounded price: each look is followed by a time in which nothing is looked at.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from modules.scoring.runtime import Answer
from modules.sketch import BINS, bin_of

# Numbers of one answer that are looked at.
MOST_NUMBERS: Final = 1024
# At most twenty answers a second, and, where a look takes long, at most a fiftieth of the time.
_APART_S: Final = 0.05
_TIMES_APART: Final = 50.0
_MOST_NODES: Final = 4 * MOST_NUMBERS
_MOST_BYTES: Final = 1 << 20
_GOOD: Final = range(200, 300)
_LARGEST: Final = 1 << 62
_log = logging.getLogger(__name__)


class Answers:
    """Counts that only grow, since the server began. Threads share it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()
        self.looked = self.nan = self.empty = 0
        self.values = [0] * BINS

    def due(self) -> bool:
        """Whether the next answer is to be looked at; asked of each, so it costs next to nothing."""
        return self._clock() >= self._next

    def look(self, counted: Callable[[], "Counted | None"]) -> None:
        """Let ``counted`` look at one answer; None from it does not count."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is looking
        began = self._clock()
        try:
            found = counted()
            if found is not None:
                self.looked += 1
                self.nan += found.nan
                self.empty += found.empty
                for number, count in found.bins:
                    self.values[number] += count
        except Exception:  # noqa: BLE001 - whatever it was, the client gets its answer
            _log.exception("an answer could not be looked at")
        finally:
            ended = self._clock()
            self._next = ended + max(_APART_S, _TIMES_APART * (ended - began))
            self._lock.release()


class Counted:
    """What one answer is like: whether a number is none, whether nothing is in it, and its numbers by bin."""

    __slots__ = ("bins", "empty", "nan")

    def __init__(self, bins: Iterable[tuple[int, int]] = (), *, nan: bool = False, empty: bool = False) -> None:
        self.bins, self.nan, self.empty = bins, nan, empty


def total(several: Iterable[Answers]) -> dict[str, Any]:
    """As the agent is told of all models together."""
    found = list(several)
    values = [sum(column) for column in zip(*(one.values for one in found), strict=True)]
    return {
        "looked": sum(one.looked for one in found),
        "nan": sum(one.nan for one in found),
        "empty": sum(one.empty for one in found),
        "values": values if any(values) else [],
    }


def of_script(answer: Answer) -> Counted | None:
    """What a script's answer is like; None where it is too large to be read, is no success, or is still being made."""
    body = answer.body
    if answer.status not in _GOOD or answer.failed or not isinstance(body, bytes | bytearray | memoryview):
        return None
    if len(body) > _MOST_BYTES:
        return None
    if not any(name.lower() == "content-type" and "json" in value for name, value in answer.headers):
        return Counted(empty=not len(body))
    try:
        document = _read(bytes(body))
        # Scripts for Azure ML like to write JSON themselves, which is then a text in JSON.
        return of_document(_read(document.encode()) if isinstance(document, str) and document[:1] in "[{" else document)
    except (ValueError, RecursionError):
        return Counted(empty=not len(body))


def of_document(document: Any) -> Counted:
    """What a document is like: as far as its first some thousand nodes.

    NaN is written as null. In a list it stands for a number, elsewhere for something that is left out.
    """
    bins: dict[int, int] = {}
    nan = False
    leaves = seen = 0
    waiting = [document]
    while waiting and seen < _MOST_NODES and leaves < MOST_NUMBERS:
        one = waiting.pop()
        seen += 1
        if isinstance(one, Mapping):
            waiting.extend(list(one.values())[:_MOST_NODES])
        elif isinstance(one, list):
            here = one[:_MOST_NODES]
            nulls = here.count(None)
            nan = nan or nulls > 0
            leaves += nulls
            waiting.extend(here)
        elif isinstance(one, bool | int | float):
            leaves += 1
            value = float(max(-_LARGEST, min(_LARGEST, one))) if isinstance(one, int) else one
            if value - value == 0:  # neither NaN nor infinite
                number = bin_of(value)
                bins[number] = bins.get(number, 0) + 1
            else:
                nan = True
        elif one is not None and one != "":
            leaves += 1
    return Counted(bins.items(), nan=nan, empty=not leaves)


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # it takes NaN and Infinity, which Python writes
