"""The fleet server's content door, as a pod asks it: one request after another, again and again until time is over.

HTTPS through the proxy that the environment names; no redirect is followed, so the token goes to one server alone.
Nothing that comes is believed here but the status: who asks holds it against digests and signatures.
"""

import http
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, Self, TypeVar

import msgspec

from agent.clock import backoff
from modules.canonical import UNREADABLE
from modules.digests import HASH, Blob, block_matches, sha256
from modules.endpoint.https_proxy import connection, parsed
from modules.errors import BadSettings, Invalid, LinkLost, NeedsOperator, Untrusted
from modules.names import Digest
from modules.protocol.content import TRIED_AGAIN, Content

_CONNECT_S: Final = 10.0
# So long may it be silent; whoever drips is cut when all time is over.
_SILENT_S: Final = 30.0
_FIRST_S: Final = 0.5
_MOST_S: Final = 10.0
# So often may bytes come that were not signed before that is what the server has.
_WRONG: Final = 3
# As on a device: 32 bytes for each 64 KiB, so that a file may have 32 GiB.
_INDEX_LIMIT: Final = 16 << 20
_SAID: Final = 4096
_SHOWN: Final = 300
_SERVER: Final = "fleet server"
_LATER: Final = frozenset({http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS})
_NO_TOKEN: Final = frozenset({http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN})

T = TypeVar("T")


class _Wrong(LinkLost):
    """Other bytes than were signed: once may be chance."""


class _Problem(msgspec.Struct):
    detail: str = ""


