"""The gateway's life: listen, serve, and leave without dropping a request."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from agent.gateway.keeper import Held
from agent.gateway.listening import bound_address, notify, write_ready_file
from agent.gateway.proxy import Gateway
from agent.gateway.settings import Settings
from modules.endpoint.certificate import ServedCertificate
from modules.errors import BadSettings

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.5
_TURN_S: Final = 0.01
_BACKLOG: Final = 1024
# An unused connection of a client is kept so long.
_KEPT_S: Final = 75.0
# What a client sends that is not HTTP is the client's trouble: aiohttp would log it with a traceback.
_quiet = logging.getLogger(f"{__name__}.clients")
_quiet.setLevel(logging.CRITICAL)


async def run(
    settings: Settings, listener: socket.socket, *, ready_file: Path | None = None, held: Held | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what has begun and return."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, listener, stop, ready_file=ready_file, held=held)


async def serve(
    settings: Settings,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    ready_file: Path | None = None,
    held: Held | None = None,
) -> None:
    """Serve until ``stop`` is set, then finish what has begun and return.

    Args:
        settings: the gateway's bounds.
        listener: its own address.
        stop: set when it is to end.
        ready_file: gets the address once it serves.
        held: a port that somebody holds for it, where it serves as well.
    """
    gateway = Gateway(settings)
    certificate = _certificate(settings)
    if certificate is not None:
        certificate.ask_clients(gateway.authority)
    protocol = web.Server(
        gateway.handle,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        logger=_quiet,
        keepalive_timeout=_KEPT_S,
    )
    address = bound_address(listener)

    async def accept(at: socket.socket) -> asyncio.Server:
        secure = certificate.context if certificate else None
        return await asyncio.get_running_loop().create_server(protocol, sock=at, backlog=_BACKLOG, ssl=secure)

    port = None if held is None else _Port(held, accept)
    if port is not None:
        await port.open()
    accepting = await accept(listener)
    watching = asyncio.create_task(_watch(gateway, certificate), name="watch-files")
    waiting = asyncio.create_task(_end_waiting(protocol, gateway, settings), name="watch-connections")
    following = None if port is None else asyncio.create_task(port.follow(), name="watch-port")
    if ready_file is not None:
        write_ready_file(ready_file, address)
    notify("READY=1", os.environ)
    logger.info("listening on %s", address)
    await stop.wait()
    logger.info("told to stop: what has begun is finished, and no more is taken")
    notify("STOPPING=1", os.environ)
    if following is not None:
        following.cancel()
    await asyncio.gather(_stop_accepting(accepting, listener), *(() if port is None else (port.close(),)))
    gateway.draining = True
    await asyncio.sleep(settings.grace_s)
    # First the requests, then the connections: aiohttp's shutdown would drop what still comes of a request body.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_s):
            await gateway.idle()
    protocol.pre_shutdown()
    await protocol.shutdown(settings.grace_s)
    watching.cancel()
    waiting.cancel()
    await gateway.close()
    logger.info("stopped")


class _Port:
    """A port that a keeper holds; with another keeper it is another socket."""

    def __init__(self, held: Held, accept: Callable[[socket.socket], Awaitable[asyncio.Server]]) -> None:
        self._held, self._accept = held, accept
        self._accepting: tuple[asyncio.Server, socket.socket] | None = None

    async def open(self) -> None:
        listener = await self._held.take()
        self._accepting = await self._accept(listener), listener

    async def follow(self) -> None:
        while True:
            await self._held.lost()
            logger.warning("the keeper of the port is gone; its successor is waited for")
            await self.close()
            await self.open()

    async def close(self) -> None:
        if self._accepting is not None:
            accepting, self._accepting = self._accepting, None
            await _stop_accepting(*accepting)


async def _stop_accepting(accepting: asyncio.Server, listener: socket.socket) -> None:
    """From here on, where systemd or a keeper holds the socket, whoever connects is served by the next gateway.

    asyncio's server, once closed, drops what it accepted in this very turn of its loop, so it gets a turn in between.
    """
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(_TURN_S)
    accepting.close()


async def _end_waiting(server: web.Server, gateway: Gateway, settings: Settings) -> None:
    """Close connections that never sent a request: after a while, and at once where they are too many."""
    since: dict[web.RequestHandler, float] = {}
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        now = time.monotonic()
        connections = server.connections
        gateway.asked.intersection_update(connections)
        since = {one: began for one, began in since.items() if one in connections}
        silent = sorted((since.setdefault(one, now), id(one), one) for one in connections if one not in gateway.asked)
        surplus = max(0, len(connections) - settings.connections)
        for number, (began, _, connection) in enumerate(silent):
            if number < surplus or now - began > settings.head_s:
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()


def _certificate(settings: Settings) -> ServedCertificate | None:
    """What an endpoint speaks TLS with.

    Raises:
        BadSettings: the certificate or its key is missing, or cannot be used.
    """
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise BadSettings(
            "a certificate needs its key, and a key its certificate",
            element="--tls-certificate, --tls-key",
            remedy="give both, in PEM",
        )
    return ServedCertificate(settings.tls_certificate, settings.tls_key)


async def _watch(gateway: Gateway, certificate: ServedCertificate | None) -> None:
    while True:
        gateway.look()
        if certificate is not None:
            certificate.refresh()
            certificate.ask_clients(gateway.authority)
        await asyncio.sleep(_LOOK_EVERY)
