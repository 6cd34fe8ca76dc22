"""What is counted of a version: whatever begins anew in between, each count is counted once."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts import windows
from fleet.rollouts.windows import Window
from fleet.targets.contract import Life
from modules.counted import Counted, Looked

# Of one gateway and replica between two readings: requests, errors among them, milliseconds apart; and what happens.
steps = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 5), st.sampled_from(["goes on", "begins anew", "says nothing"])),
    max_size=12,
)


def life(seconds, requests, errors, restarts=0):
    return Life(
        seen=Counted(seconds=seconds, requests=requests, errors=errors, latencies=((40, requests),)),
        answers=Looked(looked=requests, nan=errors, values=(requests,)),
        restarts=restarts,
    )


@given(steps)
def test_each_request_is_counted_once(steps):
    """Of lives that go on, end and say nothing for a while, the window has the sum of all that was read of them."""
    at, total, unread = 1000.0, [0, 0], [0, 0]
    now, born, lives = (7, 3), 0.0, 0
    window = windows.take(Window(), {"a": life(at, *now)}, None)
    for number, (more, failed, happens) in enumerate(steps, start=2):
        wrong, at = min(failed, more), at + 10
        if happens == "begins anew":
            # Younger than what was read last: by nothing else is it told from one that went on and grew. What the one
            # before counted since it was read is lost.
            now, born, lives, unread = (0, 0), at - 1 / number, lives + 1, [0, 0]
        now = (now[0] + more, now[1] + wrong)
        unread = [unread[0] + more, unread[1] + wrong]
        if happens == "says nothing":
            window = windows.take(window, {"a": Life()}, None)
            continue
        window = windows.take(window, {"a": life(at - born, *now, lives)}, None)
        total, unread = [total[0] + unread[0], total[1] + unread[1]], [0, 0]

    assert (window.requests, window.errors) == tuple(total)
    assert sum(window.latencies.values()) == total[0]
    assert window.restarts == lives
    # A replica's answers have no age: of one that has outgrown its life before, what that had is left out.
    assert sum(window.values) == window.looked <= total[0]


def test_who_comes_later_is_counted_whole_and_who_was_there_before_is_not():
    """The first reading says from where to count; a replica that comes after it began after it."""
    window = windows.take(Window(), {"a": life(100, 1000, 10)}, None)
    window = windows.take(window, {"a": life(110, 1010, 10), "b": life(5, 20, 1)}, 64.0)
    assert (window.requests, window.errors, window.memory_mb) == (30, 1, 64.0)


def test_who_was_there_and_is_heard_late_is_counted_from_then_on():
    """What it had counted by then may be of long ago: of a gateway that could not be asked at first."""
    window = windows.take(Window(), {"a": Life(), "b": life(1, 0, 0)}, None)
    window = windows.take(window, {"a": life(9000, 1000, 900), "b": life(2, 3, 0)}, None)
    assert (window.requests, window.errors) == (3, 0)
    window = windows.take(window, {"a": life(9001, 1010, 901)}, None)
    assert (window.requests, window.errors) == (13, 1)


def test_the_next_window_begins_with_nothing_but_the_readings():
    """What was counted is over; restarts are told since the first."""
    window = windows.take(Window(begun=1.0), {"a": life(1, 0, 0)}, None)
    window = windows.take(window, {"a": life(5, 100, 7, 1)}, None)
    later = windows.take(windows.anew(window, 9.0), {"a": life(9, 130, 7, 1)}, None)
    assert (later.begun, later.requests, later.errors, later.restarts) == (9.0, 30, 0, 1)
    assert windows.measured(later, 19.0).seconds == 10.0


def test_only_so_many_lives_are_remembered():
    """Those that were heard of last."""
    window = Window()
    for number in range(600):
        window = windows.take(window, {f"r{number}": life(1, 1, 0)}, None)
    assert len(window.last) == 256
    assert "r599" in window.last
