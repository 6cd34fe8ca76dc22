"""Commands to a simulated device: verified as a device does, and each answered once, whatever comes again.

It pings and says what it is, and a module of it can be tried, with an answer that says that it is made up. All else is
refused, and that is said.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from agent.fetch import Puller
from agent.simulate.place import Place
from agent.simulate.plan import Part
from agent.simulate.trying import JSON, tried
from agent.simulate.world import World
from modules import __version__
from modules.digests import sha256
from modules.errors import EdgefleetError, Invalid, Transient, Untrusted
from modules.names import DeviceId, Slug
from modules.protocol.commands import TRY, Answer, Command, Trial
from modules.protocol.report import Reason

_KEPT: Final = 16
_WAITING: Final = 4
_NOT_HERE: Final = Reason("unfit", "a simulated device has nothing that could follow this")


class Doing(NamedTuple):
    """What its device does for it: says facts and report, publishes an answer, remembers a refusal; and what it is."""

    collect: Callable[[], None]
    answer: Callable[[Answer], None]
    refuse: Callable[[str, EdgefleetError], None]
    pulling: Callable[[], Puller]
    places: Mapping[Slug, Place]
    part: Part


class Commands:
    """Of one device; it remembers the newest few, and which envelope each was."""

    __slots__ = ("_answers", "_device", "_waiting", "_world")

    def __init__(self, world: World, device: DeviceId) -> None:
        self._world, self._device = world, device
        self._answers: dict[str, tuple[str, Answer]] = {}
        self._waiting = 0

    async def take(self, level: str, envelope: bytes, doing: Doing) -> None:
        """What came at ``cmd/<name>/<id>``; a few at a time, for the server says them again."""
        if self._waiting >= _WAITING or not envelope:
            return
        self._waiting += 1
        try:
            self._answer(envelope, await self._accepted(level, envelope, doing), doing)
        except Transient:
            pass  # it comes again
        except (Untrusted, Invalid) as error:
            self._world.tally.done["refused commands"] += 1
            doing.refuse("command", error)
        finally:
            self._waiting -= 1

    async def _accepted(self, level: str, envelope: bytes, doing: Doing) -> Command:
        _, name, ident = (*level.split("/"), "", "")[:3]
        trust = self._world.trust
        return await trust.command(self._device, (name, ident), envelope, puller=doing.pulling())

    def _answer(self, envelope: bytes, command: Command, doing: Doing) -> None:
        digest = sha256(envelope)
        known = self._answers.get(command.id)
        if known is not None and known[0] != digest:
            raise Untrusted("this id came before, with other content", element=f"command {command.id}")
        if known is None:
            answer = self._followed(command, doing)
            self._world.tally.done["commands"] += answer.state == "done"
            known = self._answers[command.id] = (digest, answer)
            while len(self._answers) > _KEPT:
                del self._answers[next(iter(self._answers))]
        doing.answer(known[1])

    def _followed(self, command: Command, doing: Doing) -> Answer:
        """The one answer to a command."""
        said = partial(Answer, id=command.id, device=self._device, name=command.name, part=1)
        if command.name == TRY and isinstance(command.trial, Trial) and command.slot is not None:
            place = doing.places.get(command.slot)
            serving = place.current if place is not None and place.health.state != "degraded" else None
            behaviour = doing.part.with_module(serving.module if serving else "")
            found = tried(serving, behaviour, command.trial, ident=command.id)
            note = f"answered {found.status}: made up by a simulated device"
            return said(state="done", note=note, content=JSON, data=msgspec.json.encode(found))
        if command.name == "collect-now":
            doing.collect()
        if command.name in {"ping", "collect-now"}:
            return said(state="done", note=f"simulated agent {__version__}, clock {int(time.time())}")
        return said(state="refused", reason=_NOT_HERE)
