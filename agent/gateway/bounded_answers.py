"""aiohttp's reading of answers, bounded where it is not: interim answers without end, and what nobody asked for.

aiohttp skips any number of interim answers (100 to 199), so that one request to a hostile module would keep the gateway
busy for as long as the module likes, and reads from a connection that waits for its next request.
"""

from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

# An honest module sends none; a cloud may send 102 and 103 a few times.
MOST_INTERIM: Final = 8
# What comes before the last byte of the final answer's head; together with what is read at once.
MOST_BEFORE: Final = 256 << 10
# 101 is final for who asked for it, and what is no status at all is refused where answers are read.
_INTERIM: Final = frozenset(range(100, 200)) - {101}


class BoundedAnswers(ResponseHandler):
    """One connection: at most so many interim answers for each request, and one final answer."""

    _interim = 0
    _before = 0
    # Nothing was asked yet, so nothing may come.
    _answered = True

    def set_response_params(self, **how: Any) -> None:
        """A request is about to be sent."""
        self._interim, self._before, self._answered = 0, 0, False
        super().set_response_params(**how)

    def data_received(self, data: bytes) -> None:
        if self._answered and data and (self._payload is None or self._payload.is_eof()):
            self.abort()  # nobody has asked for more
            return
        if not self._answered:
            self._before += len(data)
        super().data_received(data)
        if not self._answered and self._before > MOST_BEFORE:
            self._refuse(f"{self._before} bytes and no answer yet")

    def feed_data(self, data: tuple[Any, Any], size: int = 0) -> None:
        """Called with each answer whose head is whole."""
        if self._exception is not None:
            return  # refused already; these came in the same piece
        status = data[0].code
        if self._answered:
            self.abort()  # the one that was asked for is whole, and stays
        elif status in _INTERIM:
            # Nobody waits for them: the gateway asks no module whether it may send a body.
            self._interim += 1
            if self._interim > MOST_INTERIM:
                self._refuse(f"more than {MOST_INTERIM} interim answers")
        else:
            self._answered = True
            super().feed_data(data, size)

    def _refuse(self, why: str) -> None:
        transport = self.transport
        self.set_exception(HttpProcessingError(code=0, message=why))
        if transport is not None:
            transport.abort()


def bounded(connector: aiohttp.BaseConnector) -> aiohttp.BaseConnector:
    """The connector, whose connections read answers this way."""
    # aiohttp has no public place for it, and mypy takes a partial of a subclass for another type.
    connector._factory = partial(BoundedAnswers, connector._loop)  # type: ignore[assignment]  # noqa: SLF001
    return connector
