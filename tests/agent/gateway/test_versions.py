"""Several versions behind one endpoint: who gets how many requests, and what happens when one of them is gone."""

import asyncio
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gateway.shares import Asking, Shares
from modules.protocol.routing import Replica, Route, Version
from tests.agent.gateway.stage import Stage

SCORED = "x-edgefleet-version"


def version(name, weight, *replicas):
    return Version(name=name, weight=weight, replicas=replicas)


async def answered(running, count, **headers):
    """Which version answered each of so many requests, one after the other."""
    seen = []
    for _ in range(count):
        async with running.post("/score", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            seen.append(answer.headers[SCORED])
    return seen


async def test_each_version_gets_its_share_spread_out(folder):
    """Of a hundred requests at 90 to 10, ten reach the second version, and never two of them in a row."""
    async with Stage(folder) as stage:
        _, old = await stage.replica("old")
        _, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 90, old), version("v2", 10, new))))
        running = await stage.gateway()

        seen = await answered(running, 100)

        assert Counter(seen) == {"v1": 90, "v2": 10}
        assert "v2v2" not in "".join(seen)


async def test_what_the_weights_leave_over_is_the_defaults(folder):
    """With ten percent given away and nothing said of the rest, the first version answers ninety of a hundred."""
    async with Stage(folder) as stage:
        _, old = await stage.replica("old")
        _, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 0, old), version("v2", 10, new))))
        running = await stage.gateway()

        assert Counter(await answered(running, 100)) == {"v1": 90, "v2": 10}


async def test_a_client_may_name_the_version(folder):
    """A version without a share answers who asks for it; one that is not there is a 404 that names those that are."""
    async with Stage(folder) as stage:
        _, old = await stage.replica("old")
        _, trial = await stage.replica("trial")
        stage.route(digits=Route(versions=(version("v1", 100, old), version("trial", 0, trial))))
        running = await stage.gateway()

        assert set(await answered(running, 5)) == {"v1"}
        assert set(await answered(running, 5, **{SCORED: "trial"})) == {"trial"}
        async with running.post("/score", headers={SCORED: "v9"}) as answer:
            assert answer.status == 404
            assert (await answer.json())["message"] == "no version 'v9' of this endpoint: it has v1, trial"


async def test_a_named_version_is_answered_by_no_other(folder):
    """Who asks for a version that cannot be reached gets 503, not the answer of another."""
    async with Stage(folder) as stage:
        _, old = await stage.replica("old")
        double, trial = await stage.replica("trial")
        stage.route(digits=Route(versions=(version("v1", 100, old), version("trial", 0, trial))))
        running = await stage.gateway()
        await double.kill()

        async with running.post("/score", headers={SCORED: "trial"}) as answer:
            assert answer.status == 503


async def test_the_default_answers_for_a_version_that_is_gone(folder):
    """Nobody is turned away because the new version has died: the default has its requests, and says so."""
    async with Stage(folder) as stage:
        _, old = await stage.replica("old")
        double, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 50, old), version("v2", 50, new))))
        running = await stage.gateway()
        await double.kill()

        assert set(await answered(running, 20)) == {"v1"}


async def test_where_the_default_is_gone_a_version_with_a_share_answers(folder):
    """The others stand in for the default; one that has no share is not asked even then."""
    async with Stage(folder) as stage:
        double, old = await stage.replica("old")
        _, trial = await stage.replica("trial")
        _, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 90, old), version("trial", 0, trial), version("v2", 10, new))))
        running = await stage.gateway()
        await double.kill()

        assert set(await answered(running, 20)) == {"v2"}


async def test_replicas_share_the_work_of_their_version(folder):
    """Two replicas answer as often, and a dead one costs no request."""
    async with Stage(folder) as stage:
        one, first = await stage.replica("one")
        two, second = await stage.replica("two")
        stage.route(digits=Route(versions=(version("v1", 100, first, second),)))
        running = await stage.gateway()

        await answered(running, 20)
        assert (len(one.asked), len(two.asked)) == (10, 10)

        await one.kill()
        await answered(running, 20)
        assert len(two.asked) == 30


async def test_a_request_at_which_replicas_end_is_not_tried_at_all_of_them(folder):
    """It may be why: of four replicas, two are asked, and the answer says not to send it again; others are served."""
    async with Stage(folder) as stage:
        pairs = [await stage.replica(f"r{number}") for number in range(4)]
        stage.route(digits=Route(versions=(version("v1", 100, *(replica for _, replica in pairs)),)))
        running = await stage.gateway()
        for double, _ in pairs:
            double.drop_all = True
        async with running.post("/score") as answer:
            assert answer.status == 503
            assert "do not send it again" in await answer.text()
        assert sum(bool(double.asked) for double, _ in pairs) == 2
        for double, _ in pairs:
            double.drop_all = False
        assert await answered(running, 4) == ["v1"] * 4


