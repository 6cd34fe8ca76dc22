"""A circuit breaker: whoever failed several times in a row is left alone for a while, then tried by one request."""

from typing import Final, NamedTuple

from agent.gateway.losses import now

_DOUBLED: Final = 2.0


class Open(NamedTuple):
    """Nobody is asked now: why, and after how many seconds it may be tried again."""

    why: str
    for_s: float


class Breaker:
    """Closed at first. It closes again by itself, once a request is answered.

    Args:
        failures: so many in a row open it.
        pause_s: how long it is open at first; each failed try doubles that.
        longest_s: how long at most.
    """

    def __init__(self, *, failures: int, pause_s: float, longest_s: float) -> None:
        self._failures, self._first_s, self._longest_s = failures, pause_s, longest_s
        self._in_a_row = 0
        self._pause_s = 0.0
        self._until = 0.0
        self._trying = False
        self._why = ""
        #: it was opened because the other side did not let us in, which a new credential may change
        self.unwelcome = False

    def state(self) -> Open | None:
        """Why nobody may be asked now; None: ask, with :meth:`begin`."""
        if not self._pause_s:
            return None
        left = self._until - now()
        if left <= 0 and not self._trying:
            return None
        return Open(self._why, max(left, 1.0))

    def begin(self) -> None:
        """A request is sent; while it is half open, no other goes beside it."""
        self._trying = bool(self._pause_s)

    def left(self) -> None:
        """The request ended without saying anything of the other side: its client went away."""
        self._trying = False

    def answered(self) -> bool:
        """The other side works; True if it had been left alone."""
        was_open = bool(self._pause_s)
        self._in_a_row, self._pause_s, self._trying, self.unwelcome = 0, 0.0, False, False
        return was_open

    def failed(self, why: str, *, at_once: bool = False) -> bool:
        """It does not work; True if that opens it. ``at_once``: it does not let us in, and will not a second time."""
        self._in_a_row += 1
        if self._pause_s and not self._trying:
            return False  # of those that were on their way when it opened
        opens = at_once or self._trying or self._in_a_row >= self._failures
        first = not self._pause_s
        if opens:
            self._pause_s = self._first_s if first else min(self._pause_s * _DOUBLED, self._longest_s)
            self._until, self._why, self.unwelcome = now() + self._pause_s, why, at_once
        self._trying = False
        return opens and first
