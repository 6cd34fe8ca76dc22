"""Replicas of an endpoint that take requests and answer none: a real gateway, and sockets that nobody accepts at."""

import asyncio
import contextlib
import socket
import time

import pytest
from aiohttp import web

from agent.gateway import watch
from modules.protocol.routing import Replica, Route, Version
from tests.agent.gateway.test_endpoint import KEY, Endpoint, bearer
from tests.parts.pace import stretched

LATE_S, SILENT_S = 0.2, 0.5
#: until it is asked for a sign, for which it has so long; the rest is for a busy machine
BOUND_S = LATE_S + SILENT_S + 2
ME = bearer(KEY)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Who keeps a request waiting is asked sooner."""
    monkeypatch.setattr(watch, "LATE_S", LATE_S)


class Paused:
    """A scoring server that was paused: its kernel takes connections and requests, and nobody reads them."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.runner = None

    def replica(self, name):
        url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        return Replica(url=url, module="acme/digits:1", provider="CPU", instance=name, silent_s=SILENT_S)

    async def goes_on(self):
        """All that waits there is read and answered."""

        async def answer(request):
            return web.json_response({"who": "again"})

        self.runner = web.ServerRunner(web.Server(answer))
        await self.runner.setup()
        await web.SockSite(self.runner, self.listener).start()

    async def end(self):
        if self.runner is not None:
            await self.runner.cleanup()
        self.listener.close()


class Stalled(Endpoint):
    async def paused(self, name="two"):
        made = Paused()
        self.push_async_callback(made.end)
        return made, made.replica(name)

    async def begin(self, *replicas):
        """A gateway before these, and no other."""
        running = await self.open()
        self.replicas(*replicas)
        return running

    def replicas(self, *replicas):
        self.route(digits=Route(versions=(Version(name="v1", weight=100, replicas=replicas),)))


async def ask(running, path="/score"):
    began = time.monotonic()
    async with running.post(path, headers=ME) as answer:
        said = await answer.json()
        return answer.status, said.get("who") or said.get("message"), time.monotonic() - began


async def test_what_waits_at_a_paused_replica_goes_to_another(folder):
    """Each request is answered by the one that is there, the first ones after a bound, the others at once."""
    async with Stalled(folder) as stage:
        _, one = await stage.replica("one-of-two", silent_s=SILENT_S)
        _, two = await stage.paused()
        running = await stage.begin(one, two)
        first = await asyncio.gather(*(ask(running) for _ in range(8)))
        assert {(status, who) for status, who, _ in first} == {(200, "one-of-two")}
        assert SILENT_S < max(took for _, _, took in first) < stretched(BOUND_S)
        then = [await ask(running) for _ in range(6)]
        assert {(status, who) for status, who, _ in then} == {(200, "one-of-two")}
        assert max(took for _, _, took in then) < stretched(1)


async def test_it_is_asked_again_once_it_gives_a_sign(folder):
    """Nobody has to change the table for that."""
    async with Stalled(folder) as stage:
        _, one = await stage.replica("one-of-two", silent_s=SILENT_S)
        paused, two = await stage.paused()
        running = await stage.begin(one, two)
        await asyncio.gather(*(ask(running) for _ in range(4)))
        await paused.goes_on()
        async with asyncio.timeout(stretched(BOUND_S + 2)):
            while "again" not in {(await ask(running))[1] for _ in range(2)}:  # noqa: ASYNC110 - asked from outside
                await asyncio.sleep(0.1)


async def test_where_all_are_silent_that_is_said_at_once(folder):
    """With 503 and when to come again; only whoever was there first has waited for it."""
    async with Stalled(folder) as stage:
        _, one = await stage.paused("one")
        _, two = await stage.paused("two")
        running = await stage.begin(one, two)
        status, why, took = await ask(running)
        assert (status, took < stretched(2 * BOUND_S)) == (503, True)
        assert "2 replicas broke off" in why
        async with running.post("/score", headers=ME) as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
            assert "its replicas give no sign of life" in (await answer.json())["message"]


