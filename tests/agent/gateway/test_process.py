"""The gateway as the process that systemd starts: its socket, its readiness, its end."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import aiohttp
import pytest

from agent.gateway.__main__ import main
from modules.protocol.routing import Route
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched

# As systemd does it: the socket is file descriptor 3 and LISTEN_PID is the id of the process that gets it.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "agent.gateway", *sys.argv[2:]])
"""


@contextlib.asynccontextmanager
async def process(*arguments, **more):
    running = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments), **more)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
            await asyncio.wait_for(running.wait(), stretched(10))


async def line_in(path):
    async with asyncio.timeout(stretched(15)):
        while not path.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    return path.read_text().strip()


async def test_it_says_where_it_listens(folder):
    """With port 0 the ready file names the address, written when it serves; SIGTERM ends it with code 0."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        ready = folder / "ready"
        arguments = ("--listen", "127.0.0.1:0", "--table", stage.path, "--ready-file", ready)
        async with process("-m", "agent.gateway", *arguments) as running, aiohttp.ClientSession() as client:
            address = await line_in(ready)
            async with client.post(f"http://{address}/score", data=b"1") as answer:
                assert (await answer.json())["who"] == "one"
        assert running.returncode == 0


async def test_restarts_behind_systemds_socket_lose_no_request(folder):
    """While the socket is held from outside, applications post without a pause through restarts of the gateway."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notices.bind(str(folder / "notify"))
        notices.settimeout(0)
        loop = asyncio.get_running_loop()
        environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        over, statuses = asyncio.Event(), asyncio.Queue()
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as held, notices:
            url = f"http://127.0.0.1:{held.getsockname()[1]}/score"

            async def post():
                # A connection for each request, as curl does it: a client with idle connections must expect their end.
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
                    while not over.is_set():
                        async with client.post(url, data=b"1") as answer:
                            statuses.put_nowait(answer.status)

            clients = [asyncio.create_task(post()) for _ in range(3)]
            for last in (False, False, True):
                arguments = ("-c", AS_SYSTEMD, held.fileno(), "--table", stage.path)
                async with process(*arguments, pass_fds=(held.fileno(),), env=environment):
                    while await asyncio.wait_for(loop.sock_recv(notices, 100), stretched(15)) != b"READY=1":
                        pass
                    for _ in range(statuses.qsize() + 20):
                        assert await asyncio.wait_for(statuses.get(), stretched(10)) == 200
                    if last:
                        over.set()
                        await asyncio.gather(*clients)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "8700"], "write host:port"),
        (["--concurrent", "0"], "concurrent"),
        (["--listen", "192.0.2.1:1"], "cannot listen on"),
    ],
)
def test_bad_settings_name_the_setting(capsys, arguments, says):
    """A setting that cannot be used ends the start with EX_CONFIG and a sentence about it."""
    assert main(["--table", "/nowhere/table.json", *arguments]) == os.EX_CONFIG
    assert says in capsys.readouterr().err


async def test_several_slots_at_once(folder):
    """Each slot has its module."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.route(digits=Route(current=one.upstream), words=Route(current=two.upstream))
        running = await stage.gateway()
        for path, name in (("/digits/score", "one"), ("/words/score", "two")):
            async with running.post(path) as answer:
                assert (await answer.json())["who"] == name


@contextlib.asynccontextmanager
async def keeper(folder, port):
    """The program that holds an endpoint's port, and where it gives it."""
    give = folder / "port.sock"
    async with process("-m", "agent.gateway.keeper", "--listen", f"127.0.0.1:{port}", "--give", give) as running:
        yield running, give


async def test_gateways_change_at_a_held_port_without_a_gap(folder, free_port):
    """One gateway begins at the port before the one of before ends: nobody is refused."""
    async with Stage(folder) as stage:
        double = await stage.scoring("one")
        stage.serve(double)
        port = free_port()
        over, statuses = asyncio.Event(), asyncio.Queue()
        async with contextlib.AsyncExitStack() as stack:
            _, give = await stack.enter_async_context(keeper(folder, port))

            async def start(name):
                ready = folder / name
                arguments = (
                    "--listen",
                    "127.0.0.1:0",
                    "--held-port",
                    give,
                    "--table",
                    stage.path,
                    "--ready-file",
                    ready,
                )
                gateway = await stack.enter_async_context(process("-m", "agent.gateway", *arguments))
                await line_in(ready)
                return gateway

            async def post():
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
                    while not over.is_set():
                        async with client.post(f"http://127.0.0.1:{port}/score", data=b"1") as answer:
                            statuses.put_nowait(answer.status)

            before = await start("first")
            clients = [asyncio.create_task(post()) for _ in range(3)]
            for name in ("second", "third"):
                after = await start(name)
                before.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(before.wait(), stretched(10)) == 0
                for _ in range(statuses.qsize() + 20):
                    assert await asyncio.wait_for(statuses.get(), stretched(10)) == 200
                before = after
            over.set()
            await asyncio.gather(*clients)


async def test_a_gateway_follows_the_port_to_another_keeper(folder, free_port):
    """The keeper is killed and comes again: the gateway that runs serves at the new socket."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        port, ready = free_port(), folder / "ready"
        async with contextlib.AsyncExitStack() as stack:
            running, give = await stack.enter_async_context(keeper(folder, port))
            arguments = ("--listen", "127.0.0.1:0", "--held-port", give, "--table", stage.path, "--ready-file", ready)
            await stack.enter_async_context(process("-m", "agent.gateway", *arguments))
            await line_in(ready)
            running.kill()
            await running.wait()
            await stack.enter_async_context(keeper(folder, port))
            async with aiohttp.ClientSession() as client, asyncio.timeout(stretched(15)):
                # Until the gateway has taken it, a connection waits in the keeper's queue, or finds nobody.
                while True:
                    try:
                        async with client.post(f"http://127.0.0.1:{port}/score", data=b"1") as answer:
                            assert (await answer.json())["who"] == "one"
                            break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)
