"""What the gateway counts of each instance: what applications saw of it, told to the agent when it asks."""

import asyncio
import random
import statistics

import pytest

from agent.answering import Told, gateway
from agent.counted import counted
from modules.latencies import BINS, bin_of, percentile_ms
from modules.protocol.routing import Fallback
from tests.agent.gateway.stage import Stage


async def seen(running):
    return counted(await asyncio.to_thread(gateway, f"127.0.0.1:{running.port}"))


async def post(running, times=1, path="/digits/score"):
    for _ in range(times):
        async with running.post(path) as answer:
            await answer.read()


async def test_requests_errors_and_latencies_are_counted(folder):
    """Each answer counts once, 500 and above as an error, with the time that the module took."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        assert await seen(running) == {}
        await post(running, 5)
        one.status = 404
        await post(running, 2)
        one.status, one.delay = 500, 0.2
        await post(running, 3)
        found = (await seen(running))["one"]

        assert (found.requests, found.errors) == (10, 3)
        assert sum(count for _, count in found.latencies) == 10
        assert 190 < percentile_ms(dict(found.latencies), 0.95) < 350
        assert percentile_ms(dict(found.latencies), 0.5) < 100
        assert 0.5 < found.seconds < 60


async def test_who_answered_is_counted(folder):
    """The module, its predecessor, or nobody: a request counts once, for whoever answered it in the end."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.serve(one, previous=two.upstream)
        running = await stage.gateway()

        async def answered():
            (slot,) = (await asyncio.to_thread(gateway, f"127.0.0.1:{running.port}")).slots
            return slot.get("answered")

        assert await answered() is None
        await post(running, 3)
        assert await answered() == {"local": 3}
        await one.kill()
        await post(running, 2)
        assert await answered() == {"local": 3, "previous": 2}
        await two.kill()
        await post(running, path="/digits/swagger.json")
        assert await answered() == {"local": 3, "previous": 2, "nobody": 1}


async def test_what_is_under_way_is_told(folder):
    """So that the agent knows when nobody waits, however long an answer takes."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        async def in_flight():
            (slot,) = (await asyncio.to_thread(gateway, f"127.0.0.1:{running.port}")).slots
            return slot.get("in_flight")

        one.delay = 1.0
        asking = asyncio.create_task(post(running, 1))
        async with asyncio.timeout(5):
            while await in_flight() != 1:
                assert not asking.done()
        await asking
        assert await in_flight() is None


async def test_what_is_not_a_score_is_not_counted(folder):
    """Pages, health and metrics would make a module look quicker than it is; the other protocol's scores count."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        for path in ("/digits/", "/digits/swagger.json", "/digits/metrics", "/digits/v2/health/live"):
            await post(running, path=path)
        assert await seen(running) == {}
        await post(running, path="/digits/v2/models/digits/infer")
        await post(running, path="/digits/score?verbose=1")

        assert (await seen(running))["one"].requests == 2


async def test_no_answer_is_an_error(folder):
    """A module that dies under a request, stops half-way or is silent too long has failed it."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(answer_s=0.2)
        async with running.post("/digits/broken/score") as answer:
            await answer.content.readany()
        await post(running, path="/digits/slow/score")
        found = (await seen(running))["one"]
        assert (found.requests, found.errors) == (2, 2)
        await one.kill()
        async with running.post() as answer:
            assert answer.status == 503

        assert (await seen(running))["one"].errors == 3


async def slowly(*parts):
    for part in parts:
        yield part
        await asyncio.sleep(0.05)


async def test_a_client_that_leaves_or_sends_too_much_is_no_error_of_the_module(folder):
    """What a client does is no evidence against a version."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(max_body=1000, replay_body=10)
        asking = asyncio.create_task(running.post("/digits/slow/score").__aenter__())
        await one.begun.wait()
        asking.cancel()
        await one.abandoned.wait()
        async with running.post(data=slowly(b"0" * 600, b"0" * 600)) as answer:
            assert answer.status == 413
        await post(running)
        found = (await seen(running))["one"]

        assert (found.requests, found.errors) == (1, 0)


