"""Rollouts on the page: from the form to an automatic way back, by two people, on simulated devices."""

import re
from contextlib import contextmanager

import pytest

from modules.manifest import Proof
from tests.agent.simulate.rolling import QUICK, ended, profiles, until
from tests.doubles.device import join
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD, as_person, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import log_in, opened
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.simulator import enroll, simulator

pytestmark = pytest.mark.needs("mosquitto", "chromium")
DEVICES = 6
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"


@pytest.fixture(scope="module")
def rolling(tmp_path_factory):
    """A server with four eyes, six simulated devices that run the first version; the second one is slow."""
    folder = tmp_path_factory.mktemp("rolling")
    data = initialise(folder / "data")
    for name, *roles in (("admin", "admin"), ("second", "rollout-manager", "approver"), ("watcher", "viewer")):
        person(data, name, *roles)
    settings = {"console": "true", "four_eyes": "true"}
    with (
        broker(folder / "broker", data) as running,
        fleet_server(data, running, **settings) as server,
        server.client() as http,
    ):
        owner = Publisher(http)
        owner.found()
        proof = Proof(prove="ready-only")
        versions = [owner.upload("digits", {"model.onnx": bytes([one]) * 9999}, proof=proof) for one in range(3)]
        for one in versions:
            owner.sign(one)
        refs = [str(one.ref) for one in versions]
        slow = {"module": refs[1], "behaviours": [{"kind": "slow", "after_s": 1, "p50_ms": 210}]}
        enroll(folder / "edge", join(http, uses=DEVICES), DEVICES, "--prefix", "edge")
        plan = profiles(folder, modules=[slow])
        with simulator(folder / "edge", DEVICES, "--prefix", "edge", "--window", "0.5", *QUICK, *plan):
            first = started(server, refs[0], policy={})
            with as_person(server, "second") as second:
                checked(second.post(f"/api/v1/rollouts/{first}/approve"))
                assert until(second, first, ended)["state"] == "done"
            yield server, refs


def started(server, module, **more):
    with as_person(server, "admin") as http:
        body = {"module": module, "slot": "main", "engine": "process"} | more
        return checked(http.post("/api/v1/rollouts", json=body)).json()["id"]


@contextmanager
def looking(chromium, server, name, at, *, expected=""):
    with opened(chromium, server.url, expected=expected) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        log_in(page, name, PASSWORD, at=at)
        yield page


def sure(page, name):
    """A button of the page, and the same in the question that follows."""
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def test_a_wave_that_fails_goes_back_by_itself_before_two_peoples_eyes(rolling, chromium):
    """Previewed and started with the form; its starter may not approve it; it fails by its gate and is taken back."""
    server, refs = rolling
    at = f"/console/rollouts/new?module={refs[1]}&slot=main"
    with looking(chromium, server, "admin", at) as page, looking(chromium, server, "second", "/console/") as other:
        page.get_by_label("Runs").click()
        page.get_by_role("option", name="as a process").click()
        page.get_by_label("Waves, if").fill("2, 10 pieces")
        page.get_by_role("button", name="Preview").click()
        page.get_by_text("'10 pieces' is no wave").wait_for()
        page.get_by_label("Waves, if").fill("2, 100%")
        page.get_by_label("Watch each complete wave").fill("1h")
        page.get_by_role("button", name="Add a gate").click()
        page.get_by_label("Measure").click()
        page.get_by_role("option", name="p50_ms").click()
        page.get_by_label("Value").fill("50")
        page.get_by_label("Devices: *").fill("id=nowhere")
        page.get_by_role("button", name="Preview").click()
        page.get_by_role("alert").filter(has_text="matches no device").wait_for()
        page.get_by_label("Devices: *").fill("id=edge-00001")
        page.get_by_role("button", name="Preview").click()
        page.get_by_text("1 device in 1 wave").wait_for()
        page.get_by_label("Devices: *").fill("*")
        page.get_by_role("button", name="Start it").click()
        page.get_by_text("Something was changed since the preview").wait_for()
        page.get_by_text("6 devices in 2 waves").wait_for()
        assert not faults(page)
        page.get_by_role("button", name="Start it").click()
        page.wait_for_url(re.compile(r"/console/rollouts/\d+$"))

        page.get_by_text("waits for another person's approval").first.wait_for()
        sure(page, "Approve")
        page.get_by_text("another person has to approve it").wait_for()

        other.goto(page.url)
        sure(other, "Approve")
        for one in (page, other):
            one.locator(".ef-large", has_text="reverted").wait_for(timeout=60_000)
        page.get_by_text(re.compile(r"p50_ms is \d[\d.]*, at most 50 is allowed")).first.wait_for()
        assert not faults(page)
        gate = page.get_by_role("row").filter(has_text="p50_ms ≤ 50")
        assert "1 failed" in gate.inner_text() or "2 failed" in gate.inner_text()
        assert page.get_by_text("2 returned").count() > 0


