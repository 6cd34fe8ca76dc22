# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""What entry scripts import as ``azureml.contrib.services.aml_response``; ours, written against its documented use."""

from collections.abc import AsyncIterable, Collection, Iterable, Mapping
from typing import Any, SupportsInt

from edgefleet_worker.json_text import encode
from werkzeug.wrappers import Response

# Fields whose single value has commas of its own.
_ONE_VALUE = frozenset({"date", "expires", "last-modified", "retry-after", "set-cookie", "warning"})


class AMLResponse(Response):
    """A response with its own status and headers.

    With ``json_str`` the message is written as JSON; so are dictionaries, lists, arrays, frames, numbers and dates
    without it. Other messages are text, bytes, a list of bytes, or a generator of either, which is sent as it goes.
    None is an empty object, and a status may be any kind of number. A header with commas becomes several.
    """

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, Any] | None = None,
        json_str: bool = False,  # noqa: FBT001, FBT002 - the known signature
        run_function_failed: bool = False,  # noqa: FBT001, FBT002 - the known signature
    ) -> None:
        message = {} if message is None else message
        message = bytes(message) if isinstance(message, memoryview) else message
        as_json = json_str or not _is_body(message)
        self.run_function_failed = run_function_failed
        super().__init__(
            encode(message) if as_json else message,
            int(status_code) if isinstance(status_code, SupportsInt) else status_code,
            mimetype="application/json" if as_json else "text/html",
        )
        for name, given in (response_headers or {}).items():
            value = str(given)
            values = [value] if name.lower() in _ONE_VALUE else [one.strip() for one in value.split(",")]
            self.headers.setlist(name, values)


def _is_body(message: Any) -> bool:
    """Whether it is sent as it is, as text, bytes or parts of them; what is a value is written as JSON."""
    if isinstance(message, str | bytes | bytearray):
        return True
    if isinstance(message, list | tuple) and message and all(isinstance(one, bytes) for one in message):
        return True
    return isinstance(message, Iterable | AsyncIterable) and not isinstance(message, Collection)
