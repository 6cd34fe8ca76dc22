"""What others say, as a person reads it."""

import io
import logging

import pytest

from modules.words import Lines, printable


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Zürich, 日本 ok", "Zürich, 日本 ok"),
        ("one\nERROR two", "one | ERROR two"),
        ("\x1b[2J\x1b]0;title\x07", "\ufffd[2J\ufffd]0;title\ufffd"),
        ("a\u202etxt.exe", "a\ufffdtxt.exe"),
        ("\ud800", "\ufffd"),
        ("a\r\nb\tc\0", "a | b c\ufffd"),
    ],
)
def test_what_is_shown_is_one_printable_line(said, shown):
    """Neither a second line, nor a command to the terminal, nor text that runs the other way."""
    assert printable(said) == shown
    assert printable(shown) == shown


def test_it_ends():
    """However long a text is, so many characters are shown."""
    assert printable("\n" * 100, 10) == (" | " * 4)[:10]


def test_a_record_is_a_line_and_a_traceback_keeps_its_own():
    """What a module said makes no line of its own in the log; where our program failed is still readable."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines("%(levelname)s %(message)s"))
    logger = logging.getLogger("test-words")
    logger.addHandler(handler)
    logger.warning("it said: %s", "x\nCRITICAL all is lost\x1b[31m")
    try:
        int("here")
    except ValueError:
        logger.exception("a defect")
    logger.removeHandler(handler)

    lines = stream.getvalue().splitlines()
    assert lines[0] == "WARNING it said: x | CRITICAL all is lost\ufffd[31m"
    assert lines[1:3] == ["ERROR a defect", "Traceback (most recent call last):"]
