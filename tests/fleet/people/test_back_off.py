"""How long who fails has to wait, whatever order many failures at once end in."""

import pytest

from fleet.people.back_off import ADDRESS_MOST_S, BackOff
from fleet.refusals import TooMany

NOW = 1_800_000_000.0


def waits(made, now, name="anna", address="192.0.2.1"):
    """How long a log-in has to wait; None: it may be tried."""
    try:
        made.check(name, address, now)
    except TooMany as error:
        return error.wait_s
    return None


@pytest.mark.parametrize("ended", [range(12), reversed(range(12)), [11, *range(11)]], ids=["in order", "last", "mixed"])
def test_failures_at_the_same_time_all_count(ended):
    """Twelve that began within seconds, whichever of them is computed first."""
    made = BackOff()
    for number in ended:
        made.failed(f"name-{number}", "192.0.2.1", NOW + number)
    assert waits(made, NOW + 12) == 256.0 - 1


def test_a_clock_that_is_set_back_keeps_nobody_out_for_long():
    """By a day all is forgotten; by less than a log-in lasts nothing is."""
    made = BackOff()
    for _ in range(30):
        made.failed("anna", "192.0.2.1", NOW)
    assert waits(made, NOW - 86_400) is None
    assert 0 < waits(made, NOW - 30) <= ADDRESS_MOST_S + 30


@pytest.mark.parametrize(
    ("by", "longest"), [("name", [60.0, 60.0]), ("address", [64.0, 128.0, 256.0, 512.0, 900.0, 900.0])]
)
def test_each_failure_doubles_the_wait_up_to_a_bound(by, longest):
    """Four are free; of one name less than of one address, for anybody may fail under somebody's name."""
    made, found = BackOff(), []
    expected = [None] * 4 + [2.0**times for times in range(6)] + longest
    for number in range(len(expected)):
        one = {"name": "anna", "address": "192.0.2.1"}
        other = {"name": f"name-{number}", "address": f"10.0.0.{number}"}
        found.append(waits(made, NOW, **(other | {by: one[by]})))
        made.failed(**(other | {by: one[by]}), now=NOW)
    assert found == expected


def test_part_of_a_second_is_waited_for_as_a_whole_one():
    """Nobody is told to wait for no time, and at the end of it nobody waits."""
    made = failing(5)
    assert [waits(made, NOW + passed) for passed in (0.0, 0.5, 1.5, 2.0)] == [2.0, 2.0, 1.0, None]


def failing(times, name="anna", address="192.0.2.1", made=None):
    """So many failures of one name from one address."""
    made = made or BackOff()
    for _ in range(times):
        made.failed(name, address, NOW)
    return made


@pytest.mark.parametrize(("passed", "wait"), [(3599.0, 128.0), (3600.0, None), (-60.0, 188.0), (-61.0, None)])
def test_when_all_is_forgotten(passed, wait):
    """After an hour, or where the clock was set back by more than a log-in lasts: the next failure is the first."""
    made = failing(10)
    made.failed("anna", "192.0.2.1", NOW + passed)
    assert waits(made, NOW + passed) == wait


def test_a_log_in_clears_the_name_and_not_the_address():
    """Whoever knows one password may be guessing others."""
    made = failing(10)
    made.succeeded("anna")
    made.succeeded("nobody")
    assert waits(made, NOW, address="192.0.2.2") is None
    assert waits(made, NOW, name="bert") == 64.0


def test_of_too_many_those_are_forgotten_that_were_silent_for_longest(monkeypatch):
    """Who fails again is not among them."""
    monkeypatch.setattr("fleet.people.back_off.KNOWN", 4)
    made = failing(6)
    failing(6, "bert", "192.0.2.2", made)
    failing(1, made=made)
    failing(1, "carl", "192.0.2.3", made)
    assert waits(made, NOW, "bert", "192.0.2.2") is None
    assert [waits(made, NOW, name="x"), waits(made, NOW, address="x")] == [8.0, 8.0]
