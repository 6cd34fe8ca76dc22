"""Operators: who they are, which roles they have, and how they log in. Each change is an event."""

import re
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from fleet import events
from fleet.people import passwords, roles, sessions
from fleet.people.roles import Grant
from fleet.refusals import Conflict, Missing, Unauthorised
from fleet.tables import operators
from modules.errors import Invalid

FIRST: Final = "admin"
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,48}[a-z0-9])?")
# Said of a name that nobody has, a password that is wrong, and somebody who was disabled.
_REFUSED: Final = "no operator has this name and password"


def check_name(name: str) -> str:
    """A name as operators have it.

    Raises:
        Invalid: it is of another form.
    """
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{name[:60]!r} is not a valid name of an operator",
            element="name",
            remedy="use up to 50 lower-case letters, digits and . _ @ + -, with a letter or digit at both ends",
        )
    return name


def add(
    connection: Connection, now: float, name: str, given: Iterable[Grant], *, password: str | None, by: str = ""
) -> None:
    """Add an operator; ``password`` is the hash of one that has to be changed first, or None for a provider's people.

    Raises:
        Conflict: there is one of this name.
        Invalid: the name or a role is none.
    """
    check_name(name)
    checked = roles.check(given)
    if connection.scalar(select(operators.c.id).where(operators.c.name == name)) is not None:
        raise Conflict(
            "there is an operator of this name", element=name, remedy="change their roles: edgefleet operators roles"
        )
    values = {"roles": roles.plain(checked), "created": now, "password": password, "must_change": password is not None}
    connection.execute(insert(operators).values(name=name, **values))
    events.record(connection, now, "operator-added", f"{name}: {roles.words(checked)}", by=by)


def known_to_provider(connection: Connection, now: float, name: str, subject: str, given: Iterable[Grant]) -> Row[Any]:
    """The operator whom an identity provider vouches for, with the roles that it gives; added at the first log-in.

    Raises:
        Conflict: an operator of this name has a password here, or is another of the provider's people.
        Unauthorised: disabled.
        Invalid: the name is none.
    """
    check_name(name)
    granted = roles.plain(roles.check(given))
    row = connection.execute(select(operators).where(operators.c.subject == subject)).one_or_none()
    if row is None:
        row = found(connection, name)
        if row is None:
            add(connection, now, name, given, password=None, by="the identity provider")
        elif row.password is not None or row.subject is not None:
            raise Conflict(
                "an operator of this name is somebody else", element=name, remedy="ask an admin for another name"
            )
        row = get(connection, name)
        _change(connection, row.id, subject=subject)
    if row.disabled is not None:
        raise Unauthorised(_REFUSED, element="login", remedy="ask an admin")
    if row.roles != granted:
        # The provider has the last word about its people, be it the last admin: a right that it took away is none.
        set_roles(connection, now, row.name, given, by="the identity provider", force=True)
    return get(connection, row.name)


def get(connection: Connection, name: str) -> Row[Any]:
    """An operator's row.

    Raises:
        Missing: there is none of this name.
    """
    row = connection.execute(select(operators).where(operators.c.name == name)).one_or_none()
    if row is None:
        raise Missing("there is no such operator", element=name[:60])
    return row


def every(connection: Connection) -> list[dict[str, Any]]:
    """All operators, by name."""
    return [shown(row) for row in connection.execute(select(operators).order_by(operators.c.name))]


def shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "name": row.name,
        "roles": row.roles,
        "created": row.created,
        "disabled": row.disabled,
        "last_login": row.last_login,
        "must_change_password": row.must_change,
        "password": row.password is not None,
    }


def set_roles(
    connection: Connection, now: float, name: str, given: Iterable[Grant], *, by: str = "", force: bool = False
) -> None:
    """Give an operator these roles and no others; their sessions end, their tokens keep what both still grant.

    Raises:
        Missing, Invalid: there is no such operator or role.
        Conflict: nobody would be left who may do everything, and it is not said by ``force`` that this is meant.
    """
    row, checked = get(connection, name), roles.check(given)
    if not force and not _everything(checked):
        _check_not_last(connection, row)
    _change(connection, row.id, roles=roles.plain(checked))
    sessions.end_all(connection, row.id)
    before = roles.words(roles.read(row.roles))
    events.record(connection, now, "operator-changed", f"{name}: {roles.words(checked)}; before: {before}", by=by)


def disable(
    connection: Connection, now: float, name: str, *, disabled: bool, by: str = "", force: bool = False
) -> None:
    """Let an operator in no more, or again: sessions end and tokens hold no more, at once.

    Raises:
        Missing: there is no such operator.
        Conflict: as :func:`set_roles`.
    """
    row = get(connection, name)
    if (row.disabled is not None) == disabled:
        return
    if disabled and not force:
        _check_not_last(connection, row)
    _change(connection, row.id, disabled=now if disabled else None)
    sessions.end_all(connection, row.id)
    events.record(connection, now, "operator-changed", f"{name}: {'disabled' if disabled else 'enabled'}", by=by)


def set_password(connection: Connection, now: float, row: Row[Any], hashed: str, *, given: bool, by: str = "") -> None:
    """Store the hash of a new password; ``given`` by somebody else, it has to be changed first. All sessions end."""
    _change(connection, row.id, password=hashed, must_change=given)
    sessions.end_all(connection, row.id)
    what = "a random password was given" if given else "the password was changed"
    events.record(connection, now, "password-changed", f"{row.name}: {what}", by=by)


def logged_in(connection: Connection, now: float, row: Row[Any], renewed: str | None = None) -> None:
    """Somebody logged in; ``renewed`` is the hash of the same password with today's parameters."""
    _change(connection, row.id, last_login=now, **({} if renewed is None else {"password": renewed}))


def found(connection: Connection, name: str) -> Row[Any] | None:
    """An operator's row, where there is one; of a name that may be anything that somebody typed."""
    if not NAME.fullmatch(name):
        return None
    return connection.execute(select(operators).where(operators.c.name == name)).one_or_none()


def checked(row: Row[Any] | None, password: str, with_: passwords.Passwords) -> Row[Any]:
    """The row, if the password is this operator's and they may log in. As slow for a name that nobody has.

    Raises:
        Unauthorised: no such name, another password, or disabled; which of them is not said.
        Invalid: the password is too long to be one.
        Busy: too many are being checked.
    """
    stored = None if row is None else row.password
    right = with_.right(stored, password)
    if row is None or not right or row.disabled is not None:
        raise Unauthorised(_REFUSED, element="login", remedy="ask an admin, if the password was forgotten")
    return row


def _everything(grants: roles.Grants) -> bool:
    return any(one.role == FIRST and one.area.unlimited for one in grants)


def _check_not_last(connection: Connection, row: Row[Any]) -> None:
    """That somebody else may do everything, if this operator may."""
    able = connection.execute(select(operators.c.name, operators.c.roles).where(operators.c.disabled.is_(None)))
    names = {one.name for one in able if _everything(roles.read(one.roles))}
    if names == {row.name}:
        raise Conflict(
            "nobody else is an admin without a bound, and this would leave none",
            element=row.name,
            remedy="make another one first: edgefleet operators add NAME admin; if it is meant, say so on the server's "
            "machine: edgefleet-fleet operators disable NAME --force",
        )


def _change(connection: Connection, operator: int, **values: Any) -> None:
    connection.execute(update(operators).where(operators.c.id == operator).values(**values))
