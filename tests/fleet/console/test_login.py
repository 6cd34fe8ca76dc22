"""Who comes into the console, and who does not."""

import re
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in_by_form, opened
from tests.parts.fleet_server import trusting

pytestmark = pytest.mark.needs("mosquitto", "chromium")
TO_LOG_IN = re.compile(r"/console/login\?next=")


def test_a_person_logs_in_and_out(server, chromium):
    with opened(chromium, server.url) as page:
        page.goto("/console/")
        page.wait_for_url(TO_LOG_IN)
        log_in_by_form(page, "admin", PASSWORD)
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


def test_a_log_in_leads_on_to_pages_of_the_console_alone(server, chromium):
    with opened(chromium, server.url) as page:
        for elsewhere in ("https://elsewhere.example/", "//elsewhere.example/", "/console/\\elsewhere.example"):
            page.goto(f"/console/login?next={quote(elsewhere)}")
            form = page.locator("[data-login]")
            form.wait_for()
            assert form.get_attribute("data-next") == "/console/"
        log_in_by_form(page, "admin", PASSWORD, at="/console/events?kind=a&device=b")


def test_a_page_of_another_site_gets_no_connection(server):
    """The page that was given its client's id speaks to the server, and no other site's."""
    there = f"{server.url.replace('https', 'wss')}/console/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    tls = trusting(server.data.ca)
    with pytest.raises(InvalidStatus) as refused:
        connect(there, origin="https://elsewhere.example", ssl=tls)
    assert refused.value.response.status_code == 403
    with connect(there, origin=server.url, ssl=tls) as welcome:
        assert welcome.recv(timeout=10).startswith("0{")


def test_each_page_runs_its_own_scripts_alone(server):
    """By a nonce, which no two pages share; everything else comes from the server itself."""
    with server.client() as http:
        pages = [http.get("/console/login", headers={"Accept": "text/html"}) for _ in range(2)]
    policies = [page.headers["content-security-policy"] for page in pages]
    nonces = [re.search(r"script-src 'self' 'nonce-([\w-]+)' 'unsafe-eval';", one)[1] for one in policies]
    assert nonces[0] != nonces[1]
    for page, nonce in zip(pages, nonces, strict=True):
        assert page.text.count("<script") == page.text.count(f'<script nonce="{nonce}"') > 3
    assert "default-src 'none'" in policies[0]
    assert "frame-ancestors 'none'" in policies[0]
