"""The locks install what they pin with pip 23.2.1, which Python 3.11 brings along, whatever has been released since."""

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOT

LOCKS = ["constraints.txt", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("deploy/locks/*.txt"))]
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[([a-z0-9,_-]+)\])?==(\S+)", re.MULTILINE)


def pins(lock):
    """Names, extras and versions."""
    return [
        (name, set(extras.split(",")) - {""}, version)
        for name, extras, version in PIN.findall((ROOT / lock).read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_extras_that_are_asked_for_are_pinned(lock):
    """A package that another one asks for with an extra is pinned with it, as pip before 24 needs it."""
    locked = {}
    for name, extras, _ in pins(lock):
        locked.setdefault(name, set()).update(extras)
    missing = []
    for distribution in importlib.metadata.distributions():
        asking = canonicalize_name(distribution.name)
        if asking not in locked:
            continue
        for wanted in map(Requirement, distribution.requires or []):
            taken = any(
                wanted.marker is None or wanted.marker.evaluate({"extra": one}) for one in ["", *locked[asking]]
            )
            if taken and not wanted.extras <= locked.get(canonicalize_name(wanted.name), set()):
                missing.append(f"{asking} asks for {wanted}")
    assert missing == []
