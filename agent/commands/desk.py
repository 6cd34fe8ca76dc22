"""Commands as they come in: one after another, verified, followed once, or refused with a reason.

Whoever has the broker can send anything, as often as he likes. So few wait at a time, each is looked at only as the
budget allows, and the rest is dropped: what the server wants followed, it says again until it has the last answer.
"""

import asyncio
import importlib
import logging
import re
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.commands.answers import Answers, Saying
from agent.commands.kept import MOST, Kept, Known
from agent.commands.parts import Parts
from agent.commands.rules import objections
from agent.slots import reason
from modules import canonical, signing
from modules.bounds import Word
from modules.digests import sha256
from modules.errors import EdgefleetError, Invalid, NeedsOperator, Refused, Transient, Untrusted
from modules.names import DeviceField
from modules.order_rules import accept
from modules.protocol import commands
from modules.protocol.commands import COMMANDS, LIMIT, Command, CommandId, limit_of
from modules.protocol.report import Reason

#: Messages that wait to be looked at.
WAITING: Final = 8
#: Of these, such as bring bytes for a module along.
WAITING_LARGE: Final = 2
#: Looks at once, and until there is another one.
BUDGET: Final = 10
LOOK_EVERY_S: Final = 6.0
#: Commands that are followed at a time.
AT_ONCE: Final = 4
#: Trust metadata is fetched for commands no more often than this.
_ASK_EVERY_S: Final = 60.0
_ID: Final = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger(__name__)


class _Head(msgspec.Struct, frozen=True):
    """What an answer needs of a command, whatever else is wrong with it."""

    id: CommandId
    name: Word
    device: DeviceField


class _Came(NamedTuple):
    """A message: its topic's levels behind ``cmd``, and the envelope; how long it was where that was too long."""

    levels: tuple[str, ...]
    envelope: bytes
    too_long: int = 0

    @property
    def what(self) -> str:
        """Its name for people; a stranger's words are not repeated, for each would be another refusal."""
        named = bool(self.levels) and self.levels[0] in COMMANDS
        return f"command {self.levels[0]}" if named else "command"

    @property
    def limit(self) -> int:
        """The most bytes of what is signed, by what its topic says that it is."""
        return limit_of(self.levels[0] if self.levels else "")

    @property
    def large(self) -> bool:
        """Whether it takes more memory than a command does that brings nothing along."""
        return len(self.envelope) > signing.envelope_limit(LIMIT)


