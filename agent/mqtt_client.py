"""The MQTT library's client, which says at once that a session is over, and why a broker does not let us in.

With TLS 1.3 a broker looks at our certificate when the handshake is over for us: what refuses it is the next thing that
we read. The library writes that to its log and waits for the broker's welcome until its own timeout, half a minute.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import aiomqtt

T = TypeVar("T")
# The number of a socket that was closed.
_CLOSED: Final = -1
# What a broker's TLS says of a client's certificate (RFC 8446, 6.2), as OpenSSL names it.
_ALERTS: Final = {
    "CERTIFICATE_REVOKED": "it was revoked (ask the operator whether this device may come back)",
    "CERTIFICATE_EXPIRED": "by the broker's clock it has ended, or has not begun",
    "UNKNOWN_CA": "it is of an authority that the broker does not know",
    "CERTIFICATE_REQUIRED": "none was shown",
    "BAD_CERTIFICATE": "it is damaged",
    "UNSUPPORTED_CERTIFICATE": "it is for another purpose",
    "CERTIFICATE_UNKNOWN": "of an unknown reason",
    "ACCESS_DENIED": "it may not come in",
}


class NotLetIn(aiomqtt.MqttError):
    """The broker ended the connection before it let this device in; ``explained``: it said why."""

    def __init__(self, error: OSError | None) -> None:
        super().__init__(refusal(error))
        self.explained = _alert(error) in _ALERTS


class Client(aiomqtt.Client):
    """As the library's, but nobody waits for what does not come any more.

    Its ``async with`` raises :class:`NotLetIn` as soon as the broker has refused, and a publish ends with the session.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._heard = _Heard()
        logger = logging.Logger("mqtt")  # noqa: LOG001 - one for each client, beside the tree of loggers
        logger.addHandler(self._heard)
        super().__init__(*arguments, logger=logger, **more)

    def _on_disconnect(self, *arguments: Any, **more: Any) -> None:
        """May be called in the thread that connects."""
        waiting = self._connected
        if not waiting.done():
            self._loop.call_soon_threadsafe(_end, waiting, NotLetIn(self._heard.last))
        super()._on_disconnect(*arguments, **more)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - as the library has it
        """The library waits for a receipt until its own timeout, though a session that is over brings none."""
        waiting = asyncio.ensure_future(fut)
        either: list[asyncio.Future[Any]] = [waiting, self._disconnected]
        within = self.timeout if timeout is None else timeout
        try:
            await asyncio.wait(
                either, timeout=None if within == math.inf else within, return_when=asyncio.FIRST_COMPLETED
            )
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
        raise aiomqtt.MqttError("the session ended" if self._disconnected.done() else "no answer in time")

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002 - the library's
        """As the library does, but not once the socket is closed: by then its number is nobody's, or another's.

        It is called in the thread that connects, and a broker that refuses has the loop close the socket meanwhile.
        """
        self._loop.call_soon_threadsafe(self._write_to, client, sock)

    def _write_to(self, client: Any, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the session, which says so
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        if sock.fileno() != _CLOSED:
            self._loop.add_writer(sock.fileno(), write)


def refusal(error: OSError | None) -> str:
    """Why the broker did not let us in, in plain words, from what reading from it met; None: it only hung up."""
    if (alert := _alert(error)) in _ALERTS:
        return f"the broker refuses this device's certificate: {_ALERTS[alert]}"
    return f"the broker ended the connection before it let this device in: {error or 'it gave no reason'}"


def _alert(error: OSError | None) -> str:
    return (error.reason or "").partition("ALERT_")[2] if isinstance(error, ssl.SSLError) else ""


class _Heard(logging.Handler):
    """The last error that the library met at its socket, of which it tells its log alone."""

    def __init__(self) -> None:
        super().__init__()
        self.last: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        errors = [one for one in arguments if isinstance(one, OSError)]
        if errors:
            self.last = errors[-1]
        elif (log := logging.getLogger("mqtt")).isEnabledFor(record.levelno):
            log.handle(record)


def _end(waiting: asyncio.Future[None], error: NotLetIn) -> None:
    if not waiting.done():
        waiting.set_exception(error)
