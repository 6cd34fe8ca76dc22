"""Small things that pages are made of. Words are values, never HTML."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from nicegui import ui

from modules.words import printable

# Where the console is. Links and navigation name what is below it: the library puts this before them.
ROOT: Final = "/console"
# States, by how they are shown: colour is never all that says it.
LOOKS: Final = {
    "good": ("online", "up", "committed", "done", "running", "ready", "ok", "succeeded"),
    "warn": (
        *("degraded", "paused", "scheduled", "waiting", "reverting", "probation", "restarting"),
        "partial",
    ),
    "bad": ("offline", "failed", "reverted", "refused", "revoked", "down", "stuck"),
}
_STEP: Final = 1024
DAY_S: Final = 86_400
HOUR_S: Final = 3600
# Rows of a table that are shown at once.
_PAGE: Final = 50
# Words of devices are shown so far.
WORDS: Final = 500


def look(state: str) -> str:
    return next((name for name, states in LOOKS.items() if state in states), "calm")


def state(word: str) -> ui.label:
    """A state as a word with its colour."""
    return ui.label(word[:WORDS]).classes(f"ef-state ef-{look(word)}")


def moment(unix: float | None, absent: str = "never") -> ui.element:
    """A time as the browser's zone has it, with how long ago; Unix seconds."""
    if unix is None:
        return ui.label(absent)
    return ui.element("time").props(f"data-ts={float(unix)}")


def when(words: str, unix: float | None, absent: str = "never") -> ui.element:
    """What happened or will, and when; both stay on one line."""
    with ui.element("div").classes("ef-moment") as pair:
        ui.label(words).classes("ef-soft")
        moment(unix, absent)
    return pair


@contextmanager
def panel(title: str, *, wide: bool = False) -> Iterator[ui.column]:
    """A part of a page with a heading of its own."""
    with ui.element("section").classes("ef-panel" + (" ef-wide" if wide else "")):
        ui.label(title).classes("ef-panel-title").props('role="heading" aria-level="2"')
        with ui.column().classes("ef-panel-body") as body:
            yield body


def figure(value: str, name: str, *, kind: str = "calm", to: str = "") -> None:
    """One number, large, with what it counts."""
    with (ui.link(target=to) if to else ui.element("div")).classes(f"ef-figure ef-{kind}"):
        ui.label(value).classes("ef-figure-value")
        ui.label(name).classes("ef-figure-name")


def bar(parts: Sequence[tuple[str, int, str]]) -> None:
    """Shares of a whole as one bar: name, number and look of each; the names stand beside it."""
    whole = sum(count for _, count, _ in parts) or 1
    said = ", ".join(f"{count} {name}" for name, count, _ in parts if count)
    with ui.element("div").classes("ef-bar").props("role=img") as whole_bar:
        whole_bar.props["aria-label"] = said
        for _, count, kind in parts:
            if count:
                ui.element("div").classes(f"ef-share ef-{kind}").style(f"width:{100 * count / whole:.3f}%")
    with ui.row().classes("ef-legend"):
        for name, count, kind in parts:
            if count:
                ui.label(f"{number(count)} {name}").classes(f"ef-key ef-{kind}")


def number(count: int) -> str:
    """A count that is read at once, however many digits it has."""
    return f"{count:,}".replace(",", "\u2009")


def quoted(word: str) -> str:
    """Somebody's word in a command that is copied: a shell takes it as one word, a terminal as letters."""
    return shlex.quote(printable(word))


def command(words: str) -> None:
    """The same on the command line, to be copied; what others may have written in it is :func:`quoted`."""
    with ui.row().classes("ef-command"):
        ui.label(words).classes("ef-mono")
        button = ui.button(icon="content_copy").props("flat dense size=sm aria-label='Copy as command'")
        button.props["data-copy"] = words


class Column(NamedTuple):
    """Of a table: the field of its rows, its heading, and how it is shown.

    *text* as it is, *words* too, which may break anywhere, *time* in the viewer's zone (Unix seconds, None: never),
    *state* with its colour (the row's ``FIELD_look``), *link* to the row's ``FIELD_to``, a path of the console.
    """

    field: str
    heading: str
    shown: Literal["text", "words", "time", "state", "link"] = "text"


# What the browser fills in: how is in static/rows.js, and values are never part of it.
_FILLED: Final = ("time", "state", "link")
_SCRIPT: Final = Path(__file__).parent / "static" / "rows.js"


class Table(ui.table, component=_SCRIPT):
    """Which page of its rows is shown is the browser's alone: told of it, the server would send the table again."""

    def on(self, *given: Any, **more: Any) -> Self:
        return self if "update:pagination" in given else super().on(*given, **more)


def table(columns: Sequence[Column], key: str, *, empty: str = "Nothing here yet") -> Table:
    """An empty table, to be filled with :func:`fill`; ``empty`` is what it says until then."""
    described = [
        {"name": one.field, "field": one.field, "label": one.heading, "align": "left", "sortable": True}
        | ({"classes": "ef-free"} if one.shown == "words" else {})
        | ({"shown": one.shown} if one.shown in _FILLED else {})
        for one in columns
    ]
    made = Table(columns=described, rows=[], row_key=key, pagination=_PAGE).classes("ef-table").props("flat dense")
    made.props["no-data-label"], made.props["root"] = empty, ROOT
    return made


def choosing(made: ui.table, kind: Literal["single", "multiple"]) -> ui.table:
    """The same table, whose rows can be chosen."""
    made.selection = kind
    box = '<q-checkbox v-model="props.selected" dense aria-label="Choose" />'
    made.add_slot("body-selection", box)
    made.add_slot("header-selection", box.replace("Choose", "Choose all"))
    return made


def fill(made: ui.table, rows: Sequence[dict[str, Any]]) -> None:
    """Other rows, where they are others; what turns pages is there where there are several."""
    if made.rows != list(rows):
        made.props["hide-pagination"] = len(rows) <= _PAGE
        made.rows = list(rows)


def fields(rows: list[tuple[str, Any]]) -> None:
    """Names with their values; a time is Unix seconds as a float."""
    with ui.element("dl").classes("ef-facts"):
        for name, value in rows:
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                if isinstance(value, float):
                    moment(value)
                else:
                    ui.label(str(value)[:WORDS])


def size(length: float) -> str:
    """So many bytes, for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if length < _STEP:
            return f"{length:.0f} {unit}" if unit == "bytes" else f"{length:.1f} {unit}"
        length /= _STEP
    return f"{length:.1f} TiB"


def lasting(seconds: float) -> str:
    """So many seconds, for people."""
    if seconds >= DAY_S:
        return f"{seconds / DAY_S:g} days"
    return f"{seconds / HOUR_S:g} hours" if seconds >= HOUR_S else f"{seconds:g} s"


def nothing(words: str, command: str = "") -> None:
    """Why a list is empty, and how to fill it."""
    with ui.column().classes("ef-nothing"):
        ui.label(words)
        if command:
            ui.label(command).classes("ef-mono")
