"""What a person can name and so must find in the docs, from the source (codes, topics, settings, commands, routes)."""

import ast
import re
from collections.abc import Iterator

import msgspec

from fleet.rollouts.phases import MEANINGS
from modules import manifest
from modules.errors import EdgefleetError
from modules.protocol.phases import Phase
from tests.house.tree import ROOMS, ROOT, nodes, sources, syntax

_METHODS = {"get", "post", "put", "patch", "delete"}
_HIDDEN = "include_in_schema"


def docs() -> str:
    """README and docs/ in one text."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    )


def error_codes() -> set[str]:
    def below(error):
        return {error.code, *(code for child in error.__subclasses__() for code in below(child))}

    return below(EdgefleetError) - {EdgefleetError.code}


def topics() -> set[str]:
    """Topics as docs write them: the levels that are fixed, below ``up`` or ``down``."""
    source = (ROOT / "modules/protocol/topics.py").read_text(encoding="utf-8")
    calls = re.findall(r"self\.(up|down)\(device((?:, (?:\"[a-z]+\"|\w+(?:\(\w+\))?))*)\)", source)
    levels = [(direction, re.findall(r'"([a-z]+)"', rest)) for direction, rest in calls]
    return {"/".join((direction, *fixed)) for direction, fixed in levels if fixed}


def settings() -> set[str]:
    """Environment variables, and the fields of every class called Settings."""
    names = set()
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"\bEDGEFLEET_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)", node.value))
            if isinstance(node, ast.ClassDef) and node.name == "Settings":
                names |= {
                    item.target.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign)
                    and isinstance(item.target, ast.Name)
                    and not item.target.id.startswith(("_", "model_config"))
                }
    return names


def commands() -> set[str]:
    """Names given to typer commands and groups, and to argparse sub-commands."""
    names = set()
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _calls(node.decorator_list, "command"):
                    names.add(_first(call) or node.name.replace("_", "-"))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "add_parser" and (name := _first(node)):
                    names.add(name)
                if node.func.attr == "add_typer":
                    names |= {
                        word.value.value
                        for word in node.keywords
                        if word.arg == "name" and isinstance(word.value, ast.Constant)
                    }
    return names


def routes() -> set[str]:
    """Paths of FastAPI and aiohttp routes, with the prefix of their file's router; hidden ones aside."""
    names = set()
    for path in sources():
        prefix = _prefix(syntax(path))
        for node in nodes(path):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for method in _METHODS:
                for call in _calls(node.decorator_list, method):
                    route = _first(call)
                    hidden = _HIDDEN in {word.arg for word in call.keywords}
                    if route is not None and (prefix + route).startswith("/") and not hidden:
                        names.add(prefix + route)
    return names


def phases() -> set[str]:
    """Phases that a device reports today, and those that the server adds."""
    return {str(phase) for phase in Phase} | ({"planned", "ordered", "superseded"} & {*MEANINGS})


def manifest_fields() -> set[str]:
    """Every field of every part of a manifest."""
    parts = [one for one in vars(manifest).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return {field.encode_name for part in parts for field in msgspec.structs.fields(part)}


def events() -> set[str]:
    """Kinds of events that the server records."""
    found = set()
    for path in sources("fleet"):
        for node in nodes(path):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) in {"events.record", "record"}
            if named and isinstance(node.args[2], ast.Constant):
                found.add(str(node.args[2].value))
    return found | {"forged-message", "bad-message"}  # chosen between in fleet/ingest.py


def imports() -> list[tuple[str, str]]:
    """What README and docs/ import of ours, in code that people are to write: the module, and a name in it."""
    found = re.findall(rf"^\s*from ((?:{'|'.join(ROOMS)})[.\w]*) import ([\w, ]+)$", docs(), re.MULTILINE)
    return [(module, name.strip()) for module, names in found for name in names.split(",")]


def links() -> Iterator[tuple[str, str]]:
    """Relative links in the pages at the root, in docs/ and in deploy/: the page, and the link without its anchor."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]):
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if ":" not in link:
                yield path.relative_to(ROOT).as_posix(), link


def _prefix(tree: ast.Module) -> str:
    """The prefix of the APIRouter that a file makes at its top."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for word in node.value.keywords:
                if word.arg == "prefix" and isinstance(word.value, ast.Constant):
                    return str(word.value.value)
    return ""


def _calls(decorators: list[ast.expr], name: str) -> Iterator[ast.Call]:
    for one in decorators:
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == name:
            yield one


def _first(call: ast.Call) -> str | None:
    if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
        return call.args[0].value
    return None
