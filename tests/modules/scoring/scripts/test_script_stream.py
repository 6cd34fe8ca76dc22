"""A streamed answer between its worker and its reader, who may leave at any moment."""

import asyncio

import pytest

from modules.scoring.runtime import RunFailed
from modules.scoring.scripts.script_stream import Parts, Stream


class Source:
    """What a worker was asked."""

    def __init__(self):
        self.asked = []

    def more(self):
        self.asked.append("more")

    def drop(self):
        self.asked.append("drop")


@pytest.fixture
def source():
    return Source()


async def reading(parts):
    """A reader who waits for the first part."""
    reader = asyncio.create_task(anext(parts))
    await asyncio.sleep(0)
    return reader


async def left(reader):
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_parts_in_order(source):
    """Each part is made when it is asked for, and nothing is dropped at the end."""
    stream = Stream(source)
    parts = Parts(stream)
    for part in (b"a", b"b"):
        reader = await reading(parts)
        assert stream.awaited is True
        stream.take(part, None)
        assert await reader == part
        assert stream.awaited is False
    reader = await reading(parts)
    stream.take(None, None)
    with pytest.raises(StopAsyncIteration):
        await reader
    await parts.aclose()
    assert source.asked == ["more"] * 3


async def test_reader_leaves_between_parts(source):
    """A reader who leaves between two parts ends the stream at once, and only once."""
    parts = Parts(Stream(source))
    await parts.aclose()
    await parts.aclose()
    assert source.asked == ["drop"]


async def test_reader_leaves_while_waiting(source):
    """A part that comes after its reader has left is thrown away, and the rest ended."""
    stream = Stream(source)
    parts = Parts(stream)
    await left(await reading(parts))
    await parts.aclose()
    assert source.asked == ["more"]
    stream.take(b"a", None)
    assert source.asked == ["more", "drop"]


async def test_reader_leaves_as_the_part_comes(source):
    """A part that comes in the moment in which its reader leaves does not leave the worker waiting for ever."""
    stream = Stream(source)
    parts = Parts(stream)
    reader = await reading(parts)
    reader.cancel()
    stream.take(b"a", None)
    with pytest.raises(asyncio.CancelledError):
        await reader
    await parts.aclose()
    assert source.asked == ["more", "drop"]


async def test_broken_stream(source):
    """The reader gets the reason of an early end."""
    stream = Stream(source)
    parts = Parts(stream)
    reader = await reading(parts)
    stream.take(None, "no more plants")
    with pytest.raises(RunFailed, match="no more plants"):
        await reader
