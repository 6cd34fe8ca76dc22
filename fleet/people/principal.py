"""Who a request comes from: an operator, or a token, with what they may do and where."""

from functools import reduce
from typing import Final, Literal

import msgspec

from fleet.people.roles import PERMISSIONS, Grants
from fleet.people.scope import Scope

NAME_LIMIT: Final = 100


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is what the history calls them.

    ``rights`` are the roles of a token and those of the operator that it belongs to: both must grant what is asked, so
    that a token never outlives a right of its operator's. ``blocked`` says why nothing may be done yet.
    """

    name: str
    kind: Literal["operator", "token"]
    rights: tuple[Grants, ...]
    operator: int | None = None
    token: int | None = None
    session: str = ""  # the hash of its session
    expires: float | None = None
    blocked: str = ""

    def scope(self, permission: str) -> Scope:
        """Where this permission holds; an empty scope: nowhere."""
        every = (
            Scope(tuple(dict.fromkeys(one.area for one in grants if one.permits(permission)))) for grants in self.rights
        )
        return reduce(lambda some, more: some & more, every)

    def allows(self, permission: str, scope: Scope) -> bool:
        """Whether this permission holds in all of ``scope``."""
        mine = self.scope(permission).areas
        return all(any(area.within(one) for one in mine) for area in scope.areas)

    @property
    def permissions(self) -> list[str]:
        return sorted(one for one in PERMISSIONS if self.scope(one).areas)

    @property
    def roles(self) -> list[str]:
        """The names of its roles; a token's own."""
        return sorted({one.role for one in self.rights[0]})
