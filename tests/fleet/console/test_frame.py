"""How often a page that stays open asks, and where its menu is."""

import pytest

from fleet.console.frame import LIVE_S, every
from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened

_MENU_IS = "(shown) => (document.querySelector('.q-drawer')?.getBoundingClientRect().right > 0) === shown"


def test_a_busy_server_is_asked_less_often():
    """Every few seconds while answers come at once; a slow one is asked less, once in half a minute at least."""
    assert every(LIVE_S, 0.01) == LIVE_S
    assert every(LIVE_S, 0.5) == 10
    assert every(LIVE_S, 60) == 30


@pytest.mark.long
@pytest.mark.needs("mosquitto", "chromium")
def test_the_menu_stands_open_where_there_is_room(server, chromium):
    """On a phone it comes when it is asked for."""
    with opened(chromium, server.url, viewport={"width": 1440, "height": 900}) as page:
        log_in(page, "admin", PASSWORD)
        page.wait_for_function(_MENU_IS, arg=True)
    with opened(chromium, server.url, viewport={"width": 390, "height": 844}) as page:
        log_in(page, "admin", PASSWORD)
        page.get_by_role("heading", name="Overview").wait_for()
        page.wait_for_function(_MENU_IS, arg=False)
        page.get_by_role("button", name="Menu").click()
        page.wait_for_function(_MENU_IS, arg=True)


@pytest.mark.needs("mosquitto", "chromium")
def test_a_time_within_a_sentence_is_read_in_the_viewers_zone(server, chromium):
    """The server writes it in UTC: why a device of a rollout is not done, and until when it may take."""
    cell = """() => {
        const table = document.body.appendChild(document.createElement("table"));
        table.className = "ef-why";
        table.insertRow().insertCell().textContent = "it has until 2026-12-01 20:44 UTC, then it counts as failed";
    }"""
    with opened(chromium, server.url, timezone_id="Asia/Kolkata", locale="en-GB") as page:
        log_in(page, "admin", PASSWORD)
        page.get_by_role("heading", name="Overview").wait_for()
        page.evaluate(cell)
        page.get_by_text("it has until 2 Dec 2026, 02:14, then it counts as failed").wait_for()
