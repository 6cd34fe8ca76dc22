"""Everybody can use the console: no page has a fault that axe-core calls serious or critical, in either theme."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from fleet.console.frame import PLACES
from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
GRAVE = {"serious", "critical"}


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_no_page_has_a_grave_fault(server, chromium, theme):
    with opened(chromium, server.url, color_scheme=theme) as page:
        page.goto("/console/login")
        page.get_by_label("Password").wait_for()
        found = faults(page)
        log_in(page, "admin", PASSWORD)
        for place in PLACES:
            page.goto(f"/console{place.path}")
            page.get_by_role("heading", level=1).wait_for()
            found += faults(page)
    assert not found, "\n".join(found)


def faults(page):
    grave = (one for one in Axe().run(page).response["violations"] if one["impact"] in GRAVE)
    return [f"{page.url}: {one['id']}: {node['html'][:200]}" for one in grave for node in one["nodes"]]
