"""What went wrong with one message, order, block or row, while everything else went on: counted, and said once.

Nothing that comes from outside may end a duty of the server. What could not be done is counted under a short name, said
in the log with its traceback at most once an hour for each name, and shown by ``/healthz``.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

log = logging.getLogger(__name__)

SAID_EVERY_S: Final = 3600.0
# Names come from our own code, so this is never reached; it bounds the memory all the same.
NAMES: Final = 100


class Mishaps:
    """Counts since the start of the server; used from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._said: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self._warnings: dict[str, list[str]] = {}

    @property
    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    @property
    def trouble(self) -> str:
        """What keeps the server from its work right now, in words; empty where nothing does."""
        with self._lock:
            return "; ".join(self._trouble.values())

    @property
    def warnings(self) -> list[str]:
        """What will keep it from its work one day, unless somebody looks at it."""
        with self._lock:
            return [words for some in self._warnings.values() for words in some]

    @property
    def kinds(self) -> list[str]:
        """The same without a name in it, for whoever may not see those."""
        with self._lock:
            return [
                f"{len(some)} of {name}: ask as who may read events" for name, some in self._warnings.items() if some
            ]

    def warn(self, name: str, words: list[str]) -> bool:
        """The warnings of this name from now on, logged once; whether there is one that was not there before."""
        with self._lock:
            before = self._warnings.get(name, [])
            self._warnings[name] = words
        news = [one for one in words if one not in before]
        for one in news:
            log.warning("%s", one)
        return bool(news)

    def note(self, name: str, about: str, error: BaseException) -> None:
        """Count one; ``about`` says which device, order or blob it was."""
        now = self._clock()
        with self._lock:
            if len(self._counts) < NAMES or name in self._counts:
                self._counts[name] += 1
            silent = abs(now - self._said.get(name, -SAID_EVERY_S)) < SAID_EVERY_S
            if not silent:
                self._said[name] = now
        if not silent:
            log.error("%s failed (%s), the others go on", name, about, exc_info=error)

    @contextmanager
    def alone(self, name: str, about: str) -> Iterator[None]:
        """Whatever goes wrong inside is noted and ends nothing else."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - that is what this is for
            self.note(name, about, error)

    def begins(self, name: str, words: str) -> None:
        """An outage, until :meth:`ends` of the same name; logged once."""
        with self._lock:
            known = name in self._trouble
            self._trouble[name] = words
        if not known:
            log.error("%s", words)

    def ends(self, name: str) -> None:
        with self._lock:
            known = self._trouble.pop(name, None)
        if known is not None:
            log.warning("it is over: %s", known)
