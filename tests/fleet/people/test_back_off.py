"""How long who fails has to wait, whatever order many failures at once end in."""

import pytest

from fleet.people.back_off import ADDRESS_MOST_S, BackOff
from fleet.refusals import TooMany

NOW = 1_800_000_000.0


def waits(made, now, name="anna", address="192.0.2.1"):
    try:
        made.check(name, address, now)
    except TooMany as error:
        return error.wait_s
    return 0.0


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
    assert waits(made, NOW - 86_400) == 0.0
    assert 0 < waits(made, NOW - 30) <= ADDRESS_MOST_S + 30
