"""The pages of events, people, tokens and endpoints, as somebody uses them."""

import json
import re
import time

import pytest

from fleet import events
from fleet.settings import Settings
from fleet.setup import opened as database_of
from tests.fleet.console.conftest import PASSWORD, person
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"


@pytest.fixture(scope="module")
def eventful(server):
    """Events, one of them with words of somebody who wishes us ill."""
    database = database_of(Settings(data=server.data.root))
    with database.write() as connection:
        for number in range(250):
            events.record(connection, time.time(), "ordinary", f"number {number}")
        events.record(connection, time.time(), "request-denied", HOSTILE, by=HOSTILE[:60])
    database.close()
    person(server.data, "watcher", "viewer")
    return server


@pytest.mark.long
def test_hostile_words_are_words(eventful, chromium):
    with opened(chromium, eventful.url) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        log_in(page, "admin", PASSWORD, at="/console/events")
        page.get_by_text(HOSTILE, exact=True).wait_for()
        assert page.locator("main script, main img").count() == 0


@pytest.mark.long
def test_older_events_and_those_of_a_kind_are_found(eventful, chromium):
    with opened(chromium, eventful.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/events?kind=ordinary")
        page.get_by_text("number 249", exact=True).wait_for()
        assert page.get_by_text("request-denied").count() == 0
        page.get_by_role("button", name="Older rows").click()
        page.get_by_role("button", name="Older rows").wait_for(state="hidden")


def test_the_audit_log_is_filtered_by_who_and_what_and_saved(eventful, chromium, tmp_path):
    """By its address, as somebody sends it; the words are those of the API, the answer one for people."""
    with opened(chromium, eventful.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/events/audit")
        page.get_by_text("POST session as admin").first.wait_for()
        page.get_by_label("Who").fill("admin")
        page.wait_for_url("**/audit?by=admin")
        page.get_by_label("What").fill("session")
        page.wait_for_url("**/audit?by=admin&action=session")
        page.get_by_text("edgefleet audit list --by=admin --action=session").wait_for()
        rows = page.locator("main tbody tr").filter(has_text="POST session as admin")
        rows.first.get_by_text("done").wait_for()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as JSON").click()
        saved.value.save_as(tmp_path / "audit.json")
        assert {one["by"] for one in json.loads((tmp_path / "audit.json").read_text())} == {"admin"}
        page.goto("/console/events/audit?action=no-such-thing")
        page.get_by_text("Nothing fits these filters").wait_for()


@pytest.mark.long
def test_a_token_is_made_shown_once_and_revoked(eventful, chromium):
    with opened(chromium, eventful.url) as page:
        log_in(page, "admin", PASSWORD, at="/console/settings")
        page.get_by_role("button", name="New token").click()
        page.get_by_label("Name").fill("for-ci")
        page.get_by_role("button", name="Make it").click()
        text = page.get_by_text("eft_").inner_text()
        with eventful.client(text) as client:
            assert client.get("/api/v1/session").status_code == 200
        page.get_by_role("button", name="I have it").click()
        row = page.get_by_role("row").filter(has_text="for-ci")
        row.get_by_role("checkbox").click()
        page.get_by_role("button", name="Revoke", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        row.get_by_text("revoked").wait_for()
        with eventful.client(text) as client:
            assert client.get("/api/v1/session").status_code == 401


@pytest.mark.long
def test_who_only_watches_sees_no_button_that_would_fail(eventful, chromium):
    with opened(chromium, eventful.url) as page:
        log_in(page, "watcher", PASSWORD, at="/console/settings")
        page.get_by_role("button", name="New token").wait_for()
        assert page.get_by_text("People").count() == 0
        assert page.get_by_text("Join bundles").count() == 0
        page.goto("/console/events")
        page.get_by_role("button", name="Save as JSON").wait_for()
        assert page.get_by_text("Audit log").count() == 0
        page.goto("/console/endpoints")
        page.get_by_text("No endpoint yet").wait_for()


def test_a_page_says_when_the_session_is_over(eventful, chromium):
    with opened(chromium, eventful.url) as page:
        log_in(page, "watcher", PASSWORD, at="/console/events")
        page.get_by_text("ordinary").first.wait_for()
        database = database_of(Settings(data=eventful.data.root))
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM sessions")
        database.close()
        page.get_by_text("Your session is over").wait_for()
        page.get_by_role("button", name="Log in again").click()
        page.wait_for_url(re.compile(r"/console/login\?next="))
