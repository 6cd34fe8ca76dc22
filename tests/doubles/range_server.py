"""The fleet server's listener for blobs, out of memory and over real TLS, which fails as it is told."""

import datetime as dt
import http.server
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity import CA, CERTIFICATE, KEY
from fleet.authority import Authority, _key_pem
from modules.digests import BLOCK

HOST = "127.0.0.1"
Answer = Callable[["_Handler"], None]


class RangeServer:
    """``blobs`` by digest, as of a ``BlobServer``; ``identity`` is the folder of a device that it lets in.

    ``authority`` signs both; with ``other_ca`` the server's certificate is another's. ``answer`` may take the place of
    a right answer; ``spoil`` are numbers of blocks that come wrong; ``after`` is how many bytes of an answer are sent
    before ``then`` happens. ``asked`` lists paths and ranges.
    """

    def __init__(
        self,
        folder: Path,
        blobs: dict[str, bytes],
        *,
        name: str = HOST,
        authority: Authority | None = None,
        other_ca: bool = False,
    ) -> None:
        folder.mkdir()
        self.identity = folder / "identity"
        self.identity.mkdir()
        authority = authority or Authority.create("fleet")
        key = ec.generate_private_key(ec.SECP256R1())
        (self.identity / CA).write_text(authority.pem)
        (self.identity / KEY).write_bytes(_key_pem(key))
        certificate = authority.device("dev-1", key.public_key(), dt.timedelta(days=1))
        (self.identity / CERTIFICATE).write_bytes(certificate)
        server = folder / "server.pem"
        (Authority.create("another") if other_ca else authority).server([name]).write(server)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server, server.with_suffix(".key"))
        self._context.load_verify_locations(cadata=authority.pem)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.blobs = blobs
        self.answer: Answer | None = None
        self.spoil: set[int] = set()
        self.after: int | None = None
        self.then: Answer = lambda handler: handler.end()
        self.asked: list[tuple[str, str]] = []
        self.gone = threading.Event()

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
        self.gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def double(self) -> RangeServer:
        found: RangeServer = self.server.double  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        self.double.asked.append((self.path, self.headers.get("Range", "")))
        if self.double.answer is not None:
            self.double.answer(self)
            return
        self.right()

    def do_HEAD(self) -> None:
        self.says(404, b"")

    def right(self) -> None:
        """The answer of a server that is well, but for what is spoilt or ends early."""
        data = self.double.blobs[self.path.removeprefix("/blobs/")]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert found is not None
        first, last = int(found[1]), int(found[2])
        part = bytearray(data[first : last + 1])
        for number in self.double.spoil:
            if first <= number * BLOCK <= last:
                part[number * BLOCK - first] ^= 0xFF
        self.says(206, bytes(part), **{"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def says(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.double.after is None:
            self.wfile.write(body)
        else:
            self.wfile.write(body[: self.double.after])
            self.double.then(self)

    def end(self) -> None:
        self.close_connection = True

    def wait(self) -> None:
        """Nothing more comes until the test ends."""
        self.double.gone.wait(30)
        self.end()

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""
