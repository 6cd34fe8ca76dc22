"""The process around the application: its listening socket, its signals, and the order of loading and draining."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from modules.errors import EdgefleetError
from modules.scoring.app import App
from modules.scoring.runtime import ModelRuntime
from modules.scoring.settings import BadCommandLine, Settings

log = logging.getLogger(__name__)

SOCKET_MODE: Final = 0o660
BACKLOG: Final = 1024
# Longer than clients keep idle connections, so that it is they who close them and none is cut while in use.
KEEP_ALIVE_S: Final = 75
_PROBE_S: Final = 1.0


class _Server(uvicorn.Server):
    """uvicorn's, except that SIGTERM ends in a normal exit: uvicorn would raise the signal again after draining."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(runtime: ModelRuntime, settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM, then finish what is in flight; health is answered from the start, scoring once loaded.

    Raises:
        EdgefleetError: the runtime cannot be loaded.
    """
    app = App(runtime, settings)
    server = _Server(
        uvicorn.Config(
            app, http="httptools", loop="asyncio", ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S, backlog=BACKLOG,
        )
    )  # fmt: skip

    async def load() -> None:
        try:
            await runtime.load()
        except BaseException:
            server.should_exit = True
            raise
        app.loaded()
        log.info("ready after %.2f s, on %s", app.load_seconds, runtime.metadata().provider_in_use or "an entry script")

    loading = asyncio.create_task(load(), name="load")
    try:
        await server.serve(sockets=[listener])
    finally:
        loading.cancel()
        (outcome,) = await asyncio.gather(loading, return_exceptions=True)
        await runtime.close()
    if isinstance(outcome, Exception):
        raise outcome


def listen(settings: Settings) -> socket.socket:
    """The bound socket, not yet accepting.

    Raises:
        BadCommandLine: the address is in use or cannot be bound.
    """
    where = str(settings.unix) if settings.unix else f"{settings.host}:{settings.port}"
    try:
        return _unix(settings.unix) if settings.unix else _tcp(settings.host, settings.port)
    except OSError as error:
        raise BadCommandLine(
            f"cannot listen: {error.strerror or error}",
            element=where,
            remedy="choose another address, or end what uses it",
        ) from error


def _tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
    return listener


def _unix(path: Path) -> socket.socket:
    """A socket with mode 0660, its group the folder's where that is setgid. A stale one is removed, a live one not."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(None, "another server is answering there")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    # Nobody can connect before listen(), so there is no moment with another mode.
    path.chmod(SOCKET_MODE)
    listener.listen(BACKLOG)
    return listener


def report(error: EdgefleetError) -> str:
    """The one line that says why this process ends."""
    return f"edgefleet-scoring: {error.code}: {' '.join(str(error).split())}"
