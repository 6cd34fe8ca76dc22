"""The list of devices and the page of one: found, labelled, commanded, and harmless whatever they say."""

import re

import pytest
from sqlalchemy import select, update

from fleet.command_tables import commands
from fleet.people.roles import Grant
from fleet.tables import devices
from modules.manifest import Needs
from tests.doubles.publisher import checked
from tests.fleet.console.conftest import PASSWORD, as_person, person
from tests.fleet.console.test_accessible import faults
from tests.parts import console_fleet
from tests.parts.browser import log_in, opened
from tests.parts.console_fleet import HOSTILE

pytestmark = pytest.mark.needs("mosquitto", "chromium")


@pytest.fixture(scope="module")
def fleet(server):
    """More devices than a page has; two are offline."""
    made, _, _ = console_fleet.planted(server.data, count=53)
    with made.database.write() as connection:
        some = update(devices).where(devices.c.id.in_(["press-07", "press-08"]))
        connection.execute(some.values(online=False, last_seen=made.now - 7200))
    yield made
    made.database.close()


def listed(page):
    return page.locator("main table tbody tr")


def test_the_server_filters_and_pages_and_the_address_says_how(server, fleet, chromium):
    """A link shows a colleague the same; the command does, too."""
    with opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices")
        page.get_by_text("53 devices", exact=True).wait_for()
        assert listed(page).count() == 50
        page.get_by_role("button", name="Next page").click()
        page.wait_for_url(re.compile(r"/console/devices\?after=press-49$"))
        page.get_by_role("link", name="press-52").wait_for()
        assert listed(page).count() == 3
        page.get_by_role("button", name="offline").click()
        page.wait_for_url(re.compile(r"/console/devices\?state=offline$"))
        page.get_by_label("Search", exact=True).fill("LYON")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url(re.compile(r"search=LYON&state=offline$"))
        page.get_by_role("link", name="press-07").wait_for()
        assert listed(page).count() == 1
        assert page.get_by_text("edgefleet devices list --search=LYON --state offline").is_visible()
        page.goto("/console/devices?selector=site%3D")
        page.get_by_text("a term").or_(page.get_by_text("cannot read")).first.wait_for()  # the API's own words


def test_many_are_labelled_after_a_look_at_what_it_does(server, fleet, chromium):
    """Each label before and after is shown before anything is done."""
    with opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices")
        for name in ("press-00", "press-01"):
            row = listed(page).filter(has=page.get_by_role("link", name=name))
            row.get_by_role("checkbox").click()
        page.get_by_text("2 devices chosen").wait_for()
        page.get_by_role("button", name="Label").click()
        page.get_by_label("key=value to set").fill("ring=canary line=")
        page.get_by_text("press-01: line=l1, site=lyon → ring=canary, site=lyon").wait_for()
        page.get_by_role("button", name="Label them").click()
        page.get_by_text("2 devices labelled").wait_for()
    with fleet.database.read() as connection:
        chosen = select(devices.c.labels).where(devices.c.id.in_(["press-00", "press-01", "press-02"]))
        assert [one.get("ring") for one in connection.scalars(chosen.order_by(devices.c.id))] == [
            "canary",
            "canary",
            None,
        ]


