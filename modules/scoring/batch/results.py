"""What a run leaves: ``answers.jsonl``, a line for each input that was answered, and ``set-aside.jsonl`` for the rest.

Both are in the order of the inputs and come into being whole, by a rename.
"""

import base64
import os
from collections.abc import Iterable, Mapping
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import Invalid
from modules.scoring.batch.items import Item, Items
from modules.scoring.batch.ledger import Ledger, full

ANSWERS: Final = "answers.jsonl"
ASIDE: Final = "set-aside.jsonl"


def record(item: Item, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The line of an answer: JSON stays what it is, text is text, and anything else is in base64."""
    kind = headers.get("content-type", "")
    shown = _named(item)
    if kind.startswith("application/json") and (document := _json(body)) is not None:
        return msgspec.json.encode(shown | {"answer": msgspec.Raw(document)})
    shown["content_type"] = kind
    # Who asks for bytes gets their shape in headers.
    shown |= {name.removeprefix("x-"): one for name, one in headers.items() if name.startswith("x-tensor-")}
    if kind.startswith(("text/", "application/json")):
        return msgspec.json.encode(shown | {"text": body.decode("utf-8", "replace")})
    return msgspec.json.encode(shown | {"base64": base64.b64encode(body).decode()})


def check_fresh(outputs: Path) -> None:
    """No other run has left its answers there.

    Raises:
        Invalid: one has.
    """
    for name in (ANSWERS, ASIDE):
        if (outputs / name).exists():
            raise Invalid(
                "the answers of another run are there", element=str(outputs / name), remedy="name another folder"
            )


def write(outputs: Path, items: Items, *ledgers: Ledger) -> None:
    """Both files, as far as the run has come, of all that share it.

    Raises:
        NoSpace: the disk takes no more.
    """
    answers = merge(*(one.answers() for one in ledgers), key=itemgetter(0))
    _write(outputs / ANSWERS, (line for _, line in answers))
    write_aside(outputs, items, *ledgers)


def write_aside(outputs: Path, items: Items, *ledgers: Ledger) -> None:
    """The inputs that are set aside, each with its reason; no file where there is none."""
    aside = merge(*(one.aside() for one in ledgers), key=itemgetter(0))
    lines = (msgspec.json.encode(_named(items[n]) | msgspec.to_builtins(why)) for n, why in aside)
    first = next(lines, None)
    if first is None:
        (outputs / ASIDE).unlink(missing_ok=True)
    else:
        _write(outputs / ASIDE, _from(first, lines))


def _from(first: bytes, others: Iterable[bytes]) -> Iterable[bytes]:
    yield first
    yield from others


def _named(item: Item) -> dict[str, Any]:
    return {"input": item.name} | ({"line": item.line} if item.line else {})


def _json(body: bytes) -> bytes | None:
    """The document in one line; None where it is none."""
    try:
        msgspec.json.decode(body)
        return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
    except UNREADABLE:
        return None


def _write(path: Path, lines: Iterable[bytes]) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            for line in lines:
                file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise full(error, path.parent) from error
