"""One request after another, from its frame to its answer's."""

import codecs
import contextlib
import importlib
import json
import time
import traceback
import urllib.parse
from collections.abc import Generator
from typing import Any

from edgefleet_worker.answers import FAILURE, Outcome, http_error, message, outcome_of
from edgefleet_worker.entry import Entry, noted, show, told
from edgefleet_worker.flask_context import FlaskContext
from edgefleet_worker.frames import Channel, Head
from edgefleet_worker.imports import Sessions
from edgefleet_worker.request_log import Streams
from edgefleet_worker.schema import BadRequest, misfit, parsed

# Bytes of a query that are no UTF-8 stay as they were written.
codecs.register_error("percent", lambda error: (_escaped(error), error.end))  # type: ignore[attr-defined,arg-type] # of decoding
_GZIP = b"\x1f\x8b"
# Bytes of an HTTP exception's text that the log has.
_NOTED = 2000


class RequestHeaders(dict[str, str]):
    """Header fields under their usual names (``Content-Type``), found whatever their case."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in pairs:
            usual = name.title()
            super().__setitem__(usual, f"{dict.__getitem__(self, usual)},{value}" if usual in self else value)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.title())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.title())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.title(), default)


class Service:
    """Answers requests with one script until the server is gone."""

    def __init__(self, entry: Entry, channel: Channel, streams: Streams, sessions: Sessions) -> None:
        self._entry = entry
        self._channel = channel
        self._streams = streams
        self._sessions = sessions
        self._flask = FlaskContext.where_wanted(entry.source)

    def serve(self) -> None:
        schema = self._entry.schema
        headers = self._entry.raw or self._entry.wants_headers or schema is not None or self._flask is not None
        wants = {"headers": headers}
        ready: Head = {"kind": "ready", "wants": wants, "schema": schema.head() if schema else None}
        self._send(ready)
        for head, body in self._channel:
            self._streams.begin(head["id"])
            told_head, outcome = self._answer(head, body)
            if outcome.parts is None:
                self._streams.end()
                self._send(told_head, outcome.body)
            else:
                self._send({**told_head, "stream": True})
                self._stream(outcome.parts)
                self._streams.end()

    def _send(self, head: Head, body: bytes = b"") -> None:
        self._channel.send({**head, **self._sessions.news()}, body)

    def _answer(self, head: Head, body: bytes) -> tuple[Head, Outcome]:
        if head["method"] == "OPTIONS" and not self._entry.raw:
            return _head(200), Outcome(200, [])
        if "headers" in head:
            # X_Own would pass for X-Own.
            head["headers"] = [one for one in head["headers"] if "_" not in one[0]]
        with self._flask.of(head, body) if self._flask else contextlib.nullcontext() as context:
            return self._run(head, body, context)

    def _run(self, head: Head, body: bytes, context: Any) -> tuple[Head, Outcome]:
        try:
            positional, named = self._arguments(head, body, context)
        except UnicodeDecodeError as error:
            return _with(message(400, f"the body is not UTF-8: {error}"))
        except BadRequest as error:
            return _with(message(error.status, str(error)))
        started = time.perf_counter()
        try:
            result = self._entry.finished(self._entry.run(*positional, **named))
            run_ms = (time.perf_counter() - started) * 1000
            outcome = outcome_of(result, self._entry)
        except BaseException as error:  # noqa: BLE001 - the script's own code may raise anything
            return self._failed(error)
        return {**_head(outcome.status, outcome.headers), "failed": outcome.failed, "run_ms": run_ms}, outcome

    def _failed(self, error: BaseException) -> tuple[Head, Outcome]:
        if self._entry.schema and isinstance(error, Exception) and (reason := misfit(error)):
            return _with(message(400, reason))
        if asked := self._http_error(error):
            return _with(asked)
        show(error)
        return {**_head(FAILURE), "message": f"run() failed: {told(error)}"}, Outcome(FAILURE, [])

    def _http_error(self, error: BaseException) -> Outcome | None:
        """What an HTTP exception asks for, with a line in the log that says where it came from."""
        try:
            asked = http_error(error, self._entry)
        except BaseException:  # noqa: BLE001 - its own text or status may raise anything
            return None
        if asked is not None:
            last = traceback.extract_tb(error.__traceback__)[-1:]
            users = [
                one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(self._entry.source)
            ]
            where = "".join(f"{one.filename}:{one.lineno}: " for one in (users or last)[-1:])
            noted(f"{where}run() ended with {asked.status}: {asked.body[:_NOTED].decode(errors='replace')}")
        return asked

    def _arguments(self, head: Head, body: bytes, context: Any) -> tuple[list[Any], dict[str, Any]]:
        """What ``run`` is called with: the whole request, the body's text, or the parts that the schema names."""
        entry = self._entry
        headers = head.get("headers", [])
        named: dict[str, Any] = {"request_headers": RequestHeaders(headers)} if entry.wants_headers else {}
        if entry.raw:
            shim = importlib.import_module("azureml.contrib.services.aml_request")
            parts = (head["method"], head["path"], head["query"], headers, body)
            return self._whole(context.request if context else shim.AMLRequest.from_parts(*parts), named)
        if body.startswith(_GZIP):
            raise BadRequest(415, "the body is compressed: send it without Content-Encoding, as it is")
        by_query = head["method"] == "GET"
        if entry.mini_batch:
            return self._whole(json.loads(body), named)
        if not entry.schema:
            return self._whole(json.dumps(_from_query(head["query"])) if by_query else body.decode("utf-8"), named)
        kind = next((value for name, value in headers if name == "content-type"), "")
        document = _from_query(head["query"]) if by_query else parsed(body, kind)
        return [], {**entry.schema.arguments(document, entry.parameters), **named}

    def _whole(self, data: Any, named: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """By its place, so that a decorator may name it otherwise, unless it has none."""
        first = self._entry.parameters[0]
        return ([], {first.name: data, **named}) if first.kind is first.KEYWORD_ONLY else ([data], named)

    def _stream(self, parts: Generator[bytes]) -> None:
        """Send the parts as the server asks for them; what ends a stream early is printed and ends the answer."""
        try:
            for kind in self._channel.during_stream():
                part = None if kind == "stop" else next(parts, None)
                if part is None:
                    parts.close()
                    break
                self._send({"kind": "part"}, part)
        except BaseException as error:  # noqa: BLE001 - the script's own code may raise anything
            show(error)
            self._send({"kind": "broken", "message": f"the stream of run() ended early: {told(error)}"})
        else:
            self._send({"kind": "end"})


def _head(status: int, headers: Any = ()) -> Head:
    return {"kind": "answer", "status": status, "headers": headers, "failed": status >= FAILURE}


def _with(outcome: Outcome) -> tuple[Head, Outcome]:
    return _head(outcome.status, outcome.headers), outcome


def _escaped(error: UnicodeDecodeError) -> str:
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end])


def _from_query(query: str) -> dict[str, Any]:
    """Query parameters as JSON input: what reads as JSON is that, a repeated one is a list."""
    found: dict[str, list[Any]] = {}
    for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True, errors="percent"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}
