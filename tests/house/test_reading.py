"""Whoever decodes bytes is ready for all that decoding raises: what is nested too deeply, and what is no UTF-8, too."""

import ast
from collections.abc import Iterator

import pytest

from tests.house.tree import sources, syntax

# Any of these says that the writer has thought of bytes that cannot be read.
THOUGHT_OF = {"DecodeError", "ValidationError", "MsgspecError", "JSONDecodeError", "UnicodeDecodeError", "UNREADABLE"}
# What catches it all: msgspec's own errors and UnicodeDecodeError are ValueErrors.
ENOUGH = (
    {"UNREADABLE"},
    {"Exception"},
    {"ValueError", "RecursionError"},
    {"DecodeError", "UnicodeDecodeError", "RecursionError"},
)


def handlers(attempt: ast.Try) -> set[str]:
    """The last names of what is caught: ``DecodeError`` of ``msgspec.DecodeError``."""
    caught = [one.type for one in attempt.handlers if one.type is not None]
    nodes = [node for one in caught for node in ast.walk(one)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names | {node.id for node in nodes if isinstance(node, ast.Name)}


def decodes(attempt: ast.Try) -> bool:
    """Whether it decodes a document: ``msgspec.json.decode``, a decoder's own ``decode``, or ``json.loads``."""
    calls = [node.func for one in attempt.body for node in ast.walk(one) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call, ast.Attribute)]
    texts = [ast.unparse(call) for call in named if call.attr in {"decode", "loads"}]
    return any(text.startswith(("msgspec.", "json.")) or text.isupper() for text in texts)


def breaches(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and decodes(node):
            caught = handlers(node)
            if caught & THOUGHT_OF and not any(names <= caught for names in ENOUGH):
                yield node.lineno


@pytest.mark.parametrize("caught", ["msgspec.DecodeError", "(OSError, msgspec.ValidationError)", "UnicodeDecodeError"])
def test_the_rule_sees_a_breach(caught):
    """Half of what may come is not enough."""
    text = f"try:\n    msgspec.json.decode(data)\nexcept {caught}:\n    pass\n"
    assert list(breaches(ast.parse(text))) == [1]


@pytest.mark.parametrize("caught", ["UNREADABLE", "(OSError, *UNREADABLE)", "(ValueError, RecursionError)"])
def test_the_rule_lets_pass_what_catches_all(caught):
    """By the name that says so, or by the kinds that hold all of it."""
    assert not list(breaches(ast.parse(f"try:\n    msgspec.json.decode(data)\nexcept {caught}:\n    pass\n")))


def test_who_decodes_bytes_catches_all_that_may_come():
    """One line of nothing but brackets, or one bad byte, would end what meant to be ready for nonsense."""
    found = [f"{path}:{line}" for path in sources() for line in breaches(syntax(path))]
    assert found == [], "catch modules.canonical.UNREADABLE"
