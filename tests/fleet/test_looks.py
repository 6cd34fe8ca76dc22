"""Selectors that people keep, the fleet by sites, and its health over time."""

import pytest
from sqlalchemy import update

from fleet import health_counts, saved_selectors, selectors, sites
from fleet.people.principal import Principal
from fleet.people.roles import Grant
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Conflict, Forbidden, Missing
from fleet.tables import devices
from modules.errors import Invalid
from modules.names import Slug

BERLIN = Scope((Area(selectors.parse("site=berlin"), None),))


def person(name, number):
    return Principal(name=name, kind="operator", rights=((Grant("operator"),),), operator=number)


ADA, BOB = person("ada", 1), person("bob", 2)


def test_a_selector_is_kept_for_one_or_for_all(database):
    """Each has their own, all have the shared ones; who has a part of the fleet changes no shared one of others."""

    def seen(who):
        return {(one["name"], one["selector"], one["shared"]) for one in saved_selectors.view_all(connection, who)}

    with database.write() as connection:

        def save(who, name, text, shared=None):
            saved_selectors.save(connection, 1.0, who, Slug(name), text, shared)

        save(ADA, "mine", "site=berlin")
        save(ADA, "mine", "site=lyon")
        save(ADA, "canaries", "ring=canary", shared=EVERYTHING)
        assert seen(ADA) == {("mine", "site=lyon", False), ("canaries", "ring=canary", True)}
        assert seen(BOB) == {("canaries", "ring=canary", True)}
        with pytest.raises(Forbidden):
            save(BOB, "canaries", "ring=x", shared=BERLIN)
        with pytest.raises(Forbidden):
            saved_selectors.remove(connection, BOB, Slug("canaries"), BERLIN)
        with pytest.raises(Invalid):
            save(BOB, "broken", "site=")
        with pytest.raises(Missing):
            saved_selectors.remove(connection, BOB, Slug("mine"), None)
        saved_selectors.remove(connection, BOB, Slug("canaries"), EVERYTHING)
        assert seen(BOB) == set()
        for number in range(saved_selectors.MOST):
            save(BOB, f"n{number}", "*")
        save(BOB, "n0", "site=x")  # in the place of its own
        with pytest.raises(Conflict):
            save(BOB, "one-more", "*")


def test_sites_are_counted_and_placed_as_far_as_one_may_see(small_fleet):
    """By state, most devices first; a place that is none on earth is none; who has no site is counted, too."""
    given = {
        "a-1": {"site": "berlin"},
        "a-2": {"site": "berlin", "site.lat": "52.52", "site.lon": "13.4"},
        "b-1": {"site": "moon", "site.lat": "nan", "site.lon": "400"},
        "c-1": {},
    }
    for name, labels in given.items():
        small_fleet.add_device(name, labels=labels)
    with small_fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "a-1").values(online=True))
        found = {one["site"]: one for one in sites.by_label(connection, "site")}
        first, *_ = sites.by_label(connection, "site")
        seen = sites.by_label(connection, "site", BERLIN)
    assert first["site"] == "berlin"
    assert found["berlin"] == {
        "site": "berlin", "devices": 2, "states": {"online": 1, "offline": 1}, "lat": 52.52, "lon": 13.4,
    }  # fmt: skip
    assert (found["moon"]["lat"], found["moon"]["lon"], found[None]["devices"]) == (None, None, 1)
    assert [one["site"] for one in seen] == ["berlin"]


def test_health_is_counted_once_a_quarter_and_forgotten_in_time(small_fleet):
    for number in range(3):
        small_fleet.add_device(f"dev-{number}")
    begin = 1_000_000 * health_counts.QUARTER_S
    with small_fleet.database.write() as connection:
        health_counts.record(connection, begin + 10)
        connection.execute(update(devices).where(devices.c.id == "dev-0").values(online=True))
        health_counts.record(connection, begin + 300)  # the same quarter
        health_counts.record(connection, begin + health_counts.QUARTER_S)
        told = health_counts.since(connection, begin)
        assert [(one["at"] - begin, one["online"], one["offline"]) for one in told] == [(0, 0, 3), (900, 1, 2)]
        health_counts.record(connection, begin + health_counts.KEPT_S + 2 * health_counts.QUARTER_S)
        assert len(health_counts.since(connection, 0)) == 1
