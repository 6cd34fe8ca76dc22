"""What goes through the gateway, and what it adds, drops and refuses on the way."""

import asyncio
import gzip
import hashlib
import io

import aiohttp
import pytest
from yarl import URL

from modules.protocol.routing import Route
from tests.agent.gateway.scoring_double import PIECE
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched

LARGE = b"x" * (3 << 20)


async def test_an_answer_says_who_gave_it(folder):
    """The application sees the module's answer, with the module, the provider and who served named in headers."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway()

        async with running.post(data=b"[1, 2]") as answer:
            assert (answer.status, (await answer.json())["who"]) == (200, "one")
            assert answer.headers["x-edgefleet-served-by"] == "local"
            assert answer.headers["x-edgefleet-module"] == "acme/one:1"
            assert answer.headers["x-edgefleet-provider"] == "CPU"
            assert len(answer.headers["x-request-id"]) == 32


async def test_a_request_id_passes_through(folder):
    """The client's request id reaches the module and comes back."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        async with running.post(headers={"X-Request-ID": "abc-1"}) as answer:
            assert answer.headers["x-request-id"] == "abc-1"
            assert one.asked[0][2]["x-request-id"] == "abc-1"


async def test_paths_with_and_without_the_slot_reach_the_same_module(folder):
    """With one slot its name may be left out, and the scoring server never sees it."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        for path in (
            "/digits/score",
            "/score",
            "/digits/v2/models/m%20x?q=a%2Fb",
            "/v2/health/ready",
            "/digits",
            "/digits/",
        ):
            async with running.session.get(URL(running.url + path, encoded=True)) as answer:
                assert answer.status == 200
        assert [path for _, path, _ in one.asked] == [
            "/score",
            "/score",
            "/v2/models/m%20x?q=a%2Fb",
            "/v2/health/ready",
            "/",
            "/",
        ]


async def test_connection_headers_stay_behind(folder):
    """Headers of one connection, and those a client nominates, are not passed on; all others are."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        async with running.post(headers={"Connection": "x-private", "X-Private": "1", "TE": "gzip", "X-Mine": "2"}):
            seen = {name.lower(): value for name, value in one.asked[0][2].items()}
        assert seen["x-mine"] == "2"
        assert not {"te", "x-private"} & seen.keys()


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "three-mib"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_bodies_arrive_unchanged(folder, data, chunked):
    """A body arrives byte for byte, whether it was kept, kept in part or passed on as it came."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))

        async def pieces():
            for at in range(0, len(data), 100_000):
                yield data[at : at + 100_000]

        for replay in (0, 1 << 20, 16 << 20):
            running = await stage.gateway(replay_body=replay)
            async with running.post(data=pieces() if chunked else io.BytesIO(data)) as answer:
                received = await answer.json()
                assert received == {"who": "one", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def test_compressed_bodies_are_not_touched(folder):
    """Content-Encoding is the business of client and module."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway()
        data = gzip.compress(b"[1]" * 100)

        async with running.post(data=data, headers={"Content-Encoding": "gzip"}) as answer:
            assert (await answer.json())["sha256"] == hashlib.sha256(data).hexdigest()


async def test_long_answers_stream(folder):
    """Answers of unknown and of large length arrive whole."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway()

        async with running.get("/digits/pieces?count=200") as answer:
            assert await answer.read() == PIECE * 200
        async with running.get("/digits/large") as answer:
            assert (answer.content_length, await answer.read()) == (len(PIECE) * 32, PIECE * 32)


async def test_head_and_options_pass(folder):
    """HEAD gives the length without a body; OPTIONS reaches the module."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        async with running.session.head(running.url + "/digits/large") as answer:
            assert (answer.status, answer.content_length, await answer.read()) == (200, len(PIECE) * 32, b"")
        async with running.session.options(running.url + "/score") as answer:
            assert answer.status == 200
        assert [method for method, _, _ in one.asked] == ["HEAD", "OPTIONS"]


async def test_an_answer_that_breaks_off_is_not_passed_as_whole(folder):
    """Where the module dies in the middle of an answer, the client's read fails; it gets no shortened answer."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway()

        with pytest.raises(aiohttp.ClientPayloadError):
            async with running.get("/digits/broken") as answer:
                await answer.read()


async def test_a_client_that_leaves_frees_the_module(folder):
    """When the client is gone, the module's work for it is cancelled, whatever of the request had arrived."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(replay_body=0)
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
        await one.begun.wait()
        writer.close()
        await writer.wait_closed()

        await asyncio.wait_for(one.abandoned.wait(), stretched(5))


