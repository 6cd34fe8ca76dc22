"""Which targets are attached: rows, and the objects that speak to them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from fleet import events
from fleet.refusals import Busy, Conflict, Missing, TargetTrouble
from fleet.target_tables import endpoints, jobs, targets
from fleet.targets import shifting
from fleet.targets.contract import Target
from fleet.targets.kinds import Parts, kind_of
from fleet.targets.settings import Settings
from modules.errors import Invalid
from modules.names import Slug

T = TypeVar("T")
_SHOWN: Final = 5


# So much is asked of one target at a time, and so many requests of people may wait for it.
_AT_ONCE: Final = 4
_WAITING: Final = 8
_ANSWERS_S: Final = 30.0
MAX_PRICE: Final = 1e6


class Line:
    """Speaks to one target, in threads of its own: one that does not answer holds up nobody else."""

    def __init__(self, attached: str, target: Target) -> None:
        self.attached, self.target = attached, target
        self.threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="target")
        self._places = threading.BoundedSemaphore(_WAITING)

    def ask(self, what: Callable[[Target], T]) -> T:
        """What a person asks for, who does not wait for long.

        Raises:
            Busy: as many wait already as may.
            TargetTrouble: it did not answer in time, or as the target.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("as many wait for this target as may", element="target", remedy="ask again in a while")
        try:
            return self.threads.submit(what, self.target).result(_ANSWERS_S)
        except TimeoutError as error:
            raise TargetTrouble(f"it does not answer within {_ANSWERS_S:g} s", element="target") from error
        finally:
            self._places.release()

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.target.close()


