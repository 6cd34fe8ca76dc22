"""A device joins by the agent's own means while somebody watches: it waits, is let in and is there, live."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import zxingcpp
from PIL import Image

from agent.enroll import enroll
from modules import canonical
from modules.names import DeviceId
from modules.protocol import join_code
from tests.doubles.publisher import Publisher
from tests.fleet.console.conftest import PASSWORD
from tests.parts.browser import log_in, opened

pytestmark = pytest.mark.needs("mosquitto", "chromium")


def test_a_device_waits_is_let_in_and_appears(server, chromium, tmp_path):
    """It scans the bundle; the page shows the fingerprint that the device shows, and then its certificate."""
    with server.client() as http:
        Publisher(http).found()
    shown = []
    with (
        ThreadPoolExecutor(1) as aside,
        opened(chromium, server.url, viewport={"width": 1300, "height": 900}) as page,
    ):
        log_in(page, "admin", PASSWORD, at="/console/devices")
        page.get_by_text("No device has joined yet.").wait_for()
        bundle = scanned(page)
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
        page.get_by_text("1 given so far, renewed 0 times").wait_for()
        assert page.get_by_text("site=berlin").is_visible()


def scanned(page):
    """Make a bundle on the page, and read it from the screen as a phone does."""
    page.get_by_role("button", name="Let a device join").click()
    wish = page.get_by_role("dialog", name="Let a device join")
    wish.get_by_label("Labels that they get").fill("site=berlin")
    wish.get_by_role("checkbox").click()
    wish.get_by_role("button", name="Make the bundle").click()
    made = page.get_by_role("dialog", name="Join bundle")
    made.get_by_text("It lets one device join within a day.").wait_for()
    picture = made.get_by_role("img", name="QR code of the join bundle")
    picture.evaluate("image => image.decode()")
    (read,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture.screenshot())))
    with page.expect_download() as saved:
        made.get_by_role("button", name="Save the file").click()
    assert canonical.encode(join_code.decode(read.bytes)) == saved.value.path().read_bytes()
    made.get_by_role("button", name="Done").click()
    made.wait_for(state="hidden")
    return read.bytes
