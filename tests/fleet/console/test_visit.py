"""What a page asks at once."""

import asyncio

import pytest

from fleet.console.visit import Said, together


async def test_what_is_asked_at_once_is_answered_in_its_order_and_refused_at_the_end():
    """Nobody waits for the one before; a refusal leaves no other answer behind."""
    begun, ended = [], []

    async def asked(name, until=None, *, refused=False):
        begun.append(name)
        if until:
            await until.wait()
        ended.append(name)
        if refused:
            raise Said(403, {"detail": name})
        return name

    last = asyncio.Event()

    async def opening():
        last.set()
        return await asked("b")

    assert await together(asked("a", last), opening()) == ["a", "b"]
    assert begun == ["a", "b"]
    assert ended == ["b", "a"]
    with pytest.raises(Said, match="first"):
        await together(asked("first", refused=True), asked("second"), asked("third", refused=True))
    assert ended[2:] == ["first", "second", "third"]
