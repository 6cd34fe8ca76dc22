"""The process around the application: its listening socket, its signals, and the order of loading and draining."""

import asyncio
import gc
import importlib
import logging
import resource
import signal
import socket
from pathlib import Path
from typing import Final, Protocol

from modules.endpoint.certificate import ServedCertificate
from modules.errors import EdgefleetError
from modules.scoring.http.access import Access
from modules.scoring.http.admission import Admission
from modules.scoring.http.app import App
from modules.scoring.http.connection import Connection
from modules.scoring.models import Models
from modules.scoring.settings import BadCommandLine, Settings

log = logging.getLogger(__name__)

SOCKET_MODE: Final = 0o660
BACKLOG: Final = 1024
RENEW_S: Final = 2.0
_PROBE_S: Final = 1.0
_OTHER_FILES: Final = 256


async def serve(models: Models, settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM, then finish what is in flight; health is answered from the start, scoring once loaded.

    Raises:
        EdgefleetError: a model cannot be loaded.
    """
    limits = settings.limits
    _allow_connections(limits.max_connections * (1 if settings.grpc_port is None else 2))
    admission = Admission(
        max_body=limits.max_body, max_text=limits.max_text, max_held=limits.max_held,
        max_connections=limits.max_connections,
    )  # fmt: skip
    access = Access(settings.access) if settings.access else None
    tls = ServedCertificate(settings.tls.certificate, settings.tls.key) if settings.tls else None
    app = App(models, settings, admission, access)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, models.hang_up)
    server = await loop.create_server(
        lambda: Connection(app, admission), sock=listener, backlog=BACKLOG, ssl=tls.context if tls else None
    )

    grpc = None if settings.grpc_port is None else _grpc(app, models, admission, settings, tls)
    if grpc is not None:
        await grpc.start()

    async def load() -> None:
        try:
            for entry in models:
                if not entry.on_demand:
                    await models.load(entry)
        except BaseException:
            stop.set()
            raise
        # What is in memory now stays there: looking through it again and again would be paid by requests.
        gc.collect()
        gc.freeze()
        app.operation.loaded()
        in_use = models.main.runtime.metadata().provider_in_use or "an entry script"
        log.info("ready after %.2f s, on %s", app.operation.load_seconds, in_use)

    loading = asyncio.create_task(load(), name="load")
    watching = asyncio.create_task(admission.watch(), name="watch connections")
    renewing = asyncio.create_task(_renew(access, tls), name="renew keys and certificate")
    try:
        await stop.wait()
        server.close()
        ending = [admission.drain(limits.drain_s)] + ([] if grpc is None else [grpc.stop(limits.drain_s)])
        await asyncio.gather(*ending)
    finally:
        loading.cancel()
        watching.cancel()
        renewing.cancel()
        outcome, *_ = await asyncio.gather(loading, watching, renewing, return_exceptions=True)
        await models.close()
    if isinstance(outcome, Exception):
        raise outcome


class _Port(Protocol):
    async def start(self) -> None: ...
    async def stop(self, seconds: float) -> None: ...


def _grpc(app: App, models: Models, admission: Admission, settings: Settings, tls: ServedCertificate | None) -> _Port:
    """The gRPC port. Its files are looked for only where it is asked for: most servers do without its packages.

    Raises:
        BadCommandLine: the packages are not installed.
    """
    try:
        room = importlib.import_module("modules.scoring.v2.grpc_server")
    except ModuleNotFoundError as error:
        raise BadCommandLine(
            f"it needs a package that is not installed, {error.name}", element="--grpc-port",
            remedy="pip install 'edgefleet[scoring,grpc]'",
        ) from error  # fmt: skip
    port: _Port = room.GrpcServer(app, models, admission, settings, tls)
    return port


def _allow_connections(count: int) -> None:
    """Raise the soft limit on open files to what so many connections need, as far as the hard one lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _renew(*kept: Access | ServedCertificate | None) -> None:
    """Take renewed keys and certificates into use, for ever."""
    while True:
        await asyncio.sleep(RENEW_S)
        for one in kept:
            if one is not None:
                one.refresh()


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
