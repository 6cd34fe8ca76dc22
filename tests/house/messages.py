"""Every message of every error, as it is printed, from the places in the code that make it.

What stands in braces in the code becomes ``<name>`` here, after the value's own name. A message that a function is
given, or that is put together before, is followed to where it was written; what a library or the system says in its
own words is ``<reason>``.
"""

import ast
import copy
import importlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from tests.house.tree import nodes, sources

# Whoever says it, by the beginning of the path; the first that fits.
SAYS: Final = {
    "agent/gateway/": "The gateway",
    "agent/": "The device",
    "hardware/": "The device",
    "fleet/client/": "The edgefleet command",
    "fleet/": "The fleet server",
    "modules/scoring/": "The scoring server",
    "modules/triggers/": "The trigger of a packaged model",
    "modules/": "Any program that reads or checks the same thing",
}
# What else becomes an error's code and message: the argument that is the code or the code itself, then which argument
# is the message, the element and the remedy.
_OTHERS: Final[dict[str, tuple[int | str, int, int | None, int | None]]] = {
    "Objection": ("untrusted", 2, 1, 3),
    "Reason": (0, 1, None, None),
    "unmet.append": ("unfit", 0, None, None),
    "problem": (1, 2, None, None),
    "show_problem": (0, 1, None, None),
    "CannotServe": ("invalid", 0, None, None),
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
_ROOT: Final = "EdgefleetError"
_TEXT: Final = frozenset(dir(str))
_DEEPEST: Final = 4
_REASON: Final = "<reason>"
# Where the value's name says less than its meaning.
_NAMES: Final = {"strerror": "reason", "error": "reason", "message": "reason", "self": "it", "cls": "it", "e": "reason"}


class Message(NamedTuple):
    """One message: who says it, its text, its code, what it is about, and what to do; all as they are printed."""

    who: str
    text: str
    code: str
    element: str
    remedy: str


def shown() -> str:
    """All messages, by who says them, in the order of the alphabet."""
    parts = []
    for who in dict.fromkeys(SAYS.values()):
        places: dict[tuple[str, str, str], list[str]] = {}
        for one in sorted(messages(), key=lambda one: (one.text.lower().lstrip("<"), one)):
            if one.who == who:
                places.setdefault((one.text, one.code, one.remedy), []).append(one.element)
        lines = [line for one, elements in places.items() for line in _lines(*one, elements)]
        parts.append("\n".join([f"### {who}", "", *lines]))
    return "\n\n".join(parts)


def _lines(text: str, code: str, remedy: str, elements: list[str]) -> Iterator[str]:
    at = " or ".join(f"`{_plain(one)}`" for one in elements if one)
    yield f"- `{_plain(text)}`"
    yield f"  {code}" + (f", at {at}" if at else "")
    if remedy:
        yield f"  → `{_plain(remedy)}`"


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


@cache
def messages() -> frozenset[Message]:
    """Every message that the code can make."""
    codes, found = _codes(), set()
    for path in sources():
        who = next(who for start, who in SAYS.items() if path.startswith(start))
        for call in (node for node in nodes(path) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name in codes:
                given: tuple[int | str, int, int | None, int | None] = (codes[name], 0, None, None)
            elif name in _OTHERS:
                given = _OTHERS[name]
            else:
                continue
            code, message, element, remedy = given
            said = ((message, "message"), (element, "element"), (remedy, "remedy"))
            for one in _as_called(call, path):
                texts = [_texts(_argument(one, position, word), path) for position, word in said]
                kinds = [code] if isinstance(code, str) else _texts(_argument(one, code, "code"), path)
                for kind, text, about, do in itertools.product(kinds, *texts):
                    # Another's words alone are worth a line where we add what to do.
                    if text and (not _is_value(text) or (do and not _is_value(do))):
                        found.add(Message(who, _REASON if _is_value(text) else text, kind, about, do))
    return frozenset(found)


def _as_called(call: ast.Call, path: str) -> Iterator[ast.Call]:
    """The call, with the words that the function around it is given: once for each place that gives it any.

    So what belongs together, a message and its remedy, is not shown beside another place's.
    """
    function = _around(call, path)
    used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    sites = list(_sites(function, path)) if function else []
    for place, site in sites:
        given = {name: one for name in used if (one := _given(function, name, site)) is not None}
        texts = {name: _texts(one, place, 1) for name, one in given.items()}
        words = {name: ways for name, ways in texts.items() if not any(map(_is_value, ways))}
        for ways in itertools.product(*words.values()):
            yield _Worded(dict(zip(words, ways, strict=True))).visit(copy.deepcopy(call))
    if not sites:
        yield call


class _Worded(ast.NodeTransformer):
    """Puts words in place of the names that stand for them."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self._words[node.id]) if node.id in self._words else node


def _sites(function: Function, path: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a function: in its own file, or as MODULE.FUNCTION in another."""
    whole = f"{PurePosixPath(path).stem}.{function.name}"
    for place, name, call in _calls().get(function.name, ()):
        if place == path or name == whole:
            yield place, call


@cache
def _calls() -> Mapping[str, list[tuple[str, str, ast.Call]]]:
    """Every call by the last part of its name: the file, the whole name, and the call."""
    found: dict[str, list[tuple[str, str, ast.Call]]] = {}
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = ast.unparse(node.func)
                found.setdefault(name.rpartition(".")[2], []).append((path, name, node))
    return found


def _given(function: Function, name: str, call: ast.Call) -> ast.expr | None:
    """What a call gives a function for one of its names."""
    names = [one.arg for one in function.args.args if one.arg not in {"self", "cls"}]
    if name not in names + [one.arg for one in function.args.kwonlyargs]:
        return None
    return _argument(call, names.index(name) if name in names else None, name)


def _is_value(text: str) -> bool:
    return re.fullmatch(r"<[^<>]*>", text) is not None


def _codes() -> dict[str, str]:
    """The code of every class below EdgefleetError, its own or its parent's."""
    classes = {node.name: node for path in sources() for node in nodes(path) if isinstance(node, ast.ClassDef)}
    codes = {_ROOT: "error"}
    while found := {
        name: next((code for line in node.body if (code := _code(line))), codes[parent])
        for name, node in classes.items()
        for parent in map(ast.unparse, node.bases)
        if name not in codes and parent in codes
    }:
        codes |= found
    return codes


def _code(line: ast.stmt) -> str:
    """The code where a line of a class gives it one."""
    named = isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code"
    return str(line.value.value) if named and isinstance(line.value, ast.Constant) else ""


def _argument(call: ast.Call, position: int | None, word: str) -> ast.expr | None:
    if position is not None and position < len(call.args):
        return call.args[position]
    return next((one.value for one in call.keywords if one.arg == word), None)


def _texts(value: ast.expr | None, path: str, depth: int = 0) -> list[str]:
    """What an expression can be, as text."""
    if value is None:
        return [""]
    if isinstance(value, ast.Constant):
        return [str(value.value)] if value.value is not None else [""]
    if isinstance(value, ast.JoinedStr):
        return ["".join(_part(one, path) for one in value.values)]
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "str" and isinstance(value.args[0], ast.Constant):
        return _texts(value.args[0], path, depth)
    if isinstance(value, ast.IfExp):
        return _texts(value.body, path, depth) + _texts(value.orelse, path, depth)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and _has_words(value):
        both = itertools.product(_texts(value.left, path, depth), _texts(value.right, path, depth))
        return ["".join(pair) for pair in both]
    if depth < _DEEPEST and isinstance(value, ast.Name) and (found := _written(value, path, depth + 1)):
        return found
    if depth < _DEEPEST and isinstance(value, ast.Call) and (found := _returned(value, path, depth + 1)):
        return found
    return [f"<{_name(value)}>"]


def _has_words(value: ast.expr) -> bool:
    """Whether a sum is one of texts."""
    return any(
        isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        for one in ast.walk(value)
    )


def _part(value: ast.expr, path: str) -> str:
    if isinstance(value, ast.FormattedValue):
        if isinstance(value.value, ast.Constant) and value.conversion == -1:
            return str(value.value.value)
        constant = _constant(value.value, path)
        if constant is None:
            return f"<{_name(value.value)}>"
        return format(constant, _texts(value.format_spec, path)[0])
    return str(value.value) if isinstance(value, ast.Constant) else ""


def _written(name: ast.Name, path: str, depth: int) -> list[str]:
    """Where a name got its text: a constant, an assignment in the same function, or a caller in the same file."""
    if isinstance(constant := _constant(name, path), str):
        return [constant]
    function = _around(name, path)
    if function is None:
        return []
    assigned = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name.id for one in node.targets)
    ]
    found = [text for value in assigned for text in _texts(value, path, depth)]
    for place, call in _sites(function, path):
        if place == path and (given := _given(function, name.id, call)) is not None:
            found += _texts(given, place, depth)
    return _unique(found)


