"""An endpoint's own bounds, which its table brings: they take effect with it, without a restart."""

import asyncio

from agent.gateway.settings import Settings
from modules.protocol.routing import Bounds, Route, Version
from tests.agent.gateway.stage import Stage


def behind(replica, **more):
    return Route(versions=(Version(name="v1", weight=100, replicas=(replica,)),), **more)


async def test_a_route_says_how_many_requests_it_takes_on(folder):
    """With one place and nobody waiting, the second request at a time is a 429; with a new table it is answered."""
    async with Stage(folder) as stage:
        double, replica = await stage.replica("one")
        stage.route(digits=behind(replica, bounds=Bounds(concurrent=1, waiting=0, wait_s=1)))
        running = await stage.gateway()
        first = asyncio.create_task(running.get("/digits/slow").__aenter__())
        await double.begun.wait()

        async with running.post() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        stage.route(digits=behind(replica, bounds=Bounds(concurrent=2, waiting=0, wait_s=1)))
        async with running.post() as answer:
            assert answer.status == 200
        double.release.set()
        assert (await first).status == 200


async def test_a_route_without_bounds_has_the_gateways(folder):
    """What the table does not say, the gateway's settings do."""
    async with Stage(folder) as stage:
        double, replica = await stage.replica("one")
        stage.route(digits=behind(replica))
        running = await stage.gateway(concurrent=1, waiting=0)
        first = asyncio.create_task(running.get("/digits/slow").__aenter__())
        await double.begun.wait()

        async with running.post() as answer:
            assert answer.status == 429
        double.release.set()
        assert (await first).status == 200


async def test_a_replica_says_how_long_it_may_be_silent(folder):
    """A replica that is granted a tenth of a second is given up after it, long before the gateway's own limit."""
    async with Stage(folder) as stage:
        _, replica = await stage.replica("one", answer_s=0.1)
        stage.route(digits=behind(replica))
        running = await stage.gateway()

        async with asyncio.timeout(Settings(table=folder).answer_s / 10), running.get("/digits/slow") as answer:
            assert answer.status == 504
