"""What the gateway tells the agent of an instance that died with a client's request in its hands."""

import asyncio

from agent.answering import gateway
from agent.router import Router
from agent.store import Store
from tests.agent.gateway.stage import Stage


async def lost(running):
    """The instances that the gateway names as lost."""
    told = await asyncio.to_thread(gateway, f"127.0.0.1:{running.port}")
    return [name for slot in told.slots for name in slot.get("lost", ())]


async def test_an_instance_that_dies_under_a_request_is_named_to_the_agent(folder):
    """Killed while it works on a request, it is named until another instance has taken its place in the table."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.serve(one)
        running = await stage.gateway()
        asking = asyncio.create_task(running.post("/digits/slow").__aenter__())
        await one.begun.wait()
        assert await lost(running) == []
        await one.kill()
        answer = await asking
        answer.close()

        assert answer.status == 503
        assert await lost(running) == ["one"]
        store = Store(folder)
        router = Router(folder / "none.json", store, folder, f"127.0.0.1:{running.port}", device="dev-1")
        assert (await router.lost("one"), await router.lost("two")) == (True, False)
        store.close()
        stage.serve(two, previous=one.upstream)
        assert await lost(running) == ["one"], "it still stands behind"
        stage.serve(two)
        assert await lost(running) == []


async def test_an_instance_that_dies_alone_is_not(folder):
    """Requests that were answered before it died, and those that came when it was dead, do not count."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        async with running.post() as answer:
            assert answer.status == 200
        await one.kill()
        async with running.post() as answer:
            assert answer.status == 503

        assert await lost(running) == []


async def test_a_client_whose_request_ends_the_module_is_told_so(folder):
    """503 with words that tell it from a module that was not there; the request is not tried for ever."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        asking = asyncio.create_task(running.post("/digits/slow").__aenter__())
        await one.begun.wait()
        await one.kill()
        answer = await asking

        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert "ended, or hung up, in the middle of this very request" in (await answer.json())["message"]
        async with running.post() as answer:
            assert "this very request" not in (await answer.json())["message"]


async def test_a_connection_that_breaks_is_no_death(folder):
    """One that answers the next request, or the same one when it is asked again, was not lost."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        one.drop_next = True
        async with running.post() as answer:
            assert answer.status == 200
        assert await lost(running) == []
        async with running.post("/digits/broken") as answer:
            await answer.content.readany()
        assert await lost(running) == ["one"]
        async with running.post() as answer:
            assert answer.status == 200
        assert await lost(running) == []


async def test_a_request_whose_client_has_left_counts(folder):
    """The module works on without the client, and may yet die of what it was sent."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        asking = asyncio.create_task(running.post("/digits/slow").__aenter__())
        await one.begun.wait()
        asking.cancel()
        await one.abandoned.wait()

        assert await lost(running) == ["one"]


async def test_without_a_gateway_nothing_was_under_way(folder):
    """No gateway, no client's request: the agent judges by what it sees itself."""
    store = Store(folder)
    assert not await Router(folder / "none.json", store, folder, "127.0.0.1:9", device="dev-1").lost("one")
    store.close()
