"""The settings page: how keys, certificates and broker stand, and what is kept, for whoever may see each."""

import pytest

from tests.doubles.publisher import Publisher
from tests.fleet.console.conftest import PASSWORD, person
from tests.fleet.console.test_accessible import faults
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")


@pytest.fixture(scope="module")
def founded(server):
    """A server with a root of trust, and somebody who only looks."""
    with server.client() as http:
        Publisher(http).found()
    person(server.data, "looker", "viewer")
    return server


def panel(page, name):
    return page.locator("section").filter(has=page.get_by_role("heading", name=name, exact=True))


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_keys_broker_dates_and_what_is_kept_are_told(founded, chromium, theme):
    with opened(chromium, founded.url, color_scheme=theme) as page:
        log_in(page, "admin", PASSWORD, at="/console/settings")
        keys = panel(page, "Signing keys")
        row = keys.get_by_role("row").filter(has_text="root")
        row.get_by_text("2 of 3").wait_for()
        assert row.get_by_text("ok", exact=True).is_visible()
        seen = panel(page, "Broker")
        seen.get_by_text("lets in nobody without a certificate").first.wait_for()
        assert seen.get_by_text("this version's own").is_visible()
        assert panel(page, "Certificates").get_by_text("the fleet's authority").is_visible()
        kept = panel(page, "What is kept, and how long")
        assert kept.get_by_text("EDGEFLEET_FLEET_KEEP_TELEMETRY_S", exact=True).first.is_visible()
        kept.get_by_text("All settings").click()
        kept.get_by_label("Find a setting").fill("broker_port")
        kept.get_by_role("row").filter(has_text="EDGEFLEET_FLEET_BROKER_PORT").wait_for()
        assert not faults(page), "\n".join(faults(page))


@pytest.mark.long
def test_who_only_looks_sees_keys_and_dates_and_no_settings(founded, chromium):
    with opened(chromium, founded.url, viewport={"width": 390, "height": 844}) as page:
        log_in(page, "looker", PASSWORD, at="/console/settings")
        panel(page, "Signing keys").get_by_text("team-acme").wait_for()
        panel(page, "Certificates").get_by_text("the fleet's authority").wait_for()
        assert panel(page, "Broker").count() == 0
        assert panel(page, "What is kept, and how long").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
