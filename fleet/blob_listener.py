"""The listener where devices fetch blobs over HTTPS: mutual TLS, ``GET`` and ``HEAD /blobs/<digest>``, nothing else.

A device shows the certificate that it has from the fleet's own CA. TLS checks that and its dates; each request then
looks it up among the certificates that were issued, so that a revoked one, and one of a removed device, is refused in
the middle of a connection, too. What the device's orders do not name (fleet/rights.py) is not there for it. uvicorn
does not tell an application whose certificate it was (Kludex/uvicorn#3132): :class:`DeviceConnection` does, in the
``state`` of each request.

It runs in a thread and an event loop of its own: what it encrypts for devices is no time of the loop that takes orders
and reports.
"""

import asyncio
import http
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from fleet import errors, revocation
from fleet.api.paths import DigestPath
from fleet.authority import certified_names
from fleet.connections import BoundedServer, Connection, Pace
from fleet.folder import Folder
from fleet.paced import paced
from fleet.ranges import Unsatisfiable, selected
from fleet.refusals import Forbidden, Missing
from fleet.services import Services
from modules.names import DeviceId, Digest

log = logging.getLogger(__name__)

# Of one device; one more, and the oldest goes: an agent that was cut off from the network comes again.
PER_DEVICE: Final = 8
# Of all devices; beyond it the answer is 503, and devices take MQTT.
CONNECTIONS: Final = 1000
_STARTS_WITHIN_S: Final = 30.0


class DeviceConnection(Connection):
    """One connection of a device; its class carries the pace, and who has how many."""

    open: dict[str, list["DeviceConnection"]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        mine = self.open.setdefault(self._serial, [])
        mine.append(self)
        if len(mine) > PER_DEVICE:
            mine[0].transport.abort()
            mine[0]._forget()  # noqa: SLF001 - of the same class

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["certificate"] = self._certificate

    def _await_head(self) -> None:
        # Without the main listener's share for an address: a site's devices come from one, and each has its own share.
        self._waits_since, self._head = self.loop.time(), 0

    @property
    def _serial(self) -> str:
        return str(self._certificate.get("serialNumber", ""))

    def _forget(self) -> None:
        mine = self.open.get(self._serial, [])
        if self in mine:
            mine.remove(self)
            if not mine:
                del self.open[self._serial]


class _Server(BoundedServer):
    """Waits for no answer when it ends: a device goes on where it was."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for one in list(self.server_state.connections):
            one.transport.abort()
        await super().shutdown(sockets)


def application(use: Services) -> FastAPI:
    """What the listener answers."""
    app = FastAPI(openapi_url=None)
    errors.install(app)

    @app.api_route("/blobs/{name}", methods=["GET", "HEAD"])
    def blob(name: DigestPath, request: Request) -> Response:
        device, counter = _admit(use, request.state.certificate)
        use.rights.check_now(device, name, counter)
        length = use.blobs.length(name)
        if length is None:
            raise Missing("there is no such blob", element=name)
        return _answer(request, name, length, lambda part: _read(use, device, use.blobs.path(name), part))

    return app


def _admit(use: Services, certificate: dict[str, Any]) -> tuple[DeviceId, int]:
    """Whose certificate it is, and the number of its newest order. Raises Forbidden unless it holds now."""
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    if len(names) != 1:
        raise Forbidden("the certificate names no device", element="certificate")
    with use.database.read() as connection:
        counter = revocation.check(connection, use.clock(), names[0], int(certificate["serialNumber"], 16))
    return DeviceId(names[0]), counter


def _answer(request: Request, name: Digest, length: int, read: Callable[[range], AsyncIterator[bytes]]) -> Response:
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{name}"'}
    whole, part = range(length), None
    if request.method == "GET" and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        try:
            part = selected(request.headers.get("range"), length)
        except Unsatisfiable as error:
            code = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            answer = errors.problem(code, error.code, error.message, element=error.element, remedy=error.remedy)
            answer.headers["Content-Range"] = f"bytes */{length}"
            return answer
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{length}"
    sent = whole if part is None else part
    headers["Content-Length"] = str(len(sent))
    media, code = "application/octet-stream", http.HTTPStatus.OK if part is None else http.HTTPStatus.PARTIAL_CONTENT
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media)
    return StreamingResponse(read(sent), status_code=code, headers=headers, media_type=media)


async def _read(use: Services, device: DeviceId, path: Path, part: range) -> AsyncIterator[bytes]:
    limit = await use.limits.of(device)
    async for piece in paced(path, part, limits=use.limits, meters=use.meters, limit=limit):
        yield piece


@asynccontextmanager
async def serving(listener: socket.socket, folder: Folder, use: Services) -> AsyncIterator[None]:
    """Answer devices at ``listener`` until the end of the context."""
    settings = use.settings
    config = uvicorn.Config(
        application(use),
        ssl_certfile=folder.server,
        ssl_keyfile=folder.key(folder.server),
        ssl_ca_certs=str(folder.ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        http=type("Listening", (DeviceConnection,), {"pace": Pace(settings.head_s, settings.body_s), "open": {}}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    host = urlsplit(settings.blobs_at).hostname
    if host not in {name.lower() for name in certified_names(folder.server)}:
        log.warning(
            "%s names no host of this server's certificate, so devices cannot believe it and fetch over MQTT: name it "
            "with init --name, or set blob_url",
            settings.blobs_at,
        )
    server = _Server(config, handshake_s=settings.handshake_s)
    thread = threading.Thread(target=_run, args=(server, listener), name="blobs", daemon=True)
    thread.start()
    try:
        await asyncio.to_thread(_wait, lambda: server.started or not thread.is_alive())
        if config.ssl is not None:
            # In the loop of that thread: nobody agrees on TLS there at the same time.
            reload = partial(config.ssl.load_cert_chain, folder.server, folder.key(folder.server))
            use.upkeep.watch(folder.server, lambda: server.loop.call_soon_threadsafe(reload))
        log.info("blobs for devices at port %d", settings.blob_port)
        yield
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, _STARTS_WITHIN_S)


def _run(server: BoundedServer, listener: socket.socket) -> None:
    try:
        server.run(sockets=[listener])
    except Exception:  # devices go on over MQTT
        log.exception("the listener for blobs died; devices fetch over MQTT")


def _wait(ready: Callable[[], bool]) -> None:
    ends = time.monotonic() + _STARTS_WITHIN_S
    while not ready() and time.monotonic() < ends:
        time.sleep(0.01)
