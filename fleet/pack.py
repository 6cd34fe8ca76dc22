"""The devices that pull one blob together, and which block goes out next: rules alone, no I/O and no clock.

A device asks for a few blocks ahead, and its next request says that the earlier ones have come. So the pack goes at the
pace of whoever takes part: a block goes out once nobody who is near has still to ask for it. That bounds what waits in
the broker for slow devices. Nobody can hold the others up for long: once half of them are ready, each has
``PATIENCE_S`` of their time, and a little more for each block that it gets through. The first is also how long a device
has to find out that its link is too slow, and leave.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from modules.digests import BLOCK
from modules.names import DeviceId
from modules.protocol.blobs import BlobGet

# Before the first block: as long as others keep coming, but not longer than a device waits for its first block.
GATHER_S: Final = 2.0
GATHER_MOST_S: Final = 10.0
PATIENCE_S: Final = 4.0
PATIENCE_PER_BLOCK_S: Final = 0.5
# Who asks for a block that has gone out already may have it under way, and others may miss it, too.
MERGE_S: Final = 2.0
# Further behind, a device is late, and not waited for.
SPAN: Final = 32
# Each block goes to all who read the topic: not for a few of many.
SHARE: Final = 4
OPEN_PER_DEVICE: Final = 64
# A device that was sent so many blocks since it was heard of, and asks for none, is dead: the broker keeps them for it.
DEAD_AFTER: Final = 64
# Whoever has not been heard of for so long has left; and a blob that nobody asks for is no broadcast any more.
SILENT_S: Final = 6.0
GONE_S: Final = 60.0


class Ask(NamedTuple):
    """One device waits for one block since then, in its request of that number."""

    request: int
    since: float


@dataclass
class Member:
    """One device: the highest block it has asked for and the highest it misses; what it waits for, in which request.

    ``sent_before`` is how many blocks had gone out when it was heard of.
    """

    heard: float
    last: int = 0
    reached: int = -1
    sent_before: int = 0
    patience: float = PATIENCE_S
    open: dict[int, int] = field(default_factory=dict)


class Turn(NamedTuple):
    """What is to be sent now: a block to all, or blocks of one request to each of a few devices."""

    number: int
    to_all: bool
    requests: dict[DeviceId, tuple[int, list[int]]]


class Pack:
    """One blob of so many bytes; ``expected`` is how many devices are known to want it. Times in seconds."""

    def __init__(self, length: int, expected: int, now: float) -> None:
        self.length, self.expected = length, expected
        self.members: dict[DeviceId, Member] = {}
        self._asks: dict[int, dict[DeviceId, Ask]] = {}
        self._sent: set[int] = set()
        self._count = 0
        self._began = self._newest = self.heard = now
        self._held: float | None = None

    def _begin(self, now: float) -> None:
        """Those who come now are the next wave: nothing has gone out to them."""
        self.members.clear()
        self._sent.clear()
        self._began = self._newest = now
        self._held = None

    def ask(self, device: DeviceId, get: BlobGet, now: float) -> bool:
        """A device waits for blocks; False where it may not: there are no such blocks, or it waits for too many."""
        numbers = get.numbers
        if numbers[-1] * BLOCK >= max(self.length, 1):
            return False
        if not self._asks and all(now - one.heard > SILENT_S for one in self.members.values()):
            self._begin(now)
        known = self.members.get(device)
        member = known or Member(now)
        self._forget(device, member, {get.request, *get.still})
        if len(member.open) + len(numbers) > OPEN_PER_DEVICE:
            return False
        if known is None:
            self._newest = now
        self.members[device] = member
        member.heard = self.heard = now
        member.sent_before = self._count
        member.last = min(max(get.last, numbers[-1]), self.length // BLOCK)
        gone_through = max(numbers[-1] - member.reached, 0)
        member.patience = min(member.patience + gone_through * PATIENCE_PER_BLOCK_S, PATIENCE_S)
        member.reached = max(member.reached, numbers[-1])
        member.open |= dict.fromkeys(numbers, get.request)
        for number in numbers:
            self._asks.setdefault(number, {})[device] = Ask(get.request, now)
        return True

    def leave(self, device: DeviceId) -> None:
        """A device reads the topic no more, and nothing is to be sent to it."""
        if member := self.members.get(device):
            self._forget(device, member, set())
            self.members.pop(device, None)

    def dead(self, now: float) -> list[DeviceId]:
        """Devices that have been sent much since they were heard of, and ask for no more, though they miss some."""
        return [
            device
            for device, one in self.members.items()
            if now - one.heard > SILENT_S and self._count - one.sent_before >= DEAD_AFTER
        ]

    def _forget(self, device: DeviceId, member: Member, waits: set[int]) -> None:
        """What was asked for in other requests than these has come."""
        for number in [number for number, request in member.open.items() if request not in waits]:
            self._got(device, member, number)

    def size_of(self, number: int) -> int:
        """Bytes of one block."""
        return min(BLOCK, self.length - number * BLOCK)

    def over(self, now: float) -> bool:
        """Nobody waits, and nobody has asked for long."""
        return not self._asks and now - self.heard > GONE_S

    def turn(self, now: float) -> Turn | float | None:
        """What to send now; else until when nothing is, or None where nobody waits."""
        waits: list[float] = []
        unsent = True
        for number in sorted(self._asks):
            if number in self._sent:
                due = min(ask.since for ask in self._asks[number].values()) + MERGE_S
            elif unsent:
                due = self._due(number, now)
                unsent = False  # what comes after it waits with it
            else:
                continue
            if due <= now:
                return self._take(number)
            waits.append(due)
        return min(waits, default=None)

    def _due(self, number: int, now: float) -> float:
        """When a block that has not gone out yet may."""
        if not self._sent and len(self.members) < self.expected:
            gathered = min(self._newest + GATHER_S, self._began + GATHER_MOST_S)
            if gathered > now:
                return gathered
        behind = [
            one
            for one in self.members.values()
            if one.reached < number <= one.last
            and number - one.reached <= SPAN
            and one.patience > 0
            and now - one.heard < SILENT_S
        ]
        ready = len(self._asks[number])
        if behind and self._held is not None:
            for one in behind:
                one.patience -= now - self._held
            behind = [one for one in behind if one.patience > 0]
        # Their time is counted once half of all are ready.
        self._held = now if behind and ready >= len(behind) else None
        if not behind:
            return now
        return now + (min(one.patience for one in behind) if self._held is not None else MERGE_S)

    def _take(self, number: int) -> Turn:
        askers = self._asks[number]
        alive = sum(1 for one in self.members.values() if one.open)
        if len(askers) > 1 and len(askers) * SHARE >= alive:
            self._sent.add(number)
            self._count += 1
            for device in list(askers):
                self._got(device, self.members[device], number)
            return Turn(number, to_all=True, requests={})
        requests = {}
        for device, ask in list(askers.items()):
            # Those of the same request that nobody else waits for go along.
            member = self.members[device]
            numbers = [number] + [
                other
                for other, request in sorted(member.open.items())
                if other > number and request == ask.request and self._asks[other].keys() == {device}
            ]
            for one in numbers:
                self._got(device, member, one)
            requests[device] = (ask.request, numbers)
        return Turn(number, to_all=False, requests=requests)

    def _got(self, device: DeviceId, member: Member, number: int) -> None:
        """A device need not wait for a block any more."""
        del member.open[number]
        askers = self._asks[number]
        del askers[device]
        if not askers:
            del self._asks[number]
        if not member.open and member.reached >= member.last:
            self.members.pop(device, None)
