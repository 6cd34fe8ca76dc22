"""A run: workers that ask what the schedule says, and write down what became of it before they go on."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import EdgefleetError, NotReady, OverLimit
from modules.scoring.batch.child import Child, Lost, Reply
from modules.scoring.batch.items import Item, Items
from modules.scoring.batch.ledger import ANSWERED, ASIDE, Ledger, Reason
from modules.scoring.batch.results import record
from modules.scoring.batch.schedule import How, Schedule, Turn

# An input at which the module died or hung so often, or the whole run ended while nothing else was asked.
DEATHS: Final = 2
ENDED_RUNS: Final = 3
# So often in a row the module has nothing to answer with, with pauses of up to half a minute.
_UNAVAILABLE: Final = 20
_NOT_NOW: Final = frozenset({429, 503})
_SUCCESS: Final = range(200, 300)
_CLIENTS: Final = range(400, 500)
_SHOWN: Final = 500
# The server itself ends what takes too long; this is for one that does not even do that.
_BEYOND_S: Final = 30.0
_SYNC_S: Final = 1.0
_JSON: Final = "application/json"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is."""

    state: str
    items: int
    answered: int
    set_aside: int
    seconds: float


class Ways(NamedTuple):
    """How a run asks: ``size`` inputs together, for a script's ``run(mini_batch)`` in one list.

    ``largest`` are the bytes of the largest input that is read.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    workers: int
    size: int
    retries: int
    error_threshold: int
    timeout_s: float
    ready_s: float
    as_list: bool
    largest: int


class Run:
    """``run`` is all of it; ``tell`` hears how far it is, each ``every`` inputs and at the end."""

    def __init__(self, items: Items, ledger: Ledger, ways: Ways, *, tell: Callable[[Told], None], every: int) -> None:
        self._items, self._ledger, self._ways = items, ledger, ways
        self._tell, self._every = tell, every
        self._told = -1
        self._started = time.monotonic()
        last = set()
        for item in sorted(ledger.suspects):
            if ledger.status[item]:
                continue
            if ledger.ended_runs[item] >= ENDED_RUNS:
                why = f"the whole run ended {ledger.ended_runs[item]} times while this input alone was asked"
                ledger.set_aside(0, item, Reason(kind="poison", reason=why))
            else:
                last.add(item)
        self._schedule = Schedule(ledger.open_items(), last, ways.size)
        self._news = asyncio.Event()
        self._unavailable = 0
        # Asked together with what ended the module, or in a list that came back with another length: alone from now on.
        self._alone: set[int] = set()

    async def run(self) -> None:
        """To the end of all inputs.

        Raises:
            NotReady: the module cannot be served.
            OverLimit: more inputs failed than may.
            NoSpace: the disk takes no more.
        """
        self._check_threshold()
        self.tell("running")
        syncing = asyncio.create_task(self._sync(), name="sync")
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._ways.workers):
                    group.create_task(self._work(number), name=f"worker {number}")
        except* (EdgefleetError, OSError) as several:
            raise several.exceptions[0] from None
        finally:
            syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await syncing
            self._ledger.sync()

    def tell(self, state: str) -> None:
        counts = self._ledger.counts
        self._told = (counts[ANSWERED] + counts[ASIDE]) // self._every
        self._tell(
            Told(
                state=state,
                items=len(self._items),
                answered=counts[ANSWERED],
                set_aside=counts[ASIDE],
                seconds=round(time.monotonic() - self._started, 3),
            )
        )

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await asyncio.to_thread(self._ledger.sync)

    async def _work(self, number: int) -> None:
        child: Child | None = None
        try:
            while True:
                turn = self._schedule.next(time.monotonic())
                if turn is None:
                    if self._schedule.over:
                        # The others have nothing more to wait for.
                        self._news.set()
                        return
                    await self._wait()
                    continue
                if child is None:
                    child = await self._child()
                if not await self._ask(number, child, turn):
                    await child.end()
                    child = None
                self._schedule.done(turn)
                self._news.set()
                self._check_threshold()
                counts = self._ledger.counts
                if (counts[ANSWERED] + counts[ASIDE]) // self._every != self._told:
                    self.tell("running")
        finally:
            if child is not None:
                await child.end()

    async def _wait(self) -> None:
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._schedule.wait(time.monotonic())):
                await self._news.wait()

    async def _child(self) -> Child:
        ways = self._ways
        return await Child.start(ways.arguments, ways.environment, places=ways.size, within_s=ways.ready_s)

    async def _ask(self, number: int, child: Child, turn: Turn) -> bool:
        """Ask all of a turn and write down what became of it; False where the server is of no use any more."""
        bodies: dict[int, bytes] = {}
        # Before they are read: several may be more than the memory, and then it is known which they were.
        self._ledger.begin(number, list(turn.items), alone=turn.how == "exclusive")
        for item in turn.items:
            try:
                bodies[item] = await asyncio.to_thread(self._read, self._items[item])
            except OSError as error:
                why = error.strerror or str(error)
                self._ledger.set_aside(number, item, Reason(kind="unreadable", reason=why))
        if not bodies:
            return True
        if self._ways.as_list:
            return await self._ask_in_a_list(number, child, turn.how, bodies)
        asking = (self._one(child, self._items[item], body) for item, body in bodies.items())
        replies = await asyncio.gather(*asking)
        for item, reply in zip(bodies, replies, strict=True):
            self._note(number, item, reply, how=turn.how, others=len(bodies) > 1)
        return all(isinstance(reply, Reply) for reply in replies)

    def _read(self, item: Item) -> bytes:
        """The body; of a file whose path the script gets, nothing is read here."""
        if self._ways.as_list and not item.line:
            item.check()
            return b""
        return item.read(self._ways.largest)

    async def _one(self, child: Child, item: Item, body: bytes, content_type: str = "") -> Reply | Lost:
        limit = self._ways.timeout_s + _BEYOND_S if self._ways.timeout_s else None
        try:
            return await child.ask(body, content_type or item.content_type, within_s=limit)
        except Lost as lost:
            return lost

    async def _ask_in_a_list(self, number: int, child: Child, how: How, bodies: dict[int, bytes]) -> bool:
        """The script's own ``run(mini_batch)``: paths of files, and what stands in lines."""
        listed = []
        for item, body in bodies.items():
            found = self._items[item]
            # A name that is no UTF-8 is told in JSON's own escapes, by which the script finds the file.
            listed.append(msgspec.Raw(body if found.line else json.dumps(str(found.path)).encode()))
        body = msgspec.json.encode(listed)
        reply = await self._one(child, self._items[next(iter(bodies))], body, _JSON)
        if isinstance(reply, Lost) or reply.status not in _SUCCESS:
            for item in bodies:
                self._note(number, item, reply, how=how, others=len(bodies) > 1, listed=True)
            return isinstance(reply, Reply)
        answers = _listed(reply.body)
        if len(bodies) == 1:
            self._note_alone(number, next(iter(bodies)), reply, answers)
        elif answers is None or len(answers) != len(bodies):
            # Whose are missing, nobody says.
            for item in bodies:
                self._again(item, 0, "alone")
        else:
            for item, answer in zip(bodies, answers, strict=True):
                self._answered(number, item, bytes(answer), {"content-type": _JSON})
        return True

    def _note_alone(self, number: int, item: int, reply: Reply, answers: list[msgspec.Raw] | None) -> None:
        if answers is not None and not answers:
            self._failed(number, item, "run() returned nothing for it", 0, "alone")
        elif answers is not None and len(answers) == 1:
            self._answered(number, item, bytes(answers[0]), reply.headers)
        else:
            self._answered(number, item, reply.body, reply.headers)

    def _note(
        self, number: int, item: int, reply: Reply | Lost, *, how: How, others: bool, listed: bool = False
    ) -> None:
        if isinstance(reply, Lost):
            # Among several nobody knows which one it was.
            self._died(number, item, "the scoring server ended, or gave no answer", how, blamed=not others)
            return
        if reply.status in _SUCCESS:
            self._answered(number, item, reply.body, reply.headers)
            return
        why = _message(reply.body)
        if reply.status in _NOT_NOW:
            self._unavailable += 1
            if self._unavailable > _UNAVAILABLE * self._ways.workers * self._ways.size:
                raise NotReady(f"the module answers nobody any more: {why}", remedy="read its log, above")
            self._again(item, self._unavailable, how)
        elif reply.headers.get("x-edgefleet-error") == "run-ended":
            self._died(number, item, why, how, blamed=not (listed and others))
        elif listed and others:
            self._again(item, 0, "alone")
        elif reply.status in _CLIENTS:
            self._ledger.set_aside(number, item, Reason(kind="refused", reason=why, status=reply.status))
        else:
            self._failed(number, item, why, reply.status, how)

    def _answered(self, number: int, item: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._unavailable = 0
        self._ledger.answered(number, item, record(self._items[item], body, headers))

    def _failed(self, number: int, item: int, why: str, status: int, how: How) -> None:
        tries = self._ledger.tries[item] + 1
        if tries > self._ways.retries:
            self._ledger.set_aside(number, item, Reason(kind="failed", reason=why, status=status))
            return
        self._ledger.tried(number, item, "failed")
        self._again(item, tries, how)

    def _died(self, number: int, item: int, why: str, how: How, *, blamed: bool) -> None:
        if blamed and self._ledger.deaths[item] + 1 >= DEATHS:
            reason = f"the module ended {DEATHS} times at it, or took too long: {why}"
            self._ledger.set_aside(number, item, Reason(kind="poison", reason=reason))
            return
        if blamed:
            self._ledger.tried(number, item, "died")
        self._again(item, self._ledger.deaths[item], "exclusive" if how == "exclusive" else "alone")

    def _again(self, item: int, pauses: int, how: How) -> None:
        self._schedule.again(item, time.monotonic(), pauses, how)

    def _check_threshold(self) -> None:
        failed, most = self._ledger.counts[ASIDE], self._ways.error_threshold
        if 0 <= most < failed:
            raise OverLimit(
                f"{failed} inputs failed, and {most} may",
                element="--error-threshold",
                remedy="see set-aside.jsonl; run it again with a higher one, and it goes on there",
            )


def _listed(body: bytes) -> list[msgspec.Raw] | None:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except UNREADABLE:
        return None


def _message(body: bytes) -> str:
    """What the server says of a failure."""
    try:
        found: Any = msgspec.json.decode(body)
    except UNREADABLE:
        found = None
    text = found.get("message") if isinstance(found, dict) else None
    return str(text if text is not None else body.decode("utf-8", "replace"))[:_SHOWN]
