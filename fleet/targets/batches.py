"""One batch job for many devices: a job for each that takes it, under one name; started, shown and ended together.

A job of it is a row like any other, which ``device_jobs.py`` brings about; the name that they share is a column. On
each device the answers are in a folder of that name.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, insert, select, update

from fleet import devices as known
from fleet import events
from fleet.gathered import TOGETHER, pieces
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.tables import devices
from fleet.target_tables import jobs
from fleet.targets import on_devices
from fleet.targets.jobs import ACTIVE, CANCELLED, Asked, BatchJobs, free_names, standing_of, values, view
from modules.errors import Invalid, Unfit
from modules.names import DeviceId, ModuleRef, Slug, slot_name

#: devices of one batch job
AT_MOST: Final = 1000
_SHOWN: Final = 3
_NAME: Final = 63
_MARK: Final = 12
# What the whole is, by what there is among its jobs: the first of these that there is.
_STATES: Final = ("running", "paused", "starting", "failed", CANCELLED, "done")


class Misfit(NamedTuple):
    """A device that is meant and gets no job, and why."""

    device: DeviceId
    why: str


class Meant(NamedTuple):
    """Whom it is for: the devices that a selector means, or these."""

    selector: str | None
    devices: Sequence[DeviceId] | None

    def __str__(self) -> str:
        return self.selector if self.selector is not None else f"{len(self.devices or ())} devices"


def start(
    connection: Connection,
    now: float,
    wished: BatchJobs,
    name: str,
    meant: Meant,
    module: ModuleRef,
    asked: Asked,
    *,
    by: str,
    scope: Scope = EVERYTHING,
    commands: Scope = EVERYTHING,
) -> list[Misfit]:
    """Ask for a job on each of the devices that takes it; says which do not.

    Args:
        connection: of a writing transaction.
        now: the time.
        wished: the rows of jobs.
        name: of the whole.
        meant: whom it is for.
        module: signed.
        asked: as for one device.
        by: who asks.
        scope: of the teams whose modules that person may ask.
        commands: of the devices that that person may command: no others are meant.

    Raises:
        Missing: there is no such module, or a device that is named.
        Conflict: something of this name has not ended, or nobody signed the module.
        Invalid: the selector or the places, or more devices than may be.
        Unfit: no device takes it.
    """
    slot_name(name)
    if (meant.selector is None) == (meant.devices is None):
        raise Invalid("say either a selector or devices", element=name, remedy="give one of them")
    on_devices.check_asked(asked)
    digest = wished.signed(connection, module, scope)[1]
    selector = meant.selector if meant.selector is not None else "*"
    found = [one.device for one in known.meant(connection, selector, meant.devices, commands)]
    if len(found) > AT_MOST:
        raise Invalid(
            f"{len(found)} devices are more than the {AT_MOST} of one batch job",
            element="selector",
            remedy="select fewer, one part after the other",
        )
    fitting, misfits = [], []
    for device, facts, report in _said(connection, found):
        if (unfit := on_devices.why_not(device, facts, report, digest)) is None:
            fitting.append(device)
        else:
            misfits.append(Misfit(device, unfit.message))
    if not fitting:
        named = "; ".join(f"{one.device}: {one.why}" for one in misfits[:_SHOWN]) or "no device is meant"
        raise Unfit(f"no device takes it: {named}", element=name, remedy="see edgefleet devices list")
    names = {device: member_name(name, device) for device in fitting}
    free_names(connection, name, names.values(), scope)
    asked = msgspec.structs.replace(asked, selector=str(meant))
    rows = [
        values(names[device], module, digest, asked, now, by=by) | {"device": device, "target": None, "batch": name}
        for device in fitting
    ]
    connection.execute(insert(jobs), rows)
    left = f", {len(misfits)} take it not" if misfits else ""
    events.record(connection, now, "batch-started", f"batch job {name} on {len(rows)} devices{left}: {module}", by=by)
    return misfits


def member_name(name: str, device: DeviceId) -> Slug:
    """What a device's job is called among all jobs; nothing is read from it."""
    if len(whole := f"{name}-{device}") <= _NAME and not whole.endswith("-"):
        return Slug(whole)
    mark = hashlib.sha256(f"{name}/{device}".encode()).hexdigest()[:_MARK]
    return Slug(f"{name[: _NAME - _MARK - 1].rstrip('-')}-{mark}")


def cancel(connection: Connection, now: float, name: str, *, by: str) -> None:
    """End all of its jobs that have not ended; the answers so far stay where they are.

    Raises:
        Missing: there is none of this name.
        Conflict: all of it has ended.
    """
    _rows(connection, name)
    over = {"state": CANCELLED, "since": now}
    done = connection.execute(update(jobs).where(jobs.c.batch == name, jobs.c.state.in_(ACTIVE)).values(**over))
    if not done.rowcount:
        raise Conflict("all of it has ended", element=f"batch job {name}")
    words = f"batch job {name} is cancelled on {done.rowcount} devices"
    events.record(connection, now, "batch-cancelled", words, by=by)


def show(connection: Connection, name: str) -> dict[str, Any]:
    """How it stands on each of its devices, and what that is together.

    Raises:
        Missing: there is none of this name.
    """
    rows = _rows(connection, name)
    each = [{key: value for key, value in view(row).items() if key in _OF_EACH} for row in rows]
    return _together(rows) | {"jobs": each}


def every(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """All of a scope's teams, the newest first, without what is of each device."""
    mine = scope.of_team_column(jobs.c.team)
    wanted = select(jobs).where(mine, jobs.c.batch.is_not(None)).order_by(jobs.c.created.desc(), jobs.c.name)
    found: dict[str, list[Any]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.batch, []).append(row)
    return [_together(rows) for rows in found.values()]


_OF_EACH: Final = frozenset({"name", "device", "state", "since", "why", "items", "answered", "set_aside", "starts"})


def _together(rows: Sequence[Any]) -> dict[str, Any]:
    first = view(rows[0])
    states = Counter(str(row.state) for row in rows)
    standing = [standing_of(row) for row in rows]
    return {
        "name": first["batch"],
        "selector": msgspec.json.decode(rows[0].asked, type=Asked).selector,
        "state": next((one for one in _STATES if states[one]), "failed"),
        "devices": len(rows),
        "states": dict(states),
        "items": sum(one.items for one in standing),
        "answered": sum(one.answered for one in standing),
        "set_aside": sum(one.set_aside for one in standing),
        "since": max(row.since for row in rows),
    } | {key: first[key] for key in ("team", "module", "inputs", "outputs", "settings", "created", "by")}


def _rows(connection: Connection, name: str) -> Sequence[Any]:
    found = connection.execute(select(jobs).where(jobs.c.batch == name).order_by(jobs.c.device)).all()
    if not found:
        raise Missing("there is no such batch job", element=name[:63], remedy="see: edgefleet batch list")
    return found


def _said(connection: Connection, found: Sequence[DeviceId]) -> list[Any]:
    """Facts and report of each of these devices."""
    rows: list[Any] = []
    for some in pieces(found, TOGETHER):
        wanted = select(devices.c.id, devices.c.facts, devices.c.report).where(devices.c.id.in_(some))
        rows.extend(connection.execute(wanted.order_by(devices.c.id)))
    return rows
