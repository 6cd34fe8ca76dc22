# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""What entry scripts import as ``azureml.contrib.services.aml_request``; our own, written against its documented use.

This folder is put on the ``sys.path`` of a worker process; nothing else imports it. It stands without ``__init__.py``,
since ``azureml`` is a namespace that other packages of the script's environment may share.
"""

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from werkzeug.wrappers import Request

F = TypeVar("F", bound=Callable[..., Any])
# Whether a script has asked for whole requests; a decorator of its own may hide the mark on the function.
asked = False
_WITHOUT_PREFIX = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def rawhttp(function: F) -> F:
    """Mark ``run`` as taking an :class:`AMLRequest` instead of the body's text."""
    global asked  # noqa: PLW0603 - of the process, as the script is
    asked = True
    return function


class AMLRequest(Request):
    """One HTTP request, with everything that werkzeug gives: ``args``, ``form``, ``files``, ``get_json()``..."""

    # The server has bounded the body already.
    max_form_memory_size = None

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:  # noqa: FBT001, FBT002, ARG002 - werkzeug's signature
        """The body; always kept, so that a second look at it is not empty."""
        return super().get_data(cache=True, as_text=as_text, parse_form_data=parse_form_data)  # type: ignore[call-overload]

    @classmethod
    def from_parts(cls, method: str, path: str, query: str, headers: Iterable[Iterable[str]], body: bytes) -> Self:
        """A request from what the server passes on; names of headers in lower case."""
        return cls(cls.environment(method, path, query, headers, body))

    @staticmethod
    def environment(
        method: str, path: str, query: str, headers: Iterable[Iterable[str]], body: bytes
    ) -> dict[str, Any]:
        """The same as WSGI has it."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
            "SERVER_NAME": "module", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True, "wsgi.errors": sys.stderr, "wsgi.multithread": False,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip
        for name, value in headers:
            key = _WITHOUT_PREFIX.get(name) or f"HTTP_{name.upper().replace('-', '_')}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ
