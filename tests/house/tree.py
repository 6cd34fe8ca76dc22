"""The repository as the house rules see it: its source files by room, and what each imports."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ROOMS = ("modules", "hardware", "agent", "fleet")
# Users' code that an example packs: it runs in the container, beside nothing of ours.
_EXAMPLE_SOURCE = "/source/"


class Import(NamedTuple):
    """One import as it is written: the module it names, its line, and whether it stands at the top of its file."""

    name: str
    line: int
    level: int
    at_top: bool


@cache
def sources(*rooms: str) -> tuple[str, ...]:
    """Paths of Python files below these folders, relative to the root, examples' own scripts aside."""
    found = (path.relative_to(ROOT).as_posix() for room in rooms or ROOMS for path in (ROOT / room).rglob("*.py"))
    return tuple(
        sorted(path for path in found if not (path.startswith("modules/examples/") and _EXAMPLE_SOURCE in path))
    )


@cache
def syntax(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


@cache
def nodes(path: str) -> tuple[ast.AST, ...]:
    """All of a file's syntax, in the order of ``ast.walk``."""
    return tuple(ast.walk(syntax(path)))


@cache
def imports(path: str) -> tuple[Import, ...]:
    """Every import of a file, wherever it stands; ``from a import b`` counts as ``a.b``."""
    return tuple(_imports(syntax(path), at_top=True))


def _imports(node: ast.AST, *, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, 0, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            head = child.module or ""
            yield from (
                Import(f"{head}.{alias.name}" if head else alias.name, child.lineno, child.level, at_top)
                for alias in child.names
            )
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef)
            yield from _imports(child, at_top=at_top and not inside)