def standings(server, rollout):
    with as_person(server, "second") as http:
        return [one["standing"] for one in checked(http.get(f"/api/v1/rollouts/{rollout}")).json()["devices"]]


def test_what_is_paused_opens_nothing_until_another_person_resumes_it(rolling, chromium):
    """Though it is approved, and others go on; and nobody waits for a device that was left out, whatever the words."""
    server, refs = rolling
    policy = {"waves": [{"count": 2}, {"percent": 100, "approval": True}]}
    rollout = started(server, refs[2], policy=policy)
    at = f"/console/rollouts/{rollout}"
    with looking(chromium, server, "second", at) as page:
        sure(page, "Pause")
        page.locator(".ef-large", has_text="paused").wait_for()
        sure(page, "Approve")
        # Another that begins after it comes to its end: what is not paused had the time to move.
        other = started(server, refs[0], slot="side", selector="id=edge-00001", policy={})
        with as_person(server, "second") as http:
            checked(http.post(f"/api/v1/rollouts/{other}/approve"))
            assert until(http, other, ended)["state"] == "done"
        assert standings(server, rollout) == ["planned"] * DEVICES
        assert page.locator(".ef-large", has_text="paused").is_visible()
        sure(page, "Resume")
        page.get_by_text("2 succeeded").first.wait_for()
        page.get_by_role("button", name="Skip edge-00006").click()
        page.get_by_label("Why").fill(HOSTILE)
        page.get_by_role("button", name="Leave it out").click()
        page.get_by_role("row").filter(has_text="edge-00006").get_by_text(HOSTILE).wait_for()
        assert page.locator("main script, main img").count() == 0
        page.get_by_role("link", name="1 skipped").click()
        page.wait_for_url("**standing=skipped**")
        assert page.get_by_role("row").filter(has_text="edge-0000").count() == 1
        sure(page, "Approve")
        page.locator(".ef-large", has_text="done").wait_for()


def test_a_viewer_sees_everything_and_no_button_that_would_fail(rolling, chromium):
    server, refs = rolling
    rollout = started(server, refs[1], supersede=True)
    with looking(chromium, server, "watcher", "/console/rollouts") as page:
        page.get_by_role("link", name=f"{refs[1]} in main").first.click()
        page.get_by_text("waits for another person's approval").first.wait_for()
        assert page.url.endswith(f"/rollouts/{rollout}")
        for name in ("Approve", "Pause", "Cancel", "Revert", re.compile("^Skip ")):
            assert page.get_by_role("button", name=name).count() == 0
        page.goto("/console/rollouts/new")
        page.get_by_text("This page is for roles that have rollout:write").wait_for()
        page.goto("/console/rollouts?before=2")
        page.get_by_role("link", name=f"{refs[0]} in main").wait_for()
        assert page.get_by_role("link", name=re.compile(" in main$")).count() == 1
        page.goto("/console/modules")
        page.get_by_text("of 6 devices").first.wait_for()
