"""A real browser: Debian's Chromium, driven by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from playwright.sync_api import Browser, Page, sync_playwright

from tests.parts.pace import stretched
from tests.parts.presence import program

WITHIN_MS = stretched(15) * 1000


@contextmanager
def browser(*arguments: str) -> Iterator[Browser]:
    """Chromium without a window, until the end of the context."""
    with sync_playwright() as playwright:
        # As root it cannot have its sandbox.
        started = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox", *arguments])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(running: Browser, url: str, *, expected: str = "", **context: object) -> Iterator[Page]:
    """A page of a fresh profile at the server's address, whose certificate it believes.

    It may log no error but those with the words ``expected``.
    """
    given = {"reduced_motion": "reduce"} | context  # drawing sixty pictures a second of what moves takes a core
    made = running.new_context(base_url=url, ignore_https_errors=True, **given)
    made.set_default_timeout(WITHIN_MS)
    page = made.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text} {message.location['url']}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    try:
        yield page
        wrong = [one for one in said if one.startswith(("error", "warning")) and not (expected and expected in one)]
        assert not wrong, wrong
    finally:
        made.close()


def log_in(page: Page, name: str, password: str, at: str = "/console/") -> None:
    """Get a session as the form does, without the form: it costs a page. Ends at ``at``."""
    asked = {"user": name, "password": password}
    said = page.request.post("/api/v1/session", data=asked, ignore_https_errors=True)
    assert said.ok, said.text()
    page.goto(at)


def log_in_by_form(page: Page, name: str, password: str, at: str = "/console/") -> None:
    """As a person does; ends at ``at``."""
    page.goto(f"/console/login?next={quote(at)}")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    # The form's own address names the place, too.
    page.wait_for_url(lambda url: unquote(url).endswith(at) and "/login?" not in url)
