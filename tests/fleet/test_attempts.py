"""Failures count for a minute, whatever the server's clock does meanwhile."""

import pytest

from fleet.attempts import ALLOWED, WINDOW_S, Attempts


def failed(attempts, now):
    return [attempts.allows("192.0.2.1", now) for _ in range(ALLOWED)]


def test_after_a_minute_one_may_try_again():
    """To the second."""
    attempts = Attempts()
    assert all(failed(attempts, 1000.0))
    assert not attempts.allows("192.0.2.1", 1000.0 + WINDOW_S - 1)
    assert attempts.allows("192.0.2.1", 1000.0 + WINDOW_S)


@pytest.mark.parametrize("together", [None, ALLOWED], ids=["of one address", "of all together"])
def test_a_clock_that_was_ahead_locks_nobody_out(together):
    """Failures that were counted ten days ahead are over when the clock is put right."""
    attempts = Attempts(together=together)
    assert all(failed(attempts, 1000.0 + 864_000))
    assert all(failed(attempts, 1000.0))
    assert not attempts.allows("192.0.2.1", 1000.0)
