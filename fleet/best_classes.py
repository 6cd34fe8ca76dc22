"""Of what a module answered, how much it says of each class: the largest, by name. Pure; all of it is a stranger's.

The console and the command line show the same of an answer, and so read it here.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from modules.bounds import MAX_REAL
from modules.canonical import UNREADABLE

#: So many of a row are told.
TOP: Final = 5
# Of outputs of one answer.
_OUTPUTS: Final = 20
_FEWEST, _MOST = 3, 10_000
_NAME: Final = 100


class Best(NamedTuple):
    """A class, by its name or its number, and its value; ``share`` is where that lies in its row, from 0 to 1."""

    name: str
    value: float
    share: float


class Ranked(NamedTuple):
    """The largest values of one output, of so many."""

    output: str
    best: list[Best]
    of: int


def numbers(value: Any) -> bool:
    """Whether it is a row of numbers: what is none, or has no end, is a matter of words."""
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and -MAX_REAL <= one <= MAX_REAL


def scores(value: Any) -> list[float] | None:
    """The one row of an output that looks like a value for each class."""
    row = value[0] if isinstance(value, list) and len(value) == 1 else value
    return row if numbers(row) and _FEWEST <= len(row) <= _MOST else None


def ranked(output: str, row: Sequence[float], labels: Sequence[str]) -> Ranked:
    """The largest of a row; ``labels`` count where there is one for each value."""
    known, low, high = len(labels) == len(row), min(row), max(row)
    best = sorted(range(len(row)), key=lambda at: -row[at])[:TOP]
    return Ranked(
        output,
        [
            Best(labels[at][:_NAME] if known else f"class {at}", row[at], (row[at] - low) / ((high - low) or 1))
            for at in best
        ],
        len(row),
    )


def rows_of(content_type: str, body: bytes) -> list[tuple[str, list[float]]]:
    """The outputs of an answer that have one; none where it is no JSON."""
    if "json" not in content_type.lower():
        return []
    try:
        found = json.loads(body)
    except (*UNREADABLE, ValueError):
        return []
    named = found.items() if isinstance(found, dict) else [("", found)]
    rows = ((str(name)[:_NAME], scores(value)) for name, value in list(named)[:_OUTPUTS])
    return [(name, row) for name, row in rows if row is not None]
