"""An endpoint as people see it, and as it comes about."""

import time
from typing import Final

import msgspec
from rich.live import Live
from rich.text import Text

from fleet.client.answers import Costs, Endpoint
from fleet.client.api import Fleet
from fleet.client.screen import Screen, when
from modules.errors import Transient
from modules.words import printable

ENDED: Final = frozenset({"ready", "failed", "gone", "stopped"})
_ASK_AGAIN_S: Final = 1.0
_NO_PRICE: Final = "Nobody has said what it costs there: edgefleet targets set TARGET --price-per-hour PRICE"


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint has cost on one day of UTC."""

    day: str
    cost: float
    replica_hours: float
    requests: int


class CostsByDay(Costs, frozen=True, kw_only=True):
    """Today's costs, and those of some days."""

    days: tuple[Day, ...]


def watch(fleet: Fleet, name: str, screen: Screen) -> Endpoint | None:
    """Show on stderr how an endpoint comes about, until it is ready, has failed, stands still or is gone.

    A server that is away for a while is waited for.
    """
    found: Endpoint | None = fleet.endpoint(name)
    lost, told = "", ""
    with Live(console=screen.err, auto_refresh=False, transient=True) as live:
        while found is not None and found.state not in ENDED:
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
            try:
                found, lost = fleet.endpoint(name), ""
            except Transient as error:
                lost = error.message
            line = printable(lost or (_line(found) if found else f"endpoint {name} is gone"))
            live.update(Text(line), refresh=screen.err.is_terminal)
            if line != told and not screen.err.is_terminal:
                screen.remark(line)
            told = line
    return found


def show_endpoint(screen: Screen, endpoint: Endpoint) -> None:
    """The endpoint for people: where it is, how it stands, and each version."""
    screen.fields(
        [
            ("endpoint", endpoint.name),
            ("target", endpoint.target),
            ("state", f"{endpoint.state} since {when(endpoint.since)}"),
            ("why", endpoint.why),
            ("score at", endpoint.url),
            ("clients need", endpoint.settings["auth"]),
            *([("runs by need", endpoint.demand.why)] if endpoint.demand else []),
            *_cost(endpoint),
        ]
    )
    screen.table(
        ("VERSION", "MODULE", "SHARE", "REPLICAS", "READY", "PROVIDER"),
        (
            (
                f"{name} (default)" if name == endpoint.default else name,
                one.module,
                f"{one.weight} %",
                one.replicas,
                one.ready,
                one.provider,
            )
            for name, one in endpoint.versions.items()
        ),
        empty="no version",
    )


def show_costs(screen: Screen, found: CostsByDay) -> None:
    """A line for each day on which there was something to pay or to count, and the sum."""
    busy = [one for one in found.days if one.replica_hours or one.requests or one.cost]
    screen.table(
        ("DAY (UTC)", "COST", "REPLICA HOURS", "REQUESTS"),
        [(one.day, f"{one.cost:.2f}", f"{one.replica_hours:.2f}", one.requests) for one in busy],
        empty=f"nothing in the last {len(found.days)} days",
    )
    if busy:
        whole = f"{sum(one.cost for one in busy):.2f} in {len(found.days)} days"
        screen.remark(f"{whole}, by your price ({found.prices})" if found.prices else _NO_PRICE)


def ready_of(endpoint: Endpoint) -> str:
    """How many replicas are ready, of how many."""
    every = endpoint.versions.values()
    return f"{sum(one.ready for one in every)} of {sum(one.replicas for one in every)}"


def _cost(endpoint: Endpoint) -> list[tuple[str, str]]:
    found = endpoint.costs
    if found is None or not found.prices:
        return []
    served = f"; {found.requests_today} requests" if found.price_per_1000 else ""
    return [("cost today", f"{found.today:.2f} ({found.prices}, by your price{served})")]


def _line(endpoint: Endpoint) -> str:
    return f"{endpoint.name}: {endpoint.state}, {ready_of(endpoint)} replicas are ready. {endpoint.why}"
