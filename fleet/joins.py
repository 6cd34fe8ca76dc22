"""What lets devices join: bundles with a token, for one device or a group, and claims; the tables of both.

A use is taken when a device joins or begins to wait for approval, and comes back when it is rejected or waits too long.
The database holds the hash of a token (fleet/tokens.py) and the public key of a claim: whoever reads it joins nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from fleet import selectors, tokens
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Forbidden, JoinExpired, JoinRevoked, JoinSpent, Missing, Unauthorised
from fleet.tables import devices, joins, pending
from modules.names import DeviceId

ASK: Final = "ask an operator for a new one"
# A claim's session is let go, then its certificate has to be refused, then the broker has forgotten it.
OPEN: Final = "open"
ENDED: Final = "ended"
CUT: Final = "cut"
_SHOWN: Final = 500

Join = Row[Any]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Who may join: how many devices within how many seconds, and the labels that they get.

    ``approve``: they wait for an operator's word; None: as the server's setting says. ``name`` is the only one that may
    be taken, and ``readmit`` says that it is another key's, or was. ``by`` is who made it, with rights for ``scope``.
    """

    life_s: float
    uses: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    approve: bool | None = None
    name: DeviceId | None = None
    readmit: bool = False
    by: str = ""
    scope: Scope = EVERYTHING


def add(connection: Connection, now: float, terms: Terms, *, approve: bool, **more: str) -> int:
    """A new one; ``more`` are the columns of a token or a claim. Returns its number.

    Raises:
        Invalid: a label that no selector could name.
        Forbidden: with these labels a device would lie outside of what its maker's rights are for; the caller's
            transaction ends.
    """
    row: dict[str, Any] = {"created": now, "expires": now + terms.life_s, "uses": terms.uses, "uses_left": terms.uses}
    row |= {"labels": selectors.check_labels(terms.labels), "approve": approve, "by": terms.by}
    row |= {"name": terms.name, "readmit": terms.readmit}
    made = connection.execute(insert(joins).values(**row, **more)).inserted_primary_key
    assert made is not None  # noqa: S101 - for mypy
    if connection.scalar(select(joins.c.id).where(joins.c.id == made[0], terms.scope.of_joins())) is None:
        raise Forbidden(
            "who joins so would be outside of what your rights are for",
            element="labels",
            remedy=f"give them labels that are of {terms.scope.groups}: --label KEY=VALUE",
        )
    return int(made[0])


def of_token(connection: Connection, text: str) -> Join:
    """The one that a token belongs to, whether it still lets anybody in or not: see :func:`check`.

    Raises:
        Unauthorised: nobody was ever given this token.
        JoinRevoked: it was taken back.
    """
    hashed = tokens.hash_of(text)
    found = None
    if hashed is not None:
        # Looked up by hash: how long the comparison takes tells nothing about the token.
        found = connection.execute(select(joins).where(joins.c.hash == hashed)).one_or_none()
    if found is None:
        raise Unauthorised("this token does not hold", element="join token", remedy=ASK)
    return _kept(found)


def numbered(connection: Connection, join: int) -> Join:
    """The one with this number, which is there."""
    return connection.execute(select(joins).where(joins.c.id == join)).one()


def of_claim(connection: Connection, claim: str) -> Join:
    """The join of a claim.

    Raises:
        Unauthorised: there is no such claim.
        JoinRevoked: it was taken back.
        JoinSpent: its device has joined, and has said so.
    """
    found = connection.execute(select(joins).where(joins.c.claim == claim)).one_or_none()
    if found is None:
        raise Unauthorised("there is no such claim", element="claim", remedy=ASK)
    if found.revoked is None and found.claim_state != OPEN:
        raise JoinSpent("this claim is used up", element="claim", remedy=ASK)
    return _kept(found)


def _kept(found: Join) -> Join:
    if found.revoked is not None:
        raise JoinRevoked("an operator took this join bundle back", element=what(found), remedy=ASK)
    return found


def check(join: Join, now: float) -> None:
    """See that one more device may join by it.

    Raises:
        JoinExpired: its time is over.
        JoinSpent: it has no use left.
    """
    check_time(join, now)
    if join.uses_left is not None and join.uses_left < 1:
        raise JoinSpent("this join bundle is used up", element=what(join), remedy=ASK)


