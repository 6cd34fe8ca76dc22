"""An event loop whose time is its own: where everything waits, the next timer is due at once.

So a block that never comes costs no time, and a busy machine makes no block late: the same attack always ends the same.
What would be done in a thread beside the loop is done in it; only an executor of somebody's own, trust's, is a thread,
and while that works no time passes.
"""

import asyncio
import selectors
from concurrent.futures import Executor

#: So long may a thread take between two words to the loop, in real seconds.
_STUCK_S = 60.0


class InstantLoop(asyncio.SelectorEventLoop):
    """``waiting`` is how many calls of a thread the loop itself has to answer before the thread goes on."""

    def __init__(self) -> None:
        self.waiting = 0
        self._working = 0
        self._passed = 0.0
        super().__init__(_Patient(self))

    def time(self) -> float:
        return self._passed

    def run_in_executor(self, executor: Executor | None, func, *args):
        if executor is None:
            done = self.create_future()
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                done.set_exception(error)
            return done
        self._working += 1
        under_way = super().run_in_executor(executor, func, *args)
        under_way.add_done_callback(self._worked)
        return under_way

    def _worked(self, _) -> None:
        self._working -= 1

    def idle(self, wait_s: float | None) -> None:
        """Nothing is ready: time passes, unless a thread works."""
        if wait_s is None:
            raise RuntimeError("everything waits for what never comes")
        self._passed += wait_s

    @property
    def thread_works(self) -> bool:
        return self._working > self.waiting


class _Patient(selectors.DefaultSelector):
    def __init__(self, loop: InstantLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self._loop.thread_works:
            found = super().select(_STUCK_S)
            if not found:
                raise RuntimeError("a thread does not end")
            return found
        self._loop.idle(timeout)
        return found
