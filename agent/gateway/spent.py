"""How many requests each slot has sent to the cloud today, by UTC, kept over restarts.

What is written is ahead of what was sent: a part of the budget at a time, so that a power cut never makes the day
longer and the disk is not written for each request.
"""

import datetime as dt
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from agent.gateway.table import replace
from modules.bounds import Count
from modules.canonical import UNREADABLE

logger = logging.getLogger(__name__)

_DAY_S: Final = 86_400
#: of the budget, so much is written off at a time
_PART: Final = 100
_LIMIT: Final = 1 << 20


class _Kept(msgspec.Struct, frozen=True):
    day: Count
    slots: dict[str, Count] = {}


class Spent:
    """The counts of a day.

    Args:
        file: where they are kept; None: nowhere.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._day = _today()
        self._sent: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._trouble = False
        self._read()

    def is_over(self, slot: str, budget: int) -> bool:
        """Whether a slot has no request left today, of so many (0: it has no end)."""
        self._turn()
        return bool(budget) and self._sent[slot] >= budget

    def take(self, slot: str, budget: int) -> None:
        """One more is sent."""
        self._turn()
        self._sent[slot] += 1
        if budget and self._sent[slot] > self._written[slot]:
            self._written[slot] = min(budget, self._sent[slot] - 1 + max(1, budget // _PART))
            self._write(self._written)

    def give_back(self, slot: str) -> None:
        """It was never sent: nobody could be reached."""
        self._sent[slot] -= 1

    def of(self, slot: str) -> int:
        """How many were sent today."""
        self._turn()
        return self._sent[slot]

    def close(self) -> None:
        """Write down what was really sent."""
        if self._written:
            self._write(self._sent)

    @staticmethod
    def ends_in() -> int:
        """Seconds until the next day."""
        return _DAY_S - int(time.time()) % _DAY_S

    def _turn(self) -> None:
        # A clock that went back begins no second day: what was counted is today's, and the next day is not far.
        if (today := _today()) > self._day:
            self._sent.clear()
            self._written.clear()
        self._day = today

    def _read(self) -> None:
        try:
            data = b"" if self._file is None else self._file.read_bytes()[:_LIMIT]
        except FileNotFoundError:
            return
        except OSError as error:
            self._say(error)
            return
        try:
            kept = msgspec.json.decode(data, type=_Kept) if data else _Kept(day=0)
        except UNREADABLE as error:
            self._say(error)
            return
        # What a clock wrote that was ahead is counted as today's: it is not waited for.
        if kept.day >= self._day:
            self._sent.update(kept.slots)
            self._written.update(kept.slots)

    def _write(self, counts: Counter[str]) -> None:
        if self._file is None:
            return
        kept = _Kept(day=self._day, slots={slot: count for slot, count in counts.items() if count > 0})
        try:
            replace(self._file, msgspec.json.encode(kept))
        except OSError as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        """Once: without the file it counts on, and a restart begins the day anew."""
        if not self._trouble:
            self._trouble = True
            logger.error("what was sent to the cloud today cannot be kept over a restart: %s", error)


def _today() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp()) // _DAY_S
