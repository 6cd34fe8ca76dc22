"""A device means harm by every word that it may say: pages show words, keep their form, and run nothing."""

import pytest

from fleet.command_tables import commands
from tests.fleet.console.conftest import PASSWORD
from tests.fleet.console.test_accessible import faults
from tests.parts import console_fleet
from tests.parts.browser import log_in, opened
from tests.parts.console_fleet import HOSTILE, SENTENCE, TURNS

pytestmark = pytest.mark.needs("mosquitto", "chromium")
WIDTHS = {1440: 900, 390: 844}
NAME = "press-06"


@pytest.fixture(scope="module")
def planted(server):
    """One device among others; the rollout that it is in; the number of its command."""
    made, done, _ = console_fleet.planted(server.data)
    console_fleet.hostile(made, NAME)
    yield made, done
    made.database.close()


def places(rollout):
    return {
        f"/devices/{NAME}": 8,
        f"/devices?search={NAME}": 0,
        "/": 1,
        f"/rollouts/{rollout}?standing=working": 1,
        "/events": 1,
        "/sites": 0,
    }


@pytest.mark.parametrize("width", [1440, pytest.param(390, marks=pytest.mark.long)])
def test_words_of_a_device_are_shown_and_never_run(server, planted, chromium, width):
    """In facts, reports, refusals, answers and events: they are there, and the page is as wide as its window."""
    size = {"width": width, "height": WIDTHS[width]}
    with opened(chromium, server.url, viewport=size) as page:
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        log_in(page, "admin", PASSWORD)
        for place, least in places(planted[1]).items():
            page.goto(f"/console{place}")
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_load_state("networkidle")
            assert page.get_by_text(HOSTILE[:40]).count() >= least, place
            held(page, place)
        assert asked == []


def held(page, place):
    """Nothing of it became a part of the page, turns its neighbours, or pushes anything out of sight."""
    assert page.locator("main script, main img").count() == 0, place
    shown = page.locator("body").inner_text()
    assert not [one for one in TURNS if one in shown], place
    wide = page.evaluate(
        """[...document.querySelectorAll("main *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
            && !one.closest(".scroll, .q-scrollarea, .ef-log"))
            .map(one => one.className + ": " + one.innerText.slice(0, 60))"""
    )
    assert not wide, (place, wide[:5])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


@pytest.mark.long
def test_what_a_command_brings_and_a_log_says_are_words(server, planted, chromium):
    """An answer in its dialog, and lines of a log as they come."""
    fleet, _ = planted
    given, _ = fleet.give("diagnose", device=NAME)
    data = (SENTENCE + "\n").encode() * 3
    ident = given[NAME]
    fleet.ingest.commit([fleet.answer(fleet.signed_command(ident), 1, "done", content="text/plain", data=data)])
    with opened(chromium, server.url, viewport={"width": 390, "height": 844}) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        log_in(page, "admin", PASSWORD, at=f"/console/devices/{NAME}")
        page.get_by_role("button", name="Answer").first.click()
        page.get_by_role("dialog").get_by_text(HOSTILE[:40]).first.wait_for()
        held(page, "an answer")
        assert not faults(page)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Follow").click()
        page.get_by_text("waits for the device").wait_for()
        with fleet.database.read() as connection:
            newest = connection.execute(commands.select().order_by(commands.c.number.desc()).limit(1)).one()
        fleet.ingest.commit([fleet.answer(newest, 1, content="text/plain", data=data)])
        page.get_by_role("log").get_by_text(HOSTILE[:40]).first.wait_for()
        held(page, "a log")
