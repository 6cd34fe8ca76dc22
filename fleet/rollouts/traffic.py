"""Moves an endpoint's requests to a new version: the engine gives the shares, and looks at the endpoint say what came.

A share is given in steps, each in one transaction: the version stands beside the one before without a share and is
proved by its samples; it gets its share, once that is so; what is counted from then on is held against the gates.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, update

from fleet.refusals import Missing
from fleet.rollouts import control, heard, history, phases, shares, verdicts, windows
from fleet.rollouts.gates import OF_CLIENTS, Gate
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing, State
from fleet.rollouts.windows import Window
from fleet.tables import rollouts
from fleet.targets import shifting
from fleet.targets.contract import Standing as Stands
from fleet.targets.contract import VersionStands
from modules.protocol.measured import Measured
from modules.protocol.phases import Phase
from modules.protocol.report import Health, Running, SlotReport
from modules.words import printable

_NOTE: Final = 500
# While these it is counted what comes of the versions.
MEASURED: Final = (State.RUNNING, State.PAUSED, State.REVERTING)
_UNCOUNTED: Final = (
    "its gateway is of before this version and counts nothing: run edgefleet images build --gateway, attach the target"
    " with it, and wait"
)


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is being counted of the new version and of the one before.

    ``known`` is what was counted of the one before last, while it still had requests.
    """

    new: Window = Window()
    old: Window = Window()
    known: Measured | None = None


def run(connection: Connection, now: float, row: Any, policy: Policy) -> float | None:
    """Move a running rollout on; returns when it is to be looked at again."""
    if lost := _lost(connection, row):
        _end(connection, now, row, lost)
        return None
    again = verdicts.apply(connection, now, row, policy)
    judged = control.get(connection, row.id)
    if judged.state != State.RUNNING or not judged.wave:
        return again
    due = _bring_on(connection, now, judged)
    return due if again is None else again if due is None else min(again, due)


def rest(connection: Connection, now: float, row: Any) -> float | None:
    """What time does to one that does not run; returns when it is to be looked at again."""
    if row.state in {State.PAUSED, State.SCHEDULED} and (lost := _lost(connection, row)):
        _end(connection, now, row, lost)
    if row.state == State.REVERTING:
        for late in (one for one in shares.every(connection, row.id) if one.standing == Standing.RETURNING):
            if late.due > now:
                return float(late.due)
            shares.change(connection, late, standing=Standing.UNRETURNED, due=None)
    last = shares.share_of(connection, row.id, row.waves)
    if row.state != State.DONE or last is None or last.due is None:
        return None
    if last.due > now:
        return float(last.due)
    shares.change(connection, last, due=None)
    if _lost(connection, row):
        return None  # somebody has changed its versions by hand, and may want to keep it
    endpoint, shift = shifting.find(connection, row.endpoint), shares.shift_of(row)
    wish = shifting.wish_of(endpoint)
    left = {name: one for name, one in wish.versions.items() if name != shift.before}
    shares.put(connection, now, row, endpoint, msgspec.structs.replace(wish, versions=left))
    history.add(connection, now, row.id, f"{shift.before} was kept for as long as the policy says, and goes")
    return None


def looked(connection: Connection, now: float, endpoint: Any, stands: Stands, *, newest: bool) -> bool:
    """Note what a look at an endpoint means for the rollout that decides about it; True: the engine has to look.

    Args:
        connection: of the transaction.
        now: Unix seconds.
        endpoint: its row as it is now.
        stands: what was seen.
        newest: it is what is wished for now that was looked at.
    """
    if endpoint is None or endpoint.rollout is None:
        return False
    try:
        row = control.get(connection, endpoint.rollout)
    except Missing:
        return False
    if row.state == State.REVERTING:
        return newest and _returned(connection, row, stands)
    share = shares.share_of(connection, row.id, row.wave)
    if row.state not in MEASURED or share is None or share.standing not in {Standing.WORKING, Standing.SUCCEEDED}:
        return False
    return _share_looked(connection, now, row, share, stands, newest=newest)


def _look(connection: Connection, rollout: int) -> None:
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(look_at=0))


def _lost(connection: Connection, row: Any) -> str:
    """Why the endpoint is not the rollout's to decide about any more; empty where it is."""
    endpoint = shifting.find(connection, row.endpoint)
    if endpoint is None:
        return f"endpoint {row.endpoint} was removed"
    return "" if endpoint.rollout == row.id else f"endpoint {row.endpoint} was changed by somebody else"


def _end(connection: Connection, now: float, row: Any, why: str) -> None:
    control.move(connection, now, row.id, State.CANCELLED, why)
    shares.gone(connection, row, why)


def _bring_on(connection: Connection, now: float, row: Any) -> float | None:
    """The next step of the share of the open wave."""
    share, endpoint = shares.share_of(connection, row.id, row.wave), shifting.find(connection, row.endpoint)
    if share.standing == Standing.PLANNED:
        due = now + float(row.deadline_s)
        last = shares.share_of(connection, row.id, row.wave - 1)
        watch = Watch(new=Window(begun=now), old=Window(begun=now)) if last is None else _watch_of(last)
        values = {"standing": Standing.WORKING, "phase": phases.ORDERED, "due": due, "note": ""}
        shares.change(connection, share, **values, watch=msgspec.json.encode(watch))
        shift, wish = shares.shift_of(row), shifting.wish_of(endpoint)
        beside = wish.versions.get(shift.name, shift.version).weight
        shares.give(connection, now, row, endpoint, beside)
        return due
    if share.standing != Standing.WORKING:
        return None
    if share.due is not None and share.due <= now:
        late = f"not done by its deadline: {share.note}" if share.note else "not done by its deadline"
        shares.change(connection, share, standing=Standing.FAILED, due=None, note=late[:_NOTE])
        return now
    if share.phase == shares.PROVED:
        watch = _watch_of(share)
        shares.change(connection, share, phase=Phase.PROBATION, note="", watch=msgspec.json.encode(_anew(watch, now)))
        shares.give(connection, now, row, endpoint, share.percent)
    return None if share.due is None else float(share.due)


