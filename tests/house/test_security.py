"""SECURITY.md promises nothing that no test tries."""

import ast
import re
from functools import cache

import pytest

from tests.house.promised import TESTS
from tests.house.tree import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LIST = TEXT.partition("## What is protected, and by what")[2].partition("\n## ")[0]


@cache
def named_in(file):
    """The names of all test functions of a file, those in classes included."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_promise_has_its_tests():
    """Every point of the list of what is protected is in the table, and what the table has is still promised."""
    promised = set(re.findall(r"^- \*\*(.+?)\*\*:", LIST, re.MULTILINE))
    assert len(promised) > 15
    assert promised <= TESTS.keys()
    words = " ".join(TEXT.split())
    assert [one for one in TESTS if one not in words] == []


@pytest.mark.parametrize("promise", TESTS)
def test_the_tests_of_a_promise_are_there(promise):
    """A test that is renamed or deleted takes its promise along, unless another one holds it."""
    assert TESTS[promise]
    for one in TESTS[promise]:
        file, _, name = one.partition("::")
        assert name in named_in(file), one