class Door:
    """What the fleet server has for one endpoint; closed at the end of its context.

    Args:
        content: where it is, and what lets us in.
        say: is told in a line why something is tried again.

    Raises:
        BadSettings: the address or the authorities cannot be used.
    """

    def __init__(self, content: Content, say: Callable[[str], None]) -> None:
        self._within_s, self._say = content.within_s, say
        self._address = parsed(content.url, "url", "correct it where the target is attached")
        if self._address.scheme != "https" or not self._address.hostname:
            raise BadSettings("it is no https address", element=content.url, remedy="give the server's public_url")
        self._context = _context(content.ca)
        self._headers = {"Authorization": f"Bearer {content.token}", "Accept-Encoding": "identity"}
        self._http: http.client.HTTPSConnection | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._ends = time.monotonic() + content.within_s
        self._cutter = threading.Timer(content.within_s, self._cut)
        self._cutter.daemon = True

    def __enter__(self) -> Self:
        self._cutter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cutter.cancel()
        self._close()

    def metadata(self, name: str, limit: int) -> bytes | None:
        """A file of trust metadata; None where there is none.

        Raises:
            Untrusted: it is longer than ``limit`` bytes.
            LinkLost: it did not come in time.
            NeedsOperator: the server refuses the token, or sends us elsewhere.
        """

        def ask() -> bytes | None:
            answer = self._asked(f"metadata/{name}")
            if answer.status == http.HTTPStatus.NOT_FOUND:
                _read(answer, _SAID)
                return None
            data = _read(answer, limit + 1)
            if len(data) > limit:
                self._close()
                raise Untrusted(f"more bytes came than the {limit} allowed", element=name)
            return data

        return self._tried(ask)

    def small(self, digest: Digest, length: int) -> bytes:
        """A blob in memory, checked.

        Raises:
            Untrusted: again and again, other bytes came than were signed.
            LinkLost, NeedsOperator: as :meth:`metadata`; the server does not have it.
        """

        def ask() -> bytes:
            data = _read(self._blob(digest), length + 1)
            if len(data) != length or sha256(data) != digest:
                self._close()
                raise _Wrong("other bytes came than were signed", element=digest)
            return data

        return self._tried(ask)

    def into(self, blob: Blob, out: BinaryIO) -> None:
        """A blob into an empty file; no block before it was checked.

        Raises:
            Invalid: the blob cannot be what was signed.
            Untrusted, LinkLost, NeedsOperator: as :meth:`small`.
            OSError: the disk does not take it.
        """
        index = self._index(blob)

        def ask() -> None:
            out.seek(0)
            answer = self._blob(blob.sha256)
            for number in range(blob.block_count):
                block = _exactly(answer, blob.block_length(number))
                if not block_matches(index, number, block):
                    self._close()
                    raise _Wrong(f"block {number} is not what was signed", element=blob.sha256)
                out.write(block)
            if _some(answer, 1):
                self._close()
                raise _Wrong("more bytes came than were signed", element=blob.sha256)

        self._tried(ask)

    def _index(self, blob: Blob) -> bytes:
        if blob.block_count == 0:
            return b""
        if blob.block_count == 1:
            return bytes.fromhex(blob.sha256.removeprefix("sha256:"))
        if blob.block_count * HASH > _INDEX_LIMIT:
            raise Invalid(f"{blob.length} bytes are more than one file may have", element=blob.sha256)
        return self.small(blob.blocks, blob.block_count * HASH)

    def _tried(self, ask: Callable[[], T]) -> T:
        tries = wrong = 0
        while True:
            tries += 1
            try:
                return ask()
            except LinkLost as error:
                self._close()
                wrong += isinstance(error, _Wrong)
                if wrong >= _WRONG:
                    raise Untrusted(
                        f"{error.message}, {wrong} times",
                        element=error.element,
                        remedy="find out who answers there; or publish the module again",
                    ) from error
                wait = backoff(tries, first_s=_FIRST_S, most_s=_MOST_S)
                if time.monotonic() + wait >= self._ends:
                    raise LinkLost(
                        f"{error.message}; tried {tries} times within {self._within_s:g} s",
                        element=error.element,
                        remedy=error.remedy,
                    ) from error
                self._say(f"{TRIED_AGAIN} {wait:.1f} s: {error}")
                time.sleep(wait)

    def _blob(self, digest: Digest) -> http.client.HTTPResponse:
        answer = self._asked(f"blobs/{digest}")
        if answer.status == http.HTTPStatus.NOT_FOUND:
            raise NeedsOperator(
                "the fleet server does not have it for this endpoint",
                element=digest,
                remedy="see that the endpoint still serves this module; publish the module again",
            )
        return answer

    def _asked(self, what: str) -> http.client.HTTPResponse:
        """The answer, if it is a good one or a 404."""
        with _explained():
            if self._http is None:
                self._http = connection(self._address, self._context, timeout_s=_CONNECT_S)
                self._http.connect()
                self._http.sock.settimeout(_SILENT_S)
            if time.monotonic() >= self._ends:  # the cut may have come before there was anything to cut
                raise LinkLost("it does not answer in time", element=_SERVER)
            if self._answer is not None:
                self._answer.close()  # it was read to its end; http.client wants to be told
            self._http.request("GET", f"{self._address.path.rstrip('/')}/{what}", headers=self._headers)
            answer = self._answer = self._http.getresponse()
        if answer.status in {http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND}:
            return answer
        said = _said(_read(answer, _SAID))
        self._close()
        if answer.status in _NO_TOKEN:
            raise NeedsOperator(
                f"it refuses the token: {said}",
                element=_SERVER,
                remedy="the server renews it in the Secret; see that it reaches the cluster",
            )
        if answer.status in _LATER or answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise LinkLost(f"it answers {answer.status}: {said}", element=_SERVER)
        raise NeedsOperator(
            f"it answers {answer.status}, and nobody is followed anywhere: {said}",
            element=_SERVER,
            remedy="let url be the server's own address",
        )

    def _close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = self._answer = None

    def _cut(self) -> None:
        """End what is waited for. Not ``SSLSocket.shutdown``: the reader would go on without TLS."""
        one = self._http
        if one is not None and one.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(one.sock, socket.SHUT_RDWR)


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise BadSettings(f"the authorities are no certificates: {error}", element="ca") from error
    return context


@contextmanager
def _explained() -> Iterator[None]:
    """The network's errors in our words; what the disk says is never said in here."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise NeedsOperator(
            f"its certificate does not hold: {error.verify_message}",
            element=_SERVER,
            remedy="set the node's clock right; or find out who answers there",
        ) from error
    except TimeoutError as error:
        raise LinkLost("it does not answer in time", element=_SERVER) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LinkLost(f"it cannot be reached: {error or type(error).__name__}", element=_SERVER) from error


def _some(answer: http.client.HTTPResponse, most: int) -> bytes:
    with _explained():
        return answer.read1(most)


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    """The body, of at most so many bytes."""
    parts, left = [], most
    while left and (part := _some(answer, left)):
        parts.append(part)
        left -= len(part)
    if left and answer.length:
        raise LinkLost("it broke off in the middle", element=_SERVER)
    return b"".join(parts)


def _exactly(answer: http.client.HTTPResponse, length: int) -> bytes:
    """The next bytes of the body, no fewer."""
    data = bytearray()
    while len(data) < length:
        part = _some(answer, length - len(data))
        if not part:
            raise LinkLost("it broke off in the middle", element=_SERVER)
        data += part
    return bytes(data)


def _said(body: bytes) -> str:
    """What a refusal says, in its own words."""
    try:
        return msgspec.json.decode(body, type=_Problem).detail[:_SHOWN]
    except UNREADABLE:
        return body[:_SHOWN].decode(errors="replace")
