"""``make screenshots``: every page of the console, in both themes and at three widths, as somebody would see it.

A real server and broker with a fleet in its database (tests/screenshots/showcase.py) and a real browser. A new page is
visited by itself: pages are those that the console has registered. What a page's address asks for by name stands in
``Named``; a page that asks for more than that has to be given it there.
"""

import argparse
import re
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Error, Page

from fleet.console import mount
from tests.fleet.console.conftest import PASSWORD, as_person, person
from tests.parts.browser import browser, log_in, opened
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.screenshots import cloud
from tests.screenshots.showcase import Named, Showcase

FOLDER: Final = Path(__file__).parents[2] / ".screenshots"
WIDTHS: Final = {1440: 900, 820: 1100, 390: 844}
# Those that stand in the README; pages are cut at so many times their width.
README: Final = ("overview-1440-light", "rollouts-rollout-1440-dark", "devices-device-1440-light", "overview-390-dark")
PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"
_SHAPE: Final = {1440: 0.75, 390: 2.2}
_COLOURS: Final = 96
_MOST_BYTES: Final = 150_000
_HIGHEST: Final = 4000
# Charts draw themselves anew when the window changes, and do not say when they have.
_SETTLES_MS: Final = 250
_MOVED: Final = "net::ERR_NETWORK_CHANGED"
_TRIES: Final = 3
THEMES: Final = ("light", "dark")
# Pages whose path does not say all that their address wants.
_ADDRESSES: Final = {
    "/modules/{team}/{name}/{version}/compare": "/modules/{team}/{name}/{version}/compare?to={to}",
    "/endpoints/{name}": "/endpoints/{endpoint}",
}


class Sight(NamedTuple):
    """A page to look at: the name of its picture, and its address below the console."""

    name: str
    address: str


def sights(named: Named) -> list[Sight]:
    """Every page that the console has, and how it is reached."""
    found = []
    for path in mount.load():
        name = re.sub(r"[^a-z]+", "-", path.lower()).strip("-") or "overview"
        found.append(Sight(name, _ADDRESSES.get(path, path).format_map(named._asdict())))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder, which is emptied first")
    parser.add_argument("--only", default="", help="part of the name of the pages that are wanted")
    parser.add_argument("--readme", action="store_true", help="renew those that stand in the README, in docs/pictures")
    parser.add_argument("--width", type=int, choices=WIDTHS, action="append", help="of these widths only")
    given = parser.parse_args()
    shutil.rmtree(given.to, ignore_errors=True)
    given.to.mkdir(parents=True)
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-screenshots-")))
        data = initialise(folder / "data")
        person(data, "maria", "admin")
        running = parts.enter_context(broker(folder / "broker", data))
        server = parts.enter_context(fleet_server(data, running, console="true"))
        _say("making a fleet")
        lab = parts.enter_context(cloud.cluster())
        named = Showcase(server, parts.enter_context(as_person(server, "maria")), lab).make()
        wanted = [one for one in sights(named) if given.only in one.name]
        chromium = parts.enter_context(browser())
        for theme in THEMES:
            for width in given.width or WIDTHS:
                _look(chromium, server, given.to, wanted, theme, width)
    _say(f"{len(list(given.to.iterdir()))} pictures in {given.to}")
    if given.readme:
        for name in README:
            _keep(given.to / f"{name}.png", PICTURES / f"{name}.png")
    return 0


def _look(chromium: Browser, server: FleetServer, to: Path, wanted: list[Sight], theme: str, width: int) -> None:
    size = {"width": width, "height": WIDTHS[width]}
    more = {"color_scheme": theme, "viewport": size, "reduced_motion": "reduce", "expected": _MOVED}
    with opened(chromium, server.url, **more) as page:
        login = [one for one in wanted if one.address == "/login"]
        for one in login:
            _picture(page, one, to / f"{one.name}-{width}-{theme}.png")
        log_in(page, "maria", PASSWORD)
        for one in wanted:
            if one not in login:
                _picture(page, one, to / f"{one.name}-{width}-{theme}.png")
        _say(f"{theme}, {width} px: {len(wanted)} pages")


def _picture(page: Page, sight: Sight, to: Path) -> None:
    _show(page, sight)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    # As high as the page is: what stays at the window's edge then stays at the picture's.
    size, high = page.viewport_size, 0
    assert size
    # What comes once a page is there makes it higher.
    while (whole := min(page.evaluate("document.documentElement.scrollHeight"), _HIGHEST)) > high:
        high = max(whole, size["height"])
        page.set_viewport_size({"width": size["width"], "height": high})
        page.wait_for_timeout(_SETTLES_MS)
    page.screenshot(path=to)
    page.set_viewport_size(size)


def _show(page: Page, sight: Sight) -> None:
    """A browser drops what it loads when networks of its machine come and go, as Docker's do; then once more."""
    for left in reversed(range(_TRIES)):
        try:
            page.goto(f"/console{sight.address}")
            page.get_by_role("heading", level=1).wait_for()
        except Error:
            if not left:
                raise
        else:
            return


def _keep(picture: Path, to: Path) -> None:
    """The upper part, in few colours: small enough to lie in the repository."""
    with Image.open(picture) as whole:
        part = whole.crop((0, 0, whole.width, min(whole.height, int(_SHAPE[whole.width] * whole.width))))
        part.convert("RGB").quantize(_COLOURS).save(to, optimize=True)
    assert to.stat().st_size < _MOST_BYTES, f"{to} is too large"


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
