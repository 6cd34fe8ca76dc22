"""Commands as they go: which devices have answered what, until all of them are over."""

import codecs
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.client.answers import Command, Given
from fleet.client.api import Fleet
from fleet.client.screen import Screen, size, when
from modules.errors import Transient
from modules.words import printable

T = TypeVar("T")

ENDED: Final = frozenset({"done", "failed", "refused", "expired", "cancelled"})
# Rows of the picture while it is watched; those that are not done come first.
_WATCHED: Final = 30
_ASK_AGAIN_S: Final = 1.0
# A request waits so long for the next part.
_WAIT_S: Final = 20.0
_HEADINGS: Final = ("DEVICE", "STATE", "TOOK", "RESULT", "NOTE")
_COLOURS: Final = {"done": "green"} | dict.fromkeys(("failed", "refused", "expired", "cancelled"), "red")
_SHARE: Final = 100
_NAMED: Final = 8


def watch(fleet: Fleet, given: Given, screen: Screen) -> list[Command]:
    """Show commands that were given together, on stderr, until all are over; a server that is away is waited for."""
    found = _ordered(fleet.commands(batch=given.batch))
    say_who_waits(screen, found)
    lost = ""
    with Live(_picture(found, lost), console=screen.err, auto_refresh=False, transient=True) as live:
        while any(one.state not in ENDED for one in found):
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
            try:
                found, lost = _ordered(fleet.commands(batch=given.batch)), ""
            except Transient as error:
                lost = error.message
            live.update(_picture(found, lost), refresh=screen.err.is_terminal)
    return found


def follow(fleet: Fleet, ident: str, take: Callable[[bytes], None]) -> Command:
    """Hand over the pieces of a result as they come, until the command is over."""
    first = 1
    while True:
        found = _patiently(fleet.command, ident, first=first, wait_s=_WAIT_S)
        if found.parts:
            last = found.parts[-1].part
            if any(one.bytes for one in found.parts):
                take(_patiently(fleet.command_result, ident, first=first, last=last).data)
            first = last + 1
        if found.state in ENDED and first > found.answers:
            return found


def say_who_waits(screen: Screen, found: Sequence[Command]) -> None:
    """Devices that are offline get their commands when they come back, which may be never."""
    away = [one for one in found if one.state not in ENDED and not one.online]
    if away:
        names = ", ".join(one.device for one in away[:_NAMED])
        more = f" and {len(away) - _NAMED} more" if len(away) > _NAMED else ""
        are = "is offline: the command waits for it" if len(away) == 1 else "are offline: the commands wait for them"
        screen.remark(f"{names}{more} {are} until {when(away[0].expires)}.")


def show_commands(screen: Screen, found: Sequence[Command]) -> None:
    """Commands of one kind for people: where each stands, device by device."""
    screen.table(_HEADINGS, (_row(one) for one in found), empty="No commands.")


def show_command(screen: Screen, one: Command) -> None:
    """One command for people, with the parts that were taken."""
    screen.fields(
        [
            ("command", one.id),
            ("name", one.name),
            ("device", one.device),
            ("slot", one.slot),
            ("arguments", ", ".join(f"{name}={value:g}" for name, value in sorted(one.arguments.items()))),
            ("state", _state(one)),
            ("given", f"{when(one.issued)} by {one.by}"),
            ("holds until", when(one.expires)),
            ("sent", when(one.sent) if one.sent is not None else "not yet"),
            ("last answer", when(one.heard) if one.heard is not None else ""),
            ("ended", when(one.ended) if one.ended is not None else ""),
            ("result", f"{size(one.bytes)}, {one.content or 'bytes'}" if one.bytes else ""),
            ("note", one.note),
            ("reason", f"{one.reason.message} [{one.reason.code}]" if one.reason else ""),
        ]
    )


def failed(found: Sequence[Command]) -> bool:
    """Whether any did not do what it was told."""
    return any(one.state != "done" for one in found)


def still_there(screen: Screen, given: Given) -> None:
    """What somebody reads who looks no longer."""
    if len(given.commands) == 1:
        ident = given.commands[0].id
        screen.remark("The command stands. See what becomes of it, fetch its result, or take it back:")
        screen.remark(f"  edgefleet commands show {ident}\n  edgefleet commands show {ident} --out FILE")
        screen.remark(f"  edgefleet commands cancel {ident}")
    else:
        screen.remark("The commands stand. See what becomes of them:")
        screen.remark(f"  edgefleet commands list --batch {given.batch}")


class Lines:
    """Pieces of text, broken wherever they were, as whole lines without control characters."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._take(printable(line))

    def end(self) -> None:
        """What came last without an end."""
        if rest := self._rest + self._decoder.decode(b"", final=True):
            self._take(printable(rest))
        self._rest = ""


def _patiently(ask: Callable[..., T], *given: Any, **more: Any) -> T:
    while True:
        try:
            return ask(*given, **more)
        except Transient:
            time.sleep(_ASK_AGAIN_S)  # the server is away for a while


def _ordered(found: Sequence[Command]) -> list[Command]:
    return sorted(found, key=lambda one: one.device)


def _picture(found: Sequence[Command], lost: str) -> Table:
    counts = Counter(one.state for one in found)
    said = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    title = f"{found[0].name}: {said}" if found else ""
    table = Table(*_HEADINGS, box=None, pad_edge=False, title=title, title_justify="left", caption=lost or None)
    waiting = sorted(found, key=lambda one: (one.state == "done", one.device))
    for one in waiting[:_WATCHED]:
        device, state, *more = _row(one)
        table.add_row(device, Text(state, _COLOURS.get(one.state, "")), *(Text(printable(cell)) for cell in more))
    return table


def _row(one: Command) -> tuple[str, str, str, str, str]:
    ended = one.heard if one.heard is not None and one.ended is not None else None
    took = f"{ended - one.sent:.1f} s" if ended is not None and one.sent is not None else ""
    why = f"{one.reason.message} [{one.reason.code}]" if one.reason else one.note
    return one.device, _state(one), took, size(one.bytes) if one.bytes else "", why


def _state(one: Command) -> str:
    if one.state == "running" and one.progress is not None:
        return f"{one.state} {one.progress * _SHARE:.0f} %"
    if one.state in {"waiting", "sent"} and not one.online:
        return f"{one.state}, offline"
    return one.state
