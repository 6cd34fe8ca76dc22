"""What an extra brings along, and a Python that has nothing else: worked out from the installed packages' metadata."""

import importlib.metadata
import subprocess
import sys
import tomllib
from functools import cache

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOMS, ROOT
from tests.parts.pace import stretched

# Runs in a fresh interpreter: names that belong to other extras are as if they were not installed.
_GATE = """
import importlib, sys

class Gate:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path[:] = map(Gate, sys.meta_path)
for entry in sys.argv[2:]:
    importlib.import_module(entry)
print("\\n".join(sys.modules))
"""


@cache
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def extras():
    return tuple(project()["optional-dependencies"])


@cache
def closure(extra: str) -> frozenset[str]:
    """Canonical names of all distributions that ``edgefleet[extra]`` installs on this interpreter."""
    wanted = [*project()["dependencies"], *project()["optional-dependencies"][extra]]
    todo = [(Requirement(text), frozenset[str]()) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, context = todo.pop()
        if not _applies(requirement, context):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            below = importlib.metadata.requires(requirement.name) or []
            todo += [(Requirement(text), key[1]) for text in below]
    return frozenset(name for name, _ in seen)


def _applies(requirement: Requirement, context: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (context or {""}))


@cache
def foreign(extra: str) -> tuple[str, ...]:
    """Top-level import names that are installed here and would not be with this extra alone."""
    own = closure(extra)
    return tuple(
        sorted(
            name
            for name, distributions in importlib.metadata.packages_distributions().items()
            if not {canonicalize_name(one) for one in distributions} & own and name not in {*ROOMS, "deploy", "tests"}
        )
    )


def imported_with_only(extra: str, *entries: str) -> set[str]:
    """Names of all modules that are loaded after importing ``entries`` where only this extra is installed.

    Raises:
        AssertionError: an entry imports what another extra brings; carries the traceback.
    """
    command = [sys.executable, "-c", _GATE, ",".join(foreign(extra)), *entries]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
