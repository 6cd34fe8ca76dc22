"""Which devices need an endpoint now: those that it stands in for, by what they said last and what is planned."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from fleet.fallbacks import policies
from fleet.fallbacks.answering import UNPLACEABLE, has_own_terms
from fleet.fallbacks.policies import Known
from fleet.rollouts.candidates import ELSEWHERE
from fleet.rollouts.phases import Standing, State
from fleet.selectors import Labels
from fleet.tables import devices, rollouts, slots, telemetry
from fleet.tables import members as member_rows
from fleet.target_tables import endpoints
from modules.errors import Unfit
from modules.names import ModuleRef
from modules.protocol.order import SlotOrder
from modules.protocol.phases import Phase
from modules.protocol.report import Report, SlotReport
from modules.protocol.telemetry import BY_CLOUD, GATEWAY, STARTS_AT, Telemetry, too_much

# So old may a device's word be that the cloud has answered for it.
RECENT_S: Final = 600.0
_ENDED_WITHOUT: Final = (Phase.REJECTED, Phase.REVERTED)
_ROLLING: Final = "a rollout has for it"
_PRESSED: Final = "has too much to do"
_WORDS: Final = {
    "unplaceable": "that the module does not fit",
    "unhealthy": "where the module does not answer",
    "overloaded": "whose requests go there",
    _PRESSED: "whose module has more to do than it can",
    _ROLLING: "that a rollout has still to order it for",
}


def named_by(every: Sequence[Known], document: SlotOrder, labels: Labels, now: float) -> tuple[str, frozenset[str]]:
    """Which endpoint answers for a device's slot, and in which cases; empty: none of this fleet."""
    if has_own_terms(document):
        return (document.cloud.endpoint, frozenset(document.cloud.when)) if document.cloud else ("", frozenset())
    one = policies.winner(every, ModuleRef.from_target(document.manifest), labels)
    if one is None or one.is_spent(now):
        return "", frozenset()
    return one.endpoint, one.when


def of_all(
    connection: Connection, now: float, every: Sequence[Known], wanted: Sequence[Any]
) -> dict[str, dict[str, str]]:
    """Of each of these endpoints (rows) the devices that need it, each with the reason: a key of ``_WORDS``."""
    found: dict[str, dict[str, str]] = {row.name: {} for row in wanted}
    still = {row.name for row in wanted if row.scale == 0}
    for row in connection.execute(_having(wanted)):
        document = msgspec.json.decode(row.document, type=SlotOrder)
        endpoint, when = named_by(every, document, row.labels | {"id": row.device}, now)
        if endpoint in found and (why := _why(row, document, when, now, still=endpoint in still)):
            found[endpoint][row.device] = why
    for row in connection.execute(_planned(wanted)):
        document = msgspec.json.decode(row.document, type=SlotOrder)
        endpoint, _ = named_by(every, document, row.labels | {"id": row.device}, now)
        if endpoint in found:
            found[endpoint].setdefault(row.device, _ROLLING)
    return found


def in_words(found: dict[str, str]) -> str:
    """Why an endpoint runs, in one sentence."""
    counted = Counter(found.values())
    return ", ".join(
        f"{counted[why]} {'device' if counted[why] == 1 else 'devices'} {words}"
        for why, words in _WORDS.items()
        if counted[why]
    )


def waits(connection: Connection, now: float, rollout: Any) -> str:
    """Why the devices that a rollout's module does not fit get no order yet: what is to answer for them is not ready.

    An endpoint that runs on demand is waited for until it is ready, any that is ready until it knows of these devices.
    Empty: none has to wait.
    """
    misfits = (member_rows.c.rollout == rollout.id) & (member_rows.c.hardware == ELSEWHERE)
    if connection.execute(select(member_rows.c.device).where(misfits).limit(1)).first() is None:
        return ""  # as usual, and found out in an index
    mine = (member_rows.c.rollout == rollout.id) & member_rows.c.current
    mine &= (member_rows.c.standing == Standing.PLANNED) & (member_rows.c.hardware == ELSEWHERE)
    labels = select(devices.c.id, devices.c.labels).join(member_rows, member_rows.c.device == devices.c.id)
    found = connection.execute(labels.where(mine, member_rows.c.wave <= rollout.wave)).all()
    if not found:
        return ""
    every = policies.read(connection)
    by_need = policies.on_demand(every)
    document = msgspec.json.decode(rollout.document, type=SlotOrder)
    named = {named_by(every, document, row.labels | {"id": row.id}, now)[0] for row in found}
    waiting = [
        row.name
        for row in connection.execute(select(endpoints).where(endpoints.c.name.in_(named)).order_by(endpoints.c.name))
        if (row.name in by_need and row.state != "ready") or (row.state == "ready" and row.admitted < rollout.id)
    ]
    return f"it waits until endpoint {', '.join(waiting)}, which answers for it, is ready" if waiting else ""


