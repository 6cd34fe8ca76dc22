"""Devices as people look at them: kept selectors, the map of sites, many at once, and health over time."""

import re

import pytest
from sqlalchemy import insert, select, update

from fleet import health_counts
from fleet.look_tables import health_counts as counted
from fleet.tables import devices
from tests.fleet.console.conftest import PASSWORD
from tests.fleet.console.test_accessible import faults
from tests.parts import console_fleet
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
PLACES = {"berlin": ("52.52", "13.40"), "lyon": ("45.76", "4.84")}
WIDE = {"width": 1300, "height": 900}


@pytest.fixture(scope="module")
def fleet(server):
    """Three sites, of which two say where they are, and a day of counts."""
    made, _, _ = console_fleet.planted(server.data)
    quarter = health_counts.QUARTER_S
    with made.database.write() as connection:
        for number, (site, (lat, lon)) in enumerate(PLACES.items()):
            labels = {"site": site, "site.lat": lat, "site.lon": lon}
            connection.execute(update(devices).where(devices.c.id == f"press-0{number}").values(labels=labels))
        connection.execute(update(devices).where(devices.c.id == "press-04").values(online=False))
        begin = int(made.now // quarter) * quarter
        rows = [
            {
                "at": begin - back * quarter,
                "online": 10,
                "updating": 0,
                "degraded": 1,
                "offline": back % 3,
                "revoked": 0,
            }
            for back in range(4, 90)
        ]
        connection.execute(insert(counted), rows)
    yield made
    made.database.close()


@pytest.mark.long
@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_sites_stand_where_they_are_and_lead_to_their_devices(server, fleet, chromium, theme):
    with opened(chromium, server.url, color_scheme=theme, viewport=WIDE) as page:
        log_in(page, "admin", PASSWORD, at="/console/sites")
        where = page.get_by_role("group", name="Map of sites")
        berlin, lyon = (where.get_by_role("link", name=re.compile(f"^{site}:")) for site in PLACES)
        berlin.wait_for()
        north, south = berlin.bounding_box(), lyon.bounding_box()
        assert north["y"] < south["y"]
        assert north["x"] > south["x"]
        assert where.get_by_role("link", name=re.compile("^porto:")).count() == 0
        assert not faults(page), "\n".join(faults(page))
        page.get_by_role("link", name=re.compile("porto")).wait_for()
        lyon.click()
        page.wait_for_url(re.compile(r"/console/devices\?selector=site%3Dlyon$"))
        page.get_by_text("4 devices", exact=True).wait_for()


@pytest.mark.long
def test_a_selector_is_kept_shared_and_chosen_again(server, fleet, chromium):
    """Kept by one, found by another; the button says whose it is."""
    with opened(chromium, server.url, viewport=WIDE) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices?selector=site=porto")
        page.get_by_role("button", name="Saved").click()
        page.get_by_role("button", name="Keep this selector").click()
        page.get_by_label("Name, as berlin-canaries").fill("porto-line")
        page.get_by_role("button", name="Keep it").click()
        page.get_by_text("porto-line is kept").wait_for()
        page.goto("/console/devices")
        page.get_by_role("button", name="Saved").click()
        page.get_by_role("button", name="Show the devices of porto-line").click()
        page.wait_for_url(re.compile(r"selector=site%3Dporto$"))
        page.get_by_text("4 devices", exact=True).wait_for()


@pytest.mark.long
def test_all_that_fit_are_rolled_out_to_or_revoked_after_a_look(server, fleet, chromium):
    """The form is filled in with them; whoever is revoked is shown first."""
    with opened(chromium, server.url, viewport=WIDE) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices?selector=site=porto")
        row = page.locator("main table tbody tr").filter(has=page.get_by_role("link", name="press-02"))
        row.get_by_role("checkbox").click()
        page.get_by_role("button", name="All that fit").click()
        page.get_by_text("4 devices chosen").wait_for()
        page.get_by_role("button", name="More").click()
        page.get_by_text("Revoke their certificates").click()
        asked = page.get_by_role("dialog")
        asked.get_by_text("Revoke the certificates of: 4 devices?").wait_for()
        asked.get_by_text("acme/defects:1").first.wait_for()
        asked.get_by_role("button", name="Revoke 4 devices").click()
        page.get_by_text("Done: 4 devices").wait_for()
    with fleet.database.read() as connection:
        gone = connection.scalars(select(devices.c.id).where(devices.c.revoked.is_not(None)).order_by(devices.c.id))
        assert list(gone) == ["press-02", "press-05", "press-08", "press-11"]
    with opened(chromium, server.url, viewport=WIDE) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices?selector=site=lyon")
        row = page.locator("main table tbody tr").filter(has=page.get_by_role("link", name="press-01"))
        row.get_by_role("checkbox").click()
        page.get_by_role("button", name="Start a rollout").click()
        page.wait_for_url(re.compile(r"/console/rollouts/new\?selector="))
        assert page.get_by_label("Devices: * for all").input_value() == "id in (press-01)"


def test_health_over_time_is_drawn(server, fleet, chromium):
    with opened(chromium, server.url, viewport=WIDE) as page:
        log_in(page, "admin", PASSWORD)
        page.get_by_role("img", name="Devices by state over time").locator("canvas").wait_for()
        page.get_by_role("button", name="a week").click()
        page.get_by_role("img", name="Devices by state over time").locator("canvas").wait_for()
        assert not faults(page), "\n".join(faults(page))
