"""The gateway's life: listen, serve, and leave without dropping a request."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Final

from aiohttp import web

from agent.gateway.listening import bound_address, notify, write_ready_file
from agent.gateway.proxy import Gateway
from agent.gateway.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.5
_TURN_S: Final = 0.01
_BACKLOG: Final = 1024


async def run(settings: Settings, listener: socket.socket, *, ready_file: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what has begun and return."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, listener, stop, ready_file=ready_file)


async def serve(
    settings: Settings, listener: socket.socket, stop: asyncio.Event, *, ready_file: Path | None = None
) -> None:
    """Serve until ``stop`` is set, then finish what has begun and return."""
    gateway = Gateway(settings)
    protocol = web.Server(gateway.handle, handler_cancellation=True, auto_decompress=False, access_log=None)
    address = bound_address(listener)
    accepting = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=_BACKLOG)
    watching = asyncio.create_task(_watch(gateway), name="watch-table")
    if ready_file is not None:
        write_ready_file(ready_file, address)
    notify("READY=1", os.environ)
    logger.info("listening on %s", address)
    await stop.wait()
    notify("STOPPING=1", os.environ)
    await _stop_accepting(accepting, listener)
    gateway.draining = True
    await asyncio.sleep(settings.grace_s)
    # First the requests, then the connections: aiohttp's shutdown would drop what still comes of a request body.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_s):
            await gateway.idle()
    protocol.pre_shutdown()
    await protocol.shutdown(settings.grace_s)
    watching.cancel()
    await gateway.close()
    logger.info("stopped")


async def _stop_accepting(accepting: asyncio.Server, listener: socket.socket) -> None:
    """From here on, where systemd holds the socket, whoever connects is served by the next gateway.

    asyncio's server, once closed, drops what it accepted in this very turn of its loop, so it gets a turn in between.
    """
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(_TURN_S)
    accepting.close()


async def _watch(gateway: Gateway) -> None:
    while True:
        gateway.look()
        await asyncio.sleep(_LOOK_EVERY)
