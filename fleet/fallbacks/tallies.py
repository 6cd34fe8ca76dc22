"""What endpoints serve, as their gateways count it: for how many replicas run by need, and for prices by requests.

Each look at an endpoint brings a reading; it is added to the row in the transaction that notes the look, so that a
server that was killed counts nothing twice. What a gateway counted between its last reading and its end is lost.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from fleet.fallbacks import costs
from fleet.rollouts import windows
from fleet.rollouts.windows import Window
from fleet.target_tables import endpoints, targets
from fleet.targets.contract import Life, Standing
from fleet.targets.settings import Wish
from fleet.targets.shifting import weight_of
from modules.latencies import total_s

# How often an endpoint is looked at whose requests are counted, and over how long a time a rate is taken.
LOOK_S: Final = 5.0
_WINDOW_S: Final = 20.0
# A rate of before says nothing any more.
_OLD_S: Final = 120.0
# Of the requests that a replica works on at a time, it is to have so many: the rest is for moments.
_FULL: Final = 0.7


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What is being counted; and of the window before it, as of ``at``, the requests a second and those under way."""

    window: Window = Window()
    at: float = 0.0
    per_s: float = 0.0
    under_way: float = 0.0


def of(row: Any) -> Tally:
    """What is known of an endpoint (its row)."""
    return msgspec.json.decode(row.tally, type=Tally) if row.tally else Tally()


def counts(scale: int | None, wish: Wish, price_per_1000: float) -> bool:
    """Whether it matters what an endpoint serves: its replicas may become more, or its requests cost money."""
    more = wish.settings.replicas_max > wish.versions[wish.default].replicas
    return bool(price_per_1000) or bool(scale and more)


def heard(connection: Connection, now: float, row: Any, standing: Standing) -> None:
    """Add a reading to an endpoint's row, and what its requests cost to its costs."""
    lives: dict[str, Life] = {}
    for one in standing.versions.values():
        lives.update(one.lives)
    if not lives:
        return
    before = of(row)
    window = windows.take(before.window, lives, None)
    served = window.requests - before.window.requests
    price = connection.scalar(select(targets.c.price_per_1000).where(targets.c.name == row.target)) or 0.0
    if served:
        costs.add(connection, row.name, now, requests=served, cost=served / 1000 * price)
    after = msgspec.structs.replace(before, window=window)
    seconds = now - window.begun
    if not window.begun or seconds < 0:
        after = msgspec.structs.replace(after, window=windows.anew(window, now))
    elif seconds >= _WINDOW_S:
        rate, busy = window.requests / seconds, total_s(window.latencies) / seconds
        after = Tally(window=windows.anew(window, now), at=now, per_s=rate, under_way=busy)
    tally = msgspec.json.encode(after).decode()
    connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(tally=tally))


def replicas(now: float, row: Any, wish: Wish) -> tuple[int, str]:
    """How many replicas of the default version what is served asks for, and why; 0: it is not known."""
    tally, settings = of(row), wish.settings
    if not 0 <= now - tally.at <= _OLD_S:
        return 0, ""
    share = weight_of(wish, wish.default) / 100
    asked: Mapping[str, float] = {
        f"{tally.under_way:.2g} requests at a time": tally.under_way * share / (settings.concurrent * _FULL),
        f"{tally.per_s:.2g} requests a second": (
            tally.per_s * share / settings.requests_per_replica if settings.requests_per_replica else 0.0
        ),
    }
    why = max(asked, key=lambda one: asked[one])
    return math.ceil(asked[why]), why
