"""ARCHITECTURE.md is true: what it names is there, what it announces is not, and it can be read on a terminal."""

import re
from typing import Final

import pytest

from tests.house.tree import ROOT

PAGE: Final = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PRESENT, COMING = PAGE.split("## Where the next rooms go")
FILES: Final = [
    f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
    for place in ROOT.iterdir()
    if not place.name.startswith(".")
    for path in [place, *place.rglob("*")]
]


def paths(text):
    """Names in code that are files or folders, by a slash or by how they end; an HTTP path begins with a slash."""
    named = (name for name in re.findall(r"`([^`\s]+)`", text) if not name.startswith("/"))
    return sorted({name for name in named if "/" in name or name.endswith((".py", ".md", ".toml"))})


def is_there(name):
    return any(file.endswith((f"/{name}", f"/{name}/")) for file in FILES)


@pytest.mark.parametrize("name", paths(PRESENT))
def test_what_it_names_is_there(name):
    """Every file and folder that the walk names stands in the repository."""
    assert is_there(name)


def test_every_room_has_its_line():
    """The house's plan has each folder with code, and no other."""
    plan = re.search(r"## The house\n\n(.*?)\n\n", PAGE, re.DOTALL)[1]

    folders = (place for place in ROOT.iterdir() if place.is_dir() and not place.name.startswith("."))
    rooms = {place.name for place in folders if any(place.rglob("*.py"))}
    assert set(re.findall(r"^ {4}(\w+)/", plan, re.MULTILINE)) == rooms


def test_what_is_to_come_has_not_come():
    """A room that was built since is no longer announced."""
    announced = {"agent/triggers/"}

    assert announced <= set(paths(COMING))
    assert [name for name in announced if is_there(name)] == []
    assert [name for name in paths(COMING) if name not in announced and not is_there(name)] == []


def test_it_can_be_read_on_a_terminal():
    """No line is longer than the code's."""
    assert [line for line in PAGE.splitlines() if len(line) > 120] == []
