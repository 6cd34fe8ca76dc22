"""Images into an OCI registry, by the distribution protocol (version 2), with the very bytes that were signed.

What a cluster pulls is the signed manifest by its digest, so the registry is a store and nothing is trusted to it. What
is there already is not sent again; an upload that breaks off goes on where the registry has got to. Credentials go to
the registry, and to the token service that it names over TLS; to no other host, wherever an answer points. A proxy of
the environment (``https_proxy``, ``no_proxy``) is followed, which sees host names and no more.
"""

import base64
import http
import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit

import msgspec

from modules.canonical import UNREADABLE
from modules.digests import Blob
from modules.endpoint.https_proxy import connection
from modules.errors import BadSettings, LinkLost, NeedsOperator
from modules.manifest import Image
from modules.oci import MANIFEST_TYPE, checked_blob, read_blob

_BYTES: Final = "application/octet-stream"
_TIMEOUT_S: Final = 60.0
_TOGETHER: Final = 3
_TRIES: Final = 5
_WAIT_S: Final = 1.0
_ANSWER_LIMIT: Final = 64 << 10
_TAG_DIGITS: Final = 16
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Progress = Callable[[str, int, int], None]


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """Where images go: ``address`` is ``HOST[:PORT]/REPOSITORY``, with ``http://`` before it where there is no TLS.

    ``ca`` is the PEM of the authorities behind it; empty: the system's.
    """

    address: Annotated[str, msgspec.Meta(max_length=500)]
    user: Annotated[str, msgspec.Meta(max_length=500)] = ""
    password: Annotated[str, msgspec.Meta(max_length=16 << 10)] = ""
    ca: Annotated[str, msgspec.Meta(max_length=64 << 10)] = ""


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def reference(registry: Registry, image: Image) -> str:
    """How a cluster names the image: by the signed manifest's digest.

    Raises:
        BadSettings: the address is none.
    """
    at, repository = _place(registry)
    return f"{at.netloc}/{repository}@{image.manifest.sha256}"


def push(registry: Registry, image: Image, blobs: Path, *, progress: Progress = lambda *_: None) -> str:
    """Make sure that the registry has the image; its :func:`reference`.

    It gets a tag as well, so that a registry's own cleaning keeps it.

    Args:
        registry: where to.
        image: which.
        blobs: a folder with its blobs, named by the hex digits of their digests.
        progress: is told what was sent, how many bytes of how many.

    Raises:
        BadSettings: the address or the authorities cannot be used.
        Invalid: a blob is missing here, or was changed.
        LinkLost: the registry cannot be reached, again and again.
        NeedsOperator: it refuses; its own words are in the message.
    """
    manifest = read_blob(image.manifest, blobs)
    parts = {blob.sha256: blob for blob in (image.config, *image.layers)}
    with ThreadPoolExecutor(_TOGETHER, thread_name_prefix="push") as threads:
        sent = [threads.submit(_Session(registry).bring, blob, blobs, progress) for blob in parts.values()]
        for one in sent:
            one.result()
    _Session(registry).name(image, manifest)
    return reference(registry, image)


