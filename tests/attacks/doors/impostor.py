"""A listener that pretends to be the broker or the server: it keeps what clients say once its TLS stands."""

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

_WAIT_S = 5.0
_MORE_S = 1.0


class Impostor:
    """``tried`` counts connections, ``heard`` is every byte that a client sent it in confidence."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.tried, self.heard = 0, b""
        self._thread = threading.Thread(target=self._accept, name="impostor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(2 * _WAIT_S)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(_WAIT_S)
            # What a client that refuses does is an error here: it is what is to happen.
            with plain, contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secure:
                secure.settimeout(_MORE_S)
                while said := secure.recv(65536):
                    self.heard += said
            self.tried += 1
