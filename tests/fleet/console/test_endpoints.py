"""An endpoint's page: what it costs, who falls back to it, its shares, and its keys, each for who may change it."""

import time

import msgspec
import pytest
from sqlalchemy import insert, update

from fleet.fallback_tables import costs
from fleet.fallbacks.policies import day_of
from fleet.settings import Settings
from fleet.setup import opened as database_of
from fleet.tables import telemetry_history
from fleet.target_tables import endpoints, targets
from fleet.targets.contract import Standing
from modules import canonical
from modules.protocol.telemetry import GATEWAY, Sample, Telemetry
from tests.doubles.fleet_rows import SmallFleet
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import WITHIN_MS, log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
PAGE = "/console/endpoints/digits"


@pytest.fixture(scope="module")
def endpoint(server):
    """An endpoint with two versions on a target that nobody answers at, with a price, a policy, and costs.

    Two devices have its model; one of them has sent requests there today.
    """
    person(server.data, "watcher", "viewer")
    database = database_of(Settings(data=server.data.root))
    target = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///nonexistent.sock"}', "created": 0.0}
    with database.write() as connection:
        connection.execute(insert(targets).values(**target, price_per_hour=0.5))
    with server.client() as http:
        owner = Publisher(http)
        owner.found()
        for graph in (b"one", b"two"):
            owner.sign(owner.upload("digits", {"model.onnx": graph}, fallback_hosts=("lab.example",)))
        versions = {f"v{at}": {"module": f"acme/digits:{at}", "weight": 10} for at in (1, 2)}
        settings = {"devices": True, "host_name": "lab.example"}
        wish = {"name": "digits", "target": "lab", "versions": versions, "default": "v1", "settings": settings}
        checked(http.post("/api/v1/endpoints", json=wish))
        policy = {"fallback": "endpoint:digits", "group": "site=berlin", "money_a_day": 2.0}
        policy["terms"] = {"requests_a_day": 5}
        checked(http.put("/api/v1/fallbacks/acme/digits", json=policy))
        rows = SmallFleet(server.data.root, database)
        for name, site in (("press-1", "berlin"), ("press-2", "lyon")):
            rows.add_device(name, labels={"site": site})
        rollout = {"module": "acme/digits:1", "slot": "main", "engine": "process", "devices": ["press-1", "press-2"]}
        checked(http.post("/api/v1/rollouts", json=rollout | {"policy": {"preset": "all-at-once"}}))
        until(lambda: preview(http, group="*")["unchanged"] == 2)
    with database.write() as connection:
        standing = msgspec.json.encode(Standing(state="ready", url="https://lab.example:8700")).decode()
        connection.execute(update(endpoints).values(standing=standing))
        for ago, money in ((0, 1.0), (3, 0.5)):
            day = {"endpoint": "digits", "day": day_of(time.time()) - ago}
            connection.execute(insert(costs).values(**day, replica_s=7200.0 * money, cost=money))
        sample = Sample(at=time.time(), slot="main", figures={"requests": 9.0, "fallback": 3.0})
        said = Telemetry(device="press-1", stream=GATEWAY, number=1, issued=time.time(), samples=(sample,))
        row = {"device": "press-1", "stream": GATEWAY, "received": time.time(), "document": canonical.encode(said)}
        connection.execute(insert(telemetry_history).values(**row))
    database.close()
    return server


def preview(http, **body):
    asked = {"fallback": "endpoint:digits"} | body
    return checked(http.post("/api/v1/fallbacks/acme/digits/preview", json=asked)).json()


def until(condition):
    ends = time.monotonic() + WITHIN_MS / 1000
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def policies(server):
    with server.client() as http:
        return {one["group"]: one for one in checked(http.get("/api/v1/fallbacks")).json()}


def shares(server):
    with server.client() as http:
        found = checked(http.get("/api/v1/endpoints/digits")).json()
    return {name: one["weight"] for name, one in found["versions"].items()}


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_what_it_costs_and_who_falls_back_to_it_is_shown_to_everybody(endpoint, chromium, theme):
    """A viewer sees all of it, and no button that they would be refused."""
    with opened(chromium, endpoint.url, color_scheme=theme) as page:
        log_in(page, "watcher", PASSWORD, at=PAGE)
        page.get_by_text("of 2 spent today").wait_for()
        page.get_by_text("site=berlin").wait_for()
        page.get_by_text("spent today, in your money (an estimate)").wait_for()
        page.get_by_text("1.50 in your money in the last 30 days (UTC)").wait_for()
        page.get_by_role("img", name="in your money on each of the last 30 days").locator("canvas").wait_for()
        page.get_by_text("3 of 5 requests today (5 for each of 1); 1 of 1 devices have told of today").wait_for()
        page.get_by_text("main: 3").wait_for()
        for name in (
            "New policy",
            "Change it",
            "Change the shares",
            "Remove this endpoint",
            "Remove it",
            "New primary key",
            "Show the keys",
            "Fetch the last lines",
        ):
            assert page.get_by_role("button", name=name, exact=True).count() == 0, name
        assert page.get_by_role("link", name="Try it").count() == 0
        assert not faults(page)


