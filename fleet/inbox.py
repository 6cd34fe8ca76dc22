"""Messages of devices that wait for the next batch: bounded altogether, and for each device and kind.

Each message of a kind is complete, so that of a flood the newest are enough: they take the place of the oldest of the
same device and kind. So a device that floods holds no more room than its share, and nobody else's messages wait for it.
Answers to commands are parts that follow each other: there the first ones stay, and what finds no room comes again.
"""

import asyncio
from collections import defaultdict, deque
from typing import Final

from fleet.ingest import OF_ONE_KIND
from fleet.said import ANSWER, Inbound

WAITING: Final = 5000
# Of one device: the parts of the largest result.
ANSWERS: Final = 80


class Inbox:
    """A line of messages in the order of their arrival; used from the event loop's thread alone."""

    def __init__(self, waiting: int = WAITING, of_one_kind: int = OF_ONE_KIND) -> None:
        self._most, self._of_one_kind = waiting, of_one_kind
        # By a number that counts up, so that any one of them can be taken out.
        self._line: dict[int, Inbound] = {}
        self._mine: defaultdict[tuple[str, str], deque[int]] = defaultdict(deque)
        self._count = 0
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._line)

    async def put(self, one: Inbound) -> bool:
        """Add a message, once there is room.

        False where it took the place of an older one of its device and kind, or an answer found no room.
        """
        mine = self._mine.get((one.device, one.kind))
        if one.kind == ANSWER:
            if mine is not None and len(mine) >= ANSWERS:
                return False
        elif mine is not None and len(mine) >= self._of_one_kind:
            del self._line[mine.popleft()]
            self._add(one)
            return False
        while len(self._line) >= self._most:
            self._room.clear()
            await self._room.wait()
        self._add(one)
        return True

    async def batch(self, most: int) -> list[Inbound]:
        """What waits, the oldest first and at most so many; at least one."""
        while not self._line:
            self._some.clear()
            await self._some.wait()
        batch: list[Inbound] = []
        while self._line and len(batch) < most:
            number = next(iter(self._line))
            one = self._line.pop(number)
            key = (one.device, one.kind)
            mine = self._mine[key]
            mine.popleft()  # of its own, too, it is the oldest
            if not mine:
                del self._mine[key]
            batch.append(one)
        self._room.set()
        return batch

    def _add(self, one: Inbound) -> None:
        self._count += 1
        self._line[self._count] = one
        self._mine[one.device, one.kind].append(self._count)
        self._some.set()
