"""What an endpoint serves: how many replicas that asks for, and what it costs."""

import pytest
from sqlalchemy import insert, select

from fleet.fallback_tables import costs as rows
from fleet.fallbacks import costs, tallies
from fleet.target_tables import targets
from fleet.targets.contract import Standing
from fleet.targets.endpoints import VersionWish, wish_of
from fleet.targets.settings import Settings
from modules.names import Slug

LINGER_S = 60


@pytest.fixture
def loaded(fleet):
    """An endpoint that runs for one device, with up to four replicas."""
    ref = fleet.module()
    fleet.endpoint(ref, replicas_max=4, requests_per_replica=10.0, concurrent=20)
    fleet.put(on_demand=True, linger_s=LINGER_S)
    fleet.start(ref, devices=("dev-a",))
    fleet.health("dev-a", "degraded")
    fleet.look()
    fleet.stands("ready")
    fleet.counted(0, 0)
    return fleet


def scale(fleet):
    fleet.look()
    return fleet.row().scale


def serve(fleet, per_s, *, busy_s=0.0, seconds=45):
    """So many requests a second for a while, each looked at."""
    fleet.served = getattr(fleet, "served", 0)
    fleet.born = getattr(fleet, "born", fleet.now)
    for _ in range(seconds // 3):
        fleet.now += 3
        fleet.served += 3 * per_s
        fleet.counted(fleet.now - fleet.born, fleet.served, busy_s=busy_s * fleet.served)


def test_there_are_more_replicas_for_more_requests_and_fewer_after_a_while(loaded):
    """One for each ten a second, to the most; it says why. Fewer there are only after the linger."""
    assert scale(loaded) == 1
    serve(loaded, 25)
    assert scale(loaded) == 3
    assert loaded.row().scale_why == "it runs for 1 device where the module does not answer, with 25 requests a second"
    serve(loaded, 900)
    assert scale(loaded) == 4
    serve(loaded, 5)
    assert scale(loaded) == 4
    loaded.now += LINGER_S
    serve(loaded, 5)
    assert scale(loaded) == 1


def test_requests_that_take_long_ask_for_more_replicas(loaded):
    """What is under way at a time counts against what a replica works on, of which a part is left free."""
    with loaded.database.write() as connection:
        loaded.change(connection, devices=True, replicas_max=4, concurrent=20)
    serve(loaded, 4, busy_s=7.0)
    assert scale(loaded) == 2
    assert "with 27 requests at a time" in loaded.row().scale_why


def test_a_version_that_gets_few_needs_few(loaded):
    """Only the default version's replicas follow: its share of the requests counts."""
    default, other = wish_of(loaded.row()).versions["v1"], loaded.module()
    with loaded.database.write() as connection:
        wish = {Slug("v1"): VersionWish(other, 0, default.replicas), Slug("v2"): VersionWish(other, 60, 1)}
        given = Settings(devices=True, replicas_max=4, requests_per_replica=10.0)
        loaded.wished.change(
            connection, loaded.now, "digits", wish, Slug("v1"), given, None, generation=None, by="anna"
        )
    serve(loaded, 40)
    assert scale(loaded) == 2


def test_what_was_served_long_ago_says_nothing(loaded):
    """The rate of a gateway that is not looked at any more is not taken for today's."""
    serve(loaded, 25)
    loaded.now += 200
    assert scale(loaded) == 1


@pytest.mark.parametrize(
    ("running", "price", "settings", "counts"),
    [
        (1, 0.0, {"replicas_max": 4}, True),
        (None, 0.0, {"replicas_max": 4}, False),
        (0, 0.0, {"replicas_max": 4}, False),
        (1, 0.0, {"replicas_max": 1}, False),
        (None, 0.5, {}, True),
    ],
)
def test_it_is_counted_where_it_matters(loaded, running, price, settings, counts):
    """Looks are more often then, and ask for more."""
    wish = wish_of(loaded.row())
    wish = type(wish)(versions=wish.versions, default=wish.default, settings=Settings(**settings))
    assert tallies.counts(running, wish, price) is counts


def served(fleet):
    with fleet.database.read() as connection:
        return sum(row.requests for row in connection.execute(select(rows)))


def test_requests_cost_what_the_operator_says(loaded):
    """By the thousand, beside the hours or instead of them; each is counted once, whoever begins anew."""
    loaded.price(0.0, 2.0)
    row = {"name": "dearer", "kind": "container", "attached": "{}", "created": 0.0, "price_per_1000": 50.0}
    with loaded.database.write() as connection:
        connection.execute(insert(targets).values(**row))
    loaded.counted(10, 500)
    loaded.now += 1
    loaded.counted(11, 500)
    loaded.now += 1
    loaded.counted(1, 250, replica="two")
    with loaded.database.read() as connection:
        assert costs.today(connection, loaded.now, "digits") == pytest.approx(1.5)
        found = costs.view(connection, loaded.now, loaded.row())
    assert (found["price_per_1000"], found["requests_today"], found["today"]) == (2.0, 750, pytest.approx(1.5))


def test_a_look_that_tells_no_counts_changes_nothing(loaded):
    """As one of a target that does not answer."""
    before = loaded.row().tally
    with loaded.database.write() as connection:
        tallies.heard(connection, loaded.now, loaded.row(), Standing(state="failed"))
    assert (loaded.row().tally, served(loaded)) == (before, 0)


def test_a_days_money_is_spent_by_requests(loaded):
    """A policy's bound holds for a price by requests as for one by the hour."""
    loaded.price(0.0, 2.0)
    loaded.put(on_demand=True, linger_s=LINGER_S, money_a_day=1.0)
    loaded.counted(10, 499)
    assert scale(loaded) == 1
    loaded.counted(11, 501)
    assert scale(loaded) == 0
    assert bool(loaded.cloud("dev-a").closed)
