"""A circuit breaker by a clock that a test moves: when it opens, for how long, and who tries whether it may close."""

import pytest

from agent.gateway.breaker import Breaker

PAUSE_S, LONGEST_S = 2.0, 5.0


@pytest.fixture
def clock(monkeypatch):
    at = [100.0]
    monkeypatch.setattr("agent.gateway.breaker.now", lambda: at[0])
    return at


@pytest.fixture
def breaker():
    return Breaker(failures=3, pause_s=PAUSE_S, longest_s=LONGEST_S)


def fails(breaker, times=3):
    return [breaker.failed("gone") for _ in range(times)]


def test_a_failed_try_doubles_the_pause_up_to_the_longest(clock, breaker):
    """While one tries nobody else does; an answer closes it, and it begins again with the first pause."""
    for _ in range(2):
        assert fails(breaker) == [False, False, True]
        pauses = []
        for _ in range(4):
            pauses.append(breaker.state().for_s)
            clock[0] += pauses[-1]
            assert breaker.state() is None
            breaker.begin()
            assert breaker.state().why == "gone"
            assert fails(breaker, 1) == [False]
        assert pauses == [PAUSE_S, 2 * PAUSE_S, LONGEST_S, LONGEST_S]
        breaker.begin()
        assert breaker.answered()
        assert breaker.state() is None


def test_an_answer_between_them_makes_failures_no_row(clock, breaker):
    """Two, an answer and two more are nobody who is gone."""
    assert fails(breaker, 2) == [False, False]
    assert not breaker.answered()
    assert fails(breaker, 2) == [False, False]
    assert breaker.state() is None


def test_those_that_were_on_their_way_lengthen_no_pause(clock, breaker):
    """Ten that come back after it opened tell nothing new."""
    fails(breaker)
    assert fails(breaker, 10) == [False] * 10
    assert breaker.state().for_s == PAUSE_S


def test_a_try_without_an_outcome_leaves_the_next_one_to_try(clock, breaker):
    """Its client went away, so nobody knows more than before."""
    fails(breaker)
    clock[0] += PAUSE_S
    breaker.begin()
    breaker.left()
    assert breaker.state() is None
