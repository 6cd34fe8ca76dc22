"""How often a page that stays open asks."""

from fleet.console.frame import LIVE_S, every


def test_a_busy_server_is_asked_less_often():
    """Every few seconds while answers come at once; a slow one is asked less, once in half a minute at least."""
    assert every(LIVE_S, 0.01) == LIVE_S
    assert every(LIVE_S, 0.5) == 10
    assert every(LIVE_S, 60) == 30