class Desk:
    """``take`` is called for each message, ``on_connect`` for each session; ``close`` ends what is under way."""

    def __init__(self, parts: Parts, *, most: int = MOST) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._kept = Kept(Path(parts.settings.state), parts.store, most=most)
        self._answers = Answers(parts.device, kept=self._kept, link=parts.link, signer=parts.signer, clock=parts.clock)
        self._queue: deque[_Came] = deque()
        self._came = asyncio.Event()
        self._tokens, self._counted_at = float(BUDGET), self._clock.monotonic()
        self._asked_at = -_ASK_EVERY_S
        self._following: dict[str, asyncio.Task[None]] = {}
        self._dropping = False
        # What was being followed when an agent ended is looked at before anything new is.
        self._resumed = False
        self._tasks = [
            asyncio.create_task(self._work(), name="commands"),
            asyncio.create_task(self._answers.run(), name="answers"),
        ]

    def take(self, levels: tuple[str, ...], envelope: bytes) -> None:
        """A message at ``down/cmd`` and these further levels. An empty one clears the topic and says nothing."""
        if not envelope:
            return
        came = _Came(levels, envelope)
        if len(envelope) > signing.envelope_limit(came.limit):
            came = _Came(levels, b"", len(envelope))
        if came in self._queue:
            return
        large = sum(one.large for one in self._queue) + came.large
        if len(self._queue) >= WAITING or large > WAITING_LARGE:
            if not self._dropping:
                _log.warning("more commands come than are looked at: some are dropped, and have to be said again")
            self._dropping = True
            return
        self._queue.append(came)
        self._came.set()

    def on_connect(self) -> None:
        self._answers.on_connect()

    async def close(self) -> None:
        """End it; what is being followed has no last answer then, and the next start of the agent gives it one."""
        tasks = [*self._tasks, *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await self._guarded(self._resume)
            while not self._queue:
                self._dropping = False
                self._came.clear()
                await self._came.wait()
            await self._allowed()
            came = self._queue[0]
            await self._guarded(lambda came=came: self._look(came))  # type: ignore[misc]
            self._queue.popleft()

    async def _guarded(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Whatever a command brings about, the next one is looked at."""
        try:
            await work()
        except (Transient, NeedsOperator, OSError) as error:
            _log.warning("a command was not looked at, and has to be said again: %s", error)
        except Exception as error:  # noqa: BLE001 - no command, whatever is in it, may end this task
            _log.exception("a command met a defect of this program, please report it")
            self._parts.refuse(error, what="command")

    async def _allowed(self) -> None:
        """Wait until the budget allows another look."""
        while True:
            now = self._clock.monotonic()
            self._tokens = min(BUDGET, self._tokens + (now - self._counted_at) / LOOK_EVERY_S)
            self._counted_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            await self._clock.sleep((1 - self._tokens) * LOOK_EVERY_S)

    async def _resume(self) -> None:
        """Give each command that an ended agent was following its last answer."""
        if self._resumed:
            return
        for known in self._kept.open():
            if known.id in self._following:
                continue
            if known.name == "restart-agent":
                answer = self._answers.answer(known, "done", note="the agent was started again")
            else:
                why = Reason("transient", "the agent ended while it followed this command (ask anew)")
                answer = self._answers.answer(known, "failed", reason=why)
            self._answers.say(known, answer)
        self._kept.settle()
        self._resumed = True

    async def _look(self, came: _Came) -> None:
        if came.too_long:
            self._parts.refuse(
                Invalid(f"{came.too_long} bytes is more than a command may have", element="command"), what=came.what
            )
            return
        if len(came.levels) != 2 or not _ID.fullmatch(came.levels[1]):  # noqa: PLR2004 - name and id
            self._parts.refuse(Invalid("its topic names no command", element="command"), what="command")
            return
        name, ident = came.levels
        known = self._kept.known(ident)
        payload, digest = b"", ""
        try:
            payload = signing.unverified(came.envelope, limit=came.limit)
            digest = sha256(payload)
            if known is not None and (known.digest, known.name) == (digest, name):
                self._answers.again(known)
                return
            if known is not None:
                raise Untrusted(
                    "this id came before, with other content", element=f"command {ident}", remedy="ask under another id"
                )
            command, keys = await self._accepted(came)
        except Refused as error:
            self._parts.refuse(error, what=came.what)
            if known is None:
                self._answer_refused(payload, digest, (name, ident), error)
            return
        if len(self._following) >= AT_ONCE:
            _log.warning("%s: %d commands are being followed, it has to be said again", came.what, AT_ONCE)
            return
        self._kept.begin(command, digest=digest, keys=keys)
        task = asyncio.create_task(self._follow(command, digest), name=f"command-{command.name}")
        self._following[ident] = task
        task.add_done_callback(lambda _: self._following.pop(ident, None))

    async def _accepted(self, came: _Came) -> tuple[Command, frozenset[str]]:
        """The command in an envelope, if it is to be followed, and who signed it.

        Raises:
            Untrusted, Invalid: it is not; the message has every reason.
        """
        found = await self._parts.verifier.command(came.envelope, limit=came.limit, ask=self._may_ask)
        command = commands.decode(found.payload)
        accept(
            objections(
                command,
                own=self._parts.device,
                topic=(came.levels[0], came.levels[1]),
                now=found.now,
                floor=self._kept.floor(found.director),
            )
        )
        return command, found.signers

    def _may_ask(self) -> bool:
        """Whether trust metadata may be fetched for a command now, which is counted then. Called in trust's thread."""
        now = self._clock.monotonic()
        if now - self._asked_at < _ASK_EVERY_S:
            return False
        self._asked_at = now
        return True

    def _answer_refused(self, payload: bytes, digest: str, topic: tuple[str, str], error: Refused) -> None:
        """Where it can be read whose command it is. From then on it is refused for good, for the answer says so."""
        try:
            head = canonical.decode(payload, _Head, limit=limit_of(topic[0]), what="command")
        except Invalid:
            return
        if (head.name, head.id) != topic:
            return
        self._answers.refuse(
            self._answers.answer(Known(head.id, digest, head.name, "", 0), "refused", reason=reason(error)),
            digest=digest,
        )

    async def _follow(self, command: Command, digest: str) -> None:
        known = Known(command.id, digest, command.name, "", 0)
        saying = Saying(self._answers, known, self._clock)
        _log.info("command %s %s%s", command.name, command.id[:8], f", slot {command.slot}" if command.slot else "")
        try:
            await self._followed(command, saying)
        except Exception as error:  # noqa: BLE001 - above all a full disk: it has no last answer, and gets one later
            _log.warning("command %s has no last answer yet: %s", command.name, error)
            self._resumed = False

    async def _followed(self, command: Command, saying: Saying) -> None:
        name = f"agent.commands.{command.name.replace('-', '_')}"
        try:
            # Beside the loop: some bring much along.
            arm = await asyncio.to_thread(importlib.import_module, name)
            note: str | None = await arm.run(command, self._parts, saying)
        except EdgefleetError as error:
            _log.warning("command %s failed: %s", command.name, error)
            saying.failed(reason(error))
        except OSError as error:
            _log.warning("command %s failed: %s", command.name, error)
            saying.failed(Reason("needs-operator", f"{error.filename or 'disk'}: {error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and nothing else ends
            _log.exception("command %s met a defect of this program, please report it", command.name)
            saying.failed(reason(error))
        else:
            if note is not None:
                saying.done(note)
