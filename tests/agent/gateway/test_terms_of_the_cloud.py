"""The way to the cloud: left alone while it fails, bounded apart, within a budget, taken where there is too much."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from agent.gateway.losses import now
from agent.gateway.spent import Spent
from modules.protocol.routing import Fallback, Overload, Route
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched

SOON = stretched(0.5)


@asynccontextmanager
async def staged(folder, *, here=True, settings=None, **terms):
    """A gateway, a module here and an endpoint in the cloud; ``stage.to_cloud(...)`` routes to them on other terms."""
    async with Stage(folder) as stage:
        stage.cloud = await stage.scoring("cloud")
        await stage.cloud.listen_on_tcp()
        stage.here = await stage.scoring("here") if here else None

        def to_cloud(*, port=None, **more):
            fallback = Fallback(url=f"http://127.0.0.1:{port or stage.cloud.port}", **{**terms, **more})
            stage.route(digits=Route(current=stage.here and stage.here.upstream, fallback=fallback))

        stage.to_cloud = to_cloud
        to_cloud()
        yield stage, await stage.gateway(spent=folder / "spent.json", **(settings or {}))


async def told(running, path="/digits/score"):
    """Status, who answered, what it said, and when to come again."""
    async with running.post(path) as answer:
        said = await answer.json()
        after = int(answer.headers.get("Retry-After", 0))
        return answer.status, answer.headers.get("x-edgefleet-served-by"), said.get("message", ""), after


async def until(running, right):
    """Ask until the answer is right."""
    async with asyncio.timeout(stretched(5)):
        while not right(await told(running)):  # noqa: ASYNC110 - another side brings it about
            await asyncio.sleep(0.02)


async def test_a_cloud_that_fails_is_left_alone_and_comes_back(folder):
    """After three failures clients are told at once, and no more is sent; one tries it again, and it is back."""
    async with staged(folder, here=False, settings={"cloud_pause_s": 0.3}) as (stage, running):
        stage.cloud.status = 503
        for _ in range(3):
            assert (await told(running))[:2] == (503, "fallback")
        began = time.monotonic()
        status, by, why, after = await told(running)
        assert time.monotonic() - began < SOON
        assert (status, by, after) == (503, None, 1)
        assert "its endpoint in the cloud does not, either: it answers 503" in why
        assert len(stage.cloud.asked) == 3

        stage.cloud.status = 200
        await until(running, lambda one: one[0] == 200)
        assert len(stage.cloud.asked) == 4


async def test_a_cloud_that_nobody_reaches_costs_no_wait(folder):
    """Once it is known, the answer is a quick 503 that says why; the first ones wait for a connection, no longer."""
    async with staged(folder, here=False, settings={"connect_s": 0.2, "cloud_pause_s": 60}) as (stage, running):
        stage.to_cloud(port=9)
        for _ in range(3):
            assert (await told(running))[0] == 503
        began = time.monotonic()
        for _ in range(20):
            status, _, why, after = await told(running)
            assert (status, after > 1, "left alone" in why or "Connect" in why) == (503, True, True)
        assert time.monotonic() - began < SOON
        stage.to_cloud(port=9)  # a new table is no news of it
        assert "its endpoint in the cloud does not, either" in (await told(running))[2]


async def test_a_cloud_that_takes_too_long_is_left_alone_and_nobody_follows_who_waited(folder):
    """Each in its own time is told that it took too long; who waits for a place there is told at once, unsent."""
    settings = {"cloud_answer_s": stretched(0.5), "cloud_failures": 1, "cloud_concurrent": 2, "cloud_pause_s": 60}
    async with staged(folder, here=False, settings=settings) as (stage, running):
        async with asyncio.timeout(stretched(10)):
            found = await asyncio.gather(*(told(running, "/digits/slow/score") for _ in range(5)))
        assert sorted(one[0] for one in found) == [503, 503, 503, 504, 504]
        assert len(stage.cloud.asked) == 2
        stage.cloud.release.set()


async def test_a_try_whose_client_leaves_is_followed_by_another(folder):
    """It said nothing of the cloud, which is not left alone for ever."""
    async with staged(folder, here=False, settings={"cloud_pause_s": 0.1, "cloud_failures": 1}) as (stage, running):
        stage.cloud.status = 503
        await told(running)
        stage.cloud.status = 200
        stage.cloud.begun.clear()
        async with asyncio.timeout(stretched(5)):
            while not stage.cloud.begun.is_set():
                trying = asyncio.create_task(told(running, "/digits/slow/score"))
                await asyncio.wait([trying, asyncio.create_task(stage.cloud.begun.wait())], timeout=0.05)
                trying.cancel()
        await until(running, lambda one: one[0] == 200)


async def test_while_it_is_tried_again_one_request_goes(folder):
    """Of ten that come when the pause is over, one is sent; the others hear at once that it does not answer."""
    async with staged(folder, here=False, settings={"cloud_pause_s": 0.1, "cloud_failures": 1}) as (stage, running):
        stage.cloud.status = 503
        await told(running)
        await asyncio.sleep(0.15)
        stage.cloud.asked.clear()
        stage.cloud.begun.clear()
        trying = asyncio.create_task(told(running, "/digits/slow/score"))
        await stage.cloud.begun.wait()
        assert [(await told(running))[0] for _ in range(9)] == [503] * 9
        stage.cloud.status = 200
        stage.cloud.release.set()
        assert (await trying)[0] == 200
        assert len(stage.cloud.asked) == 1


async def test_a_slow_cloud_takes_no_place_of_those_here(folder):
    """With one place here and two requests hanging in the cloud, the module that is back answers at once."""
    async with staged(folder, settings={"concurrent": 1, "waiting": 0}) as (stage, running):
        await stage.here.kill()
        hanging = [asyncio.create_task(told(running, "/digits/slow/score")) for _ in range(2)]
        async with asyncio.timeout(stretched(3)):
            while len(stage.cloud.asked) < 2:  # noqa: ASYNC110 - an Event says only that one came
                await asyncio.sleep(0.01)
        stage.here = await stage.scoring("here")
        stage.to_cloud()
        async with asyncio.timeout(SOON):
            assert (await told(running))[:2] == (200, "local")
        stage.cloud.release.set()
        assert [(await one)[:2] for one in hanging] == [(200, "fallback")] * 2


async def test_the_way_to_the_cloud_begins_with_a_few_and_widens(folder, monkeypatch):
    """Four go at first, so that not all of many open a connection; each answer lets one more, up to the bound.

    After a while without any it begins anew.
    """
    settings, later = {"cloud_waiting": 0, "cloud_concurrent": 6}, 0.0
    monkeypatch.setattr("agent.gateway.cloud.now", lambda: now() + later)
    async with staged(folder, here=False, settings=settings) as (stage, running):
        for places in (4, 6, 4):
            later = 3600.0 * (places == 4)
            stage.cloud.release.clear()
            stage.cloud.asked.clear()
            hanging = [asyncio.create_task(told(running, "/digits/slow/score")) for _ in range(places)]
            async with asyncio.timeout(stretched(3)):
                while len(stage.cloud.asked) < places:  # noqa: ASYNC110 - an Event says only that one came
                    await asyncio.sleep(0.01)
            status, _, why, _ = await told(running)
            assert (status, f"all {places} places of this slot's endpoint" in why) == (429, True)
            stage.cloud.release.set()
            assert [(await one)[0] for one in hanging] == [200] * places


async def test_more_than_the_cloud_takes_are_told_so(folder):
    """One more than its places is a 429 that names whose places they are."""
    settings = {"cloud_concurrent": 1, "cloud_waiting": 0}
    async with staged(folder, here=False, settings=settings) as (stage, running):
        hanging = asyncio.create_task(told(running, "/digits/slow/score"))
        await stage.cloud.begun.wait()
        status, _, why, _ = await told(running)
        assert (status, "all 1 places of this slot's endpoint in the cloud are taken" in why) == (429, True)
        stage.cloud.release.set()
        await hanging


async def test_what_is_too_much_goes_to_the_cloud_and_comes_back(folder):
    """With one that works and one that waits, the next ones go to the cloud; once they are done here, none does."""
    terms = {"stands_in": False, "overload": Overload(waiting=1)}
    async with staged(folder, settings={"concurrent": 1, "waiting": 5}, **terms) as (stage, running):
        three = [asyncio.create_task(told(running, "/digits/slow/score")) for _ in range(3)]
        async with asyncio.timeout(stretched(5)):
            await stage.cloud.begun.wait()
        assert (await told(running))[1] == "fallback"
        stage.here.release.set()
        stage.cloud.release.set()
        assert sorted([(await one)[1] for one in three]) == ["fallback", "local", "local"]
        assert (await told(running))[1] == "local"


async def test_a_cloud_for_what_is_too_much_does_not_stand_in(folder):
    """Where the order says only overloaded, a module that is gone is a 503."""
    async with staged(folder, stands_in=False, overload=Overload(waiting=9)) as (stage, running):
        await stage.here.kill()
        assert (await told(running))[0] == 503
        assert stage.cloud.asked == []


async def test_a_slow_module_keeps_one_request_by_which_it_is_seen_to_be_quick_again(folder):
    """While answers take too long, one at a time stays here and the others go; quick again, all stay."""
    async with staged(folder, overload=Overload(waiting=100, latency_ms=20)) as (stage, running):
        stage.here.delay = 0.2
        for _ in range(3):
            await told(running)
        both = await asyncio.gather(told(running), told(running))
        assert sorted(one[1] for one in both) == ["fallback", "local"]
        stage.here.delay = 0.0
        for _ in range(30):
            await told(running)
        both = await asyncio.gather(*(told(running) for _ in range(5)))
        assert {one[1] for one in both} == {"local"}


async def test_a_cloud_that_fails_at_what_is_too_much_costs_nobody_an_answer(folder):
    """A request that would have gone there is answered here, if later."""
    async with staged(folder, settings={"concurrent": 1}, overload=Overload(waiting=1)) as (stage, running):
        stage.cloud.drop_all = True
        stage.here.delay = 0.02
        answers = await asyncio.gather(*(told(running) for _ in range(20)))
        assert {one[:2] for one in answers} == {(200, "local")}
        assert stage.cloud.asked


async def test_a_days_requests_are_counted_over_restarts(folder):
    """The fourth of three is a 503 until midnight, by another gateway, too; the module here is asked as ever."""
    async with staged(folder, here=False, requests_a_day=3) as (stage, running):
        assert [(await told(running))[0] for _ in range(3)] == [200] * 3
        status, _, why, after = await told(running)
        assert (status, 0 < after <= 86400) == (503, True)
        assert "the 3 requests that slot digits may send to the cloud today are spent; there are more from 00:00" in why
        another = await stage.gateway(spent=folder / "spent.json")
        assert (await told(another))[0] == 503
        assert len(stage.cloud.asked) == 3
        stage.here = await stage.scoring("here")
        stage.to_cloud()
        assert (await told(running))[:2] == (200, "local")


async def test_what_was_never_sent_costs_nothing_of_the_day(folder):
    """Where nobody could be reached."""
    settings = {"connect_s": 0.2, "cloud_failures": 100}
    async with staged(folder, here=False, settings=settings, requests_a_day=2) as (stage, running):
        stage.to_cloud(port=9)
        assert [(await told(running))[0] for _ in range(3)] == [503] * 3
        stage.to_cloud()
        assert [(await told(running))[0] for _ in range(3)] == [200, 200, 503]


def test_a_power_cut_makes_no_day_longer(tmp_path):
    """What is on the disk is never less than what was sent, and at most a hundredth of the budget more."""
    spent = Spent(tmp_path / "spent.json")
    for _ in range(150):
        spent.take("digits", 1000)
    after = Spent(tmp_path / "spent.json")
    assert 150 <= after.of("digits") <= 160
    spent.close()
    assert Spent(tmp_path / "spent.json").of("digits") == 150


def test_the_next_day_begins_anew_and_yesterdays_file_counts_nothing(tmp_path, monkeypatch):
    """Counts are of a day by UTC; a clock that goes back begins none."""
    day = [20_000]
    monkeypatch.setattr("agent.gateway.spent._today", lambda: day[0])
    spent = Spent(tmp_path / "spent.json")
    spent.take("digits", 1)
    assert spent.is_over("digits", 1)
    day[0] -= 1
    assert spent.is_over("digits", 1)
    assert Spent(tmp_path / "spent.json").is_over("digits", 1)
    day[0] += 2
    assert not spent.is_over("digits", 1)
    assert not Spent(tmp_path / "spent.json").is_over("digits", 1)


def test_a_clock_that_was_ahead_for_a_moment_makes_no_day_of_ten(tmp_path, monkeypatch):
    """What was sent counts until the next midnight, and not until the clock is that late again."""
    day = [20_000]
    monkeypatch.setattr("agent.gateway.spent._today", lambda: day[0])
    spent = Spent(tmp_path / "spent.json")
    day[0] += 10
    spent.take("digits", 1)
    day[0] -= 10
    assert spent.is_over("digits", 1)
    day[0] += 1
    assert not spent.is_over("digits", 1)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b'{"day": -1}', b'{"day": 1, "slots": {"\xff": 1}}', b'{"x": ' + b"[" * 100_000]
)
def test_a_file_that_says_nothing_costs_no_answers(tmp_path, content, caplog):
    """It is said, and the day counts from there on."""
    (tmp_path / "spent.json").write_bytes(content)
    assert Spent(tmp_path / "spent.json").of("digits") == 0
    assert bool(content) == ("cannot be kept" in caplog.text)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_device_that_is_not_let_in_says_so_once(folder, status):
    """Its clients are not told to log in; it is not asked again until a new table may bring another token."""
    (folder / "token").write_text("et1.1.old\n")
    async with staged(folder, here=False, token=str(folder / "token")) as (stage, running):
        stage.cloud.status = status
        found, by, why, _ = await told(running)
        assert (found, by) == (503, None)
        assert f"it does not let this device in ({status})" in why
        assert (await told(running))[0] == 503
        assert len(stage.cloud.asked) == 1
        assert stage.cloud.asked[0][2]["Authorization"] == "Bearer et1.1.old"

        stage.to_cloud()  # the agent writes the next table for a renewed certificate, too
        assert (await told(running))[0] == 503
        assert len(stage.cloud.asked) == 2

        stage.cloud.status = 200
        (folder / "newer").write_text("et1.2.new")
        stage.to_cloud(token=str(folder / "newer"))
        assert (await told(running))[:2] == (200, "fallback")
        assert stage.cloud.asked[2][2]["Authorization"] == "Bearer et1.2.new"


async def test_the_cloud_hears_of_the_device_and_not_of_its_clients(folder):
    """Its own name, and the device's token in the place of whatever a client has shown here."""
    (folder / "token").write_text("et1.1.mine")
    async with staged(folder, here=False, token=str(folder / "token")) as (stage, running):
        async with running.post("/digits/score", headers={"Authorization": "Bearer theirs"}) as answer:
            assert answer.status == 200
        headers = stage.cloud.asked[0][2]
        assert (headers["Authorization"], headers["Host"]) == ("Bearer et1.1.mine", f"127.0.0.1:{stage.cloud.port}")