@pytest.mark.long
def test_what_cannot_be_done_to_all_says_so_first_and_what_fits_none_is_not_offered(server, fleet, chromium):
    """A device whose certificates are revoked takes no command, and is revoked already; rights end at a site."""
    person(server.data, "site", "viewer", Grant("operator", selector="site=lyon"))
    with as_person(server, "admin") as http:
        checked(http.post("/api/v1/devices/press-05/revoke"))
    with opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices")

        def choose(*names):
            # What was chosen before is let go once it is done.
            for name in names:
                page.get_by_role("checkbox", name=f"Choose {name}", checked=False).click()
            for name in names:
                page.get_by_role("checkbox", name=f"Choose {name}", checked=True).wait_for()

        asked = page.get_by_role("dialog")
        choose("press-04", "press-05")
        page.get_by_role("button", name="Command", exact=True).click()
        asked.get_by_text("A command to 1 of 2 devices").wait_for()
        asked.get_by_text("its certificates are revoked").wait_for()
        assert not faults(page)
        asked.get_by_role("button", name="ping").click()
        page.get_by_text("ping was given to 1 device").wait_for()
        choose("press-05")
        page.get_by_role("button", name="Command", exact=True).click()
        asked.get_by_text("A command to none of 1 devices").wait_for()
        assert asked.get_by_role("button").all_inner_texts() == ["Cancel"]
        asked.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="More", exact=True).click()
        page.get_by_role("menuitem", name="Revoke").click()
        asked.get_by_text("its certificates are revoked already").wait_for()
        assert asked.get_by_role("button").all_inner_texts() == ["Cancel"]

        page.context.clear_cookies()
        log_in(page, "site", PASSWORD, at="/console/devices")
        choose("press-01", "press-02")
        page.get_by_role("button", name="Label").click()
        asked.get_by_text("Label 1 of 2 devices").wait_for()
        asked.get_by_text("your roles do not have group:write for it").wait_for()
        asked.get_by_label("key=value to set").fill("seen=yes")
        asked.get_by_role("button", name="Label them").click()
        page.get_by_text("1 device labelled").wait_for()
    with fleet.database.read() as connection:
        chosen = select(devices.c.labels).where(devices.c.id.in_(["press-01", "press-02"]))
        assert [one.get("seen") for one in connection.scalars(chosen.order_by(devices.c.id))] == ["yes", None]


def reach(page, role, name):
    """Tab, until this has the focus; and it can be seen that it has."""
    wanted = page.get_by_role(role, name=name, exact=True)
    wanted.first.wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if any(one.evaluate("one => one === document.activeElement") for one in wanted.all()):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or role == "textbox"
            return
    pytest.fail(f"no way to {role} {name} by the keyboard")


def test_a_device_is_found_and_told_something_without_a_mouse(server, fleet, chromium):
    """Log in, a page by its name, a device by a part of its own, the list by its filter, a command: keys alone."""
    with opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page:
        keys = page.keyboard
        page.goto("/console/login?next=/console/")
        reach(page, "textbox", "Name")
        keys.type("admin")
        keys.press("Tab")
        keys.type(PASSWORD)
        keys.press("Enter")
        page.get_by_role("heading", name="Overview", level=1).wait_for()
        keys.press("Control+k")
        page.get_by_placeholder("A page, device").wait_for()
        keys.type("rollo")
        page.get_by_role("dialog").get_by_role("link", name="Rollouts", exact=True).wait_for()
        keys.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        keys.press("/")
        keys.type("ess-06")  # at once, before the palette is there
        page.get_by_role("link", name="Device press-06").wait_for()
        keys.press("Enter")
        page.wait_for_url("**/devices/press-06")
        page.get_by_role("heading", name="press-06").wait_for()
        keys.press("/")
        page.get_by_placeholder("A page, device").wait_for()
        keys.type("devices")
        page.get_by_role("dialog").get_by_role("link", name="Devices", exact=True).wait_for()
        keys.press("Enter")
        page.wait_for_url("**/devices")
        reach(page, "textbox", "Search")
        keys.type("press-06")
        keys.press("Enter")
        page.wait_for_url("**search=press-06")
        reach(page, "link", "press-06")
        keys.press("Enter")
        page.wait_for_url("**/devices/press-06")
        reach(page, "button", "Send")
        keys.press("Enter")
        page.get_by_text("ping is on its way").wait_for()
    assert command_of(fleet, "press-06").name == "ping"


def command_of(fleet, name):
    """The newest command that a device was given."""
    with fleet.database.read() as connection:
        chosen = select(commands).where(commands.c.device == name).order_by(commands.c.number.desc()).limit(1)
        return connection.execute(chosen).one()