async def test_of_a_version_without_replicas_nobody_is_silent(folder):
    """Whoever looks into it is led to what has to be started, and not to another version's replica."""
    async with Stalled(folder) as stage:
        _, one = await stage.paused("one")
        running = await stage.begin(one)
        versions = (Version(name="v1", weight=100, replicas=(one,)), Version(name="v2", weight=0))
        stage.route(digits=Route(versions=versions))
        said = []
        for named in ({}, {}, {"x-edgefleet-version": "v2"}, {"x-edgefleet-version": "v1"}):
            async with running.post("/score", headers=ME | named) as answer:
                said.append((answer.status, (await answer.json())["message"]))
        assert [status for status, _ in said] == [503] * 4
        assert "nothing is running for it" in said[2][1]
        assert all("its replicas give no sign of life" in why for _, why in (said[1], said[3])), said


async def test_where_one_is_silent_and_the_other_gone_it_is_said_what_was_met(folder):
    """Of the one that was asked, for the other may come back by itself."""
    async with Stalled(folder) as stage:
        (_, one), (gone, two) = await stage.paused("one"), await stage.paused("two")
        gone.listener.close()
        running = await stage.begin(one, two)
        await ask(running)
        status, why, _ = await ask(running)
        assert (status, "local: " in why, "give no sign of life" in why) == (503, True, False), why


async def test_who_comes_late_to_a_silent_replica_does_not_wait_there():
    """As a request does that is sent once more, after its connection broke just when the replica fell silent."""
    silent = Replica(url="http://127.0.0.1:9", module="acme/digits:1", provider="CPU", instance="one", silent_s=60)
    over = watch.Watch(silent, lambda: None, {silent})
    try:
        with pytest.raises(watch.NoSign):
            await asyncio.wait_for(over.over(asyncio.Event().wait()), LATE_S / 2)
    finally:
        over.close()


async def test_a_model_that_takes_its_time_is_waited_for(folder):
    """It gives signs meanwhile, however long it takes."""
    async with Stalled(folder) as stage:
        double, slow = await stage.replica("slow", silent_s=SILENT_S)
        double.delay = 3 * (LATE_S + SILENT_S)
        running = await stage.begin(slow)
        assert (await ask(running))[:2] == (200, "slow")
        assert ("GET", "/") in {asked[:2] for asked in double.asked}
        assert [asked[:2] for asked in double.asked].count(("POST", "/score")) == 1


async def test_one_that_ends_with_the_answers_that_it_owes_is_waited_for(folder):
    """It takes no connection any more, which is a sign of life, too."""
    async with Stalled(folder) as stage:
        double, old = await stage.replica("old", silent_s=SILENT_S)
        running = await stage.begin(old)
        waiting = asyncio.create_task(ask(running, "/digits/slow/score"))
        async with asyncio.timeout(stretched(5)):
            await double.begun.wait()
        for site in list(double._runner.sites):
            await site.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * (LATE_S + SILENT_S)):
                await asyncio.shield(waiting)
        double.release.set()
        assert (await waiting)[:2] == (200, "old")


async def test_no_sign_is_asked_for_where_several_stand_behind_one_address(folder):
    """As on Kubernetes: whoever answered there would say nothing of who is asked."""
    async with Stalled(folder) as stage:
        double, slow = await stage.replica("slow")
        double.delay = 1.0
        running = await stage.begin(slow)
        assert (await ask(running))[:2] == (200, "slow")
        assert {asked[:2] for asked in double.asked} == {("POST", "/score")}


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_replica_that_the_table_forgets_meanwhile(folder, leaves):
    """What waits there is answered by another all the same, and nothing goes on asking it."""
    async with Stalled(folder) as stage:
        _, one = await stage.replica("one-of-two", silent_s=SILENT_S)
        _, two = await stage.paused()
        running = await stage.begin(two)
        waiting = asyncio.create_task(ask(running))
        await asyncio.sleep(0.2)
        stage.replicas(one, *(() if leaves else (two,)))
        status, who, took = await waiting
        assert (status, who, took < stretched(BOUND_S)) == (200, "one-of-two", True)
        if leaves:
            async with asyncio.timeout(stretched(3)):
                while any(task.get_name().startswith("sign-of-life") for task in asyncio.all_tasks()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
