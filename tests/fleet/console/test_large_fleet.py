"""A fleet of 100 000 devices in the console: found, filtered and paged by the server, a few rows at a time."""

import re

import pytest

from tests.fleet.console.conftest import PASSWORD, person
from tests.parts.browser import log_in, opened
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.large_fleet import CANARY, grow
from tests.parts.mosquitto import broker

pytestmark = pytest.mark.needs("mosquitto", "chromium")


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_devices_of_a_large_fleet_are_filtered(tmp_path, chromium, count):
    """By name, by state, by selector, all together, and page by page; never more than a page in the browser."""
    data = initialise(tmp_path / "data")
    person(data, "admin", "admin")
    grow(data, count).rows.database.close()
    with (
        broker(tmp_path / "broker", data) as running,
        fleet_server(data, running, console="true") as server,
        opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page,
    ):
        rows = page.locator("main table tbody tr")
        log_in(page, "admin", PASSWORD, at="/console/devices")
        page.get_by_role("link", name="dev-000049").wait_for()
        assert rows.count() == 50
        page.get_by_label("Search", exact=True).fill("DEV-00435")
        page.get_by_role("button", name="Filter").click()
        page.get_by_text("10 devices", exact=True).wait_for()
        page.get_by_role("button", name="offline").click()
        page.get_by_text("1 device", exact=True).wait_for()  # every fiftieth is away
        page.get_by_role("link", name="dev-004350").wait_for()
        page.goto("/console/devices?selector=ring%3Dcanary%2Csite%3Dberlin")
        page.get_by_text(f"{count // CANARY} devices", exact=True).wait_for()
        assert rows.count() == min(count // CANARY, 50)
        page.goto("/console/devices?state=offline&sort=-id")
        page.get_by_role("link", name=f"dev-{count - 50:06}").wait_for()
        page.get_by_role("button", name="Next page").click()
        page.wait_for_url(re.compile(rf"after=dev-{count - 50 * 50:06}$"))
        page.get_by_role("link", name=f"dev-{count - 51 * 50:06}").wait_for()
        assert rows.count() == 50
