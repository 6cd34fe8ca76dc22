"""A rollout as the API shows it."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, case, select

from fleet.people import reach
from fleet.people.scope import EVERYTHING, Scope
from fleet.rollouts import control, history, members, phases, shares
from fleet.rollouts import policy as policies
from fleet.rollouts.model import AskedWave, Policy
from fleet.rollouts.phases import Standing
from fleet.rollouts.shares_start import ShiftPlan
from fleet.rollouts.start import Plan
from fleet.rollouts.why import planned as why_planned
from fleet.rollouts.why import why
from fleet.tables import devices, rollout_columns, rollouts, stopped_kinds
from fleet.tables import members as rows
from modules.names import ModuleRef
from modules.protocol.report import SlotReport

# Devices that are shown with a rollout; of more, those that are not done come first.
SHOWN: Final = 500
_OF_DEVICE: Final = ("reason", "serving", "current", "times", "progress")


def one(
    connection: Connection, rollout: int, scope: Scope = EVERYTHING, *, with_devices: bool = True
) -> dict[str, Any]:
    """One rollout with counts of its devices, the first of them if they are wanted, misfits and history.

    Where it has devices outside the scope, those are left out, and so are words that could name them.

    Raises:
        Missing: there is no such rollout.
    """
    row = control.get(connection, rollout)
    stopped = connection.execute(select(stopped_kinds).where(stopped_kinds.c.rollout == rollout)).all()
    misfits = connection.execute(select(rollouts.c.misfits).where(rollouts.c.id == rollout)).scalar_one()
    whole = scope.unlimited or not reach.beyond(connection, scope, rollout, row.module)
    mine = scope.of_team(row.module.partition("/")[0])
    if not whole:
        seen = reach.seen_of(connection, mine, {one["device"] for one in misfits})
        misfits = [one for one in misfits if one["device"] in seen]
    by_wave = members.counts_by_wave(connection, rollout, mine)
    shift = _shift(connection, row) if row.endpoint is not None else {}
    return (
        _summary(row, whole=whole)
        | shift
        | {
            "selector": row.selector if whole else "",
            "approved": row.approved,
            "policy": policies.written(msgspec.json.decode(row.policy, type=Policy)),
            "plan": [
                {"wave": number} | msgspec.to_builtins(wave) | {"counts": by_wave.get(number, {})}
                for number, wave in enumerate(msgspec.json.decode(row.plan, type=list[AskedWave]), start=1)
            ],
            "counts": members.counts(connection, rollout, mine),
            "stopped": [
                {"hardware": one.hardware, "at": one.at, "reason": _told(one.reason, whole=whole)} for one in stopped
            ],
            "devices": some_devices(connection, rollout, scope, limit=SHOWN) if with_devices else [],
            "misfits": misfits,
            "history": history.view(connection, rollout) if whole else [],
        }
    )


def some(
    connection: Connection, scope: Scope = EVERYTHING, *, before: int | None = None, limit: int
) -> list[dict[str, Any]]:
    """Rollouts in short, the newest first; ``before`` is the last of the page before."""
    wanted = select(*rollout_columns).where(scope.some_rollouts()).order_by(rollouts.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(rollouts.c.id < before)
    found = connection.execute(wanted).all()
    whole = [scope.unlimited or not reach.beyond(connection, scope, row.id, row.module) for row in found]
    return [_summary(row, whole=one) for row, one in zip(found, whole, strict=True)]


def some_devices(
    connection: Connection,
    rollout: int,
    scope: Scope = EVERYTHING,
    *,
    after: str = "",
    standing: str | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """At most ``limit`` devices of a rollout, by id, after one of them.

    Without ``after``, of more those that are not done come first.

    Raises:
        Missing: there is no such rollout.
    """
    row = control.get(connection, rollout)
    mine = scope.of_team(row.module.partition("/")[0]).of_device(rows.c.device)
    chosen = select(rows, devices.c.online, devices.c.last_seen).join(devices).where(rows.c.rollout == rollout, mine)
    if standing is not None:
        chosen = chosen.where(rows.c.standing == standing)
    first = case((rows.c.standing == Standing.SUCCEEDED, 1), else_=0)
    ordered = chosen.where(rows.c.device > after).order_by(rows.c.device) if after else chosen.order_by(first)
    found = connection.execute(ordered.order_by(rows.c.device).limit(limit)).all()
    words = _told(row.waits_for, whole=scope.unlimited or not reach.beyond(connection, scope, rollout, row.module))
    return [_device(one, row, words) for one in sorted(found, key=lambda one: str(one.device))]


def plan(planned: Plan) -> dict[str, Any]:
    """What a rollout would do, as a dry run shows it. Bytes: of the module's files and image, before what is there."""
    manifest = planned.manifest
    return {
        "module": str(manifest.ref),
        "starts": planned.starts,
        "waves": [
            {"wave": number}
            | msgspec.to_builtins(wave.asked)
            | {"devices": [{"device": one.device, "hardware": one.hardware} for one in wave.devices]}
            for number, wave in enumerate(planned.waves, start=1)
        ],
        "misfits": msgspec.to_builtins(planned.misfits),
        "download_bytes": {
            f"{runtime.platform} {runtime.accelerator}": sum(one.length for one in manifest.files)
            + (sum(layer.length for layer in runtime.image.layers) if runtime.image else 0)
            for runtime in manifest.runtimes
        },
    }


