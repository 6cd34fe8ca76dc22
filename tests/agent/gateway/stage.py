"""A gateway on a free port, scoring servers on Unix sockets, and a table between them."""

import asyncio
import contextlib

import aiohttp

from agent.gateway.listening import bound_address, own_socket
from agent.gateway.server import serve
from agent.gateway.settings import Settings
from agent.gateway.table import write
from modules.protocol.routing import Route, Table
from tests.agent.gateway.scoring_double import ScoringDouble


class Running:
    """A gateway in this event loop, and a client for it."""

    def __init__(self, port, session, stop, task):
        self.url, self.port, self.session, self.stop, self.task = f"http://127.0.0.1:{port}", port, session, stop, task

    def post(self, path="/digits/score", data=b"{}", **more):
        return self.session.post(self.url + path, data=data, **more)

    def get(self, path, **more):
        return self.session.get(self.url + path, **more)


class Stage(contextlib.AsyncExitStack):
    """Everything that is started on it has ended when the ``async with`` ends."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.path = folder / "table.json"
        self.generation = 0

    async def scoring(self, name):
        double = ScoringDouble(name, self.folder / f"{name}.sock")
        await double.start()
        self.push_async_callback(double.stop)
        return double

    async def replica(self, name, **more):
        """A scoring server on TCP, and how an endpoint's table names it."""
        double = await self.scoring(name)
        await double.listen_on_tcp()
        return double, double.replica(**more)

    async def gateway(self, **settings):
        listener = own_socket("127.0.0.1:0")
        port = int(bound_address(listener).rpartition(":")[2])
        stop = asyncio.Event()
        known = {"grace_s": 0.02, "private_fallbacks": ("127.0.0.1",)} | settings
        task = asyncio.create_task(serve(Settings(table=self.path, **known), listener, stop))

        async def end():
            stop.set()
            await task

        self.push_async_callback(end)
        session = await self.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        return Running(port, session, stop, task)

    def route(self, **slots):
        """Write the table's next generation from ``slot=Route(...)``."""
        self.generation += 1
        write(self.path, Table(generation=self.generation, slots=slots))

    def serve(self, double, **more):
        self.route(digits=Route(current=double.upstream, **more))
