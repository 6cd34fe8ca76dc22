"""What makes a page soon usable: files that browsers keep, few questions to the server, and none by who has left."""

import re

import pytest

from fleet.console import assets
from tests.fleet.console.conftest import PASSWORD, as_person, person
from tests.fleet.console.telling_server import ASKED
from tests.parts import console_fleet
from tests.parts.browser import browser, log_in
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.page_stages import trusting, visit, watch
from tests.parts.programs import until

pytestmark = pytest.mark.needs("mosquitto", "chromium")
AS_A_BROWSER = {"Accept": "text/html", "Accept-Encoding": "gzip"}
API = "/api/v1/"
# When each file of it was wanted, in milliseconds since the page was.
_LIBRARY_OF_CHARTS = (
    "performance.getEntriesByType('resource').filter((one) => one.name.includes('/esm/')).map((one) => one.startTime)"
)

# How many times a cell with a time was put into the page.
_COUNTS_CELLS = """(() => {
  window.cells = 0;
  const times = (one) => (one.matches?.("td time") ?? 0) + (one.querySelectorAll?.("td time").length ?? 0);
  new MutationObserver((seen) => {
    for (const { addedNodes } of seen) for (const one of addedNodes) window.cells += times(one);
  }).observe(document, { childList: true, subtree: true });
})()"""


class Told:
    """A server that says what it is asked, a fleet in it, and a browser that takes its certificate for a good one."""

    def __init__(self, server, fleet, rollout):
        self.server, self.fleet, self.rollout = server, fleet, rollout

    def asked(self, since=0):
        """Paths with their queries, in order, after so many."""
        lines = (line.partition(f"{ASKED} ")[2] for line in self.server.log().splitlines() if ASKED in line)
        return list(lines)[since:]

    def number(self, of):
        return sum(one.startswith(of) for one in self.asked())


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    data = initialise(folder / "data")
    person(data, "admin", "admin")
    with (
        broker(folder / "broker", data) as running,
        fleet_server(data, running, program="tests.fleet.console.telling_server", console="true") as server,
    ):
        fleet, _, rollout = console_fleet.planted(data)
        console_fleet.measured(fleet, "press-03", hours=1)
        yield Told(server, fleet, rollout)
        fleet.database.close()


@pytest.fixture(scope="module")
def person_looking(told):
    """Somebody who has logged in; their browser keeps files, as it does where it trusts the certificate."""
    with browser(trusting(told.server.data.server)) as running:
        made = running.new_context(base_url=told.server.url)
        page = made.new_page()
        log_in(page, "admin", PASSWORD)
        page.close()
        yield made
        made.close()


@pytest.fixture
def tab(person_looking):
    """A tab of theirs; no other one asks meanwhile."""
    page = person_looking.new_page()
    watch(page)
    yield page
    page.close()


def files_of(page):
    """What a page names that is loaded with it, below the console."""
    return sorted(set(re.findall(r'["(](/console/(?:_nicegui|static)/[^"\s]+\.(?:js|mjs|css))["?)]', page)))


@pytest.mark.long
def test_each_file_of_a_page_is_kept_by_browsers_and_sent_compressed(told):
    """The pages themselves are kept by nobody."""
    with told.server.client() as http:
        page = http.get("/console/login", headers=AS_A_BROWSER)
        files = files_of(page.text)
        assert any("console.css" in one for one in files)
        assert len(files) > 10
        for address in files:
            first, again = (http.get(address, headers=AS_A_BROWSER) for _ in range(2))
            assert first.headers["cache-control"] == assets.KEPT, address
            assert again.content == first.content
            assert first.headers["content-length"] == again.headers["content-length"]
            assert len(first.content) <= 500 or first.headers["content-encoding"] == "gzip", address
            plain = http.get(address, headers={"Accept-Encoding": "identity"})
            assert "content-encoding" not in plain.headers
            assert plain.content == first.content
        assert page.headers["cache-control"] == "no-store"


def test_what_is_not_there_is_kept_by_nobody(told):
    """Nor what stands at another version's address, or what changes."""
    ours, library = f"/console{assets.OURS}", "/console/_nicegui"
    with told.server.client() as http:
        for address in (f"{ours}/nothing.js", f"{ours}0/console.css", f"{library}/0.0.0/static/nicegui.js"):
            for _ in range(2):
                gone = http.get(address, headers={"Accept-Encoding": "gzip"})
                assert gone.status_code == 404, address
                assert "max-age=31536000" not in gone.headers.get("cache-control", ""), address
        part = http.get(f"{ours}/console.css", headers={"Range": "bytes=0-9", "Accept-Encoding": "gzip"})
        assert len(part.content) == 10


