"""The rollout engine: each tick takes up what changed or is due, and applies it in one bounded transaction.

Whatever changes a member or a rollout sets ``look_at`` of the rollout, so that a tick in which nothing happened costs a
few look-ups in an index, however large the fleet is. A tick does a bounded piece of work and says whether there is
more. It remembers nothing between ticks, so that a server that was killed goes on where the database stands.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import OperationalError

from fleet import revisions
from fleet.clock import Clock
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.registry import Registry
from fleet.rollouts import auto, control, joining, members, ordering, overdue, phases, recall, verdicts
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing, State
from fleet.tables import members as member_rows
from fleet.tables import rollout_columns, rollouts
from modules.errors import Refused
from modules.protocol.report import Reason

ORDERS_PER_TICK: Final = 100
ROLLOUTS_PER_TICK: Final = 20
AFTER_A_FAILURE_S: Final = 60.0


class Engine:
    """Moves rollouts on; ``tick`` runs in a worker thread. Each device and each rollout fails alone."""

    def __init__(self, database: Database, registry: Registry, orders: Orders, clock: Clock, mishaps: Mishaps) -> None:
        self._database, self._registry, self._orders = database, registry, orders
        self._clock, self._mishaps = clock, mishaps

    def tick(self) -> bool:
        """Do one piece of work; True if another tick has more to do."""
        with self._database.write() as connection:
            now = self._clock()
            more = overdue.sweep(connection, now, limit=ORDERS_PER_TICK)
            more = joining.some(connection, now, self._registry, self._alone, limit=ORDERS_PER_TICK) or more
            more = auto.some(connection, now, self._registry, self._alone, limit=ORDERS_PER_TICK) or more
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
        if self._take_back(connection, now, row):
            _look_again(connection, row.id, now)
            return
        match row.state:
            case State.SCHEDULED if row.starts is not None and row.starts > now:
                _look_again(connection, row.id, row.starts)
            case State.SCHEDULED:
                control.move(connection, now, row.id, State.RUNNING, "its time has come")
            case State.RUNNING:
                self._run(connection, now, row)
            case State.DONE | State.PARTIAL:
                verdicts.reopen(connection, now, row)
            case State.REVERTING if not recall.unfinished(connection, row.id):
                control.move(connection, now, row.id, State.REVERTED, _returned(members.counts(connection, row.id)))

    def _run(self, connection: Connection, now: float, row: Row[Any]) -> None:
        policy = msgspec.json.decode(row.policy, type=Policy)
        # Judged first: a device that failed makes room for the next one, which is not to get what failed.
        again = verdicts.apply(connection, now, row, policy)
        judged = control.get(connection, row.id)
        chosen: Sequence[Any] = ()
        if judged.state == State.RUNNING:
            chosen = ordering.due(connection, row.id, judged.wave, policy, limit=ORDERS_PER_TICK)
        for member in chosen:
            with self._alone(connection, "order", f"{member.device}/{row.slot}"):
                self._order(connection, now, row, member)
        if chosen:
            again = now
        if again is not None:
            _look_again(connection, row.id, again)

    def _order(self, connection: Connection, now: float, row: Row[Any], member: Any) -> None:
        """Decide a slot and issue the order; content that failed there may be tried again by an operator's word."""
        mine = members.of(member.device, row.id)
        again = member.revision is not None
        try:
            with connection.begin_nested():
                revision = revisions.decide(
                    connection,
                    now,
                    "",
                    member.device,
                    row.slot,
                    rollout=row.id,
                    document=row.document,
                    waive=row.waive or again,
                )
                counter = self._orders.issue(connection, now, member.device)
        except Refused as error:
            # Too large for the device, say. It is this device's failure, and no other's.
            connection.execute(update(member_rows).where(mine).values(counter=0))
            members.fail(connection, mine, Reason(error.code, str(error)[:2000]))
            return
        values = {"counter": counter, "revision": revision, "due": now + row.deadline_s}
        values |= {"phase": phases.ORDERED, "health": "", "standing": Standing.WORKING, "note": ""}
        connection.execute(update(member_rows).where(mine).values(**values))

    def _take_back(self, connection: Connection, now: float, row: Row[Any]) -> bool:
        chosen = recall.some(connection, row.id, limit=ORDERS_PER_TICK)
        for member in chosen:
            with self._alone(connection, "withdrawal", f"{member.device}/{member.slot}"):
                recall.one(connection, now, self._orders, row.id, member)
        return bool(chosen)


def _look_again(connection: Connection, rollout: int, at: float | None) -> None:
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(look_at=at))


def _returned(counts: dict[str, int]) -> str:
    back, not_back = counts.get(Standing.RETURNED, 0), counts.get(Standing.UNRETURNED, 0)
    rest = f", {not_back} did not answer in time" if not_back else ""
    return f"{back} {'device runs' if back == 1 else 'devices run'} again what ran before{rest}"
