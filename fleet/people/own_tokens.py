"""Tokens with a name: an operator's own, or a CI's. None may do more than its maker, nor for longer than a setting.

A token that was made with another token goes with it when that is revoked, and ends no later.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, or_, select, update

from fleet import events, tokens
from fleet.people import roles
from fleet.people.principal import Principal
from fleet.people.roles import ROLES, Grant
from fleet.people.scope import Scope
from fleet.refusals import Conflict, Forbidden, Missing
from fleet.tables import operators
from fleet.tables import tokens as rows
from modules.errors import Invalid
from modules.names import slug

# Of one operator, and without one, that hold.
MOST: Final = 200


def make(
    connection: Connection,
    now: float,
    who: Principal,
    name: str,
    given: Iterable[Grant] | None,
    *,
    life_s: float,
    most_s: float,
) -> tuple[int, str]:
    """Make a token for whoever asks; its number and its text. Without ``given`` it may do what they may.

    Raises:
        Conflict: they have one of this name, or too many.
        Invalid: a role, team or selector is none, or it is to hold for longer than it may.
        Forbidden: it would do more than they may.
    """
    if slug(name, what="name of a token").isdecimal():
        raise Invalid("a name of digits alone would be taken for a token's number", element=name[:63])
    checked = _whole(who) if given is None else roles.check(given)
    _check_not_more(who, checked)
    if life_s > most_s:
        raise Invalid(
            f"a token holds for {most_s / 86400:.0f} days at most (token_most_s)", element="expires", remedy="say less"
        )
    mine = (rows.c.operator == who.operator) if who.operator is not None else rows.c.operator.is_(None)
    holds = (rows.c.revoked.is_(None), or_(rows.c.expires.is_(None), rows.c.expires > now))
    names = connection.scalars(select(rows.c.name).where(mine, rows.c.kind == "api", *holds)).all()
    if name in names:
        raise Conflict("you have a token of this name", element=name, remedy=f"edgefleet tokens revoke {name}")
    if len(names) >= MOST:
        raise Conflict(f"you have {MOST} tokens", element=name, remedy="revoke one: edgefleet tokens revoke")
    if who.kind == "token" and who.expires is not None:
        life_s = min(life_s, who.expires - now)
    text = tokens.create(
        connection,
        now,
        kind="api",
        role="",
        life_s=life_s,
        name=name,
        operator=who.operator,
        roles=roles.plain(checked),
        made_by=who.token,
    )
    made = connection.execute(select(rows.c.id).where(rows.c.hash == tokens.hashed(text))).scalar_one()
    events.record(connection, now, "token-made", f"token {made} {name}: {roles.words(checked)}", by=who.name)
    return int(made), text


def listed(connection: Connection, who: Principal) -> list[dict[str, Any]]:
    """The tokens that whoever asks has, or everybody's where they may see who is an operator."""
    wanted = select(rows, operators.c.name.label("owner")).outerjoin(operators).where(rows.c.kind == "api")
    if not who.scope("user:read").areas:
        wanted = wanted.where(_own(who))
    return [shown(row) for row in connection.execute(wanted.order_by(rows.c.id))]


def revoke(connection: Connection, now: float, who: Principal, named: str) -> list[int]:
    """Revoke a token, by its number or the name of one of one's own, and all that were made with it.

    Raises:
        Missing: there is no such token, or it is somebody else's.
    """
    chosen = select(rows).where(rows.c.kind == "api", rows.c.revoked.is_(None))
    if named.isascii() and named.isdecimal() and len(named) <= 9:  # noqa: PLR2004 - digits of 31 bits
        chosen = chosen.where(rows.c.id == int(named))
        if not who.scope("user:write").areas:
            chosen = chosen.where(_own(who))
    else:
        chosen = chosen.where(rows.c.name == named, _own(who))
    found = connection.execute(chosen).first()
    if found is None:
        raise Missing("there is no such token", element=named[:63], remedy="see edgefleet tokens list")
    gone, next_ = [int(found.id)], [int(found.id)]
    while next_:
        below = select(rows.c.id).where(rows.c.made_by.in_(next_), rows.c.revoked.is_(None), rows.c.id.not_in(gone))
        next_ = [int(one) for one in connection.scalars(below)]
        gone += next_
    connection.execute(update(rows).where(rows.c.id.in_(gone)).values(revoked=now))
    said = ", ".join(map(str, gone))
    events.record(connection, now, "token-revoked", f"token {said} ({found.name or found.role})", by=who.name)
    return gone


def shown(row: Row[Any]) -> dict[str, Any]:
    grants = row.roles if row.roles is not None else [{"role": row.role}]
    moments = {name: getattr(row, name) for name in ("created", "expires", "last_used", "revoked")}
    return {"id": row.id, "name": row.name, "operator": row.owner, "roles": grants} | moments


def _own(who: Principal) -> Any:
    if who.operator is not None:
        return rows.c.operator == who.operator
    return (rows.c.id == who.token) | (rows.c.made_by == who.token)


def _whole(who: Principal) -> roles.Grants:
    """All that somebody may do."""
    return who.rights[0]


def _check_not_more(who: Principal, wanted: roles.Grants) -> None:
    for one in wanted:
        scope = Scope((one.area,))
        for permission in sorted(ROLES[one.role]):
            if one.permits(permission) and not who.allows(permission, scope):
                raise Forbidden(
                    f"a token may do no more than you, and {roles.words((one,))} does",
                    element=permission,
                    remedy="leave the role out, or bound it to what your own rights are for",
                )
