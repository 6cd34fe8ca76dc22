"""What keeps an answer coming while modules come and go."""

import asyncio
import itertools
import logging

import aiohttp
import pytest

from modules.protocol.routing import Fallback, Route, Upstream
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched


def nowhere(folder):
    return Upstream(socket=str(folder / "nobody.sock"), module="acme/gone:1", provider="CPU", instance="gone")


async def test_twenty_swaps_lose_no_request(folder):
    """While four clients post without a pause and the module is replaced twenty times, each post is answered 200."""
    async with Stage(folder) as stage:
        running = await stage.gateway()
        old = await stage.scoring("s0")
        stage.serve(old)
        over = asyncio.Event()
        answers = asyncio.Queue()
        statuses, names = set(), set()

        async def post():
            while not over.is_set():
                async with running.post(data=b"[1]") as answer:
                    answers.put_nowait((answer.status, (await answer.json())["who"]))

        async def watch(count):
            for _ in range(count):
                status, name = await answers.get()
                statuses.add(status)
                names.add(name)

        clients = [asyncio.create_task(post()) for _ in range(4)]
        await watch(8)
        for number in range(1, 21):
            new = await stage.scoring(f"s{number}")
            stage.serve(new)
            await old.stop()
            await watch(8)
            old = new
        over.set()
        await asyncio.gather(*clients)

        await watch(answers.qsize())
        assert statuses == {200}
        assert len(names) == 21


async def test_the_next_request_follows_the_new_table(folder):
    """A table that has been written counts for the very next request."""
    async with Stage(folder) as stage:
        doubles = [await stage.scoring("one"), await stage.scoring("two")]
        running = await stage.gateway()

        for double in itertools.islice(itertools.cycle(doubles), 10):
            stage.serve(double)
            async with running.post() as answer:
                assert (await answer.json())["who"] == double.name


async def test_running_requests_finish_on_the_old_module(folder):
    """A request that has begun is answered by the module it began on, after the table forgot it; then its
    connections are closed.
    """
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.serve(one)
        running = await stage.gateway()
        slow = asyncio.create_task(running.get("/digits/slow").__aenter__())
        await one.begun.wait()
        stage.serve(two)
        async with running.post() as answer:
            assert (await answer.json())["who"] == "two"
        one.release.set()

        async with await slow as answer:
            assert (await answer.json())["who"] == "one"
        await one.left_alone()


async def test_a_forgotten_module_keeps_no_connection(folder):
    """Idle connections to a module that left the table are closed without a further request."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(idle_s=60)
        async with running.post() as answer:
            await answer.read()
        assert one.connected
        stage.route()

        await one.left_alone()


async def test_who_is_asked_when_the_module_is_gone(folder, caplog):
    """Current, previous, fallback, then 503 with Retry-After; each change of who serves is logged once."""
    async with Stage(folder) as stage:
        one, two, cloud = [await stage.scoring(name) for name in ("one", "two", "cloud")]
        await cloud.listen_on_tcp()
        stage.route(
            digits=Route(
                current=one.upstream,
                previous=two.upstream,
                fallback=Fallback(url=f"http://127.0.0.1:{cloud.port}/base", module="acme/cloud:1"),
            )
        )
        running = await stage.gateway()
        seen = []
        for gone in (None, one, two, cloud):
            if gone:
                await gone.stop()
            for _ in range(2):
                async with running.post() as answer:
                    seen.append((answer.status, answer.headers.get("x-edgefleet-served-by")))
                    last = answer

        assert seen[::2] == seen[1::2] == [(200, "local"), (200, "previous"), (200, "fallback"), (503, None)]
        assert last.headers["Retry-After"] == "1"
        assert cloud.asked[0][1] == "/base/score"
        assert cloud.asked[0][2]["Host"] == f"127.0.0.1:{cloud.port}"
        assert len([r for r in caplog.records if r.name == "agent.gateway.proxy" and r.levelno == logging.WARNING]) == 3


async def test_a_module_killed_while_it_works_is_replaced_by_its_predecessor(folder):
    """Where the module dies before it answered, the very same request, body included, goes to the previous one."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.route(digits=Route(current=one.upstream, previous=two.upstream))
        two.release.set()
        running = await stage.gateway()
        asked = asyncio.create_task(running.post("/digits/slow", data=b"12345").__aenter__())
        await one.begun.wait()
        await one.kill()

        async with await asked as answer:
            assert (await answer.json())["size"] == 5
            assert answer.headers["x-edgefleet-served-by"] == "previous"


