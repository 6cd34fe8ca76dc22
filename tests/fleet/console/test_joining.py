"""A device joins by the agent's own means while somebody watches: it waits, is let in and is there, live."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.enroll import enroll
from modules.names import DeviceId
from tests.doubles.publisher import Publisher, checked
from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")


def test_a_device_waits_is_let_in_and_appears(server, chromium, tmp_path):
    """The fingerprint that the page shows is the one that the device shows; its certificate stands on its page."""
    with server.client() as http:
        Publisher(http).found()
        asked = {"approve": True, "labels": {"site": "berlin"}}
        bundle = checked(http.post("/api/v1/join-tokens", json=asked)).content
    shown = []
    with (
        ThreadPoolExecutor(1) as aside,
        opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page,
    ):
        log_in(page, "admin", PASSWORD, at="/console/devices")
        page.get_by_text("No device has joined yet.").wait_for()
        name, tell = DeviceId("press-1"), shown.append
        joining = aside.submit(enroll, bundle, tmp_path / "device", name=name, tell=tell)
        page.get_by_role("heading", name="Waiting to join").wait_for()
        page.get_by_text("press-1", exact=True).wait_for()
        page.get_by_role("button", name="Let it in").click()
        asked = page.get_by_role("dialog")
        asked.get_by_text("Is this what press-1 shows?").wait_for()
        words = asked.inner_text().replace("-", "").replace(" ", "").replace(":", "").lower()
        asked.get_by_role("button", name="It is: let it in").click()
        page.get_by_role("link", name="press-1").wait_for()
        assert joining.result(timeout=60).device == "press-1"
        assert shown[0].fingerprint.replace("-", "").replace(" ", "").replace(":", "").lower() in words
        page.get_by_role("link", name="press-1").click()
        page.get_by_text("Given 1, so renewed 0 times").wait_for()
        assert page.get_by_text("site=berlin").is_visible()
