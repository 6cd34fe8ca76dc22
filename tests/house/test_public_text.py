"""What is tracked names no registry's host and no path of somebody's machine."""

import re
import subprocess

import pytest

from tests.house.tree import ROOT
from tests.parts.pace import stretched

# Written apart so that this file does not hold what it looks for.
HOSTS = ["pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "deb.debian" + ".org"]
PLACES = [r"(?<![\w.])/wo" + r"rk/", r"(?<![\w.])/ro" + r"ot/", r"(?<![\w.])/ho" + r"me/\w+/", "/opt/py" + "pi"]
BANNED = re.compile("|".join([*map(re.escape, HOSTS), *PLACES]))


@pytest.mark.needs("git")
def test_no_registry_and_no_machine_path():
    """No tracked text names a package registry's host or a path that exists on one machine only."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=stretched(30), check=True
    )
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {hit[0]}" for hit in BANNED.finditer(text)]

    assert not found