class Targets:
    """The targets of a fleet; each is spoken to over one connection, which is kept.

    Args:
        parts: what they are made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._known: dict[str, Line] = {}

    def of(self, connection: Connection, name: str) -> Line:
        """The target of this name.

        Raises:
            Missing: there is none.
        """
        found = row(connection, name)
        with self._lock:
            known = self._known.get(name)
            if known is not None and known.attached == found.attached:
                return known
            self._known[name] = fresh = Line(found.attached, self.made(found.kind, decoded(found)))
        if known is not None:
            known.close()
        return fresh

    def begin(self) -> None:
        """This server leads from now on."""
        self._parts.holder.begin()

    def made(self, kind: str, attached: Any) -> Target:
        """A target that nobody knows yet, to be tried."""
        return kind_of(kind).make(attached, self._parts)

    def close(self) -> None:
        with self._lock:
            for line in self._known.values():
                line.close()
            self._known.clear()


def attach(connection: Connection, now: float, name: Slug, kind: str, attached: Any, *, by: str) -> None:
    """Take a target into use, or change how it is reached.

    Raises:
        Conflict: endpoints live on it, and it would be another engine or namespace.
    """
    before = connection.execute(select(targets).where(targets.c.name == name)).one_or_none()
    if before is not None and _living_on(connection, name):
        engine = decoded(before).engine
        if before.kind != kind or (engine and engine != attached.engine):
            raise Conflict(
                "endpoints or batch jobs live there, and this is another place: they would go on at the old one",
                element=f"target {name}",
                remedy="attach it under another name",
            )
        if getattr(decoded(before), "gateway", "") and not getattr(attached, "gateway", ""):
            raise Conflict(
                "endpoints live there whose routes would be left at the Gateway",
                element=f"target {name}",
                remedy="remove them first, or attach the namespace under another name",
            )
    values = {"kind": kind, "attached": msgspec.json.encode(attached).decode(), "trouble": ""}
    done = connection.execute(update(targets).where(targets.c.name == name).values(**values))
    if not done.rowcount:
        connection.execute(insert(targets).values(name=name, created=now, by=by, **values))
    events.record(connection, now, "target-attached", f"the target {name} is attached ({kind})", by=by)


def detach(connection: Connection, now: float, name: str, *, abandon: bool = False, by: str) -> None:
    """Let a target go; with ``abandon`` its endpoints too, whatever is left of them there.

    Raises:
        Missing: there is none.
        Conflict: endpoints live there.
    """
    row(connection, name)
    left = _living_on(connection, name)
    if left and not abandon:
        raise Conflict(
            f"endpoints or batch jobs live there: {', '.join(left[:_SHOWN])}",
            element=f"target {name}",
            remedy="remove them first; or abandon them, if the target will never answer again",
        )
    shifting.look(connection, endpoints.c.target == name)
    connection.execute(delete(endpoints).where(endpoints.c.target == name))
    connection.execute(delete(jobs).where(jobs.c.target == name))
    connection.execute(delete(targets).where(targets.c.name == name))
    said = f"; abandoned there: {', '.join(left)}" if left else ""
    events.record(connection, now, "target-detached", f"the target {name} is detached{said}", by=by)


def check_places(connection: Connection, name: str, inputs: str, outputs: str) -> None:
    """Whether batch jobs on a target may read the one place of its host and write to the other.

    Raises:
        Missing: there is no such target.
        Invalid: it was not attached with them, or both are the same.
    """
    known = str(getattr(decoded(row(connection, name)), "batch_places", "")).split(",")
    for place in (inputs, outputs):
        if not place or place not in known:
            raise Invalid(
                "the target was not attached with this place for batch jobs",
                element=place[:100] or "place",
                remedy=f"use one of: {', '.join(filter(None, known)) or 'none'}; or attach it with --batch-place",
            )
    if f"{outputs}/".startswith(f"{inputs}/"):
        raise Invalid("the outputs lie in the inputs", element=outputs, remedy="name two places")


def check_pods(connection: Connection, name: str, pods: int) -> None:
    """Whether a batch job on a target may be so wide.

    Raises:
        Invalid: it is several pods, and the target is no cluster.
    """
    if pods > 1 and row(connection, name).kind != "kubernetes":
        raise Invalid(
            "a job has several pods on a cluster alone", element="pods", remedy="leave it out, or use workers"
        )


def _living_on(connection: Connection, target: str) -> list[str]:
    left = list(connection.scalars(select(endpoints.c.name).where(endpoints.c.target == target)))
    return left + list(connection.scalars(select(jobs.c.name).where(jobs.c.target == target, jobs.c.on_target == 1)))


def every(connection: Connection, *, whole: bool) -> list[dict[str, Any]]:
    """All targets as the API shows them; ``whole``: with how they are reached."""
    rows = connection.execute(select(endpoints.c.target, func.count()).group_by(endpoints.c.target))
    counted: dict[str, int] = {target: count for target, count in rows}  # noqa: C416 - for mypy
    found = connection.execute(select(targets).order_by(targets.c.name)).all()
    return [view(one, counted.get(one.name, 0), whole=whole) for one in found]


def one(connection: Connection, name: str) -> dict[str, Any]:
    """A target as the API shows it.

    Raises:
        Missing: there is none.
    """
    return next(shown for shown in every(connection, whole=True) if shown["name"] == row(connection, name).name)


def set_prices(
    connection: Connection, now: float, name: str, *, per_hour: float | None, per_1000: float | None, by: str
) -> None:
    """What a replica costs there an hour, and what a thousand requests, from now on; what is None stays.

    Raises:
        Missing: there is no such target.
    """
    row(connection, name)
    said = {"price_per_hour": (per_hour, "a replica", "an hour"), "price_per_1000": (per_1000, "1000 requests", "")}
    for column, (price, what, by_what) in said.items():
        if price is not None:
            connection.execute(update(targets).where(targets.c.name == name).values({column: price}))
            words = f"{what} on {name} {'cost' if column == 'price_per_1000' else 'costs'} {price:g} {by_what}".strip()
            events.record(connection, now, "target-priced", words, by=by)


def row(connection: Connection, name: str) -> Any:
    """A target's row.

    Raises:
        Missing: there is none.
    """
    found = connection.execute(select(targets).where(targets.c.name == name)).one_or_none()
    if found is None:
        raise Missing("there is no such target", element=name[:63], remedy="see: edgefleet targets list")
    return found


def decoded(found: Any) -> Any:
    """How the target of a row is reached."""
    return msgspec.json.decode(found.attached, type=kind_of(found.kind).attached)


def suits(found: Any, settings: Settings) -> None:
    """Whether an endpoint on the target of a row can have these settings.

    Raises:
        Invalid: one of them means nothing there.
    """
    kind_of(found.kind).suits(decoded(found), settings)


def host_name(connection: Connection, name: str) -> str:
    """Under which name clients find what lives on a target.

    Raises:
        Missing: there is none.
    """
    return str(decoded(row(connection, name)).name)


def is_here(connection: Connection, name: str) -> bool:
    """Whether a target is this server's own machine, so that what listens on its loopback is reached.

    Raises:
        Missing: there is none.
    """
    found = row(connection, name)
    return kind_of(found.kind).at(decoded(found)).startswith("unix://")


def region(connection: Connection, name: str) -> str:
    """In which region a target is, as whoever attached it said; empty: nobody did.

    Raises:
        Missing: there is none.
    """
    return str(decoded(row(connection, name)).region)


def view(one: Any, count: int, *, whole: bool) -> dict[str, Any]:
    shown = {
        "name": one.name,
        "kind": one.kind,
        "region": decoded(one).region,
        "state": "failed" if one.trouble else "ready",
        "endpoints": count,
        "quota": msgspec.json.decode(one.quota),
        "created": one.created,
    }
    if not whole:
        return shown
    prices = {"price_per_hour": one.price_per_hour, "price_per_1000": one.price_per_1000}
    reached = {"at": kind_of(one.kind).at(decoded(one)), "attached": msgspec.json.decode(one.attached)}
    return shown | reached | {"trouble": one.trouble, "by": one.by} | prices
