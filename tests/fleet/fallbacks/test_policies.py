"""Policies in orders: which one wins, that they come and go without a new proof, and what they may not do."""

import pytest
from sqlalchemy import select

from fleet import revisions
from fleet.fallbacks import policies
from fleet.people.scope import EVERYTHING
from fleet.refusals import Conflict, Missing
from fleet.tables import devices, events
from modules.data_rule import DataRule
from modules.errors import Invalid, Unfit
from modules.protocol.order import Cloud
from tests.fleet.fallbacks.conftest import URL

OTHER = "https://other.example/x"
EVERY = ("dev-a", "dev-b", "dev-c")


def urls(fleet):
    return {device: (one := fleet.cloud(device)) and one.url for device in EVERY}


def of_orders(fleet):
    """What else the orders say, and which revisions the slots have."""
    with fleet.database.read() as connection:
        numbers = {one: [row.revision for row in revisions.view(connection, one, "digits")] for one in EVERY}
    return numbers, {device: fleet.order(device).slots["digits"].digest for device in EVERY}


def test_a_policy_is_put_into_orders_that_are_there_and_that_come(fleet):
    """It holds for devices that have the module, and for those that get another version of it later."""
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.start(ref, devices=EVERY)
    assert urls(fleet) == dict.fromkeys(EVERY)
    fleet.put(terms={"requests_a_day": 7, "when": ["overloaded"]})
    found = fleet.cloud("dev-a")
    assert (found.url, found.endpoint, found.region) == (f"{URL}/digits", "digits", "lab")
    assert (found.requests_a_day, found.when, "BEGIN CERTIFICATE" in found.ca) == (7, ("overloaded",), True)
    fleet.start(fleet.module(), devices=EVERY)
    assert urls(fleet) == dict.fromkeys(EVERY, f"{URL}/digits")


def test_the_most_specific_wins(fleet):
    """A rollout's own word before a group's, more conditions before fewer, and the module's last."""
    ref = fleet.module()
    fleet.start(ref, devices=EVERY)
    fleet.put("site=berlin,id=dev-b", "https://lab.example/b")
    fleet.put("site=lyon", "https://lab.example/older")
    fleet.put("site=berlin", "https://lab.example/berlin")
    fleet.put("id=dev-c", "https://lab.example/newer")
    fleet.put(fallback="https://lab.example/all")
    assert urls(fleet) == {
        "dev-a": "https://lab.example/berlin", "dev-b": "https://lab.example/b", "dev-c": "https://lab.example/newer",
    }  # fmt: skip
    fleet.start(ref, devices=("dev-a",), cloud=Cloud(url=OTHER))
    fleet.start(ref, devices=("dev-b",), fallback=OTHER)
    assert (fleet.cloud("dev-a").url, fleet.cloud("dev-b")) == (OTHER, None)
    assert fleet.order("dev-b").slots["digits"].fallback == OTHER


def test_a_change_and_its_end_need_no_new_proof(fleet):
    """Orders are made anew for those concerned alone; their slots are the same revisions with the same content."""
    ref = fleet.module()
    fleet.start(ref, devices=EVERY)
    fleet.put("site=berlin", OTHER)
    before = of_orders(fleet)
    counters = {device: fleet.order(device).counter for device in EVERY}
    fleet.put("site=berlin", "https://lab.example/new")
    assert urls(fleet) == {"dev-a": "https://lab.example/new", "dev-b": "https://lab.example/new", "dev-c": None}
    assert {device for device in EVERY if fleet.order(device).counter > counters[device]} == {"dev-a", "dev-b"}
    fleet.remove("site=berlin")
    assert urls(fleet) == dict.fromkeys(EVERY)
    assert of_orders(fleet) == before


def test_never_is_never(fleet):
    """A group that is never to be answered for elsewhere is not, whatever the module's policy says."""
    ref = fleet.module()
    fleet.start(ref, devices=EVERY)
    fleet.put(fallback=OTHER)
    fleet.put("site=berlin", "", terms={"when": []})
    assert urls(fleet) == {"dev-a": None, "dev-b": None, "dev-c": OTHER}
    huge = fleet.huge()
    with pytest.raises(Unfit):
        fleet.start(huge, devices=("dev-a", "dev-b"))
    fleet.remove("site=berlin")
    assert urls(fleet) == dict.fromkeys(EVERY, OTHER)


def test_a_rollouts_own_never_wins_over_every_policy(fleet):
    """Its devices ask nobody, a misfit of it is one, and no endpoint is run for them; another rollout is as ever."""
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.put(on_demand=True, linger_s=0)
    fleet.start(ref, devices=("dev-a",), alone=True)
    fleet.start(ref, devices=("dev-c",))
    assert (fleet.cloud("dev-a"), fleet.cloud("dev-c").url) == (None, f"{URL}/digits")
    with pytest.raises(Unfit):
        fleet.start(fleet.huge(), devices=("dev-b",), alone=True)
    fleet.health("dev-a", "degraded")
    fleet.look()
    assert fleet.row().scale == 0
    fleet.put("id=dev-a", OTHER)
    assert fleet.cloud("dev-a") is None


def test_a_misfit_that_a_policy_covers_is_ordered_it_all_the_same(fleet):
    """And is done by its own word, for somebody answers; where the policy leaves that case out, it is a misfit."""
    huge = fleet.huge()
    fleet.put("site=berlin", OTHER)
    fleet.put("site=lyon", OTHER, terms={"when": ["unhealthy"]})
    rollout = fleet.start(huge, devices=EVERY)
    assert [one["device"] for one in fleet.view(rollout)["misfits"]] == ["dev-c"]
    for device in ("dev-a", "dev-b"):
        fleet.misfit(device)
    assert fleet.view(rollout)["state"] == "done"


