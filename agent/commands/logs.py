"""``logs``: the end of what a slot's module wrote, and for a while what it writes, as its engine keeps it.

A module's words are its own. Control characters are replaced, as wherever such words go (modules/words.py), and only so
much of them is taken at a time.
"""

from collections.abc import Sequence
from typing import Final

from agent.commands.answers import Saying
from agent.commands.parts import Parts, counted
from agent.slots import Placed
from modules.errors import EngineBusy, Invalid, NoEngine
from modules.protocol.commands import Command
from modules.words import printable

LINES: Final = 100
CONTENT: Final = "text/plain"
# What is read of a log at first, and at each look.
_FIRST: Final = 4 << 20
_LOOK: Final = 256 << 10
_EVERY_S: Final = 2.0
_LINE: Final = 4000


async def run(command: Command, parts: Parts, saying: Saying) -> str:
    """The lines as result, one text each.

    Raises:
        Invalid: nothing runs in this slot.
        NoEngine, EngineBusy: its engine does not show its log.
    """
    name = str(command.slot)
    lines, follow_s = int(command.arguments.get("lines", LINES)), command.arguments.get("follow_s", 0.0)
    ends = parts.clock.monotonic() + follow_s
    placed = _placed(parts, name)
    if placed is None:
        raise Invalid("nothing runs in this slot", element=name, remedy="name a slot that serves")
    seen = await _read(parts, placed, _FIRST)
    said = _say(saying, seen[-lines:])
    while (left := ends - parts.clock.monotonic()) > 0 and saying.left:
        await parts.clock.sleep(min(left, _EVERY_S))
        now = _placed(parts, name)
        if now is None:
            continue
        if now.instance != placed.instance:
            said += _say(saying, [f"--- {now.wanted.module} was started as {now.instance}"])
            placed, seen = now, []
        try:
            found = await _read(parts, placed, _LOOK)
        except (NoEngine, EngineBusy):
            continue  # it may answer the next time
        said += _say(saying, added(seen, found))
        seen = found
    return counted(said, "line") + ("" if saying.left else ", and no more than a result may have")


def added(before: Sequence[str], after: Sequence[str]) -> Sequence[str]:
    """The lines that came since: both are the end of one log, as far as it was read."""
    for start in range(len(before)):
        common = len(before) - start
        if common <= len(after) and before[start] == after[0] and before[start:] == after[:common]:
            return after[common:]
    return after


def _placed(parts: Parts, name: str) -> Placed | None:
    slot = parts.store.slot(name)
    return (slot.serving or slot.candidate) if slot else None


async def _read(parts: Parts, placed: Placed, most: int) -> list[str]:
    """The whole lines at the end of the log; one that is still being written waits."""
    engine = parts.engines.get(placed.wanted.engine)
    if engine is None:
        raise NoEngine(f"this device has no {placed.wanted.engine} engine", remedy="see edgefleet-agent doctor")
    text = await engine.logs(placed.instance, tail_bytes=most)
    lines = text.split("\n")
    cut = len(text.encode()) >= most
    return [printable(line.rstrip("\r"), _LINE) for line in lines[1 if cut else 0 : -1]]


def _say(saying: Saying, lines: Sequence[str]) -> int:
    if lines:
        saying.result("".join(f"{line}\n" for line in lines).encode(), CONTENT)
    return len(lines)
