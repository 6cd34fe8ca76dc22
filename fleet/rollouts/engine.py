"""The rollout engine: each tick takes up what changed or is due, and applies it in one bounded transaction.

Whatever changes a member or a rollout sets ``look_at`` of the rollout, so that a tick in which nothing happened costs a
few look-ups in an index, however large the fleet is. A tick does a bounded piece of work and says whether there is
more. It remembers nothing between ticks but what time it was, so that a server that was killed goes on where the
database stands: what is waited for follows a clock that is set (``set_clock``).
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.exc import OperationalError

from fleet import orders, revisions
from fleet.clock import Clock, passing
from fleet.db import Database
from fleet.fallbacks import needs
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.registry import Registry
from fleet.rollouts import (
    auto,
    control,
    joining,
    members,
    ordering,
    overdue,
    parts,
    phases,
    recall,
    set_clock,
    traffic,
    verdicts,
)
from fleet.rollouts.candidates import ELSEWHERE
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing, State
from fleet.tables import members as member_rows
from fleet.tables import rollout_columns, rollouts
from modules.errors import Refused
from modules.names import DeviceId
from modules.protocol.report import Reason

log = logging.getLogger(__name__)

ORDERS_PER_TICK: Final = 100
ROLLOUTS_PER_TICK: Final = 20
AFTER_A_FAILURE_S: Final = 60.0
# How often it is looked whether a fallback is ready that devices wait for.
WAITS_S: Final = 1.0
_ORDERED: Final = (
    update(member_rows)
    .where(member_rows.c.rollout == bindparam("of_rollout"), member_rows.c.device == bindparam("of"))
    .values({name: bindparam(name) for name in ("counter", "revision", "due")})
    .values(phase=phases.ORDERED, health="", standing=Standing.WORKING, note="")
)


class Engine:
    """Moves rollouts on; ``tick`` runs in a worker thread. Each device and each rollout fails alone."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        issuing: Orders,
        clock: Clock,
        mishaps: Mishaps,
        *,
        needs_another: bool = False,
        passed: Clock | None = None,
    ) -> None:
        self._database, self._registry, self._orders = database, registry, issuing
        self._clock, self._passed, self._mishaps = clock, passed or passing(clock), mishaps
        # The setting four_eyes, of rollouts that rules start.
        self._needs_another = needs_another
        self._last: set_clock.Look | None = None

    def tick(self) -> bool:
        """Do one piece of work; True if another tick has more to do."""
        with self._database.write() as connection:
            look = set_clock.Look(self._clock(), self._passed())
            set_clock.keep(connection, self._last, look)
            more = self._work(connection, look.now)
        # Not before all of it is kept: what was not is done by the next tick, with all the time since.
        self._last = look
        return more

    def _work(self, connection: Connection, now: float) -> bool:
        more = overdue.sweep(connection, now, limit=ORDERS_PER_TICK)
        more = joining.some(connection, now, self._registry, self._alone, limit=ORDERS_PER_TICK) or more
        rules = partial(auto.some, limit=ORDERS_PER_TICK, needs_another=self._needs_another)
        more = rules(connection, now, self._registry, self._alone) or more
        due = select(*rollout_columns).where(rollouts.c.look_at <= now).order_by(rollouts.c.look_at, rollouts.c.id)
        for row in connection.execute(due.limit(ROLLOUTS_PER_TICK)).all():
            # Again after a while, should the look fail; it says itself when it is not needed any more.
            _look_again(connection, row.id, now + AFTER_A_FAILURE_S)
            with self._alone(connection, "judgement", f"rollout {row.id}"):
                self._look(connection, now, row)
        more = self._orders.renew(connection, now, limit=ORDERS_PER_TICK) == ORDERS_PER_TICK or more
        return more or connection.execute(due.with_only_columns(rollouts.c.id).limit(1)).first() is not None

    @contextmanager
    def _alone(self, connection: Connection, name: str, about: str) -> Iterator[None]:
        """A part of the tick that is done as a whole or not at all, and takes no other with it."""
        try:
            with connection.begin_nested():
                yield
        except OperationalError:
            raise  # the database itself: the whole tick is tried again
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one row, the others go on
            self._mishaps.note(name, about, error)

    def _look(self, connection: Connection, now: float, row: Row[Any]) -> None:
        """Bring one rollout on by a bounded step; whatever is to be looked at again says so in its row."""
        _look_again(connection, row.id, None)
        room = min(ORDERS_PER_TICK, orders.room(connection))
        if recalled := recall.some(connection, row.id, limit=max(room, 1)):
            for member in recalled[:room]:
                with self._alone(connection, "withdrawal", f"{member.device}/{member.slot}"):
                    recall.one(connection, now, self._orders, row.id, member)
            _look_again(connection, row.id, _soon(now, room))
            return
        if row.endpoint is not None and row.state != State.RUNNING:
            if (again := traffic.rest(connection, now, row)) is not None:
                _look_again(connection, row.id, again)
            row = control.get(connection, row.id)
        match row.state:
            case State.SCHEDULED if row.starts is not None and row.starts > now:
                _look_again(connection, row.id, row.starts)
            case State.SCHEDULED:
                control.move(connection, now, row.id, State.RUNNING, "its time has come")
            case State.RUNNING:
                self._run(connection, now, row, room)
            case State.DONE | State.PARTIAL if row.endpoint is None:
                verdicts.reopen(connection, now, row)
            case State.REVERTING if not parts.of(row).unfinished(connection, row):
                control.move(connection, now, row.id, State.REVERTED, parts.of(row).returned(connection, row))

    def _run(self, connection: Connection, now: float, row: Row[Any], room: int) -> None:
        policy = msgspec.json.decode(row.policy, type=Policy)
        if row.endpoint is not None:
            if (again := traffic.run(connection, now, row, policy)) is not None:
                _look_again(connection, row.id, again)
            return
        # Judged first: a device that failed makes room for the next one, which is not to get what failed.
        again = verdicts.apply(connection, now, row, policy)
        judged = control.get(connection, row.id)
        chosen: Sequence[Any] = ()
        if judged.state == State.RUNNING:
            waits = needs.waits(connection, now, judged)
            needs.note(connection, row.id, waits)
            but = ELSEWHERE if waits else ""
            chosen = ordering.due(connection, row.id, judged.wave, policy, limit=max(room, 1), but=but)
            if waits:
                again = min(again or math.inf, now + WAITS_S)
        self._order(connection, now, row, chosen[:room])
        if chosen:
            again = _soon(now, room)
        if again is not None:
            _look_again(connection, row.id, again)

    def _order(self, connection: Connection, now: float, row: Row[Any], chosen: Sequence[Any]) -> None:
        """Decide a slot and issue the order: of all these devices at once, or where one cannot be, of each alone."""
        if not chosen:
            return
        try:
            with connection.begin_nested():
                self._order_all(connection, now, row, chosen)
        except OperationalError:
            raise  # as in _alone
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one of them, the others get theirs
            log.debug("orders are made one by one: %r", error)
            for member in chosen:
                with self._alone(connection, "order", f"{member.device}/{row.slot}"):
                    self._order_alone(connection, now, row, member)

    def _order_all(self, connection: Connection, now: float, row: Row[Any], chosen: Sequence[Any]) -> None:
        """Content that failed on a device may be tried again there by an operator's word."""
        waived = {DeviceId(member.device): row.waive or member.revision is not None for member in chosen}
        given = {"rollout": row.id, "document": row.document}
        decided = revisions.decide_all(connection, now, "", row.slot, waived, **given)
        counters = self._orders.issue_all(connection, now, list(waived))
        ordered = [
            {"of": device, "of_rollout": row.id, "counter": counters[device], "revision": decided[device]}
            for device in waived
        ]
        connection.execute(_ORDERED, [one | {"due": now + row.deadline_s} for one in ordered])

    def _order_alone(self, connection: Connection, now: float, row: Row[Any], member: Any) -> None:
        try:
            with connection.begin_nested():
                self._order_all(connection, now, row, [member])
        except Refused as error:
            # Too large for the device, say. It is this device's failure, and no other's.
            mine = members.of(member.device, row.id)
            connection.execute(update(member_rows).where(mine).values(counter=0))
            members.fail(connection, mine, Reason(error.code, str(error)[:2000]))


def _soon(now: float, room: int) -> float:
    """When a rollout with more orders to make is to be looked at: at once, or by the next tick where there is no room.

    What makes room wakes the engine.
    """
    return now if room else now + 0.001


def _look_again(connection: Connection, rollout: int, at: float | None) -> None:
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(look_at=at))