class _Session:
    """Asks one registry; what it has been granted is kept for the next question."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._at, self._repository = _place(registry)
        self._context = _context(registry.ca)
        self._granted = ""

    def bring(self, blob: Blob, blobs: Path, progress: Progress) -> None:
        """Send a blob, unless it is there."""
        there = self._tried(lambda: self._ask("HEAD", f"blobs/{blob.sha256}"))
        # A registry whose bytes lie elsewhere answers by pointing there, once it has found them.
        if there.status == http.HTTPStatus.OK or there.status in _MOVED:
            progress(blob.sha256, blob.length, blob.length)
            return
        if there.status != http.HTTPStatus.NOT_FOUND:
            raise self._refused(there)
        place = ""

        def send() -> None:
            nonlocal place
            place, start = self._begun(place)
            if start > blob.length:
                place, start = self._begun("")
            if start < blob.length:
                body = _from(checked_blob(blob, blobs), start, lambda at: progress(blob.sha256, at, blob.length))
                fields = {"Content-Type": _BYTES, "Content-Length": str(blob.length - start)}
                fields["Content-Range"] = f"{start}-{blob.length - 1}"
                answer = self._ask("PATCH", place, body, fields, expected=http.HTTPStatus.ACCEPTED)
                place = self._next(answer, place)
            whole = f"{place}{'&' if urlsplit(place).query else '?'}{urlencode({'digest': blob.sha256})}"
            self._ask("PUT", whole, b"", {"Content-Length": "0"}, expected=http.HTTPStatus.CREATED)

        self._tried(send)

    def name(self, image: Image, manifest: bytes) -> None:
        """Give the registry the manifest, whose blobs it has, and look whether it has it by its digest."""
        tag = f"sha256-{image.manifest.sha256.removeprefix('sha256:')[:_TAG_DIGITS]}"
        fields = {"Content-Type": MANIFEST_TYPE, "Content-Length": str(len(manifest))}
        self._tried(lambda: self._ask("PUT", f"manifests/{tag}", manifest, fields, expected=http.HTTPStatus.CREATED))
        found = self._tried(
            lambda: self._ask("HEAD", f"manifests/{image.manifest.sha256}", None, {"Accept": MANIFEST_TYPE})
        )
        if found.status != http.HTTPStatus.OK:
            raise NeedsOperator(
                f"the registry took the manifest, and does not have it by its digest: {found.status}",
                element=reference(self._registry, image),
                remedy="use a registry that keeps manifests as they are",
            )

    def _begun(self, place: str) -> tuple[str, int]:
        """Where an upload goes on, and how many bytes are there; a new one where the registry knows it no more."""
        if place:
            answer = self._ask("GET", place)
            if answer.status == http.HTTPStatus.NO_CONTENT:
                last = re.fullmatch(r"(?:bytes=)?0-(\d{1,15})", answer.headers.get("Range", ""))
                there = int(last[1]) if last else 0
                # "0-0" is an upload without a byte, and one with a single one; that one is sent again.
                return self._next(answer, place), there + 1 if there else 0
        fields = {"Content-Length": "0"}
        answer = self._ask("POST", "blobs/uploads/", b"", fields, expected=http.HTTPStatus.ACCEPTED)
        return self._next(answer, "blobs/uploads/"), 0

    def _next(self, answer: _Answer, before: str) -> str:
        return urljoin(self._url(before), str(answer.headers.get("Location") or ""))

    def _url(self, what: str) -> str:
        return urljoin(f"{self._at.geturl()}/v2/{self._repository}/", what)

    def _ask(
        self, method: str, what: str, body: bytes | Iterable[bytes] | None = None,
        fields: dict[str, str] | None = None, *, expected: int = 0,
    ) -> _Answer:  # fmt: skip
        """The answer; where ``expected`` is given, that one."""
        at = urlsplit(self._url(what))
        own = (at.scheme, at.netloc) == (self._at.scheme, self._at.netloc)
        if not own and at.scheme != "https":
            raise NeedsOperator(
                f"it points to {at.scheme}://{at.netloc}, without TLS", element=self._at.netloc, remedy=_OTHER
            )
        answer = self._exchange(at, method, body, (fields or {}) | (self._authorization() if own else {}))
        if answer.status == http.HTTPStatus.UNAUTHORIZED and own and self._grant(answer):
            if body is not None and not isinstance(body, bytes):
                raise LinkLost("it wants another token in the middle of an upload", element=self._at.netloc)
            answer = self._exchange(at, method, body, (fields or {}) | self._authorization())
        if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == _TOO_MANY:
            raise LinkLost(f"it answers {answer.status}: {_said(answer)}", element=self._at.netloc)
        if answer.status in _DENIED or (expected and answer.status != expected):
            raise self._refused(answer)
        return answer

    def _exchange(self, at: SplitResult, method: str, body: Any, fields: dict[str, str]) -> _Answer:
        one: http.client.HTTPConnection
        if at.scheme == "https":
            one = connection(at, self._context, timeout_s=_TIMEOUT_S)
        else:
            # Without TLS it is a registry nearby, and a proxy would read the password.
            one = http.client.HTTPConnection(at.hostname or "", at.port, timeout=_TIMEOUT_S)
        try:
            one.request(method, f"{at.path}{'?' if at.query else ''}{at.query}", body, fields, encode_chunked=False)
            answer = one.getresponse()
            return _Answer(answer.status, answer.headers, answer.read(_ANSWER_LIMIT))
        except ssl.SSLCertVerificationError as error:
            raise NeedsOperator(
                f"its certificate does not hold: {error.verify_message}",
                element=at.netloc,
                remedy="give the authority behind it, in PEM",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise LinkLost(f"it cannot be reached: {error or type(error).__name__}", element=at.netloc) from error
        finally:
            one.close()

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": self._granted} if self._granted else {}

    def _grant(self, refused: _Answer) -> bool:
        """Get what a 401 asks for; False where there is nothing more to show."""
        asked = refused.headers.get("WWW-Authenticate", "")
        basic = base64.b64encode(f"{self._registry.user}:{self._registry.password}".encode()).decode()
        known = {"Authorization": f"Basic {basic}"} if self._registry.user else {}
        before, how = self._granted, asked.partition(" ")[0].lower()
        if how == "basic" and known:
            self._granted = known["Authorization"]
        elif how == "bearer":
            self._granted = f"Bearer {self._token(dict(_CHALLENGE.findall(asked)), known)}"
        return self._granted != before

    def _token(self, asked: dict[str, str], known: dict[str, str]) -> str:
        realm = urlsplit(asked.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and realm.hostname in _LOOPBACK):
            raise NeedsOperator(
                f"its token service {realm.geturl()[:200]!r} has no TLS", element=self._at.netloc, remedy=_OTHER
            )
        scope = asked.get("scope") or f"repository:{self._repository}:pull,push"
        query = urlencode([*parse_qsl(realm.query), ("service", asked.get("service", "")), ("scope", scope)])
        answer = self._exchange(realm._replace(query=query), "GET", None, known)
        if answer.status != http.HTTPStatus.OK:
            raise self._refused(answer)
        try:
            found = msgspec.json.decode(answer.body, type=dict[str, Any])
        except UNREADABLE as error:
            raise LinkLost("the token service answers no JSON", element=realm.netloc) from error
        return str(found.get("token") or found.get("access_token") or "")

    def _refused(self, answer: _Answer) -> NeedsOperator:
        denied = answer.status in _DENIED
        return NeedsOperator(
            f"the registry answers {answer.status}: {_said(answer)}",
            element=f"{self._at.netloc}/{self._repository}",
            remedy="give a user who may push there" if denied else "look at the registry's log",
        )

    @staticmethod
    def _tried(ask: Callable[[], Any]) -> Any:
        for number in range(1, _TRIES):
            try:
                return ask()
            except LinkLost:
                time.sleep(_WAIT_S * number)
        return ask()


_MOVED: Final = range(300, 400)
_DENIED: Final = frozenset({http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN})
_TOO_MANY: Final = http.HTTPStatus.TOO_MANY_REQUESTS
_OTHER: Final = "use a registry with TLS"
_WRITE: Final = "write HOST[:PORT]/REPOSITORY"


def _place(registry: Registry) -> tuple[SplitResult, str]:
    text = registry.address if "://" in registry.address else f"https://{registry.address}"
    try:
        at = urlsplit(text)
        _ = at.port  # raises only now
    except ValueError as error:
        raise BadSettings(f"the address cannot be read: {error}", element=registry.address) from error
    repository = at.path.strip("/")
    if at.scheme not in {"https", "http"} or not at.hostname or "@" in at.netloc or at.query or at.fragment:
        raise BadSettings(
            "it is no registry's address", element=registry.address, remedy="write HOST[:PORT]/REPOSITORY"
        )
    if not _REPOSITORY.fullmatch(repository):
        raise BadSettings(
            f"{repository[:100]!r} is no repository",
            element=registry.address,
            remedy=f"{_WRITE}, in lower-case letters",
        )
    if at.scheme == "http" and registry.user and at.hostname not in _LOOPBACK:
        raise BadSettings("a password goes over TLS alone", element=registry.address, remedy=_OTHER)
    return at._replace(path=""), repository


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise BadSettings(f"the authorities are no certificates: {error}", element="ca") from error


def _from(blocks: Iterator[bytes], start: int, told: Callable[[int], None]) -> Iterator[bytes]:
    """The blocks without the first ``start`` bytes; all of them are read, so that all are checked."""
    at = 0
    for block in blocks:
        part = block[max(start - at, 0) :]
        at += len(block)
        if part:
            yield part
            told(at)


def _said(answer: _Answer) -> str:
    """The registry's own words."""
    try:
        found = msgspec.json.decode(answer.body, type=dict[str, list[dict[str, Any]]])
        return "; ".join(f"{one.get('code')}: {one.get('message')}" for one in found["errors"])[:300]
    except (*UNREADABLE, KeyError):
        return answer.body[:300].decode(errors="replace") or http.client.responses.get(answer.status, "")
