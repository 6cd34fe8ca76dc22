"""One scoring server of this run, the very program that serves, and what it is asked over its socket."""

import asyncio
import contextlib
import http.client
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from modules.errors import NotReady
from modules.scoring.batch.place import SocketPlace

_ASK_AGAIN_S: Final = 0.02
_PROBE_S: Final = 5.0
_OK: Final = 200


class Lost(Exception):
    """The server ended, or took so long that it had to be ended."""


class Reply(NamedTuple):
    """An answer of the server; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("module", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Child:
    """A server that may be asked, by up to ``places`` at once."""

    def __init__(self, process: asyncio.subprocess.Process, place: SocketPlace) -> None:
        self._process, self._place, self._path = process, place, place.path
        self._threads: ThreadPoolExecutor | None = None

    @classmethod
    async def start(
        cls, arguments: Sequence[str], environment: Mapping[str, str], *, places: int, within_s: float
    ) -> "Child":
        """Start one and wait until it is ready.

        Raises:
            NotReady: it ended, or took too long; its log, which is ours, says why.
        """
        place = SocketPlace()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "modules.scoring.batch.served", str(os.getpid()), *arguments,
                "--unix", str(place.path), env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
            )  # fmt: skip
        except BaseException:
            place.close()
            raise
        child = cls(process, place)
        try:
            async with asyncio.timeout(within_s):
                await child._ready()
        except TimeoutError as error:
            await child.end()
            raise NotReady(
                f"the module was not ready within {within_s:g} s", element="scoring server", remedy="read its log"
            ) from error
        except BaseException:
            await child.end()
            raise
        child._threads = ThreadPoolExecutor(places, thread_name_prefix="ask")
        return child

    async def ask(self, body: bytes, content_type: str, *, within_s: float | None) -> Reply:
        """Post one body to ``/score``.

        Raises:
            Lost: there is no answer, and the server cannot be asked again.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, _post, self._path, body, content_type, within_s
            )
        except (OSError, http.client.HTTPException) as error:
            raise Lost(str(error) or type(error).__name__) from error

    async def end(self) -> None:
        """Kill it, whatever it is doing; its workers end with it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        self._place.close()

    async def how_it_ended(self) -> str:
        """For people, once it has."""
        code = await self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _ready(self) -> None:
        while True:
            if self._process.returncode is not None:
                raise NotReady(
                    f"the module cannot be served: its server {await self.how_it_ended()}",
                    element="scoring server",
                    remedy="read its log, above",
                )
            if self._path.exists() and await asyncio.to_thread(_is_ready, self._path):
                return
            await asyncio.sleep(_ASK_AGAIN_S)  # a socket that is not there yet cannot be awaited


def _post(path: Path, body: bytes, content_type: str, within_s: float | None) -> Reply:
    connection = _Connection(path, within_s)
    try:
        connection.request("POST", "/score", body, {"content-type": content_type})
        found = connection.getresponse()
        headers = {name.lower(): value for name, value in found.getheaders()}
        return Reply(found.status, headers, found.read())
    finally:
        connection.close()


def _is_ready(path: Path) -> bool:
    connection = _Connection(path, _PROBE_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