@pytest.mark.long
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


@pytest.mark.long
def test_a_key_is_made_anew_and_the_other_goes_on(endpoint, chromium):
    with endpoint.client() as http:
        before = checked(http.get("/api/v1/endpoints/digits/keys")).json()
    with opened(chromium, endpoint.url) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="New primary key").click()
        page.get_by_text("the secondary key goes on").wait_for()
        page.get_by_role("button", name="Make a new key").click()
        page.get_by_text(before["secondary"]).wait_for()
        assert page.get_by_text(before["primary"]).count() == 0
    with endpoint.client() as http:
        after = checked(http.get("/api/v1/endpoints/digits/keys")).json()
    assert (after["primary"] != before["primary"], after["secondary"]) == (True, before["secondary"])


@pytest.mark.long
def test_a_policy_is_removed_after_a_question(endpoint, chromium):
    with opened(chromium, endpoint.url) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="Remove it", exact=True).click()
        page.get_by_text("1 order of devices with site=berlin will name somebody else, or nobody").wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Remove it").click()
        page.get_by_text("No device falls back to it.").wait_for()
    with endpoint.client() as http:
        assert checked(http.get("/api/v1/fallbacks")).json() == []


def test_a_policy_is_made_after_a_look_at_whose_orders_change(endpoint, chromium):
    """What cannot be is said in the API's words; what was changed after the look has to be looked at again."""
    with opened(chromium, endpoint.url, viewport={"width": 1300, "height": 1000}) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="New policy").click()
        asked = page.get_by_role("dialog", name="New fallback of acme/digits")
        group, setting = asked.get_by_label("Devices, by label"), asked.get_by_role("button", name="Set it")
        group.fill("site=")
        asked.get_by_role("button", name="Preview").click()
        asked.get_by_role("alert").filter(has_text="cannot read").wait_for()
        assert setting.is_disabled()
        group.fill("site=lyon")
        asked.get_by_role("button", name="Preview").click()
        asked.get_by_text("1 order on 1 device will change.").wait_for()
        asked.get_by_text("press-2, main").wait_for()
        asked.get_by_text("endpoint digits when unhealthy, unplaceable").wait_for()
        assert not faults(page)
        asked.get_by_label("Requests a day, each device").fill("40")
        asked.get_by_text("Nothing is set before").wait_for()
        assert setting.is_disabled()
        asked.get_by_role("checkbox", name="it has more to do than it can").click()
        asked.get_by_role("button", name="Preview").click()
        words = "edgefleet fallback set acme/digits --group site=lyon --endpoint digits --when"
        asked.get_by_text(f"{words} unplaceable,unhealthy,overloaded --requests-a-day 40").wait_for()
        assert "site=lyon" not in policies(endpoint)
        setting.click()
        page.get_by_text("devices with site=lyon").wait_for()
    made = policies(endpoint)["site=lyon"]
    assert (made["endpoint"], made["terms"]) == ("digits", {"requests_a_day": 40})
    assert made["when"] == ["overloaded", "unhealthy", "unplaceable"]


@pytest.mark.long
def test_a_policy_is_changed_and_keeps_what_the_form_does_not_know(endpoint, chromium):
    """Its group stays; of its terms those without a field are kept; and nobody, ever, is a policy, too."""
    with endpoint.client() as http:
        for group in policies(endpoint):
            checked(http.delete("/api/v1/fallbacks/acme/digits", params={"group": group}))
        body = {"fallback": "endpoint:digits", "group": "site=lyon", "terms": {"region": "eu-west", "waiting": 7}}
        checked(http.put("/api/v1/fallbacks/acme/digits", json=body | {"on_demand": True, "linger_s": 1800}))
    with opened(chromium, endpoint.url, viewport={"width": 1300, "height": 1000}) as page:
        log_in(page, "admin", PASSWORD, at=PAGE)
        page.get_by_role("button", name="Change it").click()
        asked = page.get_by_role("dialog", name="Change fallback of acme/digits")
        assert asked.get_by_label("Devices, by label").get_attribute("readonly") is not None
        assert asked.get_by_label("and so many minutes longer").input_value() == "30"
        asked.get_by_label("Requests a day, each device").fill("9")
        asked.get_by_role("button", name="Preview").click()
        asked.get_by_text("region eu-west; requests_a_day 9; waiting 7").wait_for()
        asked.get_by_role("button", name="Set it").click()
        asked.wait_for(state="hidden")
        page.get_by_text("region eu-west; requests_a_day 9; waiting 7").wait_for()
        made = policies(endpoint)["site=lyon"]
        assert made["terms"] == {"region": "eu-west", "waiting": 7, "requests_a_day": 9}
        assert (made["on_demand"], made["linger_s"]) == (True, 1800)
        page.get_by_role("button", name="Change it").click()
        asked.get_by_role("radio", name="Nobody answers, ever").click()
        asked.get_by_role("button", name="Preview").click()
        asked.get_by_text("nobody, ever").wait_for()
        asked.get_by_role("button", name="Set it").click()
        page.get_by_text("No device falls back to it.").wait_for()
    assert policies(endpoint)["site=lyon"]["endpoint"] is None