def shift_plan(module: ModuleRef, planned: ShiftPlan) -> dict[str, Any]:
    """What a rollout of an endpoint's requests would do."""
    return {
        "module": str(module),
        "version": planned.shift.name,
        "before": planned.shift.before,
        "starts": planned.starts,
        "waves": [
            {"wave": number, "percent": percent} | msgspec.to_builtins(asked)
            for number, (asked, percent) in enumerate(zip(planned.asked, planned.percents, strict=True), start=1)
        ],
    }


def _shift(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    shift = shares.shift_of(row)
    return {
        "version": shift.name,
        "before": shift.before,
        "shares": [_share(one, row) for one in shares.every(connection, row.id)],
    }


def _share(one: Any, rollout: Row[Any]) -> dict[str, Any]:
    """A share of an endpoint's requests; ``measured`` of the new version, ``replaced`` of the one before."""
    told = msgspec.to_builtins(msgspec.json.decode(one.detail, type=SlotReport)) if one.detail else {}
    because = why_planned(one.wave, rollout, rollout.waits_for) if one.standing == Standing.PLANNED else one.note
    shown = {name: getattr(one, name) for name in ("wave", "percent", "standing", "phase")}
    return shown | {"why": because, "measured": told.get("measured"), "replaced": told.get("before")}


def _summary(row: Row[Any], *, whole: bool) -> dict[str, Any]:
    names = ("module", "slot", "endpoint", "state", "wave", "waves", "created", "starts")
    shown = {name: getattr(row, name) for name in names}
    # A rule's name may be one of a group of devices that whoever asks may not see.
    shown["started_by"] = row.started_by if whole else ""
    return {"id": str(row.id)} | shown | {"waits_for": _told(row.waits_for, whole=whole), "forgotten": row.forgotten}


def _told(words: str, *, whole: bool) -> str:
    """Words of a rollout, which may name any of its devices."""
    return words if whole or not words else reach.WITHHELD


def _device(row: Any, rollout: Any, waits_for: str) -> dict[str, Any]:
    said = msgspec.json.decode(row.detail, type=SlotReport) if row.detail else None
    told = msgspec.to_builtins(said) if said else {"times": []}
    shown = {name: told.get(name) for name in _OF_DEVICE}
    lost = not row.current and row.standing in phases.COUNTED - {Standing.FAILED, Standing.SUCCEEDED}
    because = why(row, rollout, said=said.reason.message if said and said.reason else "", waits_for=waits_for)
    if because:
        offline = row.standing == Standing.WORKING and not row.online and row.current
        code = "superseded" if lost else "offline" if offline else str(row.standing)
        if shown["reason"] is None or lost:
            shown["reason"] = {"code": code, "message": because}
    return {
        "device": row.device,
        "wave": row.wave,
        "hardware": row.hardware,
        "standing": "superseded" if lost else row.standing,
        "phase": "superseded" if lost else row.phase,
        "why": because,
    } | shown
