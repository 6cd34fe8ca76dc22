"""What is older than the settings keep is forgotten: in small transactions, one after the other, and nothing needed.

- Telemetry: after ``keep_telemetry_s``, by the time at which the server got it; the newest of each device stays.
- Keys that wait for approval: after their time; join bundles and claims: a month after theirs.
- Tokens: a month after they ended or were revoked; the audit log and the events say longer what was done with them.
  Sessions of browsers: at their end.
- Events: after ``keep_events_s``, except the newest.
- What devices sent as results of commands: after ``keep_results_s``; the commands that are over, and whatever is left
  of their results: after ``keep_commands_s``.
- What was decided for a slot: after ``keep_history_s``, except the newest revisions of each slot, what the members of a
  rollout refer to, and what stood before that, to which a revert goes back.
- Devices and history of a rollout: after nothing has happened to it for ``keep_rollouts_s``, if it has ended and no
  slot, no open step and no late joiner needs it. The rollout itself stays, and says that they are gone.
- Whatever else keeps files or rows brings its own step (``more``): uploads (fleet/uploads/uploads.py).
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, exists, func, or_, select, tuple_, update

from fleet import pending
from fleet.clock import Clock
from fleet.command_tables import command_parts, commands
from fleet.db import Database
from fleet.joins import CUT
from fleet.meters import Meters
from fleet.rollouts.phases import Standing, State
from fleet.settings import Settings
from fleet.tables import (
    events,
    history,
    joins,
    members,
    rollouts,
    sessions,
    slot_revisions,
    slots,
    telemetry_history,
    tokens,
)
from fleet.tables import pending as pending_rows
from fleet.target_tables import shares

# Rows of one transaction: some milliseconds of the writers' lock.
AT_ONCE: Final = 500
# Of a result each may have 64 KiB.
PARTS_AT_ONCE: Final = 100
# Rollouts that one look takes: each may have thousands of members, which are only read.
ROLLOUTS_AT_ONCE: Final = 5
EVENTS_KEPT: Final = 1000
# Join bundles and claims after their end: the events say longer who joined with them.
JOINS_KEPT_S: Final = 30 * 86400
TOKENS_KEPT_S: Final = 30 * 86400
REVISIONS_KEPT: Final = 10
_ENDED: Final = (State.DONE, State.PARTIAL, State.FAILED, State.CANCELLED, State.REVERTED)
_JOINED: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.DONE, State.PARTIAL)
_UNDER_WAY: Final = (Standing.RECALLED, Standing.RETURNING)
_START: Final = ("", "", 0)


class Retention:
    """One pass after the other; ``step`` runs in a worker thread."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        meters: Meters,
        settings: Settings,
        *,
        more: tuple[Callable[[], bool], ...] = (),
    ) -> None:
        self._database, self._clock, self._meters, self._settings = database, clock, meters, settings
        self._work: tuple[Callable[[], bool], ...] = (
            self._events,
            self._joins,
            self._tokens,
            self._telemetry,
            self._results,
            self._commands,
            self._rollouts,
            self._sweep,
            self._revisions,
            *more,
        )
        self._now_at = 0
        self._rollouts_after = 0
        self._revisions_after: tuple[str, str, int] = _START

    def step(self) -> bool:
        """The next small piece; False at the end of a pass."""
        if not self._work[self._now_at]():
            self._now_at = (self._now_at + 1) % len(self._work)
            return self._now_at > 0
        return True

    def _events(self) -> bool:
        before = self._clock() - self._settings.keep_events_s
        newest = select(func.max(events.c.id)).scalar_subquery()
        old = select(events.c.id).where(events.c.at < before, events.c.id <= newest - EVENTS_KEPT)
        chosen = old.order_by(events.c.at).limit(AT_ONCE).subquery()
        with self._database.write() as connection:
            return self._delete(connection, events, events.c.id.in_(select(chosen.c.id))) == AT_ONCE

    def _joins(self) -> bool:
        """Keys that waited too long, and bundles and claims that ended long ago, whose devices are all there."""
        before = self._clock() - JOINS_KEPT_S
        with self._database.write() as connection:
            pending.forget_old(connection, self._clock())
            known = select(pending_rows.c.join)
            over = joins.c.claim_state.in_(("", CUT)) & (joins.c.expires < before) & joins.c.id.not_in(known)
            chosen = select(joins.c.id).where(over).order_by(joins.c.id).limit(AT_ONCE).subquery()
            return self._delete(connection, joins, joins.c.id.in_(select(chosen.c.id))) == AT_ONCE

    def _tokens(self) -> bool:
        """Tokens and sessions that are over; the newest token stays, for its number is given to no other."""
        now = self._clock()
        newest = select(func.max(tokens.c.id)).scalar_subquery()
        over = or_(tokens.c.expires < now - TOKENS_KEPT_S, tokens.c.revoked < now - TOKENS_KEPT_S)
        old = select(tokens.c.id).where(over, tokens.c.id < newest).order_by(tokens.c.id).limit(AT_ONCE).subquery()
        ended = select(sessions.c.hash).where(sessions.c.ends <= now).limit(AT_ONCE).subquery()
        with self._database.write() as connection:
            gone = self._delete(connection, tokens, tokens.c.id.in_(select(old.c.id)))
            out = self._delete(connection, sessions, sessions.c.hash.in_(select(ended.c.hash)))
        return AT_ONCE in {gone, out}

    def _telemetry(self) -> bool:
        kept = telemetry_history.c
        old = select(kept.id).where(kept.received < self._clock() - self._settings.keep_telemetry_s)
        chosen = old.order_by(kept.received).limit(AT_ONCE).subquery()
        with self._database.write() as connection:
            return self._delete(connection, telemetry_history, kept.id.in_(select(chosen.c.id))) == AT_ONCE

    def _results(self) -> bool:
        before = self._clock() - self._settings.keep_results_s
        return self._delete_parts(command_parts.c.at < before, command_parts.c.at)

    def _commands(self) -> bool:
        old = commands.c.ended < self._clock() - self._settings.keep_commands_s
        if self._delete_parts(old, commands.c.ended):
            return True
        chosen = select(commands.c.number).where(old).order_by(commands.c.ended).limit(AT_ONCE).subquery()
        with self._database.write() as connection:
            return self._delete(connection, commands, commands.c.number.in_(select(chosen.c.number))) == AT_ONCE

    def _delete_parts(self, which: Any, order: Any) -> bool:
        """Some parts of results of commands that are over; False where there was none."""
        key = (command_parts.c.command, command_parts.c.part)
        over = which & commands.c.ended.is_not(None)
        some = select(*key).join(commands).where(over).order_by(order).limit(PARTS_AT_ONCE)
        with self._database.read() as connection:
            chosen = [tuple(row) for row in connection.execute(some)]
        if not chosen:
            return False
        with self._database.write() as connection:
            self._delete(connection, command_parts, tuple_(*key).in_(chosen))
        return True

    def _sweep(self) -> bool:
        """Rows of rollouts that are forgotten; after a restart, too, whatever was left."""
        with self._database.write() as connection:
            gone = rollouts.c.forgotten.is_not(None)
            of_rollouts = ((members, members.c.device), (shares, shares.c.wave), (history, history.c.id))
            for table, key in of_rollouts:
                left = exists().where(table.c.rollout == rollouts.c.id)
                rollout = connection.execute(select(rollouts.c.id).where(gone, left).limit(1)).scalar_one_or_none()
                if rollout is not None:
                    some = select(key).where(table.c.rollout == rollout).limit(AT_ONCE).subquery()
                    mine = (table.c.rollout == rollout) & key.in_(select(some.c[key.name]))
                    self._delete(connection, table, mine)
                    return True
        return False

    def _rollouts(self) -> bool:
        """Look at the next rollouts, and mark those that nothing needs; their rows go with the next steps."""
        now = self._clock()
        before = now - self._settings.keep_rollouts_s
        with self._database.read() as connection:
            old = rollouts.c.forgotten.is_(None) & rollouts.c.state.in_(_ENDED) & (rollouts.c.created < before)
            wanted = select(rollouts.c.id, rollouts.c.slot).where(old, rollouts.c.id > self._rollouts_after)
            chosen = connection.execute(wanted.order_by(rollouts.c.id).limit(ROLLOUTS_AT_ONCE)).all()
            over = [row for row in chosen if not _needed(connection, row.id, row.slot, before)]
        self._rollouts_after = chosen[-1].id if chosen else 0
        for row in over:
            with self._database.write() as connection:
                # An operator may have taken it back meanwhile; nothing else can need it so quickly.
                mine = (rollouts.c.id == row.id) & rollouts.c.state.in_(_ENDED)
                untouched = ~exists().where(history.c.rollout == row.id, history.c.at >= before)
                connection.execute(update(rollouts).where(mine, untouched).values(forgotten=now))
        return bool(chosen)

    def _revisions(self) -> bool:
        """The next revisions in the order of their key, so that the whole table is never looked through at once."""
        before = self._clock() - self._settings.keep_history_s
        mine = slot_revisions.c
        key = tuple_(mine.device, mine.slot, mine.revision)
        here = key > tuple_(*self._revisions_after)
        with self._database.read() as connection:
            wanted = select(mine.device, mine.slot, mine.revision).where(here)
            chosen = connection.execute(wanted.order_by(mine.device, mine.slot, mine.revision).limit(AT_ONCE)).all()
        if not chosen:
            self._revisions_after = _START
            return False
        last = tuple(chosen[-1])
        other = slot_revisions.alias()
        same = (other.c.device == mine.device) & (other.c.slot == mine.slot)
        newest = select(func.max(other.c.revision)).where(same).scalar_subquery()
        # A member goes back to what was decided before its own revision.
        asked = exists().where(
            members.c.device == mine.device,
            members.c.slot == mine.slot,
            or_(members.c.revision == mine.revision, members.c.revision == mine.revision + 1),
        )
        old = and_(here, key <= tuple_(*last), mine.at < before, mine.revision <= newest - REVISIONS_KEPT, ~asked)
        with self._database.write() as connection:
            self._delete(connection, slot_revisions, old)
        self._revisions_after = (last[0], last[1], last[2])
        return True

    def _delete(self, connection: Connection, table: Table, which: Any) -> int:
        count = int(connection.execute(delete(table).where(which)).rowcount)
        if count:
            self._meters.forgotten(table.name, count)
        return count


def _needed(connection: Connection, rollout: int, slot: str, before: float) -> bool:
    """Whether something happened to a rollout since, or anything may still ask for its devices."""
    mine = members.c.rollout == rollout
    later = members.alias()
    same = (later.c.rollout == members.c.superseded_by) & (later.c.device == members.c.device)
    reasons = (
        exists().where(history.c.rollout == rollout, history.c.at >= before),
        exists().where(slots.c.rollout == rollout),
        exists().where(mine, or_(members.c.current, members.c.standing.in_(_UNDER_WAY))),
        # Where the newer rollout still decides, a revert of it gives the slot back to this one.
        exists().where(mine, same, later.c.current),
        # It says of its devices that they had newer things than an older rollout which takes late joiners.
        exists().where(
            rollouts.c.slot == slot,
            rollouts.c.late_joiners,
            rollouts.c.state.in_(_JOINED),
            rollouts.c.id <= rollout,
        ),
    )
    return any(connection.execute(select(reason)).scalar_one() for reason in reasons)
