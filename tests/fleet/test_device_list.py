"""Pages of devices: what filters mean, in which order, and that they are quick."""

import random
import time

import msgspec
import pytest
from sqlalchemy import insert, update

from fleet import device_list, devices, selectors
from fleet.db import Database
from fleet.device_list import COUNTED, Wish
from fleet.people.roles import Grant
from fleet.people.scope import Scope
from fleet.tables import devices as rows
from modules.errors import Invalid
from modules.names import Slug
from modules.protocol.facts import Facts
from modules.protocol.report import Health, Report
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet
from tests.parts import query_plans
from tests.parts.pace import stretched

MANY = 100_000
# All and none, the last of a search, of a label, of a state, and the middle of an order.
QUICK = [
    Wish(limit=50),
    Wish(limit=50, search="nowhere"),
    Wish(limit=50, search="device-09999"),
    Wish(selectors.parse("site=site-199"), limit=50, sort="-id"),
    Wish(limit=50, states=["degraded"], sort="last_seen"),
    Wish(limit=50, sort="-last_seen", after=f"{MANY / 2!r}/device-050000"),
]


@pytest.fixture
def fleet(tmp_path, database):
    """Five devices: two sites, one large, one offline for long, one revoked."""
    made = SmallFleet(tmp_path, database)
    for number, site in enumerate(("berlin", "berlin", "lyon", "lyon", "lyon")):
        made.add_device(f"press-{number}", labels={"site": site, "shelf": str(number)})
    with database.write() as connection:
        connection.execute(update(rows).values(online=True, last_seen=rows.c.enrolled + 100))
        connection.execute(update(rows).where(rows.c.id == "press-1").values(online=False, last_seen=7.0))
        connection.execute(update(rows).where(rows.c.id == "press-4").values(revoked=1.0))
    return made


def found(fleet, selector="*", *, scope=None, **wish):
    with fleet.database.read() as connection:
        more = {} if scope is None else {"scope": scope}
        return device_list.page(connection, Wish(selectors.parse(selector), **wish), **more)


def numbers(page):
    return "".join(one.removeprefix("press-") for one in page.devices)


@pytest.mark.parametrize(
    ("selector", "wish", "expected"),
    [
        ("*", {}, "01234"),
        ("*", {"sort": "-id"}, "43210"),
        ("*", {"search": "LYON"}, "234"),
        ("*", {"search": "ess-3"}, "3"),
        ("*", {"search": "_"}, ""),
        ("*", {"states": ["offline"]}, "1"),
        ("*", {"states": ["online", "revoked"]}, "0234"),
        ("site=lyon", {"search": "press"}, "234"),
        ("site!=lyon", {}, "01"),
        ("shelf>=3", {}, "34"),
        ("host.arch=amd64,site=berlin", {}, "01"),
        ("host.arch=riscv", {}, ""),
        ("id in (press-1,press-2)", {"sort": "-last_seen"}, "21"),
    ],
)
def test_filters_and_orders_mean_what_they_say(fleet, selector, wish, expected):
    """Selector, part of a name or label, and state hold together."""
    assert numbers(found(fleet, selector, **wish)) == expected


@pytest.mark.parametrize("sort", ["id", "-id", "last_seen", "-last_seen"])
@pytest.mark.parametrize("selector", ["*", "host.arch=amd64"])
def test_pages_together_are_all_devices_once(fleet, sort, selector):
    """Whatever the order: where several were seen at the same moment, too."""
    seen, after = "", ""
    for _ in range(3):
        page = found(fleet, selector, sort=sort, limit=2, after=after)
        seen, after = seen + numbers(page), page.after
    assert sorted(seen) == list("01234")
    assert after == ""
    assert page.total == (5 if selector == "*" else None)


def test_a_place_that_no_page_ended_at_is_refused(fleet):
    """And is not taken for the beginning."""
    with pytest.raises(Invalid, match="no page ended there"):
        found(fleet, sort="last_seen", after="yesterday")


def test_a_bounded_scope_sees_and_counts_its_own_alone(fleet):
    """Others are neither listed nor counted, in whatever way they are looked for."""
    lyon = Scope((Grant("viewer", "site=lyon").area,))
    page = found(fleet, scope=lyon, limit=1)
    assert (numbers(page), page.total) == ("2", 3)
    assert numbers(found(fleet, search="berlin", scope=lyon)) == ""
    assert numbers(found(fleet, "host.arch=amd64", scope=lyon)) == "234"


def test_the_state_follows_what_a_device_reports(fleet):
    """On its way, then steady, then not staying up; in lists and in its own words."""
    fleet.start(fleet.add_module("linear"), slot=Slug("digits"), selector="id=press-0")
    fleet.publish()
    for phase, health, state in (
        ("fetching", None, "updating"),
        ("committed", "up", "online"),
        ("degraded", "degraded", "degraded"),
    ):
        fleet.report("press-0", phase, current=health and Health(state=health))
        assert "press-0" in found(fleet, states=[state]).devices
        with fleet.database.read() as connection:
            assert devices.view(connection, "press-0")["state"] == state
            assert device_list.counts(connection)[state] >= 1


@pytest.mark.parametrize("wish", QUICK)
def test_a_page_is_read_from_one_index(tmp_path, newest, wish):
    """SQLite's plan: whatever is sought and sorted, no row of the table is read before it is known to be shown."""
    with query_plans.empty(tmp_path, newest) as database:
        plans = query_plans.plans(
            database, lambda connection: (device_list.page(connection, wish), device_list.counts(connection))
        )
    looks = [one for one in plans if "devices" in one]
    assert len(looks) >= 2
    assert all("COVERING INDEX ix_devices_listed" in one for one in looks), looks


def wide(document):
    """As stored, with as many bytes as a real one has."""
    return msgspec.json.encode(msgspec.to_builtins(document) | {"more": "x" * 1800})


@pytest.mark.long
def test_a_page_of_100000_devices_takes_less_than_100_ms(tmp_path, newest):
    """SQLite, and what is sought is at the end or not there; nothing of a device is read but of those shown."""
    (tmp_path / "fleet.sqlite").write_bytes(newest.read_bytes())
    database = Database.at(tmp_path / "fleet.sqlite")
    chance = random.Random(7)
    facts = wide(Facts(device="device-1", number=1, issued=1.0, agent="0", host=HOST_FACTS))
    report = wide(Report(device="device-1", number=1, issued=1.0, order=0, agent="0"))
    empty = {"boot": 0, "facts_number": 0, "report_number": 0, "order_counter": 0, "order_published": 0}
    with database.write() as connection:
        connection.execute(
            insert(rows),
            [
                {"id": f"device-{number:06}", "labels": {"site": f"site-{number % 200}"}, "certificate": "c" * 900}
                | {"public_key": "k" * 180, "enrolled": 1.0, "online": number % 20 > 0, "last_seen": float(number)}
                | {
                    "facts": facts,
                    "report": report,
                    "order_envelope": facts,
                    "health": "degraded" * (number % 999 == 0),
                }
                | empty
                for number in chance.sample(range(MANY), MANY)
            ],
        )
    for wish in QUICK:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            with database.read() as connection:
                page = device_list.page(connection, wish)
                shown = devices.some(connection, page.devices)
            took.append(time.perf_counter() - began)
        assert len(shown) == len(page.devices) <= 50
        assert min(took) < stretched(0.1), (wish, took)
    assert page.total == COUNTED + 1
    database.close()
