"""Which inputs are asked next: pure, so that a test can play every order of events.

New ones come first, several at a time. What failed waits for its pause. What may have ended the module is asked alone
at its worker, and what may have ended the whole run is asked last, with nothing else anywhere.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0

How = Literal["together", "alone", "exclusive"]


class Turn(NamedTuple):
    """What one worker asks now."""

    items: tuple[int, ...]
    how: How


class Schedule:
    """The inputs that are open.

    Args:
        items: in order.
        last: those that are asked with nothing else anywhere.
        size: how many are asked together.
    """

    def __init__(self, items: Iterable[int], last: Iterable[int], size: int) -> None:
        self._last = sorted(last)
        late = frozenset(self._last)
        self._new: Iterator[int] = (item for item in items if item not in late)
        self._again: list[tuple[float, int, How]] = []
        self._size = size
        self._asked = 0

    def next(self, now: float) -> Turn | None:
        """What to ask now; None where there is nothing at this moment."""
        turn = self._due(now) or self._fresh()
        if turn is None and not self._asked and not self._again and self._last:
            turn = Turn((self._last.pop(0),), "exclusive")
        if turn is not None:
            self._asked += len(turn.items)
        return turn

    def done(self, turn: Turn) -> None:
        """All of it has an outcome; what is to be asked again was said before."""
        self._asked -= len(turn.items)

    def again(self, item: int, now: float, pauses: int, how: How) -> None:
        """Ask it once more, after a pause that doubles with each of the ``pauses`` before."""
        if how == "exclusive":
            self._last.append(item)
            return
        pause = 0.0 if pauses == 0 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(pauses - 1, 16))
        heapq.heappush(self._again, (now + pause, item, how))

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None: only the end of what is being asked brings anything."""
        if not self._again:
            return None
        return max(0.0, self._again[0][0] - now)

    @property
    def over(self) -> bool:
        """Nothing is open. Asked after :meth:`next` gave nothing."""
        return not (self._asked or self._again or self._last)

    def _due(self, now: float) -> Turn | None:
        if not self._again or self._again[0][0] > now:
            return None
        _, item, how = heapq.heappop(self._again)
        items = [item]
        while how == "together" and len(items) < self._size and self._again and self._again[0][0] <= now:
            if self._again[0][2] != "together":
                break
            items.append(heapq.heappop(self._again)[1])
        return Turn(tuple(items), how)

    def _fresh(self) -> Turn | None:
        items = tuple(item for _, item in zip(range(self._size), self._new, strict=False))
        return Turn(items, "together") if items else None
