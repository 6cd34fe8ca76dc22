"""A finished HTTP answer, and the few ways of making one."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from modules.scoring.runtime import Body, Request

Header = tuple[bytes, bytes]

JSON: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"),)
TEXT: Final[tuple[Header, ...]] = ((b"content-type", b"text/plain; charset=utf-8"),)
RETRY: Final[tuple[Header, ...]] = ((b"retry-after", b"1"),)


class Reply(Exception):
    """A finished answer; raised where it ends a request early. With ``close`` the connection ends after it.

    ``text`` is what a refusal says, for who has another form for it than this body.
    """

    def __init__(
        self, status: int, body: Body = b"", headers: tuple[Header, ...] = JSON, *, close: bool = False, text: str = ""
    ) -> None:
        super().__init__(status)
        self.status, self.body, self.headers, self.close, self.text = status, body, headers, close, text


# What answers one request: at once, or later.
Handler = Callable[[Request], Reply | Awaitable[Reply]]


def document(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Reply:
    return Reply(status, orjson.dumps(value), (*JSON, *headers))


def message(status: int, text: str, headers: tuple[Header, ...] = (), *, close: bool = False) -> Reply:
    """The form of Azure Machine Learning's server, used everywhere but below ``/v2``."""
    return Reply(status, orjson.dumps({"message": text}), (*JSON, *headers), close=close, text=text)


def allow(method: str, methods: tuple[str, ...]) -> None:
    """Accept one of these methods.

    Raises:
        Reply: it is another one.
    """
    if method not in methods:
        raise message(405, f"{method} is not allowed here", ((b"allow", ", ".join(methods).encode()),))