@pytest.mark.long
def test_a_browser_loads_the_files_of_a_page_once(told, tab):
    """Whoever opens it again gets the page alone from the server."""
    first = visit(tab, "/devices")
    since = len(told.asked())
    again = visit(tab, "/devices")
    assert first.page_kb > 1
    assert again.files == 0
    assert [one for one in told.asked(since) if one.startswith(("/console/_nicegui/", "/console/static/"))] == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", ["health-history", "overview", "session"]),
        ("/devices", ["devices", "pending", "session"]),
        ("/rollouts", ["rollouts", "session"]),
        (
            "/rollouts/{rollout}",
            ["rollouts/{rollout}", *(f"rollouts/{{rollout}}/{one}" for one in ("devices", "gates")), "session"],
        ),
        ("/events", ["events", "session"]),
        ("/sites", ["session", "sites"]),
        ("/endpoints", ["endpoints", "session", "targets"]),
        (
            "/devices/press-03",
            [
                *("commands", "devices/press-03", "devices/press-03/certificates", "devices/press-03/decisions"),
                *("devices/press-03/telemetry", "events", "session"),
            ],
        ),
        ("/settings", ["certificates", "joins", "operators", "session", "settings", "tokens", "trust-roles"]),
    ],
)
def test_a_page_asks_for_no_more_than_it_shows(told, path, wanted):
    """Each part of it once. Of a rollout its devices are a page of them, and not all."""
    with as_person(told.server, "admin") as http:
        since = len(told.asked())
        assert http.get(f"/console{path.format(rollout=told.rollout)}", headers=AS_A_BROWSER).status_code == 200
        asked = [one.removeprefix(API) for one in told.asked(since) if one.startswith(API)]
    assert sorted(one.partition("?")[0] for one in asked) == [one.format(rollout=told.rollout) for one in wanted]
    for one in asked:
        if one.startswith(f"rollouts/{told.rollout}?"):
            assert "devices=false" in one
        elif one.startswith(("devices?", f"rollouts/{told.rollout}/devices")):
            assert re.search(r"\blimit=50\b", one)


def test_a_table_is_sent_and_drawn_once(told, tab):
    """Though the menu opens after it, and the browser tells the server what it shows."""
    said = []
    tab.on("websocket", lambda one: one.on("framereceived", lambda data: said.append(str(data))))
    tab.add_init_script(_COUNTS_CELLS)
    visit(tab, "/devices")
    # What the browser was sent is told while somebody asks it something.
    until(lambda: tab.evaluate("1") and any("q-drawer" in one for one in said), "the menu is open", within_s=20)
    assert not any("press-03" in one for one in said)
    assert tab.evaluate("window.cells") == tab.locator("td time").count() > 1


@pytest.mark.long
def test_a_page_that_somebody_left_asks_nothing(told, tab):
    """While another one goes on asking."""
    visit(tab, "/events")
    until(lambda: told.number(f"{API}events") > 2, "the page asks again", within_s=20)
    visit(tab, "/rollouts")
    begun, asked = told.number(f"{API}events"), told.number(f"{API}rollouts")
    until(lambda: told.number(f"{API}rollouts") > asked + 2, "the other asks again", within_s=30)
    # One answer may have been under way.
    assert told.number(f"{API}events") <= begun + 1


@pytest.mark.long
def test_nobody_waits_for_the_library_of_charts(told, tab):
    """It is a megabyte: it comes when the page is drawn, and where there is a chart to be seen."""
    visit(tab, "/devices/press-03")
    tab.get_by_role("img", name="Latency of the last day").locator("canvas").wait_for()
    begun, drawn = tab.evaluate(_LIBRARY_OF_CHARTS), tab.evaluate("window.edgefleetAt.drawn")
    assert begun
    # The browser looks every few milliseconds whether the page is drawn.
    assert min(begun) > drawn - 10
    visit(tab, "/devices/press-04")
    tab.get_by_text("It has sent no telemetry yet").wait_for()
    assert tab.evaluate(_LIBRARY_OF_CHARTS) == []
