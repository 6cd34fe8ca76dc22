"""Who comes into the console, and who does not."""

import re

import pytest

from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")
TO_LOG_IN = re.compile(r"/console/login\?next=")


def test_a_person_logs_in_and_out(server, chromium):
    with opened(chromium, server.url) as page:
        page.goto("/console/")
        page.wait_for_url(TO_LOG_IN)
        log_in(page, "admin", PASSWORD)
        page.get_by_role("heading", name="Overview").wait_for()
        page.get_by_role("button", name="admin").click()
        page.get_by_text("Log out").click()
        page.wait_for_url("**/console/login")
        page.goto("/console/")
        page.wait_for_url(TO_LOG_IN)


def test_a_wrong_password_is_told_and_lets_nobody_in(server, chromium):
    with opened(chromium, server.url, expected="401") as page:
        page.goto("/console/login")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text="password").wait_for()
        assert "/console/login" in page.url