def check_time(join: Join, now: float) -> None:
    """See that its time is not over.

    Raises:
        JoinExpired: it is.
    """
    if join.expires is not None and join.expires <= now:
        raise JoinExpired("this join bundle has expired", element=what(join), remedy=ASK)


def what(join: Join) -> str:
    """How messages and events name it."""
    return f"claim {join.id}" if join.claim else f"join {join.id}"


def take_use(connection: Connection, join: int) -> None:
    """One device less may join by it; :func:`check` comes before, in the same transaction."""
    counted = update(joins).where(joins.c.id == join, joins.c.uses_left.is_not(None))
    connection.execute(counted.values(uses_left=joins.c.uses_left - 1))


def give_back(connection: Connection, join: int) -> None:
    """A use that was kept for a key which waited in vain."""
    counted = update(joins).where(joins.c.id == join, joins.c.uses_left.is_not(None))
    connection.execute(counted.values(uses_left=joins.c.uses_left + 1))


def revoke(connection: Connection, now: float, join: int) -> Join:
    """Take one back: nobody joins by it any more, and whoever waits for approval under it waits no more.

    Raises:
        Missing: there is none, or it was taken back before.
    """
    found = connection.execute(select(joins).where(joins.c.id == join, joins.c.revoked.is_(None))).one_or_none()
    if found is None:
        raise none_such(str(join))
    connection.execute(pending.delete().where(pending.c.join == join, pending.c.state == "waiting"))
    state = ENDED if found.claim_state == OPEN else found.claim_state
    connection.execute(update(joins).where(joins.c.id == join).values(revoked=now, claim_state=state))
    return found


def none_such(named: str) -> Missing:
    """What is said of a number that no join has, or none that whoever asks may see."""
    return Missing("there is no such join bundle", element=named, remedy="see edgefleet devices joins list")


def view_all(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """The newest ones of a scope, newest first, as the API shows them; never a token."""
    shown = ("id", "created", "by", "expires", "uses", "uses_left", "labels", "approve", "name", "readmit", "revoked")
    rows = connection.execute(select(joins).where(scope.of_joins()).order_by(joins.c.id.desc()).limit(_SHOWN)).all()
    waiting = connection.scalars(select(pending.c.join).where(pending.c.state == "waiting")).all()
    return [
        {name: getattr(row, name) for name in shown}
        | {"kind": "claim" if row.claim else "bundle", "waiting": sum(one == row.id for one in waiting)}
        for row in rows
    ]


# Claims


def end_claim(connection: Connection, join: int) -> None:
    """Its device has its certificate: the claim's own is to be refused, and its session cut."""
    mine = update(joins).where(joins.c.id == join, joins.c.claim_state == OPEN)
    connection.execute(mine.values(claim_state=ENDED))


def end_claims(connection: Connection, now: float) -> int:
    """The same for those that are over, or whose device has been heard without having said that it kept all."""
    keys = select(devices.c.id).where(devices.c.id == joins.c.name, devices.c.last_seen.is_not(None)).exists()
    waits = select(pending.c.join).where(pending.c.join == joins.c.id, pending.c.state == "waiting").exists()
    over = (joins.c.expires <= now) | ((joins.c.uses_left < 1) & keys & ~waits)
    ended = update(joins).where(joins.c.claim_state == OPEN, over).values(claim_state=ENDED)
    return connection.execute(ended).rowcount


def any_open_claim(connection: Connection) -> bool:
    return connection.scalar(select(joins.c.id).where(joins.c.claim_state == OPEN).limit(1)) is not None


def ended_claims(connection: Connection) -> list[str]:
    """The ids of claims whose sessions are still to be cut."""
    return list(connection.scalars(select(joins.c.claim).where(joins.c.claim_state == ENDED)).all())


def claim_cut(connection: Connection, claim: str) -> None:
    connection.execute(update(joins).where(joins.c.claim == claim).values(claim_state=CUT))


def revoked_serials(connection: Connection, now: float) -> dict[int, float]:
    """The serial numbers of claims that hold no more, for the list of revoked certificates, and since when."""
    over = joins.c.claim_state.in_((ENDED, CUT)) & (joins.c.expires > now)
    rows = connection.execute(select(joins.c.claim_serial, joins.c.revoked, joins.c.created).where(over))
    return {int(row.claim_serial, 16): row.revoked or row.created for row in rows}