def note(connection: Connection, rollout: int, why: str) -> None:
    """Show at those members that wait what they wait for; empty: for nothing any more."""
    mine = (member_rows.c.rollout == rollout) & (member_rows.c.standing == Standing.PLANNED)
    mine &= (member_rows.c.hardware == ELSEWHERE) & (member_rows.c.note != why)
    connection.execute(update(member_rows).where(mine).values(note=why))


def _models(column: Any, wanted: Sequence[Any]) -> Any:
    """Rows whose module is one of those that these endpoints serve."""
    served = sorted({policies.serves(row) for row in wanted})
    return column.in_([]) if not served else _any([column.startswith(f"{one}:", autoescape=True) for one in served])


def _any(conditions: list[Any]) -> Any:
    first, *others = conditions
    for one in others:
        first = first | one
    return first


def _having(wanted: Sequence[Any]) -> Any:
    mine = (telemetry.c.device == devices.c.id) & (telemetry.c.stream == GATEWAY)
    columns = (slots.c.device, slots.c.slot, slots.c.document, devices.c.labels, devices.c.report)
    chosen = select(*columns, telemetry.c.document.label("told"), telemetry.c.received)
    chosen = chosen.join(devices, devices.c.id == slots.c.device).join(rollouts, rollouts.c.id == slots.c.rollout)
    return chosen.outerjoin(telemetry, mine).where(devices.c.removed.is_(None), _models(rollouts.c.module, wanted))


def _planned(wanted: Sequence[Any]) -> Any:
    chosen = select(member_rows.c.device, rollouts.c.document, devices.c.labels)
    chosen = chosen.join(rollouts, rollouts.c.id == member_rows.c.rollout)
    chosen = chosen.join(devices, devices.c.id == member_rows.c.device)
    mine = member_rows.c.current & (member_rows.c.hardware == ELSEWHERE)
    mine &= member_rows.c.standing.in_((Standing.PLANNED, Standing.WORKING)) & (rollouts.c.state == State.RUNNING)
    return chosen.where(mine, member_rows.c.wave <= rollouts.c.wave, _models(rollouts.c.module, wanted))


def _why(row: Any, document: SlotOrder, when: frozenset[str], now: float, *, still: bool) -> str:
    """Why a device needs the endpoint of one of its slots; empty: it does not."""
    said = msgspec.json.decode(row.report, type=Report) if row.report else None
    slot = next((one for one in said.slots if one.slot == row.slot), None) if said else None
    if slot is not None and slot.digest == document.digest:
        if _misfit(slot):
            return UNPLACEABLE if UNPLACEABLE in when else ""
        if "unhealthy" in when and _dark(slot):
            return "unhealthy"
    figures = _figures(row, now)
    if figures.get(BY_CLOUD, 0.0) > 0:
        return "overloaded"
    return _PRESSED if "overloaded" in when and _pressed(figures, still=still) else ""


def _misfit(slot: SlotReport) -> bool:
    unfit = slot.reason is not None and slot.reason.code == Unfit.code
    return slot.phase == Phase.REJECTED and unfit and slot.serving is None


def _dark(slot: SlotReport) -> bool:
    if slot.current is not None and slot.current.state != "up":
        return True
    return slot.phase in _ENDED_WITHOUT and slot.serving is None


def _figures(row: Any, now: float) -> Mapping[str, float]:
    """What the slot's applications saw, by the newest sample; nothing where that is of long ago."""
    if row.told is None or now - row.received > RECENT_S:
        return {}
    told = msgspec.json.decode(row.told, type=Telemetry)
    mine = [one.figures for one in told.samples if one.slot == row.slot]
    return mine[-1] if mine else {}


def _pressed(figures: Mapping[str, float], *, still: bool) -> bool:
    """Whether the slot has more to do than it can: by its bounds, or since it turned requests away."""
    part = too_much(figures)
    return part > 0 and (not still or part >= STARTS_AT)