async def test_a_slow_reader_does_not_make_the_module_slow(folder):
    """A long answer's time ends with its head: how long the client takes to read it is the client's."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        async with running.post("/digits/pieces/score?count=200") as answer:
            await asyncio.sleep(0.5)
            await answer.read()
        found = (await seen(running))["one"]

        assert percentile_ms(dict(found.latencies), 1.0) < 400


async def test_a_connection_that_breaks_counts_once(folder):
    """A request that was sent a second time to the same instance, and answered, is one request and no error."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        one.drop_next = True
        await post(running)
        found = (await seen(running))["one"]

        assert (found.requests, found.errors) == (1, 0)


async def test_answers_of_others_are_not_the_modules(folder):
    """What the predecessor or the cloud answered is counted as theirs, or not at all."""
    async with Stage(folder) as stage:
        one, old, cloud = await stage.scoring("one"), await stage.scoring("old"), await stage.scoring("cloud")
        await cloud.listen_on_tcp()
        stage.serve(one, previous=old.upstream, fallback=Fallback(url=f"http://127.0.0.1:{cloud.port}"))
        running = await stage.gateway()
        await post(running)
        await one.kill()
        await post(running, 2)
        await old.kill()
        await post(running, 4)
        found = await seen(running)

        assert cloud.asked
        assert set(found) == {"one", "old"}
        assert (found["one"].requests, found["one"].errors) == (7, 6)
        assert sum(count for _, count in found["one"].latencies) == 1, "no answer has no latency"
        assert (found["old"].requests, found["old"].errors) == (6, 4)


async def test_what_has_left_the_table_is_forgotten(folder):
    """A gateway that runs for months keeps nothing of instances that are gone."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.serve(one)
        running = await stage.gateway()
        await post(running)
        stage.serve(two, previous=one.upstream)
        await post(running)
        assert set(await seen(running)) == {"one", "two"}
        stage.serve(two)

        assert set(await seen(running)) == {"two"}
        stage.serve(one)

        assert await seen(running) == {}


@pytest.mark.parametrize("scale", [0.0001, 0.004, 0.3, 20.0])
def test_percentiles_are_within_five_percent(scale):
    """Of any latency that matters, in a few hundred numbers."""
    chance = random.Random(7)
    times = sorted(scale * chance.lognormvariate(0, 0.5) for _ in range(5000))
    counts = {}
    for one in times:
        counts[bin_of(one)] = counts.get(bin_of(one), 0) + 1

    assert percentile_ms(counts, 0.5) == pytest.approx(statistics.median(times) * 1000, rel=0.05)
    assert percentile_ms(counts, 0.95) == pytest.approx(times[4749] * 1000, rel=0.05)
    assert len(counts) < BINS


def test_absurd_latencies_have_a_bin():
    """None at all and weeks are counted at the ends, and nothing counted has no percentile."""
    assert (bin_of(0.0), bin_of(-1.0), bin_of(1e9)) == (0, 0, BINS - 1)
    assert percentile_ms({}, 0.5) is None


@pytest.mark.parametrize(
    "counts",
    [
        None,
        [],
        {"one": {"requests": -1}},
        {"one": {"requests": 1 << 60}},
        {"one": {"latencies": [[BINS, 1]]}},
        {"one": {"latencies": [[0, 1]] * (BINS + 1)}},
        {"one": {"seconds": "long"}},
    ],
)
def test_counts_that_are_none_are_left_out(counts):
    """Of a gateway that says nonsense nothing is believed; the other slots' counts are."""
    told = Told(1, [{"slot": "a", "counts": counts}, {"slot": "b", "counts": {"two": {"requests": 3}}}])

    assert {name: one.requests for name, one in counted(told).items()} == {"two": 3}
