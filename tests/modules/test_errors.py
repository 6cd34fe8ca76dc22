"""The error tree: codes, what the classes say to do, and the sentence for the operator."""

import re

import pytest

from modules import errors
from modules.errors import EdgefleetError


def tree(root=EdgefleetError):
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


OURS = [error for error in tree() if error.__module__ == errors.__name__]


def test_codes_are_unique_and_spell_the_class():
    """Every class has its own code, which is its name with hyphens."""
    codes = {error: error.code for error in OURS if error is not EdgefleetError}

    assert len(set(codes.values())) == len(codes)
    for error, code in codes.items():
        assert code == re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


def test_docstring_draws_the_whole_tree():
    """The tree in the docstring names exactly the classes that there are."""
    drawn = re.findall(r"^[│ ├└─]*([A-Z]\w+)", errors.__doc__.split("::\n")[1].split("A message")[0], re.MULTILINE)

    assert sorted(drawn) == sorted(error.__name__ for error in OURS)


@pytest.mark.parametrize("error", OURS)
def test_only_transient_errors_ask_for_a_retry(error):
    """Trying again unchanged helps after transient errors, and after no others."""
    assert error.retry == issubclass(error, errors.Transient)


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({}, "it broke"),
        ({"element": "slot a"}, "slot a: it broke"),
        ({"remedy": "mend it"}, "it broke (mend it)"),
        ({"element": "slot a", "remedy": "mend it"}, "slot a: it broke (mend it)"),
    ],
)
def test_message_says_where_what_and_what_to_do(keywords, sentence):
    """An error reads as one sentence: where, what, what to do."""
    assert str(errors.NoSpace("it broke", **keywords)) == sentence