async def test_a_client_that_leaves_while_waiting_frees_the_module(folder):
    """A request whose client no longer waits for the answer is cancelled at the module."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()

        with pytest.raises(TimeoutError):
            await running.post("/digits/slow", timeout=aiohttp.ClientTimeout(total=0.2))
        await asyncio.wait_for(one.abandoned.wait(), stretched(5))


async def test_a_slow_client_takes_no_place(folder):
    """While one client dawdles over its body, the only place of the slot serves others."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway(concurrent=1, waiting=0)
        go_on = asyncio.Event()

        async def dawdle():
            yield b"[1,"
            await go_on.wait()
            yield b"2]"

        slow = asyncio.create_task(running.post(data=dawdle()).__aenter__())
        async with running.post() as answer:
            assert answer.status == 200
        go_on.set()
        async with await slow as answer:
            assert (await answer.json())["size"] == 5


async def test_a_silent_client_is_told_so(folder):
    """A client that stops in the middle of its body gets 408, also where the module was already being sent it."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        never = asyncio.Event()

        async def stops():
            yield b"[1,"
            await never.wait()

        for replay in (0, 1000):
            running = await stage.gateway(replay_body=replay, body_s=0.1)
            async with running.post(data=stops()) as answer:
                assert answer.status == 408


async def test_too_large_a_body_is_refused(folder):
    """413 with a JSON message, whether the length was declared or found out on the way."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(max_body=1000, replay_body=100)

        async def pieces():
            for _ in range(30):
                yield b"x" * 100

        for data in (b"x" * 1001, pieces()):
            async with running.post(data=data) as answer:
                assert answer.status == 413
                assert "1000 bytes" in (await answer.json())["message"]


async def test_expect_is_answered(folder):
    """A client that waits for 100 Continue before its body gets it from the gateway."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway()

        async with running.post(data=b"[1]", expect100=True) as answer:
            assert (await answer.json())["size"] == 3


async def test_no_more_than_the_places(folder):
    """Requests beyond the places wait; beyond the queue they get 429 with Retry-After."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway(concurrent=1, waiting=1, wait_s=5)
        busy = asyncio.create_task(running.get("/digits/slow").__aenter__())
        await one.begun.wait()
        others = [asyncio.create_task(running.get("/digits/").__aenter__()) for _ in range(2)]
        refused, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        one.release.set()

        for task in refused:
            async with await task as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert len(waiting) == 1
        for task in (busy, *waiting):
            async with await task as answer:
                assert answer.status == 200


async def test_the_root_lists_the_slots(folder):
    """GET / names each slot, its module and who serves it."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.route(digits=Route(current=one.upstream), words=Route(previous=two.upstream), held=Route(hold=True))
        running = await stage.gateway()

        async with running.get("/") as answer:
            assert await answer.json() == [
                {"slot": "digits", "module": "acme/one:1", "provider": "CPU", "served_by": "local", "held": False},
                {"slot": "held", "module": None, "provider": None, "served_by": None, "held": True},
                {"slot": "words", "module": "acme/two:1", "provider": "CPU", "served_by": "previous", "held": False},
            ]


async def test_a_wrong_slot_is_told_the_right_ones(folder):
    """404 for a slot that is not here, and for none where there are several; the message says what to use."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.route(digits=Route(current=one.upstream), words=Route(current=one.upstream))
        running = await stage.gateway()

        for path in ("/cats/score", "/score"):
            async with running.post(path) as answer:
                assert answer.status == 404
                assert "/digits/score or /words/score" in (await answer.json())["message"]


@pytest.mark.parametrize(
    "path", ["/digits/edgefleet/state", "/digits//edgefleet/state", "/digits/%65dgefleet/x", "/digits/a/../edgefleet/x"]
)
async def test_the_internal_branch_is_closed(folder, path):
    """No spelling reaches the scoring server's own branch for the agent."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.serve(one)
        running = await stage.gateway()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert answer.split()[1] in {b"404", b"400"}
        assert one.asked == []
