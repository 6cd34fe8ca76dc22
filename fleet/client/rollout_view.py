"""A rollout as it goes: who is in which phase and since when, until it ends."""

import time
from collections.abc import Sequence
from typing import Final

from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.client import shift_view
from fleet.client.answers import Misfit, Rollout, RolloutPlan, Target
from fleet.client.api import Fleet
from fleet.client.screen import Screen, size, when
from fleet.client.shift_view import where
from modules.errors import Transient
from modules.protocol.report import Health, Running
from modules.words import printable

# A paused rollout waits for a person, who may be the one that is watching.
ENDED: Final = frozenset({"done", "partial", "failed", "paused", "cancelled", "reverted"})
# Rows of the picture while it is watched; those that are not done come first.
_WATCHED: Final = 30
_ASK_AGAIN_S: Final = 1.0
_COLOURS: Final = {"committed": "green", "rejected": "red", "reverted": "red", "reverting": "red", "degraded": "red"}
_HEADINGS: Final = ("DEVICE", "PHASE", "SERVING", "TIMES", "REASON")
_SHARE: Final = 100
_NAMED: Final = 8


def watch(fleet: Fleet, rollout: str, screen: Screen) -> Rollout:
    """Show a rollout on stderr until it needs no more watching; a server that is away for a while is waited for."""
    found = fleet.rollout(rollout)
    lost = ""
    with Live(_picture(found, lost), console=screen.err, auto_refresh=False, transient=True) as live:
        while found.state not in ENDED:
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
            try:
                found, lost = fleet.rollout(rollout), ""
            except Transient as error:
                lost = error.message
            live.update(_picture(found, lost), refresh=screen.err.is_terminal)
    return found


def show_rollout(screen: Screen, rollout: Rollout) -> None:
    """The rollout for people: its state, every device with its reason, who did not fit, and what happened."""
    screen.fields(
        [
            ("rollout", rollout.id),
            ("module", rollout.module),
            ("endpoint", where(rollout)) if rollout.endpoint else ("slot", rollout.slot),
            ("state", rollout.state),
            ("started by", rollout.started_by),
            ("wave", f"{rollout.wave} of {rollout.waves}"),
            ("starts", when(rollout.starts) if rollout.state == "scheduled" else ""),
            ("devices", counted(rollout)),
            ("waits for", rollout.waits_for),
            *(("stopped for", one.reason) for one in rollout.stopped),
        ]
    )
    gone = rollout.forgotten is not None
    empty = f"Its devices and history are not kept since {when(rollout.forgotten)}." if gone else "No device is in it."
    if rollout.endpoint:
        screen.table(shift_view.HEADINGS, map(shift_view.row, rollout.shares), empty=empty)
    else:
        screen.table(_HEADINGS, (_row(one) for one in rollout.devices), empty=empty)
    for event in rollout.history:
        screen.remark(printable(f"{when(event.at)}  {event.what}"))
    _show_misfits(screen, rollout.misfits)


def show_plan(screen: Screen, plan: RolloutPlan) -> None:
    """What a rollout would do, for people: its waves, what a device fetches, and who does not fit."""
    screen.fields(
        [
            ("module", plan.module),
            ("starts", when(plan.starts) if plan.starts is not None else "at once"),
            *((f"fetches, {kind}", f"at most {size(length)}") for kind, length in plan.download_bytes.items()),
        ]
    )
    rows = ((one.wave, one.rule, len(one.devices), _named([each.device for each in one.devices])) for one in plan.waves)
    screen.table(("WAVE", "RULE", "DEVICES", "WHICH"), rows, empty="No device is in it.")
    _show_misfits(screen, plan.misfits)


def counted(rollout: Rollout) -> str:
    """How many devices stand where: ``3 succeeded, 2 working``."""
    return ", ".join(f"{number} {name}" for name, number in rollout.counts.items())


def _named(devices: Sequence[str]) -> str:
    more = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    return ", ".join(devices[:_NAMED]) + more


def _show_misfits(screen: Screen, misfits: Sequence[Misfit]) -> None:
    if misfits:
        screen.table(("DOES NOT FIT", "WHY"), ((one.device, "; ".join(one.reasons)) for one in misfits), empty="")


def _picture(rollout: Rollout, lost: str) -> Table:
    title = f"{rollout.module} in {where(rollout)}: {rollout.state}, wave {rollout.wave} of {rollout.waves}"
    said = "\n".join(text for text in (counted(rollout), rollout.waits_for, lost) if text)
    headings = shift_view.HEADINGS if rollout.endpoint else _HEADINGS
    table = Table(*headings, box=None, pad_edge=False, title=title, title_justify="left", caption=said or None)
    for share in rollout.shares:
        table.add_row(*map(Text, shift_view.row(share)))
    waiting = sorted(rollout.devices, key=lambda one: one.standing == "succeeded")
    for one in waiting[:_WATCHED]:
        cells = _row(one)
        table.add_row(cells[0], Text(cells[1], _COLOURS.get(cells[1].partition(" ")[0], "")), *map(Text, cells[2:]))
    return table


def _row(target: Target) -> tuple[str, str, str, str, str]:
    fetching = target.phase == "fetching" and target.progress is not None
    phase = f"{target.phase} {(target.progress or 0) * _SHARE:.0f} %" if fetching else target.phase
    reason = target.why or (target.reason.message if target.reason else health(target.current))
    serving = running(target.serving) or ("nobody" if target.current else "")
    return target.device, phase, serving, _times(target.times), reason


def running(serving: Running | None) -> str:
    """What answers in a slot, on which execution provider."""
    if serving is None:
        return ""
    unproved = "" if serving.proved else ", unproved"
    return f"{serving.module} on {serving.provider or 'an unknown provider'}{unproved}"


def health(current: Health | None) -> str:
    """How a committed module is, where that is not simply up; with why, where the device says it."""
    if current is None or current.state == "up":
        return ""
    often = f", restarted {current.restarts} time{'' if current.restarts == 1 else 's'}" if current.restarts else ""
    return f"{current.state}{often}" + (f": {current.reason.message}" if current.reason else "")


def _times(times: tuple[tuple[str, float], ...]) -> str:
    """Seconds spent in each phase that is over, from the moments at which they began."""
    ends = [at for _, at in times[1:]]
    return ", ".join(f"{phase} {end - at:.1f} s" for (phase, at), end in zip(times, ends, strict=False))