def _returned(call: ast.Call, path: str, depth: int) -> list[str]:
    """What a function of the same file answers, where that is text."""
    answers = (
        node.value
        for function in _functions(path)
        if function.name == ast.unparse(call.func)
        for node in ast.walk(function)
        if isinstance(node, ast.Return)
    )
    texts = _unique(text for value in answers if value is not None for text in _texts(value, path, depth))
    return [text for text in texts if text and not _is_value(text)]


def _constant(value: ast.expr, path: str) -> str | float | None:
    """The value of a constant of the file, written there or imported."""
    if not isinstance(value, ast.Name) or not value.id.isupper():
        return None
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), value.id, None)
    return found if isinstance(found, str | int | float) else None


@cache
def _functions(path: str) -> tuple[Function, ...]:
    return tuple(node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _around(name: ast.expr, path: str) -> Function | None:
    """The innermost function that it stands in."""
    return max(
        (one for one in _functions(path) if one.lineno <= name.lineno <= (one.end_lineno or 0)),
        key=lambda one: one.lineno,
        default=None,
    )


def _name(value: ast.expr) -> str:
    """What to call a value: ``len(files)`` is ``files``, ``str(error)`` the reason."""
    if isinstance(value, ast.Call):
        return _answer(value)
    if isinstance(value, ast.Attribute):
        return _NAMES.get(value.attr, value.attr).strip("_").replace("_", " ")
    if isinstance(value, ast.Name):
        return _NAMES.get(value.id, value.id).strip("_").lower().replace("_", " ")
    if isinstance(value, ast.IfExp):
        return f"{_choice(value.body)} or {_choice(value.orelse)}"
    if isinstance(value, ast.GeneratorExp | ast.ListComp | ast.SetComp):
        return _name(value.generators[0].iter)
    for part in ("value", "left", "operand", "elt"):
        if isinstance(inside := getattr(value, part, None), ast.expr):
            return _name(inside)
    if isinstance(value, ast.BoolOp):
        return _name(value.values[0])
    return "value"


def _answer(call: ast.Call) -> str:
    if ast.unparse(call.func).endswith(".get") and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    inner = [one for one in call.args if not isinstance(one, ast.Constant)]
    if isinstance(call.func, ast.Attribute) and call.func.attr != "join":
        return _name(call.func.value if call.func.attr in _TEXT else call.func)
    return _name(inner[0]) if inner else _name(call.func)


def _choice(value: ast.expr) -> str:
    return str(value.value).strip() or "nothing" if isinstance(value, ast.Constant) else _name(value)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
