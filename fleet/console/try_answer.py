"""What a module answered, on the page: who gave it; the answer as tables, bars, a picture or words, never as HTML."""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from nicegui import ui

from fleet import best_classes
from fleet.console import parts
from fleet.console.straight import straight
from modules.canonical import UNREADABLE

_TEXT: Final = 20_000
_ROWS: Final = 20
_COLUMNS: Final = 12
PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_GOOD, _REFUSED, _FAULT = 200, 400, 500


def draw(outcome: dict[str, Any], expected: str, labels: Sequence[str]) -> None:
    """What came of a try; ``expected`` is the module that was to answer, ``labels`` the names of its classes."""
    answer = outcome["answer"]
    if answer is None:
        reason = outcome["reason"]
        ui.label("No answer").classes("ef-state ef-bad ef-large")
        ui.label((reason["message"] if reason else f"the command is {outcome['state']}")[: parts.WORDS])
        return
    status = answer["status"]
    look = "good" if status < _REFUSED else "warn" if status < _FAULT else "bad"
    with ui.element("div").classes("ef-line"):
        ui.label(_said(status)).classes(f"ef-state ef-large ef-{look}")
        ui.label(f"in {answer['ms']:.1f} ms").classes("ef-lead")
    with ui.element("dl").classes("ef-facts"):
        for name, value in _who(answer):
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                ui.label(value[: parts.WORDS])
    if answer["module"] and expected and answer["module"] != expected:
        ui.label(f"Another module answered, and not {expected}.").classes("ef-reason")
    _body(answer, labels)


def bytes_of(answer: dict[str, Any]) -> bytes:
    """The body of an answer."""
    return base64.b64decode(answer["body"])


def _said(status: int) -> str:
    if status < _REFUSED:
        return "Answered" if status == _GOOD else f"Answered {status}"
    return f"Refused: {status}" if status < _FAULT else f"Failed: {status}"


def _who(answer: dict[str, Any]) -> list[tuple[str, str]]:
    by = {"local": "the module itself", "previous": "the module before it", "fallback": "the fallback in the cloud"}
    said = [
        ("Who answered", by.get(answer["served_by"], answer["served_by"])),
        ("Module", answer["module"]),
        ("Version", answer["version"]),
        ("Provider", answer["provider"]),
        ("Request id", answer["request_id"]),
        ("Type", answer["content_type"]),
    ]
    return [(name, value) for name, value in said if value]


def _body(answer: dict[str, Any], labels: Sequence[str]) -> None:
    data = bytes_of(answer)
    kind = answer["content_type"].partition(";")[0].strip().lower()
    if kind in PICTURES:
        # An <img> shows pixels and runs nothing; the browser is told that it is a picture and nothing else.
        picture = ui.element("img").classes("ef-picture").props('alt="The picture that the module answered with"')
        picture.props["src"] = f"data:{kind};base64,{answer['body']}"
        return
    try:
        text = straight(data).decode()
    except UnicodeDecodeError:
        ui.label(f"{len(data)} bytes of {kind or 'no type'}")
        ui.button("Save", icon="download", on_click=lambda: ui.download.content(data, "answer.bin")).props("no-caps")
        return
    if answer["status"] == _GOOD and "json" in kind:
        _document(text, labels)
    else:
        _words(text)


def _document(text: str, labels: Sequence[str]) -> None:
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # half a pair of UTF-16 is no letter, and comes to no browser
    except (*UNREADABLE, ValueError):
        _words(text)
        return
    named = found.items() if isinstance(found, dict) else [("", found)]
    for name, value in list(named)[:_ROWS]:
        _tensor(str(name)[:100], value, labels)
    with ui.expansion("As JSON").classes("ef-whole"):
        _words(json.dumps(found, indent=1))


def _words(text: str) -> None:
    ui.label(text[:_TEXT]).classes("ef-mono ef-log").props('tabindex=0 role=region aria-label="The answer"')
    if len(text) > _TEXT:
        ui.label(f"and {len(text) - _TEXT} characters more").classes("ef-soft")


def _tensor(name: str, value: Any, labels: Sequence[str]) -> None:
    """One output: a table of its rows, the largest where it is a row of many, or as it is."""
    if name:
        ui.label(name).classes("ef-strong")
    if (row := best_classes.scores(value)) is not None:
        _top(best_classes.ranked(name, row, labels))
        return
    rows = value if isinstance(value, list) and value and all(map(best_classes.numbers, value)) else None
    if best_classes.numbers(value):
        rows = [value]
    if rows is None:
        _words(json.dumps(value) if isinstance(value, dict | list) else str(value))
        return
    width = min(max(len(row) for row in rows), _COLUMNS)
    columns = [parts.Column(f"c{at}", str(at)) for at in range(width)]
    made = parts.table(columns, "row")
    cells = [{f"c{at}": f"{one:g}" for at, one in enumerate(row[:width])} for row in rows[:_ROWS]]
    parts.fill(made, [{"row": at} | row for at, row in enumerate(cells)])
    ui.label(f"{len(rows)} x {max(len(row) for row in rows)} values").classes("ef-soft")


def _top(found: best_classes.Ranked) -> None:
    """The largest values of a row, by the name or the number of their class."""
    for one in found.best:
        with ui.element("div").classes("ef-share-row"):
            ui.label(one.name).classes("ef-strong")
            ui.label(f"{one.value:g}")
            with ui.element("div").classes("ef-bar ef-thin").props("aria-hidden=true"):
                ui.element("div").classes("ef-share ef-calm").style(f"width:{round(100 * one.share)}%")
    ui.label(f"the largest of {found.of} values").classes("ef-soft")
