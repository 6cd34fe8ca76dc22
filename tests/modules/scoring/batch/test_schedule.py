"""Who is asked next: every order of failures ends with each input settled once."""

import random

from modules.scoring.batch.schedule import FIRST_PAUSE_S, LONGEST_PAUSE_S, Schedule, Turn


def test_new_ones_come_together_and_in_order():
    """Each worker gets the next few."""
    schedule = Schedule(range(5), (), 2)
    assert [schedule.next(0) for _ in range(4)] == [
        Turn((0, 1), "together"), Turn((2, 3), "together"), Turn((4,), "together"), None,
    ]  # fmt: skip
    assert not schedule.over


def test_what_failed_waits_longer_each_time():
    """The pause doubles, up to a bound."""
    for pauses, pause in ((0, 0), (1, FIRST_PAUSE_S), (2, 2 * FIRST_PAUSE_S), (99, LONGEST_PAUSE_S)):
        schedule = Schedule((), (), 2)
        schedule.again(7, 100.0, pauses, "alone")
        assert schedule.wait(100.0) == pause
        assert schedule.next(100.0 + pause - 0.01) is None
        assert schedule.next(100.0 + pause) == Turn((7,), "alone")


def test_suspects_of_the_whole_run_are_asked_last_with_nothing_else():
    """Nothing else is given out while one of them is asked, and none while anything is open."""
    schedule = Schedule(range(3), {0}, 5)
    first = schedule.next(0)
    assert first == Turn((1, 2), "together")
    assert schedule.next(0) is None
    schedule.again(2, 0, 0, "together")
    schedule.done(first)
    again = schedule.next(0)
    assert again == Turn((2,), "together")
    schedule.done(again)
    last = schedule.next(0)
    assert last == Turn((0,), "exclusive")
    assert schedule.next(0) is None
    assert not schedule.over
    schedule.done(last)
    assert schedule.next(0) is None
    assert schedule.over


def test_any_order_of_events_settles_each_input_once():
    """Whatever fails how often, and whichever worker ends first."""
    for seed in range(300):
        chance = random.Random(seed)
        count, size, workers = chance.randint(0, 30), chance.randint(1, 5), chance.randint(1, 4)
        last = {one for one in range(count) if chance.random() < 0.2}
        schedule, now, settled, asked = Schedule(range(count), last, size), 0.0, [], []
        while True:
            turn = schedule.next(now) if len(asked) < workers else None
            if turn is not None:
                alone = turn.how == "exclusive" or any(one.how == "exclusive" for one in asked)
                assert not (alone and asked)
                assert turn.how == "together" or len(turn.items) == 1
                asked.append(turn)
            elif asked:
                done = asked.pop(chance.randrange(len(asked)))
                for item in done.items:
                    if chance.random() < 0.3:
                        how = "exclusive" if done.how == "exclusive" else chance.choice(["together", "alone"])
                        schedule.again(item, now, chance.randint(0, 3), how)
                    else:
                        settled.append(item)
                schedule.done(done)
            elif schedule.over:
                break
            else:
                now += schedule.wait(now)
        assert sorted(settled) == list(range(count))