def _share_looked(connection: Connection, now: float, row: Any, share: Any, stands: Stands, *, newest: bool) -> bool:
    shift = shares.shift_of(row)
    new, old = stands.versions.get(shift.name), stands.versions.get(shift.before)
    watch = _taken(_watch_of(share), new, old)
    values: dict[str, Any] = {"watch": msgspec.json.encode(watch), "note": printable(stands.why, _NOTE)}
    settled = newest and stands.in_use and new is not None and new.ready >= new.wanted
    if share.phase == Phase.COMMITTED:
        if new is not None:
            values |= _judged(now, row, share, shift, watch, new, stands)
    elif new is not None and new.wrong:
        values |= {"standing": Standing.FAILED, "due": None, "note": printable(new.wrong, _NOTE)}
    elif share.phase == Phase.PROBATION:
        values |= {"phase": Phase.COMMITTED, "note": ""} if settled else {}
    elif share.phase != shares.PROVED:
        values |= {"phase": shares.PROVED, "note": ""} if settled else {"phase": Phase.STARTING}
    shares.change(connection, share, **values)
    moves = any(name in values and values[name] != getattr(share, name) for name in ("standing", "phase"))
    if moves:
        _look(connection, row.id)
    return moves


def _judged(
    now: float, row: Any, share: Any, shift: shares.Shift, watch: Watch, new: VersionStands, stands: Stands
) -> dict[str, Any]:
    """What the gates say of what was counted, as they say it of what a device reports."""
    policy = msgspec.json.decode(row.policy, type=Policy)
    window_s = policy.measure.window_s if policy.measure else 0
    asked = tuple(_of_whole_windows(gate, window_s) for gate in policy.gates)
    health = "up" if new.ready >= new.wanted else "degraded" if new.wrong else "restarting"
    said = _said(now, row, shift, watch, new, asked, health)
    means, note = heard.means(asked, said, Phase.COMMITTED, health)
    if means is Standing.FAILED:
        return {
            "standing": means,
            "due": None,
            "note": note or printable(new.wrong, _NOTE),
            "detail": msgspec.json.encode(said),
        }
    if not stands.in_use:
        return {}
    rests_on_counts = any(gate.measure in OF_CLIENTS and gate.missing == "wait" for gate in asked)
    if means is Standing.SUCCEEDED and stands.uncounted and rests_on_counts:
        # What somebody has counted and not said could be all the errors.
        means, note = Standing.WORKING, printable(stands.uncounted, _NOTE)
    if means is Standing.WORKING and health != "up":
        due = now + row.deadline_s if share.due is None else share.due
        return {
            "standing": means,
            "due": due,
            "note": "not all of its replicas answer",
            "detail": msgspec.json.encode(said),
        }
    if means is Standing.WORKING and share.standing == Standing.SUCCEEDED:
        return {"note": ""}  # the next window is not over yet
    if means is Standing.WORKING and not watch.new.told:
        note = printable(stands.uncounted, _NOTE) or _UNCOUNTED
    values: dict[str, Any] = {"standing": means, "note": note, "detail": msgspec.json.encode(said)}
    if means is Standing.SUCCEEDED:
        values |= {"due": None, "watch": msgspec.json.encode(_anew(watch, now))}
    return values


def _said(
    now: float, row: Any, shift: shares.Shift, watch: Watch, new: VersionStands, asked: tuple[Gate, ...], health: str
) -> SlotReport:
    """What a device would report."""
    module, digest = row.module, shift.version.digest
    least = max((gate.minimum for gate in asked if gate.at_most_times is not None), default=1)
    beside = windows.measured(watch.old, now)
    before = beside if beside.requests >= least or watch.known is None else watch.known
    return SlotReport(
        slot=shift.name,
        phase=Phase.COMMITTED,
        module=module,
        digest=digest,
        serving=Running(module=module, digest=digest, provider=new.provider),
        current=Health(state=health, restarts=watch.new.restarts),
        measured=windows.measured(watch.new, now),
        before=before if watch.old.told or watch.known else None,
    )


def _of_whole_windows(gate: Gate, window_s: int) -> Gate:
    return msgspec.structs.replace(gate, window_s=max(gate.window_s, window_s))


def _taken(watch: Watch, new: VersionStands | None, old: VersionStands | None) -> Watch:
    if new is not None:
        watch = msgspec.structs.replace(watch, new=windows.take(watch.new, new.lives, new.memory_mb))
    if old is not None:
        watch = msgspec.structs.replace(watch, old=windows.take(watch.old, old.lives, old.memory_mb))
    return watch


def _anew(watch: Watch, now: float) -> Watch:
    known = windows.measured(watch.old, now) if watch.old.requests else watch.known
    return Watch(new=windows.anew(watch.new, now), old=windows.anew(watch.old, now), known=known)


def _watch_of(share: Any) -> Watch:
    return msgspec.json.decode(share.watch, type=Watch) if share is not None and share.watch else Watch()


def _returned(connection: Connection, row: Any, stands: Stands) -> bool:
    before = stands.versions.get(shares.shift_of(row).before)
    back = stands.in_use and before is not None and before.ready > 0
    for one in shares.every(connection, row.id):
        if one.standing == Standing.RETURNING:
            values = {"standing": Standing.RETURNED, "due": None} if back else {"note": printable(stands.why, _NOTE)}
            shares.change(connection, one, **values)
    if back:
        _look(connection, row.id)
    return back
