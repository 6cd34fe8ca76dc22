"""The Docker Engine API over its Unix socket, as far as the agent needs it; Podman's compatible socket answers it too.

Plain ``http.client`` and blocking: an SDK would double the agent's memory for a dozen calls. Every call has its own
connection and a time limit, so an engine that hangs costs one thread for a bounded time.
"""

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from agent.unix_http import UnixConnection
from modules.canonical import UNREADABLE
from modules.errors import EngineBusy, NoEngine

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
# Docker 20.10 and Podman 4 know it; an engine that has dropped it is spoken to in the oldest it still knows.
OUR_VERSION: Final = (1, 41)
ANSWER_LIMIT: Final = 16 << 20
CALL_S: Final = 30.0
# Between two signs of life while an image is loaded: unpacking one large layer on slow flash says nothing meanwhile.
LOAD_S: Final = 600.0

_REMEDY: Final = "install and start Docker or Podman, and let this user reach its socket"
_LOOK: Final = "wait; look at the engine's log if it goes on"


class ApiError(Exception):
    """The engine's refusal: HTTP status and its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Version(
    msgspec.Struct,
    frozen=True,
    rename={"api": "ApiVersion", "oldest_api": "MinAPIVersion", "version": "Version", "components": "Components"},
):
    """``GET /version``. ``components`` tells Podman from Docker."""

    api: str
    oldest_api: str = "1.12"
    version: str = ""
    components: tuple[dict[str, Any], ...] = ()

    @property
    def is_podman(self) -> bool:
        return any("podman" in str(component.get("Name", "")).lower() for component in self.components)


class DockerApi:
    """Calls to one engine. Blocking; each raises NoEngine or EngineBusy where the engine itself is the trouble."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, *, call_s: float = CALL_S, load_s: float = LOAD_S) -> None:
        self.socket_path = socket_path
        self._call_s = call_s
        self._load_s = load_s
        self._prefix: str | None = None
        self.is_podman = False

    def version(self) -> Version:
        """What the engine is, and which version of the API it speaks with us from now on.

        Raises:
            NoEngine: it is older than anything we can speak with.
        """
        try:
            version = msgspec.json.decode(self._request("GET", "/version"), type=Version)
        except (ApiError, *UNREADABLE) as error:
            raise EngineBusy(
                f"the container engine does not say its version: {error}", element=self.socket_path, remedy=_LOOK
            ) from error
        if _numbers(version.api) < OUR_VERSION:
            raise NoEngine(
                f"the engine speaks version {version.api} of the API, we need 1.41",
                element=self.socket_path,
                remedy="update it to Docker 20.10 or Podman 4, or newer",
            )
        self._prefix = "/v" + ".".join(str(number) for number in max(OUR_VERSION, _numbers(version.oldest_api)))
        self.is_podman = version.is_podman
        return version

    def get(self, path: str, **query: str) -> Any:
        return _json(self._call("GET", path, query))

    def post(self, path: str, body: Any = None, *, timeout: float | None = None, **query: str) -> Any:
        return _json(self._call("POST", path, query, body=body, timeout=timeout))

    def delete(self, path: str, **query: str) -> Any:
        return _json(self._call("DELETE", path, query))

    def raw(self, path: str, **query: str) -> bytes:
        """The body of an answer that is no JSON."""
        return self._call("GET", path, query)

    def load(self, archive: Iterable[bytes]) -> str:
        """``POST /images/load``: send a tar as it is made; returns the engine's words about it.

        Raises:
            ApiError: the engine refused the archive.
        """
        path = f"{self._versioned()}/images/load?quiet=1"
        answer = self._request("POST", path, body=archive, timeout=self._load_s)
        said = []
        for line in answer.splitlines():
            told = _json(line) or {}
            if "error" in told:
                raise ApiError(http.client.INTERNAL_SERVER_ERROR, str(told["error"]))
            said.append(str(told.get("stream", "")))
        return "".join(said)

    def _call(
        self, method: str, path: str, query: Mapping[str, str], *, body: Any = None, timeout: float | None = None
    ) -> bytes:
        full = self._versioned() + path + (f"?{urlencode(query)}" if query else "")
        return self._request(method, full, body=None if body is None else msgspec.json.encode(body), timeout=timeout)

    def _versioned(self) -> str:
        if self._prefix is None:
            self.version()
        return self._prefix or ""

    def _request(
        self, method: str, path: str, *, body: bytes | Iterable[bytes] | None = None, timeout: float | None = None
    ) -> bytes:
        connection = UnixConnection(self.socket_path, timeout or self._call_s)
        headers = (
            {"Content-Type": "application/json" if isinstance(body, bytes) else "application/x-tar"} if body else {}
        )
        try:
            # An engine that refuses an archive answers before it has read it all; what it says counts.
            with suppress(BrokenPipeError):
                connection.request(method, path, body=body, headers=headers, encode_chunked=not isinstance(body, bytes))
            response = connection.getresponse()
            answer = response.read(ANSWER_LIMIT)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoEngine("no container engine answers here", element=self.socket_path, remedy=_REMEDY) from error
        except PermissionError as error:
            raise NoEngine(
                "we may not speak with the container engine",
                element=self.socket_path,
                remedy="put this user into the group of the socket; that is as good as root (see SECURITY.md)",
            ) from error
        except TimeoutError as error:
            raise EngineBusy(
                f"the container engine did not answer {method} {path.partition('?')[0]} in time",
                element=self.socket_path,
                remedy="wait; restart the engine if it goes on",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineBusy(
                f"the container engine broke off: {error or type(error).__name__}",
                element=self.socket_path,
                remedy=_LOOK,
            ) from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, _message(answer))
        return answer


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe=":")


def demultiplexed(stream: bytes) -> Iterator[bytes]:
    """The pieces of a log stream, whose frames are headed by stream number and length (8 bytes)."""
    place = 0
    while place + 8 <= len(stream):
        length = int.from_bytes(stream[place + 4 : place + 8], "big")
        yield stream[place + 8 : place + 8 + length]
        place += 8 + length


def _json(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer) if answer.strip() else None
    except UNREADABLE as error:
        raise EngineBusy(
            f"the container engine's answer is no JSON: {answer[:80]!r}", remedy="look at its log"
        ) from error


def _message(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["message"])
    except (*UNREADABLE, KeyError, TypeError):
        return answer[:500].decode(errors="replace").strip()


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major or 0), int(minor or 0)