async def test_a_request_that_is_sent_again_takes_no_turn_of_another(folder):
    """Shares stay exact while one of a version's replicas is dead and its requests go to the next."""
    async with Stage(folder) as stage:
        dead, first = await stage.replica("dead")
        _, second = await stage.replica("alive")
        _, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 75, first, second), version("v2", 25, new))))
        running = await stage.gateway()
        await dead.kill()

        assert Counter(await answered(running, 100)) == {"v1": 75, "v2": 25}


async def test_replicas_are_reached_by_name(folder):
    """A replica's name leads into the endpoint's own network, so it need not be a public address."""
    async with Stage(folder) as stage:
        double, _ = await stage.replica("one")
        named = msgspec.structs.replace(double.replica(), url=f"http://localhost:{double.port}")
        stage.route(digits=Route(versions=(version("v1", 100, named),)))
        running = await stage.gateway(private_fallbacks=())
        assert await answered(running, 1) == ["v1"]


async def test_connections_to_a_replica_outlive_a_new_table(folder):
    """A change of the shares costs no replica its open connections."""
    async with Stage(folder) as stage:
        double, one = await stage.replica("one")
        stage.route(digits=Route(versions=(version("v1", 100, one),)))
        running = await stage.gateway()
        await answered(running, 1)
        (kept,) = double.connections
        stage.route(digits=Route(versions=(version("v1", 50, one),)))
        await answered(running, 1)
        assert double.connections == [kept]


async def test_a_busy_replica_is_spared(folder):
    """While one replica works on a slow request, the others get the new ones."""
    async with Stage(folder) as stage:
        one, first = await stage.replica("one")
        two, second = await stage.replica("two")
        stage.route(digits=Route(versions=(version("v1", 100, first, second),)))
        running = await stage.gateway()

        slow = asyncio.create_task(running.post("/digits/slow").__aenter__())
        await asyncio.wait([asyncio.create_task(one.begun.wait()), asyncio.create_task(two.begun.wait())],
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        busy, idle = (one, two) if one.begun.is_set() else (two, one)
        await answered(running, 6)

        assert (len(busy.asked), len(idle.asked)) == (1, 6)
        busy.release.set()
        (await slow).close()


async def test_a_replica_gets_its_own_key_and_never_the_clients(folder):
    """What lets a client in at the endpoint stays there: the module sees the key that it was given, or none."""
    async with Stage(folder) as stage:
        keyed, first = await stage.replica("keyed", key="of-the-replica-itself")
        stage.route(digits=Route(versions=(version("v1", 100, first),)))
        running = await stage.gateway()
        await answered(running, 1, Authorization="Bearer of-the-client")
        assert keyed.asked[-1][2].getall("Authorization") == ["Bearer of-the-replica-itself"]

        bare, second = await stage.replica("bare")
        stage.route(digits=Route(versions=(version("v1", 100, second),)))
        await answered(running, 1, Authorization="Bearer of-the-client")
        assert "Authorization" not in bare.asked[-1][2]


async def test_a_version_that_is_drained_finishes_what_it_has(folder):
    """A request under way at a version that the next table no longer names gets its answer from that very version."""
    async with Stage(folder) as stage:
        old_double, old = await stage.replica("old")
        _, new = await stage.replica("new")
        stage.route(digits=Route(versions=(version("v1", 100, old),)))
        running = await stage.gateway()
        slow = asyncio.create_task(running.post("/digits/slow").__aenter__())
        await old_double.begun.wait()

        stage.route(digits=Route(versions=(version("v2", 100, new),)))
        assert set(await answered(running, 3)) == {"v2"}
        old_double.release.set()
        answer = await slow
        assert (answer.status, answer.headers[SCORED], (await answer.json())["who"]) == (200, "v1", "old")


@given(
    weights=st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(lambda found: 0 < sum(found) <= 100),
    rounds=st.integers(1, 3),
)
def test_any_hundred_requests_are_dealt_out_exactly(weights, rounds):
    """Whatever the weights, each version has had its percentage after any full hundred requests."""
    versions = tuple(version(f"v{at}", weight) for at, weight in enumerate(weights))
    shares = Shares()
    drawn = Counter(shares.draw(versions) for _ in range(100 * rounds))
    expected = dict.fromkeys((one.name for one in versions), 0)
    for one in versions:
        expected[one.name] += one.weight * rounds
    expected["v0"] += (100 - sum(weights)) * rounds
    assert drawn == Counter(expected)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_request_asks_each_replica_once(gone):
    """However often a request is sent again, nobody who was silent is asked twice, and in the end there is nobody."""
    made = tuple(Replica(url=f"http://10.0.0.{at}", module="m", provider="CPU", instance=f"i{at}") for at in range(3))
    versions = (version("v1", 100, made[0]), version("v2", 0, made[1]), version("v3", 5, made[2]))
    asking = Asking(Shares(), lambda _: 0, "")
    silent = {made[gone]}
    while (turn := asking.turn(versions, silent)) is not None:
        assert turn.replica not in silent
        silent.add(turn.replica)
    assert silent == {made[gone], made[0], made[2]}
