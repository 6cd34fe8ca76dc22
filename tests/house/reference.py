"""The parts of docs/ that are made from the code: ``python -m tests.house.reference`` writes them anew.

Each stands between two comments, ``<!-- made: NAME -->`` and ``<!-- end -->``; what is around them is written by hand.
"""

import argparse
import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, Final

import typer

import fleet.api
from agent.command_line import parser as agent_parser
from agent.gateway.__main__ import _parser as gateway_parser
from fleet.__main__ import _parser as fleet_parser
from fleet.client.cli import NOUNS
from fleet.client.fleet_views import VIEWS
from fleet.export.columns import TABLES
from tests.house import messages
from tests.house.tree import ROOT, syntax

_PART: Final = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FAMILY: Final = re.compile(r'(\w*)\(\s*"(edgefleet_\w+)",\s*"([^"]+)"')
_GENERAL: Final = frozenset({"--help", "--version", "--install-completion", "--show-completion"})


def settings(path: str) -> str:
    """The fields of the class Settings in a file: name, default, and the comment above it."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    (found,) = (one for one in syntax(path).body if isinstance(one, ast.ClassDef) and one.name == "Settings")
    shown = []
    for field in found.body:
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and field.target.id != "model_config"
        ):
            default = ast.unparse(field.value) if field.value else "required"
            above = lines[field.lineno - 2].strip()
            text = above.removeprefix("#:").strip() if above.startswith("#:") else ""
            shown.append(f"- `{field.target.id}` ({_value(default)}){': ' if text else ''}{text}")
    return "\n".join(shown)


def _value(default: str) -> str:
    if default.startswith("('"):
        return ", ".join(ast.literal_eval(default))
    shift = re.fullmatch(r"(\d+) << (\d+)", default)
    if shift:
        size = int(shift[1]) << int(shift[2])
        unit = next(name for name, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)) if size >= 1 << bits)
        return f"{size >> {'GiB': 30, 'MiB': 20, 'KiB': 10}[unit]} {unit}"
    return {
        "''": "not set",
        "SecretStr('')": "not set",
        "None": "not set",
        "()": "none",
        "30 * DAY_S": "30 days",
        "90 * DAY_S": "90 days",
        "365 * DAY_S": "a year",
        "730 * DAY_S": "two years",
    }.get(default, default.strip("'").replace("PREFIX", "edgefleet/v1").replace("Path('", "").removesuffix("')"))


def operator_commands() -> str:
    """``edgefleet``, by noun."""
    parts = []
    for noun in NOUNS:
        command = typer.main.get_command(importlib.import_module(f"fleet.client.commands.{noun.replace('-', '_')}").app)
        for words, one in _leaves(command, ("edgefleet", noun)):
            parts.append(_command(words, one.help or "", [_click(option) for option in one.params]))
    return "\n\n".join(parts)


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
    else:
        for name, child in children.items():
            yield from _leaves(child, (*words, name))


def _click(option: Any) -> tuple[str, str]:
    if option.param_type_name == "argument":
        return option.name.upper(), option.help or ""
    plain = option.required or option.is_flag or option.default in (None, "", ())
    return ", ".join(option.opts), (option.help or "") + ("" if plain else f" Default: `{option.default}`.")


def program(parser: argparse.ArgumentParser) -> str:
    """A program whose command line argparse reads, with its commands."""
    return "\n\n".join(_programs(parser, (parser.prog,), parser.description or ""))


def _programs(parser: argparse.ArgumentParser, words: tuple[str, ...], text: str) -> Iterator[str]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    options = [_argument(one) for one in parser._actions if one not in groups and one.help != argparse.SUPPRESS]
    if not groups or len(words) == 1:
        yield _command(words, text, options)
    for group in groups:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, child in group.choices.items():
            yield from _programs(child, (*words, name), helps.get(name, ""))


def _argument(action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings) or action.dest.upper()
    text = (action.help or "").replace("%(default)s", f"default `{action.default}`")
    choices = f"one of {', '.join(action.choices)}" if action.choices else ""
    return name, "; ".join(part for part in (text, choices) if part)


def _command(words: tuple[str, ...], text: str, options: list[tuple[str, str]]) -> str:
    lines = [f"### {' '.join(words)}", "", _sentence(text)]
    shown = [f"- `{name}`: {text}" if text else f"- `{name}`" for name, text in options if not _is_general(name)]
    return "\n".join([*lines, "", *shown] if shown else lines)


def _is_general(name: str) -> bool:
    return bool(set(name.split(", ")) & _GENERAL)


def _sentence(text: str) -> str:
    text = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def routes() -> str:
    """The fleet server's routes, with the permission that each asks for."""
    lines = []
    for room in pkgutil.iter_modules(fleet.api.__path__, "fleet.api."):
        router = getattr(importlib.import_module(room.name), "router", None)
        for route in router.routes if router else ():
            asked = [
                getattr(one.dependency, "permission", None) or one.dependency.__name__ for one in route.dependencies
            ]
            for method in sorted(route.methods):
                what = route.endpoint.__name__.replace("_", " ")
                lines.append(f"- `{method} {route.path}` ({', '.join(asked)}): {what}")
    return "\n".join(lines)


def export() -> str:
    """The tables and views of the file that ``edgefleet export`` writes."""
    parts = []
    for table in sorted(TABLES, key=lambda one: one.name):
        lines = [f"### {table.name}", "", f"{table.about} Key: {_listed(table.key)}.", ""]
        for column in table.columns:
            leads = f", a row of `{column.references}`" if column.references else ""
            lines.append(f"- `{column.name}` ({column.type}{leads}): {column.about}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def export_views() -> str:
    return "\n".join(f"- `{view.name}`: {view.about}" for view in VIEWS)


def metrics() -> str:
    """What the fleet server tells Prometheus, from where each is named."""
    found = {}
    for path in ("fleet/meters.py", "fleet/figures.py", "fleet/api/metrics.py"):
        for kind, name, about in _FAMILY.findall((ROOT / path).read_text(encoding="utf-8")):
            end = "_total" if kind.startswith("Counter") else "_info" if kind.startswith("Info") else ""
            if not name.startswith("edgefleet_device_") and not name.endswith("_not_shown"):
                found[name + end] = about
    return "\n".join(f"- `{name}`: {about}" for name, about in sorted(found.items()))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PARTS: Final = {
    "metrics": metrics,
    "export-tables": export,
    "export-views": export_views,
    "agent-settings": lambda: settings("agent/settings.py"),
    "gateway-settings": lambda: settings("agent/gateway/settings.py"),
    "fleet-settings": lambda: settings("fleet/settings.py"),
    "scoring-settings": lambda: settings("modules/scoring/settings.py"),
    "edgefleet": operator_commands,
    "edgefleet-agent": lambda: program(agent_parser()),
    "edgefleet-gateway": lambda: program(gateway_parser()),
    "edgefleet-fleet": lambda: program(fleet_parser()),
    "routes": routes,
    "messages": messages.shown,
}


def renewed(text: str) -> str:
    """A page with all its made parts made anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def pages() -> dict[str, str]:
    """Each page that has a made part, as it is."""
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "docs").glob("**/*.md"))
    }
    return {page: text for page, text in texts.items() if _PART.search(text)}


if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / name).write_text(renewed(text), encoding="utf-8")
