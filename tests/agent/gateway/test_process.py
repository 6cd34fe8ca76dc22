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
