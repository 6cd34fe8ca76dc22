"""Everybody can use the console: no page has a fault that axe-core calls serious or critical, in either theme."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from fleet.console.frame import PLACES
from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened
from tests.screenshots.__main__ import sights

pytestmark = pytest.mark.needs("mosquitto", "chromium")
GRAVE = {"serious", "critical"}
SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
# With a dialog open, axe takes what lies behind the backdrop for the ground of filled buttons (computed: 8:1). The same
# buttons are judged on the pages.
_BUTTON = 'color-contrast: <span class="block">'
# What opens over a page: where, and what is pressed for it, one after the other.
OPENED = {
    "search": ("/", ["Search, or press /"]),
    "who one is": ("/", ["admin"]),
    "saved selectors": ("/devices", ["Saved"]),
    "labels of many": ("/devices?selector=site=berlin", ["Choose berlin-press-01", "Label"]),
    "commands to many": ("/devices?selector=site=berlin", ["Choose berlin-press-01", "Command"]),
    "more for many": ("/devices?selector=site=berlin", ["Choose berlin-press-01", "More"]),
    "labels": ("/devices/{device}", ["Labels"]),
    "taking back": ("/devices/{device}", ["Revoke its certificates"]),
    "parting": ("/devices/{device}", ["Take it out of the fleet"]),
    "a rollout's end": ("/rollouts/{rollout}", ["Cancel"]),
    "a module's end": ("/modules/{team}/{name}/{version}", ["Remove"]),
    "an upload's end": ("/uploads/{team}/{digest}", ["Remove"]),
    "shares": ("/endpoints/{endpoint}", ["Change the shares"]),
    "a new key": ("/endpoints/{endpoint}", ["New primary key"]),
    "a new token": ("/settings", ["New token"]),
}


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_no_page_has_a_grave_fault(server, chromium, theme):
    """On a server that nobody has used yet."""
    with opened(chromium, server.url, color_scheme=theme, reduced_motion="reduce") as page:
        page.goto("/console/login")
        page.get_by_label("Password").wait_for()
        found = faults(page)
        log_in(page, "admin", PASSWORD)
        for place in PLACES:
            page.goto(f"/console{place.path}")
            page.get_by_role("heading", level=1).wait_for()
            found += faults(page)
    assert not found, "\n".join(found)


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_of_a_fleet_at_work_has_a_grave_fault(showcase, chromium, theme, size):
    """Every page that there is, on a desk and on a phone, and all that opens over one."""
    server, named = showcase
    # What is still fading in has no colours to be judged by.
    still = {"color_scheme": theme, "viewport": SIZES[size], "reduced_motion": "reduce"}
    with opened(chromium, server.url, **still) as page:
        log_in(page, "admin", PASSWORD)
        found = []
        for sight in sights(named):
            if not sight.address.startswith("/login"):
                visit(page, sight.address)
                found += faults(page)
        for what, (address, pressed) in OPENED.items():
            visit(page, address.format_map(named._asdict()))
            for name in pressed:
                page.get_by_role("button", name=name, exact=True).or_(
                    page.get_by_role("checkbox", name=name, exact=True)
                ).first.click()
            page.get_by_role("dialog").or_(page.locator(".q-menu")).first.wait_for()
            page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")
            found += [f"{what}: {one}" for one in faults(page)]
    assert not found, "\n".join(found)


def visit(page, address):
    page.goto(f"/console{address}")
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_load_state("networkidle")


def faults(page):
    # What a button says is hidden while it loads.
    page.locator(".q-btn__content--hidden").first.wait_for(state="detached")
    grave = (one for one in Axe().run(page).response["violations"] if one["impact"] in GRAVE)
    found = [f"{page.url}: {one['id']}: {node['html'][:200]}" for one in grave for node in one["nodes"]]
    covered = page.locator(".q-dialog, .q-menu").count() > 0
    return [one for one in found if not (covered and _BUTTON in one)]
