"""A slot that has more to do than it can says so, whoever relieves it or not: by this the fleet starts an endpoint."""

import asyncio

from modules.protocol.routing import Overload
from tests.agent.gateway.stage import Stage
from tests.agent.gateway.test_terms_of_the_cloud import staged, told


async def pressed(running):
    """What the gateway says of it."""
    async with running.get("/") as answer:
        return (await answer.json())[0].get("pressed")


async def test_a_slot_that_nobody_relieves_counts_what_is_too_much(folder):
    """Its endpoint stands still: all are answered here, if later, and each that came while too many waited counts."""
    async with staged(folder, settings={"concurrent": 1}, overload=Overload(waiting=1)) as (stage, running):
        stage.to_cloud(port=9)
        assert await pressed(running) is None
        stage.here.delay = 0.02
        answers = await asyncio.gather(*(told(running) for _ in range(20)))
        assert {one[:2] for one in answers} == {(200, "local")}
        assert 15 <= (await pressed(running))["overloaded"] <= 20


async def test_a_slot_without_an_endpoint_counts_whom_it_turns_away(folder):
    """With one place and one that waits, the third is refused and counted; no terms are needed for that."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(concurrent=1, waiting=1, wait_s=5)
        two = [asyncio.create_task(told(running, "/digits/slow")) for _ in range(2)]
        await one.begun.wait()
        assert (await told(running))[0] == 429
        one.release.set()
        assert [(await each)[0] for each in two] == [200, 200]
        assert await pressed(running) == {"refused": 1}
