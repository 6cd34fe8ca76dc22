"""Windows out of readings: counts that only grow, until whoever counts begins anew."""

import random

import pytest

from agent.measure import Gauge, Reading, slope
from modules.counted import Counted, Looked
from modules.latencies import bin_of
from modules.sketch import BINS

WINDOW_S = 60.0


def seen(requests, errors=0, ms=None, seconds=1000.0):
    """Counts of a gateway; ``ms`` -> how many took so long."""
    latencies = tuple(sorted((bin_of(one / 1000), count) for one, count in (ms or {}).items()))
    return Counted(seconds=seconds, requests=requests, errors=errors, latencies=latencies)


def values(**counts):
    return tuple(counts.get(f"b{number}", 0) for number in range(BINS))


def gauge(*readings):
    """A gauge that has taken these, and what the last one closed."""
    one, closed = Gauge(WINDOW_S), None
    for reading in readings:
        closed = one.take(reading)
    return one, closed


class TestWindow:
    def test_it_is_the_difference_of_two_readings(self):
        """What was before it does not count, whatever it was."""
        _, closed = gauge(
            Reading(at=100, seen=seen(1000, 900, {1: 1000}), answers=Looked(looked=50, nan=50, values=values(b3=9))),
            Reading(
                at=130, seen=seen(1050, 901, {1: 1000, 20: 50}), answers=Looked(looked=60, nan=50, values=values(b3=9))
            ),
            Reading(
                at=160,
                seen=seen(1100, 902, {1: 1000, 20: 94, 200: 6}),
                answers=Looked(looked=70, nan=51, empty=2, values=values(b3=9, b7=4)),
                memory_mb=81.6,
                temperature_c=55.5,
            ),
        )

        assert (closed.seconds, closed.requests, closed.errors) == (60, 100, 2)
        assert closed.p50_ms == pytest.approx(20, rel=0.05)
        assert closed.p95_ms == pytest.approx(200, rel=0.05)
        assert (closed.answers, closed.nan, closed.empty, closed.values) == (20, 1, 2, values(b7=4))
        assert (closed.memory_mb, closed.temperature_c) == (82, 55.5)

    def test_it_is_no_shorter_than_asked_and_the_next_follows(self):
        """A window ends with the first reading after its time, and the next begins there."""
        one, closed = gauge(Reading(at=0, seen=seen(0)), Reading(at=59.9, seen=seen(5)))
        assert (closed, one.ends) == (None, 60)
        assert one.take(Reading(at=61, seen=seen(6))).requests == 6
        assert one.ends == 121
        assert one.take(Reading(at=121, seen=seen(16))).requests == 10

    @pytest.mark.parametrize(
        "later",
        [
            Reading(at=60, seen=seen(9, 0, {1: 10})),
            Reading(at=60, seen=seen(20, 0, {2: 10})),
            Reading(at=60, seen=seen(10, 0, {1: 10}), answers=Looked(looked=4)),
            Reading(at=60, seen=seen(10, 0, {1: 10}), answers=Looked(looked=9, values=values(b1=4))),
            Reading(at=60, seen=seen(10, 0, {1: 10}), answers=Looked(looked=9)),
        ],
    )
    def test_a_count_that_went_back_begins_it_anew(self, later):
        """A gateway or module that was started again counts from zero: no window has numbers of two lives."""
        first = Reading(at=0, seen=seen(10, 0, {1: 10}), answers=Looked(looked=5, values=values(b1=5)))
        one, closed = gauge(first, later)

        assert (closed, one.ends) == (None, 120)

    @pytest.mark.parametrize("silent", [0, 1])
    def test_who_does_not_answer_says_nothing(self, silent):
        """A gateway that is away at either end leaves no requests, rather than wrong ones; all else is told."""
        readings = [Reading(at=0, seen=seen(10, 3, {1: 10})), Reading(at=60, seen=seen(30, 9, {1: 30}))]
        readings[silent] = Reading(at=60.0 * silent, memory_mb=7)
        _, closed = gauge(*readings)

        assert (closed.requests, closed.errors, closed.p50_ms, closed.p95_ms) == (0, 0, None, None)

    def test_what_a_module_says_of_itself_cannot_be_more_than_it_says(self):
        """Shares stay shares, whatever counts a module invents."""
        _, closed = gauge(Reading(at=0, answers=Looked()), Reading(at=60, answers=Looked(looked=1, nan=9, empty=7)))

        assert (closed.answers, closed.nan, closed.empty) == (1, 1, 1)


class TestBefore:
    def test_it_is_the_last_whole_window(self):
        """What the replaced module did last is what its successor is held against."""
        one, _ = gauge(Reading(at=0, seen=seen(5)), Reading(at=60, seen=seen(15)), Reading(at=80, seen=seen(99)))

        assert one.before().requests == 10

    def test_it_is_its_life_where_no_window_was_over(self):
        """A switch that comes at once is compared with all that was counted, over the time that it was counted in."""
        one, _ = gauge(Reading(at=5000, seen=seen(900, 9, {4: 900}, seconds=3600.0), answers=Looked(looked=30, nan=1)))
        before = one.before()

        assert (before.seconds, before.requests, before.errors, before.answers, before.nan) == (3600, 900, 9, 30, 1)
        assert before.p95_ms == pytest.approx(4, rel=0.05)

    def test_without_a_reading_there_is_none(self):
        """Nothing is made up."""
        assert Gauge(WINDOW_S).before() is None


class TestGrowth:
    def test_a_line_through_all_readings_since_it_served(self):
        """Noise hides no leak, and is none."""
        chance = random.Random(7)
        leak = [(10.0 * n, 100 + n / 6 + chance.gauss(0, 1)) for n in range(100)]
        steady = [(10.0 * n, 100 + chance.gauss(0, 1)) for n in range(100)]

        assert slope(leak) == pytest.approx(60, abs=5)
        assert slope(steady) == pytest.approx(0, abs=5)
        assert slope([(5.0, 1.0)]) is None
        assert slope([(5.0, 1.0), (5.0, 2.0)]) is None

    def test_readings_are_bounded_and_reach_back_to_the_first(self):
        """After weeks there are as many as after an hour."""
        one = Gauge(10.0)
        for number in range(5000):
            closed = one.take(Reading(at=10.0 * number, memory_mb=100 + number / 360))

        assert len(one._memory) <= 128
        assert one._memory[0] == (0.0, 100.0)
        assert closed.memory_growth_mb_h == pytest.approx(1, abs=0.01)
