"""What is asked for with a click is done once, however often and how fast somebody clicks."""

import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

# Clicks that follow each other faster are one: a double click, or the impatience of somebody who waits.
_APART_S: Final = 0.5


def once(act: Callable[..., Awaitable[None]], apart_s: float = _APART_S) -> Callable[..., Awaitable[None]]:
    """The same, which does nothing while it is under way, nor for a click right after another."""
    busy, last = False, -apart_s

    @wraps(act)
    async def acted(*given: Any) -> None:
        nonlocal busy, last
        now = time.monotonic()
        again, last = busy or now - last < apart_s, now
        if again:
            return
        busy = True
        try:
            await act(*given)
        finally:
            busy = False

    return acted