async def test_a_connection_that_died_idle_costs_nothing(folder):
    """A kept connection that the module closed at the wrong moment is replaced by a fresh one, also for a POST."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        for _ in range(3):
            async with running.post() as answer:
                assert answer.status == 200
            one.drop_next = True


async def test_a_body_too_large_to_keep_is_not_sent_twice(folder):
    """A body that has flowed away cannot be sent again: the client is told to, with 503."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.route(digits=Route(current=one.upstream, previous=two.upstream))
        running = await stage.gateway(replay_body=10)
        one.drop_next = True
        async with running.post(data=b"x" * 100) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert two.asked == []


async def test_a_large_body_still_finds_the_predecessor_of_an_absent_module(folder):
    """A large body goes to the previous module where there was nothing to connect to: nothing had flowed away."""
    async with Stage(folder) as stage:
        two = await stage.scoring("two")
        stage.route(digits=Route(current=nowhere(folder), previous=two.upstream))
        running = await stage.gateway(replay_body=10)
        async with running.post(data=b"x" * 100) as answer:
            assert (await answer.json())["size"] == 100


async def test_held_requests_wait_for_the_new_module(folder):
    """During a stop-then-start swap requests wait, and the new module answers them all."""
    async with Stage(folder) as stage:
        stage.route(digits=Route(hold=True))
        running = await stage.gateway()
        waiting = [asyncio.create_task(running.post().__aenter__()) for _ in range(5)]
        async with running.get("/") as answer:
            assert (await answer.json())[0]["held"]
        assert not any(task.done() for task in waiting)
        stage.serve(await stage.scoring("one"))

        for task in waiting:
            async with await task as answer:
                assert (await answer.json())["who"] == "one"


async def test_a_swap_that_takes_too_long_turns_to_the_cloud(folder):
    """When the wait is over, or too many wait, held requests go to the fallback, and without one get 503."""
    async with Stage(folder) as stage:
        cloud = await stage.scoring("cloud")
        await cloud.listen_on_tcp()
        fallback = Fallback(url=f"http://127.0.0.1:{cloud.port}")
        for settings in ({"hold_s": 0.05}, {"held": 0}):
            running = await stage.gateway(**settings)
            stage.route(digits=Route(hold=True, fallback=fallback))
            async with running.post() as answer:
                assert answer.headers["x-edgefleet-served-by"] == "fallback"
            stage.route(digits=Route(hold=True))
            async with running.post() as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_torn_table_changes_nothing(folder, caplog):
    """A table that cannot be read leaves the last good one in use, logged once; the next good one counts."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        async with running.post() as answer:
            assert answer.status == 200
        for torn in (b'{"generation": 2, "slo', b"", b"\xff", b'{"generation": "x", "slots": {}}', None):
            if torn is None:
                stage.path.unlink()
            else:
                stage.path.write_bytes(torn)
            async with running.post() as answer:
                assert answer.status == 200
        stage.serve(await stage.scoring("two"))
        async with running.post() as answer:
            assert (await answer.json())["who"] == "two"

        assert len([record for record in caplog.records if "no readable routing table" in record.message]) == 1


async def test_before_the_first_table_clients_are_asked_to_come_back(folder):
    """While the agent has not written any table, the answer is 503 with Retry-After."""
    async with Stage(folder) as stage:
        running = await stage.gateway()
        async with running.post() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_silent_module_is_given_up(folder):
    """A module that takes a request and says nothing gets no second one: 504."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(answer_s=0.1)
        async with running.get("/digits/slow") as answer:
            assert answer.status == 504


async def test_stopping_finishes_what_has_begun(folder):
    """After the stop signal no connection is accepted, and the running request is answered."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        slow = asyncio.create_task(running.get("/digits/slow").__aenter__())
        await one.begun.wait()
        running.stop.set()
        await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientConnectorError):
            await running.post()
        one.release.set()

        async with await slow as answer:
            assert answer.status == 200
        await asyncio.wait_for(running.task, stretched(5))
