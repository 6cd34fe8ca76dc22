"""Files have one idea each, named after it, and end before a reader tires."""

from pathlib import PurePosixPath

import pytest

from tests.house.tree import ROOMS, ROOT, sources

CAPS = {**dict.fromkeys((*ROOMS, "deploy"), 400), "tests": 600}
DUMPS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


@pytest.mark.parametrize(("room", "cap"), CAPS.items())
def test_files_stay_below_the_cap(room, cap):
    """No file is longer than its cap: 400 lines of source, 600 of tests."""
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources(room)}

    assert {path: length for path, length in lengths.items() if length > cap} == {}


@pytest.mark.parametrize("room", CAPS)
def test_names_say_what_is_inside(room):
    """No file or folder has a name that could hold anything."""
    assert [
        path for path in sources(room) if DUMPS & {part.lower() for part in PurePosixPath(path).with_suffix("").parts}
    ] == []


def test_tests_are_packages_where_they_share_and_nowhere_else():
    """What a folder shares ends after its last test; without an __init__.py, pytest would keep it to the very end."""
    sharing = [path for path in sources("tests") if path.endswith("conftest.py")]
    sharing = [path for path in sharing if 'fixture(scope="package")' in (ROOT / path).read_text(encoding="utf-8")]

    assert {PurePosixPath(path).parent for path in sharing} == {
        PurePosixPath(path).parent for path in sources("tests") if path.endswith("__init__.py")
    }
