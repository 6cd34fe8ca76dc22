"""What all pages share: where one is, the way to everywhere else, who looks, and what the API said when it refused."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import quote
from weakref import WeakSet

from nicegui import Client, events, ui

from fleet.console import assets, parts
from fleet.console.visit import Said, Visit

# How often a page that stays open asks again.
LIVE_S: Final = 3.0
# Answers take one part in so many of a page's time, however slow the server is; so seldom it asks at last.
_SHARE: Final = 20
_SELDOM_S: Final = 30.0
# Letters from which on the palette looks for devices, and how many it names.
_ENOUGH: Final = 3
_FOUND: Final = 6


# Pages that wait for an answer of somebody's: of a double click the second asks nothing.
_asked: Final = WeakSet[Client]()


class Place(NamedTuple):
    """An entry of the menu: where it leads, its icon, and who sees it."""

    title: str
    path: str
    icon: str
    permission: str


PLACES: Final = (
    Place("Overview", "/", "space_dashboard", "device:read"),
    Place("Devices", "/devices", "developer_board", "device:read"),
    Place("Modules", "/modules", "inventory_2", "module:read"),
    Place("Rollouts", "/rollouts", "rocket_launch", "rollout:read"),
    Place("Endpoints", "/endpoints", "cloud", "endpoint:read"),
    Place("Events", "/events", "notifications", "event:read"),
    Place("Settings", "/settings", "settings", "token:read"),
)


def head(title: str) -> None:
    """The title of the window, our styles, and the script that writes times in the viewer's zone."""
    ui.page_title(f"{title} · edgefleet")
    ui.add_head_html(assets.style("console.css"))
    ui.add_body_html(assets.script("console.js"))


@contextmanager
def frame(visit: Visit, title: str, *, at: str, command: str = "") -> Iterator[None]:
    """A page's frame; the page is built inside.

    Args:
        visit: who looks.
        title: what the page shows, as its heading.
        at: the path of its entry in the menu.
        command: how to get the same on the command line.
    """
    head(title)
    ui.link("Skip to content", "#content").classes("ef-skip")
    palette = _palette(visit)
    # It opens by itself where there is room. Without a value, the library asks each browser, and waits, whether it has.
    with ui.left_drawer(value=False).classes("ef-side") as drawer:
        drawer.props('show-if-above breakpoint=900 width=208 role="navigation"')
        for place in PLACES:
            if place.permission in visit.permissions:
                with ui.link(target=place.path).classes("ef-place" + (" ef-here" if place.path == at else "")):
                    ui.icon(place.icon).props("aria-hidden=true")
                    ui.label(place.title)
    with ui.header().classes("ef-top"):
        ui.button(icon="menu", on_click=drawer.toggle).props('flat dense aria-label="Menu"').classes("ef-narrow")
        home = [one.path for one in PLACES if one.permission in visit.permissions]
        (ui.link("edgefleet", home[0]) if home else ui.label("edgefleet")).classes("ef-name")
        ui.space()
        ui.button("Search", icon="search", on_click=palette).props('flat dense no-caps aria-label="Search, or press /"')
        ui.button(icon="contrast").props('flat dense aria-label="Light or dark" data-theme-switch')
        who = ui.button(visit.name, icon="account_circle").props("flat dense no-caps").classes("ef-who")
        who.props["aria-label"] = visit.name
        with who, ui.menu():
            for words, act in (
                ("Change password", lambda: ui.navigate.to("/login/password")),
                ("Log out", lambda: _log_out(visit)),
            ):
                ui.menu_item(words, act).props("role=menuitem")
    with ui.element("div").classes("ef-main").props('id=content tabindex="-1"'):
        with ui.row().classes("ef-head"):
            ui.label(title).classes("ef-title").props('role="heading" aria-level="1"')
            ui.space()
            if command:
                parts.command(command)
        yield


def refused(said: Said) -> None:
    """Tell what the API refused, or that nobody is logged in any more."""
    if said.over:
        over()
    else:
        _notification(said.words, 12)


def _notification(words: str, timeout_s: float | None) -> ui.notification:
    return ui.notification(words, type="negative", timeout=timeout_s, close_button="Close", multi_line=True)


def over() -> None:
    """The session is over: nothing on this page is true any more."""
    with ui.dialog(value=True).props("persistent"), ui.card():
        ui.label("Your session is over").classes("ef-title")
        ui.label("What this page shows is as it was when it ended.")
        ui.button("Log in again", on_click=ui.navigate.reload).props("no-caps")


async def acting(work: Awaitable[object], done: str = "") -> bool:
    """Do what somebody asked for; whether it was done. What was refused is told."""
    try:
        await work
    except Said as said:
        refused(said)
        return False
    if done:
        ui.notify(done, type="positive")
    return True


