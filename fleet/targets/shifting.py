"""Who decides about an endpoint's versions: a rollout as long as it is open, and otherwise whoever changes them.

An endpoint's row names the newest rollout that decided. One that has ended may still be taken back; once somebody has
changed the versions by hand it may not, for it would undo that.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, select, update

from fleet import events
from fleet.refusals import Conflict
from fleet.rollouts.phases import State
from fleet.tables import rollouts
from fleet.target_tables import endpoints
from fleet.targets.settings import Wish
from modules.names import Slug

REMOVING: Final = "removing"
UPDATING: Final = "updating"
OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.REVERTING)


def wish_of(row: Any) -> Wish:
    return msgspec.json.decode(row.wish, type=Wish)


def weight_of(wish: Wish, name: Slug) -> int:
    """The default has what the others leave over."""
    if name != wish.default:
        return wish.versions[name].weight
    return 100 - sum(one.weight for other, one in wish.versions.items() if other != wish.default)


def told(wish: Wish) -> str:
    """The versions in words."""
    each = (f"{name} {one.module} {weight_of(wish, name)} % x{one.replicas}" for name, one in wish.versions.items())
    return ", ".join(each)


def find(connection: Connection, name: str) -> Any:
    """The row of an endpoint; None: there is none, or it is being removed."""
    here = (endpoints.c.name == name) & (endpoints.c.state != REMOVING)
    return connection.execute(select(endpoints).where(here)).one_or_none()


def holder(connection: Connection, row: Any) -> Any:
    """The open rollout that decides about an endpoint's versions: its number, module and state."""
    if row.rollout is None:
        return None
    mine = (rollouts.c.id == row.rollout) & rollouts.c.state.in_(OPEN)
    return connection.execute(select(rollouts.c.id, rollouts.c.module, rollouts.c.state).where(mine)).one_or_none()


def by_hand(connection: Connection, row: Any, before: Wish, wish: Wish) -> dict[str, Any]:
    """What else changes in the row when somebody changes an endpoint: no rollout that has ended is taken back any more.

    Raises:
        Conflict: a rollout is open, and the versions or their shares would be others.
    """
    if _shared_out(before) == _shared_out(wish):
        return {}
    # What goes back has gone back by its wish: whoever changes that takes over.
    if (held := holder(connection, row)) is not None and held.state != State.REVERTING:
        raise Conflict(
            f"rollout {held.id} of {held.module} is open and shares its requests out",
            element=f"endpoint {row.name}",
            remedy=f"wait for its end, or end it first: edgefleet rollouts cancel {held.id} (or revert {held.id})",
        )
    return {"rollout": None}


def put(connection: Connection, now: float, row: Any, wish: Wish, rollout: int) -> None:
    """A rollout wishes for other shares; no more than it says changes."""
    values = {"wish": msgspec.json.encode(wish).decode(), "generation": row.generation + 1, "state": UPDATING}
    values |= {"since": row.since if row.state == UPDATING else now}
    connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(**values))
    text = f"endpoint {row.name}: {told(wish)} (rollout {rollout})"
    events.record(connection, now, "endpoint-changed", text)


def look(connection: Connection, which: ColumnElement[bool]) -> None:
    """The engine is to look at the rollouts that decide about these endpoints: something happened to them."""
    deciding = select(endpoints.c.rollout).where(which, endpoints.c.rollout.is_not(None))
    connection.execute(update(rollouts).where(rollouts.c.id.in_(deciding)).values(look_at=0))


def _shared_out(wish: Wish) -> dict[Slug, tuple[str, int, bool]]:
    """Everything about the versions but how many replicas they have."""
    return {name: (one.digest, weight_of(wish, name), name == wish.default) for name, one in wish.versions.items()}