async def test_a_token_that_is_not_there_is_said(folder):
    """Nobody is asked without it."""
    async with staged(folder, here=False, token=str(folder / "none")) as (stage, running):
        status, _, why, _ = await told(running)
        assert (status, "the token for it cannot be used" in why) == (503, True)
        assert stage.cloud.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_nobody_is_sent_elsewhere(folder, status):
    """A redirect to the device itself is neither followed nor passed on to a client that might."""
    async with staged(folder) as (stage, running):
        at = f"http://127.0.0.1:{running.port}/digits/score"
        stage.cloud.status, stage.cloud.headers = status, {"Location": at}
        await stage.here.kill()
        async with running.post(allow_redirects=False) as answer:
            assert (answer.status, "Location" in answer.headers) == (503, False)
            assert "would send us elsewhere" in (await answer.json())["message"]
        assert len(stage.cloud.asked) == 1


async def test_a_request_that_broke_the_module_is_sent_to_the_cloud_once(folder):
    """The cloud breaks off at it, too: it is tried there no second time, as others are."""
    async with staged(folder) as (stage, running):
        stage.here.drop_all = stage.cloud.drop_all = True
        assert (await told(running))[0] == 503
        assert (len(stage.here.asked), len(stage.cloud.asked)) == (2, 1)
        await stage.here.kill()
        assert (await told(running))[0] == 503
        assert len(stage.cloud.asked) == 3


async def test_a_module_that_is_not_ready_yet_is_not_waited_for(folder):
    """A 503 that says when to come again goes to the cloud, once; where nobody else is, the client hears it."""
    async with staged(folder) as (stage, running):
        stage.here.status, stage.here.headers = 503, {"Retry-After": "1"}
        assert (await told(running))[:2] == (200, "fallback")
        assert len(stage.here.asked) == len(stage.cloud.asked) == 1
        stage.here.headers = {}
        assert (await told(running))[:2] == (503, "local")
        stage.here.headers = {"Retry-After": "1"}
        stage.serve(stage.here)
        assert (await told(running))[:2] == (503, "local")


async def test_a_cloud_that_is_closed_is_not_asked_and_clients_are_told_why(folder):
    """With nobody here the 503 has the reason; a module that is here answers as ever."""
    async with staged(folder, here=False, stands_in=False, closed="the money is spent") as (stage, running):
        status, _, said, _ = await told(running)
        assert (status, "the money is spent" in said, stage.cloud.asked) == (503, True, [])
    async with staged(folder, stands_in=False, closed="the money is spent") as (stage, running):
        assert (await told(running))[:2] == (200, "local")