async def asks(question: str, consequence: str, yes: str) -> bool:
    """Whether somebody wants it, now that they know what will happen; one question at a time."""
    client = ui.context.client
    if client in _asked:
        return False
    with ui.dialog() as dialog, ui.card():
        dialog.props["aria-label"] = question
        ui.label(question).classes("ef-title")
        ui.label(consequence)
        with ui.row():
            ui.button(yes, on_click=lambda: dialog.submit(True)).props("no-caps color=negative")  # noqa: FBT003
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")  # noqa: FBT003
    _asked.add(client)
    try:
        return bool(await dialog)
    finally:
        _asked.discard(client)


async def live(refresh: Callable[[], Awaitable[None]], every_s: float = LIVE_S) -> None:
    """Fill the page, now and every few seconds while somebody has it open; it stops when the session is over.

    What the API refuses stands there until it answers again: meanwhile the page shows the past.
    """
    client, notice = ui.context.client, _Notice()

    async def look() -> None:
        began = time.monotonic()
        try:
            await refresh()
        except Said as said:
            if said.over:
                timer.deactivate()
                over()
            else:
                notice.show(said.words)
        else:
            notice.show("")
        timer.interval = every(every_s, time.monotonic() - began)

    async def again() -> None:
        # One that was left is kept for a while, in case its browser comes back: nobody looks at it.
        if client.has_socket_connection:
            await look()

    timer = ui.timer(every_s, again, immediate=False)
    await look()


class _Notice:
    """One notification, however often the same is said."""

    def __init__(self) -> None:
        self._words = ""
        self._shown: ui.notification | None = None

    def show(self, words: str) -> None:
        if words == self._words:
            return
        if self._shown is not None:
            self._shown.dismiss()
        self._words, self._shown = words, None
        if words:
            self._shown = _notification(words, None)


def every(wished_s: float, took_s: float) -> float:
    """How often a page asks, by how long the last answers took: a server that is busy is asked less often."""
    return max(wished_s, min(_SHARE * took_s, _SELDOM_S))


def _palette(visit: Visit) -> Callable[[], object]:
    """Any page or thing by its name: Ctrl-K, or / where nothing is being typed."""
    with ui.dialog().props("position=top") as dialog, ui.card().classes("ef-palette"):
        asked = ui.input(placeholder="A page, device, module or rollout").props(
            "autofocus outlined dense clearable debounce=150"
        )
        asked.classes("ef-wide-field")
        found = ui.column().classes("ef-found")

    def wanted() -> str:
        return (asked.value or "").strip().lower()[:60]

    async def show() -> None:
        words = wanted()
        named = await _named(visit, words)
        if words == wanted():
            draw(words, named)

    def draw(words: str, named: list[str]) -> None:
        found.clear()
        with found:
            for title, path in _offered(visit, words, named):
                ui.link(title, path)

    async def first(event: events.GenericEventArguments) -> None:
        """As it stands there now: the last letters may still be on their way."""
        words = str(event.args).strip().lower()[:60]
        for _, path in _offered(visit, words, await _named(visit, words)):
            ui.navigate.to(path)
            return

    asked.on_value_change(show)
    dialog.on("hide", lambda: asked.set_value(""))
    asked.on("keydown.enter", first, js_handler="event => emit(event.target.value)")
    ui.keyboard(lambda key: _opens(key, dialog), ignore=["input", "textarea", "select"])
    draw("", [])
    return dialog.open


async def _named(visit: Visit, words: str) -> list[str]:
    """Devices with these letters in their name or labels."""
    if len(words) < _ENOUGH or "device:read" not in visit.permissions:
        return []
    try:
        return [str(one["id"]) for one in await visit.get("devices", search=words, limit=_FOUND)]
    except Said:
        return []  # the search itself is offered all the same


def _offered(visit: Visit, words: str, named: list[str]) -> Iterator[tuple[str, str]]:
    for place in PLACES:
        if place.permission in visit.permissions and words in place.title.lower():
            yield place.title, place.path
    for name in named:
        yield f"Device {name}", f"/devices/{quote(name)}"
    if words and "device:read" in visit.permissions:
        yield f"Devices with “{words}”", f"/devices?search={quote(words)}"
    if words.isdigit() and "rollout:read" in visit.permissions:
        yield f"Rollout {words[:12]}", f"/rollouts/{words[:12]}"


def _opens(key: object, dialog: ui.dialog) -> None:
    pressed = getattr(key, "action", None)
    name, held = getattr(key, "key", None), getattr(key, "modifiers", None)
    if pressed and pressed.keydown and (name == "/" or (name == "k" and held and (held.ctrl or held.meta))):
        dialog.open()


async def _log_out(visit: Visit) -> None:
    if await acting(visit.ask("DELETE", "session")):
        ui.navigate.to("/login")
