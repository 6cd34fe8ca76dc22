"""Models that are loaded on demand share a budget of memory, whoever asks for them at once."""

import asyncio

import pytest

from modules.errors import Invalid
from modules.scoring.models import Entry, Models
from modules.scoring.runtime import Unavailable


class World:
    """Runtimes that note how many are in memory, and load and close when they are let."""

    def __init__(self):
        self.inside = set()
        self.most = 0
        self.loading = []

    def runtime(self, name, *, broken=False):
        world = self

        class Runtime:
            ready = False

            async def load(self):
                world.inside.add(name)
                world.most = max(world.most, len(world.inside))
                world.loading.append(name)
                await asyncio.sleep(0)
                if broken:
                    world.inside.discard(name)
                    raise Invalid("it cannot be loaded", element=name)
                self.ready = True

            async def close(self):
                self.ready = False
                await asyncio.sleep(0)
                world.inside.discard(name)

        return Runtime


def models(world, names, *, budget, broken=()):
    found = Models(memory=budget)
    for name in names:
        found.add(Entry(name, "1", world.runtime(name, broken=name in broken), on_demand=True, memory=10))
    return found


async def test_many_at_once_stay_within_the_budget():
    """However many are asked for at once, no more are in memory than the budget has room for, and each is loaded."""
    world = World()
    found = models(world, "abcdef", budget=20)
    await asyncio.gather(*(found.load(found[name]) for name in "abcdef"))
    assert (world.most, sorted(world.loading)) == (2, list("abcdef"))
    assert {one.name for one in found if one.ready} == {"e", "f"}


async def test_room_is_there_once_a_model_has_gone():
    """A model that is unloaded counts until it has ended what it does."""
    world = World()
    found = models(world, "abc", budget=20)
    for name in "ab":
        await found.load(found[name])
    await asyncio.gather(found.unload(found["b"]), found.load(found["c"]))
    assert world.most == 2


async def test_a_model_that_fails_takes_no_room():
    """A model that cannot be loaded leaves its room to others, and one larger than all is refused."""
    world = World()
    found = models(world, "abc", budget=20, broken="b")
    outcomes = await asyncio.gather(*(found.load(found[name]) for name in "abc"), return_exceptions=True)
    assert [type(one) for one in outcomes] == [type(None), Invalid, type(None)]
    assert world.inside == {"a", "c"}
    found.add(Entry("large", "1", world.runtime("large"), on_demand=True, memory=21))
    with pytest.raises(Unavailable, match="21 bytes"):
        await found.load(found["large"])