def test_an_agent_that_knows_no_terms_is_a_misfit(fleet):
    """It would ask nobody, so it is planned for nobody; and its word that it does not fit is a failure."""
    fleet.add_device("dev-old", formats=("edgefleet.order/1",))
    fleet.put(fallback=OTHER)
    huge = fleet.huge()
    with pytest.raises(Unfit, match="needs"):
        fleet.start(huge, devices=("dev-old",))
    rollout = fleet.start(fleet.module(), devices=("dev-old",))
    fleet.misfit("dev-old")
    assert fleet.view(rollout)["state"] == "failed"
    own = fleet.start(fleet.module(), devices=("dev-old",), cloud=Cloud(url=OTHER))
    fleet.misfit("dev-old")
    assert fleet.view(own)["state"] == "failed"


@pytest.mark.parametrize("parts", [{"fallback_hosts": ()}, {"data": DataRule(kind="personal", regions=("moon",))}])
def test_what_the_publisher_does_not_allow_no_policy_does(fleet, parts):
    """The device would refuse the whole order: it gets none with that address, and the policy says why."""
    ref = fleet.module(**parts)
    fleet.start(ref, devices=("dev-a",))
    fleet.put(fallback=OTHER)
    assert fleet.cloud("dev-a") is None
    with pytest.raises(Unfit):
        fleet.start(fleet.huge(**parts), devices=("dev-a",))


def test_labels_that_change_bring_another_policy(fleet):
    """A device that moves to another site has that site's fallback in its next order, which is made at once."""
    ref = fleet.module()
    fleet.start(ref, devices=EVERY)
    fleet.put("site=lyon", OTHER)
    assert fleet.cloud("dev-a") is None
    fleet.label("dev-a", site="lyon")
    assert fleet.cloud("dev-a").url == OTHER


def test_an_endpoints_new_address_reaches_the_orders(fleet):
    """And one that is gone stands in none."""
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.start(ref, devices=("dev-a",))
    fleet.put()
    fleet.stands("ready", url="https://lab.example:1")
    with fleet.database.write() as connection:
        policies.renew_for(connection, "digits")
    fleet.renew()
    assert fleet.cloud("dev-a").url == "https://lab.example:1/digits"


def test_an_order_expires_when_it_says_though_it_is_made_anew_before(fleet):
    """The column is the order's own; when it is due for another one stands beside it."""
    fleet.start(fleet.module(), devices=("dev-a",))
    with fleet.database.read() as connection:
        row = connection.execute(select(devices).where(devices.c.id == "dev-a")).one()
    assert row.order_expires == fleet.order("dev-a").expires
    assert row.order_due < row.order_expires


@pytest.mark.parametrize(
    ("policy", "error", "why"),
    [
        ({"fallback": ""}, Invalid, "nobody is named"),
        ({"fallback": "", "terms": {"when": []}, "on_demand": True}, Invalid, "nobody is named"),
        ({"fallback": OTHER, "terms": {"when": []}}, Invalid, "never asked, and named"),
        ({"fallback": OTHER, "terms": {"when": ["sometimes"]}}, Invalid, "sometimes"),
        ({"fallback": OTHER, "terms": {"token": "x"}}, Invalid, "there is no 'token'"),
        ({"fallback": OTHER, "on_demand": True}, Invalid, "only endpoints of this fleet"),
        ({"fallback": OTHER, "money_a_day": 1.0}, Invalid, "only endpoints of this fleet"),
        ({"fallback": "http://other.example/x"}, Invalid, "not a valid fallback address"),
        ({"fallback": "https://[::1"}, Invalid, "not a valid fallback address"),
        ({"fallback": "https://other.example/x?y=1"}, Invalid, "not a valid fallback address"),
        ({"fallback": "endpoint:none"}, Missing, "no such endpoint"),
        ({"fallback": "endpoint:faces"}, Conflict, "cannot answer for acme/digits"),
        ({"fallback": "endpoint:closed"}, Conflict, "no device can come in"),
        ({"fallback": OTHER, "selector": "host.arch=arm64"}, Invalid, "cannot bound"),
        ({"fallback": OTHER, "selector": ""}, Invalid, "not a valid selector"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(fleet, policy, error, why):
    """One sentence says what is wrong."""
    fleet.endpoint(fleet.add_module("faces"), name="faces")
    fleet.endpoint(fleet.module(), name="closed", devices=False)
    with pytest.raises(error, match=why):
        fleet.put(**policy)
    with fleet.database.read() as connection:
        assert policies.rows(connection, EVERYTHING) == []


def test_money_needs_a_price(fleet):
    """What nobody has said the price of, cannot be bounded."""
    fleet.endpoint(fleet.module())
    fleet.price(0.0)
    with pytest.raises(Invalid, match=r"nobody has said what it costs there.*--price-per-hour"):
        fleet.put(money_a_day=1.0)


def test_who_set_it_is_an_event(fleet):
    """So is who removed it."""
    fleet.put(fallback=OTHER)
    fleet.remove()
    with fleet.database.read() as connection:
        kinds = ("fallback-set", "fallback-removed")
        found = connection.execute(select(events.c.kind, events.c.by).where(events.c.kind.in_(kinds))).all()
    assert [tuple(one) for one in found] == [("fallback-set", "anna"), ("fallback-removed", "anna")]


def test_one_that_is_not_there_is_not_removed(fleet):
    """The group is named."""
    fleet.put(fallback=OTHER)
    with pytest.raises(Missing, match="site=berlin"):
        fleet.remove("site=berlin")
