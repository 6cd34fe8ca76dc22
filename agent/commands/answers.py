"""Answers on their way to the server: kept on disk first, signed as they go, one after another, as the link allows."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from securesystemslib.signer import Signer

from agent.clock import Clock
from agent.commands.kept import Kept, Known
from agent.link import Link
from modules import canonical, signing
from modules.clipping import clipped
from modules.errors import EdgefleetError, LinkLost
from modules.names import DeviceId
from modules.protocol.commands import PIECE, RESULT_LIMIT, Answer, State
from modules.protocol.report import Reason

#: Until answers are said again for a command that comes again; doubled each time, for a broker may repeat it for ever.
AGAIN_S: Final = 30.0
SELDOM_S: Final = 3600.0
# After a session broke within a publish, before the next try.
_PAUSE_S: Final = 1.0
_PROGRESS_S: Final = 1.0
_log = logging.getLogger(__name__)


class _Said(NamedTuple):
    """When a command's answers may be said again, in seconds of the boot, and how long the wait is by then."""

    at: float
    wait_s: float


class Answers:
    """``run`` sends until it is cancelled."""

    def __init__(self, device: DeviceId, *, kept: Kept, link: Link, signer: Callable[[], Signer], clock: Clock) -> None:
        self._device = device
        self._kept = kept
        self._link = link
        self._signer = signer
        self._clock = clock
        self._queue: deque[tuple[Known, int]] = deque()
        self._more = asyncio.Event()
        self._connected = asyncio.Event()
        self._idle = asyncio.Event()
        self._again: dict[str, _Said] = {}

    def say(self, known: Known, *answers: Answer) -> Known:
        """Keep the next answers to a command, in one write, and send them when their turn comes.

        Raises:
            NoSpace: they cannot be kept, so they are not said.
        """
        made = [clipped(answer) for answer in answers]
        self._kept.say([(answer, canonical.encode(answer)) for answer in made])
        return self._send(known, made)

    def refuse(self, answer: Answer, *, digest: str) -> None:
        """Say, once and for all, that a command is not followed.

        Raises:
            NoSpace: that cannot be kept.
        """
        made = clipped(answer)
        self._kept.refuse(made, canonical.encode(made), digest=digest)
        self._send(Known(made.id, digest, made.name, made.state, 0), [made])

    def _send(self, known: Known, made: list[Answer]) -> Known:
        self._queue.extend((known, answer.part) for answer in made)
        self._more.set()
        self._put_off(known.id, AGAIN_S)
        return known._replace(state=made[-1].state, parts=made[-1].part)

    def answer(self, known: Known, state: State, **more: object) -> Answer:
        """The next answer to a command."""
        fields = {"id": known.id, "device": self._device, "name": known.name, "part": known.parts + 1, "state": state}
        return msgspec.convert({**fields, **more}, Answer, from_attributes=True)

    def again(self, known: Known) -> None:
        """Say everything that is kept of it once more, unless that was only just done, or is under way."""
        said = self._again.get(known.id, _Said(0.0, AGAIN_S / 2))
        if self._clock.monotonic() < said.at or any(one.id == known.id for one, _ in self._queue):
            return
        self._put_off(known.id, min(2 * said.wait_s, SELDOM_S))
        self._queue.extend((known, part) for part in self._kept.parts(known.id))
        self._more.set()

    def _put_off(self, ident: str, wait_s: float) -> None:
        self._again.pop(ident, None)  # so that the last one here is the newest
        self._again[ident] = _Said(self._clock.monotonic() + wait_s, wait_s)
        while len(self._again) > _REMEMBERED:
            del self._again[next(iter(self._again))]

    def on_connect(self) -> None:
        """There is a session."""
        self._connected.set()

    async def sent(self, within_s: float) -> None:
        """Wait until the broker has all of them, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._queue:
                    self._idle.clear()
                    await self._idle.wait()

    async def run(self) -> None:
        while True:
            while not self._queue:
                self._more.clear()
                self._idle.set()
                await self._more.wait()
            if not self._link.connected:
                self._connected.clear()
                await self._connected.wait()
                continue
            try:
                await self._publish(*self._queue[0])
            except LinkLost:
                await self._clock.sleep(_PAUSE_S)
                continue
            except EdgefleetError as error:
                _log.warning("an answer was not sent: %s", error)
            except Exception:  # noqa: BLE001 - whatever it is, the next answers are sent
                _log.exception("an answer met a defect of this program, please report it")
            self._queue.popleft()

    async def _publish(self, known: Known, part: int) -> None:
        document = self._kept.answer(known.id, part)
        if document is not None:
            envelope = signing.sign(document, payload_type=signing.ANSWER_TYPE, signers=[self._signer()])
            await self._link.publish(self._link.topics.answer(self._device), envelope)


class Saying:
    """What one command says while it is followed; each method raises NoSpace where it cannot be kept."""

    def __init__(self, answers: Answers, known: Known, clock: Clock) -> None:
        self._answers = answers
        self._known = known
        self._clock = clock
        self._told_at = 0.0
        #: bytes that the result may still have
        self.left = RESULT_LIMIT

    @property
    def next_part(self) -> int:
        return self._known.parts + 1

    def began(self, note: str = "") -> None:
        """That it is being followed."""
        self._say("running", note=note)

    def progress(self, share: float, note: str = "") -> None:
        """How far it is, from 0 to 1; told once a second at most."""
        if self._clock.monotonic() - self._told_at >= _PROGRESS_S:
            self._told_at = self._clock.monotonic()
            self._say("running", progress=min(max(share, 0.0), 1.0), note=note)

    def result(self, data: bytes, content: str) -> None:
        """The next bytes of the result, in pieces; what is more than a result may have is left away."""
        data = data[: self.left]
        self.left -= len(data)
        pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
        made, known = [], self._known
        for piece in pieces:
            made.append(self._answers.answer(known, "running", content=content, data=piece))
            known = known._replace(parts=known.parts + 1)
        if made:
            self._known = self._answers.say(self._known, *made)

    def done(self, note: str) -> None:
        self._say("done", note=note)

    def failed(self, reason: Reason) -> None:
        self._say("failed", reason=reason)

    async def sent(self, within_s: float) -> None:
        await self._answers.sent(within_s)

    def _say(self, state: State, **more: object) -> None:
        self._known = self._answers.say(self._known, self._answers.answer(self._known, state, **more))


_REMEMBERED: Final = 512
