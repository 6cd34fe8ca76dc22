"""A limit of bytes per second: kept on average, with no more than a moment's worth at once."""

import pytest

from modules.bucket import BURST_S, Bucket


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("size", [1, 1000, 65536])
@pytest.mark.parametrize("rate", [10_000, 1_000_000])
def test_the_average_is_the_rate(rate, size):
    """However large the pieces: whoever waits as told sends what the rate allows, and a moment's worth more."""
    clock = Clock()
    bucket = Bucket(rate, now=clock)
    count = 200
    for _ in range(count):
        clock.now += bucket.take(size)
    took = clock.now - 100.0
    assert took == pytest.approx(max((count - 1) * size / rate - BURST_S, 0), abs=1e-6)


def test_a_pause_is_no_credit_for_more_than_a_moment():
    """After an hour without traffic, a quarter of a second's bytes go at once, and the next wait."""
    clock = Clock()
    bucket = Bucket(1000, now=clock)
    bucket.take(1)
    clock.now += 3600
    assert bucket.take(int(1000 * BURST_S)) == 0
    assert bucket.take(100) == 0
    assert bucket.take(1) == pytest.approx(0.1)


def test_without_a_rate_nobody_waits():
    """0 is no limit."""
    bucket = Bucket(0)
    assert [bucket.take(1 << 30) for _ in range(3)] == [0, 0, 0]
