"""What ``run()`` returned or raised, as status, headers and body."""

from collections.abc import Generator
from typing import Any, NamedTuple

from edgefleet_worker.entry import Entry
from edgefleet_worker.json_text import encode

JSON = [("content-type", "application/json")]
FAILURE = 500
_NOT_MODIFIED = 304
_STATUSES = range(400, 600)


class Outcome(NamedTuple):
    """An answer; ``parts`` are those of a body that is made while it is sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    parts: Generator[bytes] | None = None
    failed: bool = False


def outcome_of(result: Any, entry: Entry) -> Outcome:
    """A response object as it is; anything else as JSON, None as an empty object.

    Raises:
        TypeError: JSON cannot hold it.
    """
    if not (hasattr(result, "status_code") and hasattr(result, "get_data")):
        return Outcome(200, JSON, encode({} if result is None else result))
    status = int(result.status_code)
    headers = [(str(name), str(value)) for name, value in result.headers.items()]
    if status == _NOT_MODIFIED:
        headers = [one for one in headers if not one[0].lower().startswith("content-")]
    failed = status >= FAILURE or bool(getattr(result, "run_function_failed", False))
    if (content := getattr(result, "response", None)) is not None and hasattr(content, "__aiter__"):
        return Outcome(status, headers, parts=_awaited(content, entry), failed=failed)
    if getattr(result, "is_streamed", False) or getattr(result, "direct_passthrough", False):
        return Outcome(status, headers, parts=_closing(result), failed=failed)
    data = result.get_data()
    return Outcome(status, headers, data.encode() if isinstance(data, str) else bytes(data), failed=failed)


def http_error(error: BaseException, entry: Entry) -> Outcome | None:
    """What an HTTP exception asks for: werkzeug's and Flask's ``abort``, Starlette's and FastAPI's."""
    if not any(base.__name__ == "HTTPException" for base in type(error).__mro__):
        return None
    if (own := getattr(error, "response", None)) is not None:
        return outcome_of(own, entry)  # of abort(response)
    status = getattr(error, "code", None) or getattr(error, "status_code", None)
    text = getattr(error, "description", None) or getattr(error, "detail", None) or str(error)
    if isinstance(error, KeyError) and error.args:
        # As werkzeug raises for request.args["name"], whose text names nothing.
        text = f"a value is missing in the request: {error.args[0]!r}"
    if not isinstance(status, int) or status not in _STATUSES:
        return None
    return message(status, text)


def message(status: int, text: Any) -> Outcome:
    return Outcome(status, JSON, encode({"message": text}), failed=status >= FAILURE)


def _bytes(part: Any) -> bytes:
    if isinstance(part, str | bytes | bytearray | memoryview):
        return part.encode() if isinstance(part, str) else bytes(part)
    raise TypeError(f"a part of a stream must be text or bytes, not {type(part).__name__}")


def _closing(response: Any) -> Generator[bytes]:
    """The parts of a response, which is closed after them, however they end."""
    try:
        for part in response.iter_encoded():
            yield _bytes(part)
    finally:
        response.close()


def _awaited(content: Any, entry: Entry) -> Generator[bytes]:
    """The parts of an asynchronous generator."""
    iterator = content.__aiter__()
    try:
        while True:
            try:
                part = entry.finished(iterator.__anext__())
            except StopAsyncIteration:
                return
            yield _bytes(part)
    finally:
        if hasattr(iterator, "aclose"):
            entry.finished(iterator.aclose())