def test_a_command_and_a_log_are_followed_live(server, fleet, chromium):
    """Given with a click, then what the device answers appears by itself; so do new lines of a log."""
    console_fleet.measured(fleet, "press-03", hours=1)
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/devices/press-03")
        page.get_by_role("img", name="Latency of the last day").locator("canvas").wait_for()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("ping is on its way").wait_for()
        row = page.locator(".ef-command-row").filter(has_text="ping")
        row.wait_for()
        fleet.ingest.commit([fleet.answer(command_of(fleet, "press-03"), 1, "done", note="it answers")])
        row.filter(has_text="done").filter(has_text="it answers").wait_for()
        page.get_by_role("button", name="Follow").click()
        page.get_by_text("waits for the device").or_(page.get_by_role("button", name="Stop")).first.wait_for()
        command = command_of(fleet, "press-03")
        for part, line in ((1, b"first line\n"), (2, b"second line\n")):
            fleet.ingest.commit([fleet.answer(command, part, content="text/plain", data=line)])
            page.get_by_role("log").get_by_text(line.decode().strip()).wait_for()
        fleet.ingest.commit([fleet.answer(command, 3, content="text/plain", data=HOSTILE.encode())])
        page.get_by_role("log").get_by_text(HOSTILE).wait_for()


def test_a_module_is_tried_against_a_device_and_its_past_is_told(server, fleet, chromium):
    """Fits or why not, from an address that can be sent; what was decided for it stands in its history."""
    fits = fleet.add_module("tiny", sign_it=False)
    giant = fleet.add_module("giant", needs=Needs(memory_mb=1 << 20))
    with opened(chromium, server.url) as page:
        log_in(page, "admin", PASSWORD, at=f"/console/devices/press-03?fits={fits}")
        page.get_by_text("fits", exact=True).wait_for()
        page.get_by_text(f"edgefleet modules fits {fits} press-03").wait_for()
        page.get_by_label("Module", exact=True).fill(str(giant))
        page.get_by_role("option", name=str(giant)).click()
        page.get_by_text("does not fit", exact=True).wait_for()
        page.get_by_text("MiB of memory, has 7620").first.wait_for()
        page.get_by_text("camera: acme/defects:1, by", exact=False).first.wait_for()
        page.get_by_text("camera: TensorrtExecutionProvider on Orin, docker").wait_for()


@pytest.mark.long
def test_who_only_looks_sees_no_button_that_would_be_refused(server, fleet, chromium):
    """A viewer has the same pages, and nothing to press that changes anything."""
    person(server.data, "vera", "viewer")
    with opened(chromium, server.url) as page:
        log_in(page, "vera", PASSWORD, at="/console/devices/press-03")
        page.get_by_role("heading", name="Modules").wait_for()
        page.get_by_text("Orin").first.wait_for()
        for name in ("Send", "Follow", "Labels", "Revoke its certificates", "Take it out of the fleet"):
            assert page.get_by_role("button", name=name).count() == 0
        page.goto("/console/devices")
        page.get_by_role("link", name="press-00").wait_for()
        assert page.get_by_role("checkbox").count() == 0


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_the_pages_of_a_fleet(server, fleet, chromium, theme):
    """With devices, rollouts and troubles on them, axe-core finds no grave fault; nor does a phone scroll sideways."""
    with opened(chromium, server.url, color_scheme=theme, viewport={"width": 390, "height": 844}) as page:
        log_in(page, "admin", PASSWORD)
        for path, sight in (
            ("/console/", page.get_by_role("heading", name="need")),
            ("/console/devices?state=offline&search=press", page.get_by_role("link", name="press-07")),
            ("/console/devices/press-04", page.get_by_role("heading", name="Certificate")),
        ):
            page.goto(path)
            sight.first.wait_for()
            assert not faults(page), "\n".join(faults(page))
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
