"""Writers of one process come in turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fleet.db import Database
from fleet.turns import Turns
from tests.parts.pace import stretched

WRITERS = 6


def test_who_came_first_is_next(tmp_path):
    """A thread that writes again and again keeps nobody out: each of the others is next after one transaction."""
    database = Database.at(tmp_path / "fleet.sqlite")
    database.migrate()
    ended, greedy = threading.Event(), []

    def again_and_again():
        while not ended.is_set():
            with database.write():
                greedy.append("greedy")
                time.sleep(0.02)

    def once(_):
        before = len(greedy)
        with database.write():
            return len(greedy) - before

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        busy = pool.submit(again_and_again)
        try:
            while not greedy:
                time.sleep(0.001)
            between = [pool.submit(once, number).result(stretched(20)) for number in range(WRITERS)]
            together = list(pool.map(once, range(WRITERS), timeout=stretched(20)))
        finally:
            ended.set()
        busy.result(stretched(20))
    database.close()
    assert max(between) <= 2
    assert max(together) <= 2


def test_nobody_waits_for_ever():
    """Whoever does not get its turn goes on after a while, and takes nobody else's."""
    turns, order = Turns(longest_s=0.01), []
    with turns.mine(), turns.mine():
        order.append("without its turn")
        with turns.mine():
            order.append("and another")
    with turns.mine():
        order.append("free again")
    assert order == ["without its turn", "and another", "free again"]
    assert not turns._waiting
