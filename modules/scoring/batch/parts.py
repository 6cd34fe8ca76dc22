"""A run that several share, each on a machine of its own: each asks its part of the inputs, with a state of its own.

Whoever is through with its part says so there; the last one writes what all of them have answered. Nobody holds its own
state while it waits for another's, so any of them may end and begin again at any moment.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from modules.scoring.batch import results
from modules.scoring.batch.items import Items
from modules.scoring.batch.ledger import InUse, Ledger, Plan, own

log = logging.getLogger(__name__)

T = TypeVar("T")
DONE: Final = "done.json"
_LOOK_AGAIN_S: Final = 1.0


class Part(NamedTuple):
    """Whose share this is, from 0, and of which run; how long it waits for a state that another has."""

    number: int
    plan: Plan
    state: Path
    patience_s: float

    async def ledger(self, workers: int) -> Ledger:
        """Its own state, once no other run has it."""
        if self.plan.parts == 1:
            return await self._patiently(partial(Ledger, self.state, self.plan, workers))
        async with self._shared():
            pass  # that it is of this run is agreed before any of them begins
        return await self._of(self.number, workers)

    async def finish(self, ledger: Ledger, outputs: Path, items: Items) -> None:
        """It is through: its answers are written, with those of all others if it is the last. It closes its state.

        Raises:
            NoSpace: the disk takes no more.
            InUse: another one that is through holds its state for longer than is waited.
        """
        if self.plan.parts == 1:
            results.write(outputs, items, ledger)
            return
        ledger.replace(DONE, self.number)
        ledger.close()
        async with self._shared():
            if all((self._folder(number) / DONE).exists() for number in range(self.plan.parts)):
                with contextlib.ExitStack() as held:
                    every = [
                        held.enter_context(contextlib.closing(await self._of(number, 1)))
                        for number in range(self.plan.parts)
                    ]
                    results.write(outputs, items, *every)

    async def stop(self, ledger: Ledger, outputs: Path, items: Items) -> None:
        """Too many have failed: it is said which of its own have."""
        async with self._shared():
            results.write_aside(outputs, items, ledger)

    @contextlib.asynccontextmanager
    async def _shared(self) -> AsyncIterator[None]:
        """What all of them share, for it alone; with one there is nothing to share."""
        held = [] if self.plan.parts == 1 else [await self._patiently(partial(own, self.state, self.plan))]
        try:
            yield
        finally:
            for lock in held:
                os.close(lock)

    async def _of(self, number: int, workers: int) -> Ledger:
        return await self._patiently(partial(Ledger, self._folder(number), self.plan, workers, number))

    def _folder(self, number: int) -> Path:
        return self.state / f"part-{number}"

    async def _patiently(self, take: Callable[[], T]) -> T:
        """What it takes, once no other run has it: one whose machine went away holds it until that is noticed."""
        began = time.monotonic()
        waits = False
        while True:
            try:
                return take()
            except InUse as error:
                if time.monotonic() - began >= self.patience_s:
                    raise
                if not waits:
                    log.info("%s; it waits", error.message)
                waits = True
            await asyncio.sleep(_LOOK_AGAIN_S)  # a lock cannot be waited for and given up
