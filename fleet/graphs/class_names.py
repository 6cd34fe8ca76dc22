"""The names of what a model tells apart, as people leave them: a file of lines or JSON, or a graph's metadata.

All of it is a stranger's: read within bounds, and what cannot be read is no error, for numbers do without names.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from modules.canonical import UNREADABLE
from modules.class_files import LIMIT, NAMES
from modules.manifest import File
from modules.words import printable

MOST: Final = 10_000
LONGEST: Final = 100
#: Keys of a graph's metadata, the first that names something.
KEYS: Final = ("names", "classes", "class_names", "labels", "id2label")
# What Python writes of a dictionary: read by hand, for nothing of a model is evaluated.
_ENTRY: Final = re.compile(r"(\d{1,6})\s*:\s*(?:'([^'\\]*)'|\"([^\"\\]*)\")")


def file_of(files: tuple[File, ...]) -> File | None:
    """Which file of a module may have the names; None: none has a name for that."""
    named = {one.path.rpartition("/")[2].lower(): one for one in reversed(files) if one.length <= LIMIT}
    return next((named[one] for one in NAMES if one in named), None)


def of_file(path: str, data: bytes) -> list[str]:
    """The names in a file."""
    text = data[:LIMIT].decode("utf-8", "replace")
    if not path.lower().endswith(".json"):
        return _bounded(text.splitlines())
    found = _json(text)
    if path.rpartition("/")[2].lower() == "config.json":
        found = found.get("id2label") if isinstance(found, dict) else None
    return _listed(found)


def of_metadata(text: str) -> list[str]:
    """The names in an entry of a graph's metadata: JSON, what Python prints, or with commas or lines between."""
    found = _json(text)
    if isinstance(found, dict | list):
        return _listed(found)
    if text.lstrip().startswith("{"):
        return _listed({number: one or other for number, one, other in _ENTRY.findall(text)})
    lines = text.splitlines() if "\n" in text.strip() else text.split(",")
    return _bounded(lines) if len(lines) > 1 else []


def read(path: Path, name: str) -> list[str]:
    """The names in a module's file that lies there."""
    with path.open("rb") as stream:
        return of_file(name, stream.read(LIMIT))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (*UNREADABLE, ValueError):
        return None


def _listed(found: Any) -> list[str]:
    """Of a list its words, of a dictionary by number the words in order; with a number left out it says nothing."""
    if isinstance(found, dict):
        by_number = {int(key): value for key, value in found.items() if str(key).isdecimal() and len(str(key)) < 7}  # noqa: PLR2004 - more are not read
        if len(by_number) != len(found) or set(by_number) != set(range(len(found))):
            return []
        found = [by_number[at] for at in range(len(by_number))]
    if not isinstance(found, list) or not all(isinstance(one, str | int | float) for one in found):
        return []
    return _bounded([str(one) for one in found])


def _bounded(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return [printable(one.strip()[:LONGEST], LONGEST) for one in lines] if len(lines) <= MOST else []
