"""The overview: what needs somebody leads there, and an empty server says what comes first."""

import pytest

from fleet.settings import Settings
from fleet.setup import opened as database_of
from tests.doubles.fleet_rows import SmallFleet
from tests.doubles.publisher import Publisher
from tests.fleet.console.conftest import PASSWORD
from tests.parts import console_fleet
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")


def test_an_empty_server_shows_the_first_steps_and_then_its_first_device(server, chromium):
    """Nobody reloads: the device that joins takes the place of the steps."""
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD)
        page.get_by_role("heading", name="Your fleet is empty").wait_for()
        assert page.get_by_text("edgefleet devices join").is_visible()
        assert page.get_by_role("button", name="Let a device join").is_visible()
        with server.client() as http:
            Publisher(http).found()
        page.get_by_text("Make the fleet's keys (done)").wait_for()
        fleet = SmallFleet(server.data.root, database_of(Settings(data=server.data.root)))
        fleet.add_device("first-1")
        fleet.database.close()
        page.get_by_role("heading", name="Nothing needs you").wait_for()
        page.get_by_role("link", name="1 device in all").wait_for()
        assert not page.get_by_role("heading", name="Your fleet is empty").is_visible()


def test_what_needs_somebody_is_the_largest_and_leads_there(server, chromium):
    """A module that does not stay up: one sentence, one step to its device; the rollout that runs is a bar."""
    fleet, _, _ = console_fleet.planted(server.data)
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD)
        page.get_by_role("img", name="2 working, 10 planned").first.wait_for()
        console_fleet.committed(fleet, "press-00", slot="voice")
        page.get_by_role("img", name="1 succeeded, 1 working, 10 planned").first.wait_for()  # without reloading
        console_fleet.committed(fleet, "press-05", health="degraded")
        page.get_by_text("press-05 has a module that will not stay up").wait_for()
        sizes = page.evaluate(
            "[...document.querySelectorAll('main *')].map(one => parseFloat(getComputedStyle(one).fontSize))"
        )
        heading = page.get_by_role("heading", name="things need you")
        assert heading.evaluate("one => parseFloat(getComputedStyle(one).fontSize)") >= 0.8 * max(sizes)
        page.get_by_role("link", name="See why: modules").click()
        page.wait_for_url("**/console/devices/press-05")
        page.get_by_role("heading", name="press-05").wait_for()
    fleet.database.close()
