"""One exchange with the fleet server: the connection, and what its refusals become."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from fleet.client.config import Config
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, EdgefleetError, Invalid, LinkLost, Refused, Untrusted

T = TypeVar("T")

_CHUNK: Final = 1 << 20
NOT_FOUND: Final = 404
# Reading is slow where the server hashes a whole blob before it answers.
_TIMEOUT: Final = httpx.Timeout(10.0, read=120.0, write=120.0)


class Exchange:
    """A connection to one server, as one operator; for :class:`fleet.client.api.Fleet`, which knows the routes."""

    def __init__(self, config: Config) -> None:
        self.url = config.url
        try:
            trusted = ssl.create_default_context(cadata=config.ca) if config.ca else ssl.create_default_context()
        except ssl.SSLError as error:
            raise BadSettings("the fleet's CA is not a usable PEM certificate", remedy="log in again") from error
        self._http = httpx.Client(
            base_url=config.url,
            verify=trusted,
            headers={"Authorization": f"Bearer {config.token}"} if config.token else {},
            timeout=_TIMEOUT,
            trust_env=False,  # a proxy must not stand between us and a pinned server
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ask(self, kind: type[T], method: str, path: str, **content: Any) -> T:
        """Any route, its answer read as ``kind``."""
        return self._decode(self._call(method, path, **content), kind)

    def ask_with_cookies(self, kind: type[T], method: str, path: str, **content: Any) -> tuple[T, dict[str, str]]:
        """The same, with the cookies that the server sets; none of them is kept."""
        answer = self._call(method, path, **content)
        self._http.cookies.clear()
        return self._decode(answer, kind), dict(answer.cookies)

    def get_bytes(self, path: str) -> Iterator[bytes]:
        """What an address answers, as it arrives; whoever keeps the bytes must hash them."""
        try:
            with self._http.stream("GET", path) as answer:
                if answer.is_error:
                    answer.read()
                    raise problem(answer, path)
                yield from answer.iter_bytes(_CHUNK)
        except httpx.HTTPError as error:
            raise self._lost(error) from error

    def _call(self, method: str, path: str, *, absent: bool = False, **content: Any) -> httpx.Response:
        """One exchange; with ``absent`` a 404 is an answer like any other."""
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        if answer.is_error and not (absent and answer.status_code == NOT_FOUND):
            raise problem(answer, path)
        return answer

    def _lost(self, error: httpx.HTTPError) -> EdgefleetError:
        if isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Untrusted(
                f"the server's certificate is not trusted: {error}",
                element=self.url,
                remedy="log in with the CA file of this fleet: edgefleet login URL --token TOKEN --ca FILE",
            )
        said = str(error) or type(error).__name__
        return LinkLost(f"the fleet server cannot be reached: {said}", element=self.url, remedy="see that it runs")

    def _decode(self, answer: httpx.Response, kind: type[T]) -> T:
        return self._read(answer, lambda data: msgspec.json.decode(data, type=kind))

    def _read(self, answer: httpx.Response, read: Callable[[bytes], T]) -> T:
        try:
            return read(answer.content)
        except UNREADABLE as error:
            raise Invalid(
                f"the server's answer cannot be read: {error}",
                element=str(answer.request.url),
                remedy="see that the address is a fleet server's and that its version matches this client's",
            ) from error


def _kinds(root: type[EdgefleetError]) -> dict[str, type[EdgefleetError]]:
    found = {root.code: root}
    for kind in root.__subclasses__():
        found |= _kinds(kind)
    return found


_BY_CODE: Final = _kinds(EdgefleetError)


def problem(answer: httpx.Response, path: str) -> EdgefleetError:
    """The error that a problem document (RFC 9457) carries, of the class that the server raised."""
    try:
        body = msgspec.json.decode(answer.content)
    except UNREADABLE:
        body = None
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    message = fields.get("detail") or fields.get("title") or f"the server answered {answer.status_code}"
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    element, remedy = str(fields.get("element") or path), str(fields.get("remedy") or "")
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        remedy = remedy or "log in with a valid token: edgefleet login URL --token TOKEN --ca FILE"
        return BadSettings(message, element=element, remedy=remedy)
    kind = _BY_CODE.get(str(fields.get("code"))) or (LinkLost if answer.is_server_error else Refused)
    error = kind(message, element=element, remedy=remedy)
    # The server has kinds of refusal of its own (fleet/refusals.py), which are told apart by their code.
    error.code = str(fields.get("code") or error.code)
    return error
