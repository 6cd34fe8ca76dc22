"""What people install: the wheel and its licence."""

import re
import subprocess
import sys
import zipfile

import pytest

from tests.house.tree import ROOMS, ROOT, sources
from tests.parts.pace import stretched


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=stretched(100), check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_four_rooms(wheel):
    """The wheel installs our four packages, all of their source, and no tests."""
    names = set(wheel.namelist())
    heads = {name.split("/")[0] for name in names if "-" not in name.split("/")[0]}

    assert heads == {path.split("/")[0] for path in sources()} <= set(ROOMS)
    assert {path for path in sources() if path not in names} == set()


def test_wheel_carries_licence_and_locks(wheel):
    """The wheel has the licence, and the locks and service files under share/edgefleet/deploy."""
    names = wheel.namelist()

    assert any(name.endswith("licenses/LICENSE") for name in names)
    for lock in ("agent", "client", "fleet", "scoring"):
        assert any(name.endswith(f"share/edgefleet/deploy/locks/{lock}.txt") for name in names)


def test_programs_exist(wheel):
    """Every console script names a function that is in the wheel."""
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    programs = re.findall(r"^([\w-]+) = ([\w.]+):(\w+)$", wheel.read(entry_points).decode(), re.MULTILINE)
    names = wheel.namelist()

    assert {name for name, _, _ in programs} == {"edgefleet", "edgefleet-agent", "edgefleet-gateway", "edgefleet-fleet"}
    for name, module, function in programs:
        path = module.replace(".", "/") + ".py"
        if path in names:
            assert re.search(rf"^def {function}\(|import.* {function}\b", wheel.read(path).decode(), re.MULTILINE), name
