"""The scoring server of this container: started as a child, and asked at the loopback address as anybody asks it."""

import http.client
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from modules.errors import NotReady

_STOP_WITHIN_S: Final = 8.0
# The server's own limit for a run is an hour; whoever waits for it waits a little longer.
_TIMEOUT_S: Final = 3700.0
_OK: Final = range(200, 300)
_WRONG: Final = range(400, 500)
# Not the input's fault: too many at once, or not ready yet.
_BUSY: Final = frozenset({408, 429, 503})
_SHOWN: Final = 500


class Answer(NamedTuple):
    """What became of a request; ``body`` is the answer, or why there is none. ``status`` 0: the server broke off."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return self.status in _OK

    @property
    def busy(self) -> bool:
        return self.status in _BUSY

    @property
    def hopeless(self) -> bool:
        """The same input will never be answered."""
        return self.status in _WRONG and not self.busy

    @property
    def why(self) -> str:
        said = self.body[:_SHOWN].decode("utf-8", "replace")
        return f"the model answers {self.status}: {said}" if self.status else f"the model gives no answer: {said}"


class Scorer:
    """The child; ``arguments`` are what the image gives the scoring server."""

    def __init__(self, arguments: Sequence[str], *, port: int) -> None:
        self._port = port
        command = [sys.executable, "-m", "modules.scoring", *arguments, "--host", "0.0.0.0", "--port", str(port)]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  our own program

    def is_ready(self) -> bool:
        """Whether it answers.

        Raises:
            NotReady: it has ended.
        """
        self.expect_alive()
        return self._request("GET", "/", b"", "").good

    def ask(self, body: bytes, content_type: str) -> Answer:
        """Score one input.

        Raises:
            NotReady: the server has ended.
        """
        answer = self._request("POST", "/score", body, content_type)
        if not answer.status:
            self.expect_alive(wait_s=1.0)
        return answer

    def expect_alive(self, *, wait_s: float = 0.0) -> None:
        """Return if it goes on, after that time.

        Raises:
            NotReady: it has ended.
        """
        try:
            code = self._child.wait(wait_s) if wait_s else self._child.poll()
        except subprocess.TimeoutExpired:
            return
        if code is not None:
            raise NotReady(
                f"the scoring server has ended with exit code {code}", element="scoring server",
                remedy="its log says why; let the container be started again: docker run --restart on-failure",
            )  # fmt: skip

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _request(self, method: str, path: str, body: bytes, content_type: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body or None, {"Content-Type": content_type} if content_type else {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, (str(error) or type(error).__name__).encode())
        finally:
            connection.close()
