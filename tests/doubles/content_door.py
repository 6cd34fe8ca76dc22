"""The fleet server's content door over real TLS, in front of a trust repository, which fails as it is told."""

import http.server
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet.authority import Authority
from modules.protocol.content import Content, RoleSeen, encode
from modules.trust.device import Trust
from tests.doubles.keys import MemoryRoleVersions, Publisher, Responder
from tests.doubles.release import Release

HOST = "127.0.0.1"
PATH = "/api/v1/content/digits"
TOKEN = "a-token-of-this-endpoint"
KEY = "k" * 43
Answer = Callable[["_Handler"], None]


class ContentDoor:
    """Offers what ``publisher`` has published, and the files of ``release``.

    ``files`` and ``blobs`` are what it answers with; ``answers`` are taken first, each for one request, and may do
    anything. ``asked`` lists the paths, below the endpoint's, of requests that brought the token.
    """

    def __init__(self, folder: Path, publisher: Publisher, release: Release, *, clock=time.time) -> None:
        self.publisher, self.release = publisher, release
        self.files, self.blobs = dict(publisher.files), dict(release.blobs)
        self.answers: list[Answer] = []
        self.asked: list[str] = []
        self.gone = threading.Event()
        self.authority = Authority.create("fleet", clock)
        folder.mkdir()
        pem = folder / "server.pem"
        self.authority.server([HOST]).write(pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem, pem.with_suffix(".key"))

    def __enter__(self) -> Self:
        self._server = http.server.ThreadingHTTPServer((HOST, 0), _Handler)
        self._server.double = self  # type: ignore[attr-defined]
        self._server.socket = self._context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"https://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)

    def content(self, **more) -> Content:
        """The settings of a pod, as the fleet server writes them at this moment."""
        said = {
            "url": self.url + PATH,
            "ca": self.authority.pem,
            "token": TOKEN,
            "module": str(self.release.manifest.ref),
            "digest": self.release.digest,
            "root": self.publisher.first_root,
            "written": self.publisher.now.timestamp(),
            "keys": (KEY,),
            "within_s": 20.0,
        }
        return Content(**said | more)

    def settings(self, folder: Path, **more) -> Path:
        """The same, as a file."""
        file = folder / "content.json"
        file.write_bytes(encode(self.content(**more)))
        return file

    def roles(self) -> dict[str, RoleSeen]:
        """The versions of the roles that are published now, as whoever follows them sees them."""
        return seen_roles(self.publisher, self.release.manifest.ref.target)


def seen_roles(publisher: Publisher, target: str) -> dict[str, RoleSeen]:
    """What a device that looks for ``target`` now remembers of the roles."""
    seen = MemoryRoleVersions()
    there = Responder(publisher)
    with tempfile.TemporaryDirectory() as folder:
        trust = Trust(
            Path(folder), root=publisher.first_root, fetch=there.fetch, read_target=there.read_target, versions=seen
        )
        trust.refresh(publisher.now)
        trust.manifest_target(target)
    return {role: RoleSeen(mark.version, mark.keyids) for role, mark in seen.marks().items()}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def double(self) -> ContentDoor:
        found: ContentDoor = self.server.double  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.says(401, b'{"detail": "this is not a token of this endpoint"}')
            return
        self.double.asked.append(self.path.removeprefix(PATH + "/"))
        if self.double.answers:
            self.double.answers.pop(0)(self)
            return
        self.right()

    def found(self) -> bytes | None:
        kind, _, name = self.path.removeprefix(PATH + "/").partition("/")
        return (self.double.files if kind == "metadata" else self.double.blobs).get(name)

    def right(self) -> None:
        """The answer of a server that is well."""
        data = self.found()
        if data is None:
            self.says(404, b'{"detail": "there is no such thing"}')
        else:
            self.says(200, data)

    def says(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def half(self) -> None:
        """The first half of the right answer, and then the connection ends."""
        data = self.found() or b""
        self.says(200, data[: len(data) // 2], length=len(data))
        self.close_connection = True

    def drip(self) -> None:
        """A byte of the head now and then, until the test ends."""
        while not self.double.gone.wait(0.05):
            self.wfile.write(b"H")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""


def tampered(data: bytes, at: int = 0) -> bytes:
    """The same length, with one other byte."""
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)
