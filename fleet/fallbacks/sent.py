"""How many requests devices sent to the cloud today by a policy, as their gateways counted it, beside what they may."""

from collections import Counter
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from fleet.fallbacks import policies
from fleet.fallbacks.answering import has_own_terms
from fleet.fallbacks.policies import Known
from fleet.tables import telemetry_history
from fleet.telemetry.view import read
from modules.names import ModuleRef
from modules.protocol.order import SlotOrder
from modules.protocol.telemetry import GATEWAY

#: So many messages are read for one policy; where there are more, the sum is the least that it can be.
MESSAGES: Final = 20_000
NAMED: Final = 10
_DAY_S: Final = 86400
_TOGETHER: Final = 500


def today(connection: Connection, now: float, row: Any) -> dict[str, Any]:
    """Of the slots that a policy (its row) holds for now: how many, and what they have sent on this day of UTC.

    ``a_day`` is what each slot may send, 0 where that has no bound. A device tells what it counted every few minutes,
    and one that keeps it to itself is among ``devices`` and not among ``told``.
    """
    one = policies.known(row)
    held = _held(connection, one)
    since = policies.day_of(now) * _DAY_S
    sent, told, whole = _counted(connection, since, held)
    a_day = int(one.policy.terms.get("requests_a_day", 0))
    most = sorted(sent.items(), key=lambda each: (-each[1], each[0]))
    return {
        "since": since,
        "devices": len(held),
        "told": told,
        "slots": sum(map(len, held.values())),
        "sent": sum(sent.values()),
        "a_day": a_day,
        "spent": sum(1 for count in sent.values() if a_day and count >= a_day),
        "whole": whole,
        "most": [{"device": device, "slot": slot, "sent": count} for (device, slot), count in most[:NAMED] if count],
    }


def _held(connection: Connection, one: Known) -> dict[str, set[str]]:
    """The slots of devices whose orders this policy completes."""
    every, held = policies.read(connection), dict[str, set[str]]()
    for each in policies.ordered(connection, one.team, one.model):
        if not one.selector.matches(each.labels):
            continue
        document = msgspec.json.decode(each.document, type=SlotOrder)
        winner = policies.winner(every, ModuleRef.from_target(document.manifest), each.labels)
        if winner is not None and winner.id == one.id and not has_own_terms(document):
            held.setdefault(each.device, set()).add(each.slot)
    return held


def _counted(
    connection: Connection, since: float, held: dict[str, set[str]]
) -> tuple[Counter[tuple[str, str]], int, bool]:
    """What was sent by device and slot, by how many devices it was told, and whether everything was read."""
    sent, told, left = Counter[tuple[str, str]](), set[str](), MESSAGES
    names = sorted(held)
    for start in range(0, len(names), _TOGETHER):
        some = telemetry_history.c.device.in_(names[start : start + _TOGETHER])
        new = (telemetry_history.c.received >= since) & (telemetry_history.c.stream == GATEWAY)
        chosen = select(telemetry_history.c.device, telemetry_history.c.document).where(some, new).limit(left + 1)
        for row in connection.execute(chosen):
            if (left := left - 1) < 0:
                return sent, len(told), False
            told.add(row.device)
            for sample in read(row.document).samples:
                # What a clock that was not set yet has no time for came today all the same.
                if sample.slot in held[row.device] and not 0 < sample.at < since:
                    sent[row.device, str(sample.slot)] += round(sample.figures.get("fallback", 0.0))
    return sent, len(told), True
