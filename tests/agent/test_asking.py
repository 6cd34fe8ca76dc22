"""How a module is asked: what counts as alive, how much it may say, how often it is looked at."""

import pytest

from agent.health import alive, ask, ready
from modules.errors import NotReady
from tests.agent.test_module_client import OK, module
from tests.doubles.clock import VirtualClock
from tests.doubles.engine import SimulatedEngine
from tests.doubles.release import make


def said(status, length):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n".encode() + bytes(length)


@pytest.mark.parametrize(
    ("answer", "is_alive"),
    [
        (OK, True),
        (said(503, 2), False),
        (said(404, 2), False),
        (b"garbage\r\n\r\n", False),
        (said(200, 64 << 10), True),
        (said(200, (64 << 10) + 1), False),
    ],
    ids=["200", "503", "404", "garbage", "just short enough", "too long"],
)
async def test_what_counts_as_alive(folder, answer, is_alive):
    """200 and nothing else, with no more than 64 KiB of words, from somebody who listens."""
    assert not await alive(str(folder / "s"), timeout_s=2.0)
    async with module(folder / "s", answer):
        assert await alive(str(folder / "s"), timeout_s=2.0) is is_alive


@pytest.mark.parametrize("more", [0, 1])
async def test_the_largest_answer_of_a_sample(folder, more):
    """32 MiB are read whole, and one byte more is no answer."""
    async with module(folder / "s", said(200, (32 << 20) + more)):
        answer = await ask(str(folder / "s"), "GET", "/score", timeout_s=20.0)
    assert (answer is None) is bool(more)


async def test_a_module_that_starts_is_looked_at_twenty_times_a_second(folder, monkeypatch):
    """So that it serves as soon as it can, until its time is over; at every tenth the engine is asked."""
    clock, slept, asked = VirtualClock(), [], []
    sleep = clock.sleep

    async def noted(seconds):
        slept.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(clock, "sleep", noted)
    engine = SimulatedEngine(clock)

    async def never(*_):
        asked.append(len(slept))

    monkeypatch.setattr("agent.health._ended", never)
    with pytest.raises(NotReady, match="not ready within 2 s"):
        await ready(engine, "main-1", str(folder / "s"), make(ready_within_s=2.0).manifest, clock)

    assert set(slept) == {0.05}
    assert len(slept) in {40, 41}
    assert len(asked) in {4, 5, 6}
