"""The fleet by the values of one label, as a map shows it: how many devices are in which state, and where that is."""

from typing import Any, Final

from sqlalchemy import Connection, case, func, select

from fleet.device_states import STATE
from fleet.devices import LIVE
from fleet.people.scope import EVERYTHING, Scope
from fleet.tables import devices

MOST: Final = 500
_BOUNDS: Final = {"lat": 90.0, "lon": 180.0}


def by_label(connection: Connection, key: str, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Each value of a label with its devices by state, most devices first; ``site`` is None where they lack it.

    Where a site is say the labels ``KEY.lat`` and ``KEY.lon``, in degrees, of its first device that has both; what is
    no place on earth is none.
    """
    site = devices.c.labels[key].as_string()
    placed = [devices.c.labels[f"{key}.{one}"].as_string().is_not(None) for one in _BOUNDS]
    first = func.min(case((placed[0] & placed[1], devices.c.id)))
    chosen = select(site.label("site"), STATE.label("state"), func.count().label("count"), first.label("first"))
    found: dict[str | None, dict[str, Any]] = {}
    guides: dict[str | None, str] = {}
    for row in connection.execute(chosen.where(LIVE, scope.live_devices()).group_by(site, STATE)):
        one = found.setdefault(row.site, {"site": row.site, "devices": 0, "states": {}, "lat": None, "lon": None})
        one["devices"] += row.count
        one["states"][str(row.state)] = row.count
        if row.first is not None:
            guides[row.site] = min(row.first, guides.get(row.site, row.first))
    shown = sorted(found.values(), key=lambda one: (-one["devices"], one["site"] or ""))[:MOST]
    wanted = [guides[one["site"]] for one in shown if one["site"] is not None and one["site"] in guides]
    rows = connection.execute(select(devices.c.id, devices.c.labels).where(devices.c.id.in_(wanted)))
    labels = {row.id: row.labels for row in rows}
    for one in shown:
        if (guide := guides.get(one["site"])) in labels and one["site"] is not None:
            place = {name: _degrees(labels[guide].get(f"{key}.{name}"), most) for name, most in _BOUNDS.items()}
            if None not in place.values():
                one.update(place)
    return shown


def _degrees(text: str | None, most: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if -most <= value <= most else None  # which nan is not
