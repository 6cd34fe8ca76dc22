"""An endpoint's page: what it costs, who falls back to it, its shares, and its keys, each for who may change it."""

import time

import pytest
from sqlalchemy import insert

from fleet.fallback_tables import costs
from fleet.fallbacks.policies import day_of
from fleet.settings import Settings
from fleet.setup import opened as database_of
from fleet.target_tables import targets
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
PAGE = "/console/endpoints/digits"


@pytest.fixture(scope="module")
def endpoint(server):
    """An endpoint with two versions on a target that nobody answers at, with a price, a policy, and a cost today."""
    person(server.data, "watcher", "viewer")
    database = database_of(Settings(data=server.data.root))
    target = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///nonexistent.sock"}', "created": 0.0}
    with database.write() as connection:
        connection.execute(insert(targets).values(**target, price_per_hour=0.5))
    with server.client() as http:
        owner = Publisher(http)
        owner.found()
        for graph in (b"one", b"two"):
            owner.sign(owner.upload("digits", {"model.onnx": graph}))
        versions = {f"v{at}": {"module": f"acme/digits:{at}", "weight": 10} for at in (1, 2)}
        settings = {"devices": True, "host_name": "lab.example"}
        wish = {"name": "digits", "target": "lab", "versions": versions, "default": "v1", "settings": settings}
        checked(http.post("/api/v1/endpoints", json=wish))
        policy = {"fallback": "endpoint:digits", "group": "site=berlin", "money_a_day": 2.0}
        checked(http.put("/api/v1/fallbacks/acme/digits", json=policy))
    with database.write() as connection:
        today = {"endpoint": "digits", "day": day_of(time.time())}
        connection.execute(insert(costs).values(**today, replica_s=7200.0, cost=1.0))
    database.close()
    return server


def shares(server):
    with server.client() as http:
        found = checked(http.get("/api/v1/endpoints/digits")).json()
    return {name: one["weight"] for name, one in found["versions"].items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_it_costs_and_who_falls_back_to_it_is_shown_to_everybody(endpoint, chromium, theme):
    """A viewer sees all of it, and no button that they would be refused."""
    with opened(chromium, endpoint.url, color_scheme=theme) as page:
        log_in(page, "watcher", PASSWORD, at=PAGE)
        page.get_by_text("of 2 today").wait_for()
        page.get_by_text("site=berlin").wait_for()
        page.get_by_text("today, in your money (an estimate)").wait_for()
        for name in ("Change the shares", "Remove", "Remove it", "New primary", "Show", "Fetch the last lines"):
            assert page.get_by_role("button", name=name, exact=True).count() == 0, name
        assert page.get_by_role("link", name="Try it").count() == 0
        assert not faults(page)


def test_shares_are_previewed_before_they_are_changed(endpoint, chromium):
    """What cannot be is said at once; nothing is sent before somebody has seen what will be."""
    with opened(chromium, endpoint.url) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="Change the shares").click()
        field = page.get_by_label("v2, in percent")
        field.fill("101")
        page.get_by_text("Whole percentages").wait_for()
        assert page.get_by_role("button", name="Change them").is_disabled()
        field.fill("40")
        page.get_by_text("edgefleet endpoints split digits v2=40").wait_for()
        assert shares(endpoint) == {"v1": 90, "v2": 10}
        page.get_by_role("button", name="Change them").click()
        page.get_by_text("The shares are changed").wait_for()
        page.get_by_text("60 % v1").first.wait_for()
    assert shares(endpoint) == {"v1": 60, "v2": 40}


def test_a_key_is_made_anew_and_the_other_goes_on(endpoint, chromium):
    with endpoint.client() as http:
        before = checked(http.get("/api/v1/endpoints/digits/keys")).json()
    with opened(chromium, endpoint.url) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="New primary").click()
        page.get_by_text("the secondary key goes on").wait_for()
        page.get_by_role("button", name="Make a new key").click()
        page.get_by_text(before["secondary"]).wait_for()
        assert page.get_by_text(before["primary"]).count() == 0
    with endpoint.client() as http:
        after = checked(http.get("/api/v1/endpoints/digits/keys")).json()
    assert (after["primary"] != before["primary"], after["secondary"]) == (True, before["secondary"])


def test_a_policy_is_removed_after_a_question(endpoint, chromium):
    with opened(chromium, endpoint.url) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="Remove it", exact=True).click()
        page.get_by_text("Orders of devices with site=berlin are made anew").wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Remove it").click()
        page.get_by_text("No device falls back to it.").wait_for()
    with endpoint.client() as http:
        assert checked(http.get("/api/v1/fallbacks")).json() == []
