"""A small scoring server on a Unix socket: real HTTP, real connections, answers that say who gave them."""

import asyncio
import hashlib
import os

from aiohttp import web

from modules.protocol.routing import Replica, Upstream
from tests.parts.pace import stretched

PIECE = b"0123456789abcdef" * 4096


class ScoringDouble:
    """Answers ``/score`` with its name and what it received; ``/slow`` waits for ``release``; ``/pieces`` streams.

    Each of these paths may have ``/score`` behind it. ``status``, ``headers`` and ``delay`` are of the answers to
    ``/score``.
    """

    def __init__(self, name, socket):
        self.name = name
        self.socket = str(socket)
        self.asked = []
        self.abandoned = asyncio.Event()
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.drop_next = self.drop_all = False
        # What it answers at these paths, and nothing else.
        self.said = {}
        self.status, self.delay = 200, 0.0
        self.headers = {}

    @property
    def upstream(self):
        return Upstream(socket=self.socket, module=f"acme/{self.name}:1", provider="CPU", instance=self.name)

    def replica(self, **more):
        """As an endpoint's gateway reaches it, once it listens on TCP."""
        url = f"http://127.0.0.1:{self.port}"
        return Replica(url=url, module=f"acme/{self.name}:1", provider="CPU", instance=self.name, **more)

    async def start(self):
        # Its own grace: what is asked before it stops is answered.
        self._server = web.Server(self._answer, handler_cancellation=True, auto_decompress=False, access_log=None)
        self._runner = web.ServerRunner(self._server)
        await self._runner.setup()
        await web.UnixSite(self._runner, self.socket).start()

    async def listen_on_tcp(self):
        """A free loopback port besides the socket, as ``port``."""
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[-1][1]

    async def stop(self):
        await self._runner.cleanup()

    async def kill(self):
        """As by SIGKILL: connections break at once, and nothing answers at the socket."""
        for connection in self._server.connections:
            connection.transport.abort()
        os.unlink(self.socket)  # noqa: PTH108 - of a tmpfs
        await self.stop()

    @property
    def connections(self):
        return list(self._server.connections)

    @property
    def connected(self):
        return bool(self._server.connections)

    async def left_alone(self):
        """Wait until nobody is connected."""
        async with asyncio.timeout(stretched(3)):
            while self._server.connections:  # noqa: ASYNC110 - aiohttp's server has no Event for it
                await asyncio.sleep(0.01)

    async def _answer(self, request):
        self.asked.append((request.method, request.raw_path, request.headers))
        self.begun.set()
        if self.drop_next or self.drop_all:
            self.drop_next = False
            request.transport.abort()
        try:
            return await self._arm(request)
        except (asyncio.CancelledError, ConnectionError):
            self.abandoned.set()
            raise

    async def _arm(self, request):
        path = request.raw_path.partition("?")[0].removesuffix("/score") or "/score"
        if path in self.said:
            return web.Response(body=self.said[path])
        size, digest = 0, hashlib.sha256()
        while chunk := await request.content.readany():
            size += len(chunk)
            digest.update(chunk)
        if path == "/slow":
            await self.release.wait()
        if path == "/pieces":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(int(request.rel_url.query["count"])):
                await response.write(PIECE)
            await response.write_eof()
            return response
        if path == "/broken":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(PIECE)
            request.protocol.force_close()
            return response
        if path == "/large":
            return web.Response(body=PIECE * 32)
        if path == "/score":
            await asyncio.sleep(self.delay)
        told = {"who": self.name, "size": size, "sha256": digest.hexdigest()}
        return web.json_response(told, status=self.status, headers=self.headers)
