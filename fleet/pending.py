"""Keys that wait until an operator has compared their fingerprints: bounded in number, and for a time.

A waiting key keeps a use of its join bundle, so that no more wait than may join; it comes back when the key is rejected
or has waited too long. Nobody has a certificate before the operator's word.
"""

from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from fleet import joins
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing, NameTaken, TooMany
from fleet.tables import pending
from modules.names import DeviceId

WAITING: Final = "waiting"
APPROVED: Final = "approved"
REJECTED: Final = "rejected"
# Altogether; and as many keys stay known as rejected, the newest.
MOST: Final = 1000

Waiting = Row[Any]


def of(connection: Connection, now: float, fingerprint: str) -> Waiting | None:
    """What is known of a key that asked before; None where it did not, or its time is over."""
    row = connection.execute(select(pending).where(pending.c.fingerprint == fingerprint)).one_or_none()
    return None if row is None or (row.expires is not None and row.expires <= now) else row


def add(
    connection: Connection,
    now: float,
    *,
    join: int,
    name: DeviceId,
    fingerprint: str,
    public_key: str,
    address: str,
    life_s: float,
) -> Waiting:
    """A key begins to wait; :func:`forget_old` comes before. One that waits already does so with its newest bundle.

    Raises:
        NameTaken: another key waits for this name.
        TooMany: as many wait as may.
    """
    if (before := of(connection, now, fingerprint)) is not None:
        if before.state == WAITING:
            joins.give_back(connection, before.join)
        connection.execute(delete(pending).where(pending.c.fingerprint == fingerprint))
    waiting = pending.c.state == WAITING
    if connection.scalar(select(pending.c.name).where(waiting, pending.c.name == name)) is not None:
        raise NameTaken(
            "another key waits for approval under this name",
            element=name,
            remedy="have it approved or rejected first (edgefleet devices pending), or ask for another name",
        )
    if (connection.scalar(select(func.count()).select_from(pending).where(waiting)) or 0) >= MOST:
        raise TooMany(
            f"{MOST} devices wait for approval already",
            element="enrolment",
            remedy="have some approved or rejected first: edgefleet devices pending",
        )
    joins.take_use(connection, join)
    row = {"fingerprint": fingerprint, "name": name, "public_key": public_key, "join": join, "address": address}
    row |= {"since": now, "expires": now + life_s, "state": WAITING}
    connection.execute(insert(pending).values(**row))
    return connection.execute(select(pending).where(pending.c.fingerprint == fingerprint)).one()


def waiting(connection: Connection, now: float, name: DeviceId, fingerprint: str | None = None) -> Waiting:
    """The key that waits under a name, if its fingerprint is this one.

    Raises:
        Missing: none waits under this name.
        Conflict: it is another key.
    """
    found = connection.execute(
        select(pending).where(pending.c.name == name, pending.c.state == WAITING, pending.c.expires > now)
    ).one_or_none()
    if found is None:
        raise none_waits(name)
    if fingerprint is not None and found.fingerprint != fingerprint:
        raise Conflict(
            "the key that waits under this name has another fingerprint",
            element=name,
            remedy="compare it with what the device shows; if it differs there too, reject it",
        )
    return found


def approved(connection: Connection, now: float, key: Waiting, *, by: str, life_s: float) -> None:
    """Its device exists now; the key may fetch its certificate for as long as it could have waited."""
    mine = update(pending).where(pending.c.fingerprint == key.fingerprint)
    connection.execute(mine.values(state=APPROVED, by=by, expires=now + life_s))


def reject(connection: Connection, key: Waiting, *, by: str, reason: str) -> None:
    """It stays rejected, whatever bundle it brings, and its use comes back."""
    mine = update(pending).where(pending.c.fingerprint == key.fingerprint)
    connection.execute(mine.values(state=REJECTED, by=by, reason=reason, expires=None))
    joins.give_back(connection, key.join)
    rejected = select(pending.c.fingerprint).where(pending.c.state == REJECTED)
    oldest = rejected.order_by(pending.c.since.desc()).offset(MOST)
    connection.execute(delete(pending).where(pending.c.fingerprint.in_(oldest)))


def forget_old(connection: Connection, now: float) -> None:
    """Those whose time is over; their uses come back."""
    over = pending.c.expires <= now
    for join in connection.scalars(select(pending.c.join).where(over, pending.c.state == WAITING)).all():
        joins.give_back(connection, join)
    connection.execute(delete(pending).where(over))


def none_waits(named: str) -> Missing:
    """What is said of a name under which nobody waits, or nobody whom whoever asks may see."""
    return Missing(
        "no device waits for approval under this name", element=named, remedy="see edgefleet devices pending"
    )


def view_all(connection: Connection, now: float, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Who waits to be a device of a scope, the longest first, as the API shows it."""
    shown = ("name", "fingerprint", "address", "since", "expires", "join")
    mine = (pending.c.state == WAITING) & (pending.c.expires > now) & scope.of_pending()
    rows = connection.execute(select(pending).where(mine).order_by(pending.c.since))
    return [{name: getattr(row, name) for name in shown} for row in rows]
