"""Those who wait for what a device answers next: each asks the database now and then, and there are not too many."""

import asyncio
import time
from typing import Final

from starlette.concurrency import run_in_threadpool

from fleet.commands import view
from fleet.db import Database

# Requests that wait at a time; a further one is answered at once.
AT_MOST: Final = 100
LOOK_EVERY_S: Final = 0.25


class Followers:
    """Used in the event loop's thread alone."""

    def __init__(self) -> None:
        self._waiting = 0

    async def wait(self, database: Database, ident: str, *, first: int, wait_s: float) -> None:
        """Until a command has part ``first``, or is over, or so many seconds have passed.

        Raises:
            Missing: there is no such command.
        """
        until = time.monotonic() + (wait_s if self._waiting < AT_MOST else 0)
        self._waiting += 1
        try:
            while True:
                over, answers = await run_in_threadpool(_stands, database, ident)
                if over or answers >= first or time.monotonic() >= until:
                    return
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._waiting -= 1


def _stands(database: Database, ident: str) -> tuple[bool, int]:
    with database.read() as connection:
        return view.stands(connection, ident)
