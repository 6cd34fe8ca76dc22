"""What goes wrong alone: counted, said once an hour, and ends nothing."""

import logging

import pytest
from sqlalchemy.exc import OperationalError

from fleet.db import in_words
from fleet.mishaps import SAID_EVERY_S, Mishaps


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_each_is_counted_and_said_once_an_hour(clock, caplog):
    """A thousand of a kind are one line with a traceback, also after the clock has jumped back."""
    mishaps = Mishaps(clock)
    for _ in range(1000):
        with mishaps.alone("message", "report of dev-a"):
            raise OverflowError("too large")
    clock.now = -10 * SAID_EVERY_S
    with mishaps.alone("message", "report of dev-b"):
        raise OverflowError("too large")

    assert mishaps.counts == {"message": 1001}
    assert [record.getMessage() for record in caplog.records] == [
        "message failed (report of dev-a), the others go on",
        "message failed (report of dev-b), the others go on",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_an_outage_is_told_until_it_ends(clock, caplog):
    """Logged once when it begins and once when it ends; meanwhile it is the server's state, in words."""
    caplog.set_level(logging.WARNING)
    mishaps = Mishaps(clock)
    for _ in range(3):
        mishaps.begins("database", "the disk is full")
    assert mishaps.trouble == "the disk is full"
    for _ in range(3):
        mishaps.ends("database")

    assert mishaps.trouble == ""
    assert [record.getMessage() for record in caplog.records] == ["the disk is full", "it is over: the disk is full"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("database or disk is full", "free disk space"),
        ("database is locked", "end that program"),
        ("attempt to write a readonly database", "right to write"),
        ("disk I/O error", "look at the server's disk"),
    ],
)
def test_a_failing_database_is_explained(said, words):
    """The operator reads what is wrong and what to do, not a class name."""
    assert words in in_words(OperationalError("BEGIN", None, Exception(said)))
