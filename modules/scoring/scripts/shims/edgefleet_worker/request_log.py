"""Standard streams and logging of a worker: each line a record of its own, with the id of its request."""

import io
import json
import logging
import logging.config
import pathlib
import sys
import threading
import time
from typing import Any, BinaryIO, TextIO

# What runs at this moment. Threads of the script see it too: there is one request at a time.
_request = ""


class RequestLog(io.TextIOBase):
    """A standard stream whose lines carry the request's id: as a prefix, or as a field of a JSON record."""

    def __init__(self, stream: TextIO, *, name: str, structured: bool) -> None:
        self._stream = stream
        self._name = name
        self._structured = structured
        self._lock = threading.RLock()
        self._rest = ""

    @property
    def buffer(self) -> BinaryIO:
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override] # a property, as TextIOWrapper has it
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def reconfigure(self, **_: object) -> None:
        """Nothing: scripts ask for lines to be written at once, and they are."""

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            self._write(lines)
        return len(text)

    def end(self) -> None:
        """Write what is left without its newline."""
        with self._lock:
            self._write([self._rest] if self._rest else [])
            self._rest = ""

    def flush(self) -> None:
        self._stream.flush()

    def record(self, level: str, logger: str, text: str) -> None:
        """Write a record of ``logging``, each of its lines one of ours."""
        with self._lock:
            self._write(text.split("\n"), level, logger)

    def _write(self, lines: list[str], level: str = "INFO", logger: str = "") -> None:
        if not lines:
            return
        written = (
            (self._record(level, logger or self._name, line) for line in lines)
            if self._structured
            else (self._prefixed(f"{level} {logger}: " if logger else "", line) for line in lines)
        )
        self._stream.write("".join(f"{line}\n" for line in written))
        self._stream.flush()

    def _prefixed(self, source: str, line: str) -> str:
        return f"[{_request}] {source}{line}" if _request else f"{source}{line}"

    def _record(self, level: str, logger: str, line: str) -> str:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        told = {"time": f"{stamp}.{int(now % 1 * 1000):03d}Z", "level": level.lower(), "logger": logger}
        return json.dumps(told | ({"request_id": _request} if _request else {}) | {"message": line})


class _Handler(logging.Handler):
    def __init__(self, stream: RequestLog) -> None:
        super().__init__()
        self._log = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.record(record.levelname, record.name, self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def _let_scripts_configure(ours: logging.Handler) -> None:
    """``logging.basicConfig`` of a script counts, although the root logger has a handler already: ours."""
    original = logging.basicConfig

    def basic_config(**given: Any) -> None:
        if given and logging.root.handlers == [ours]:
            logging.root.removeHandler(ours)
        original(**given)

    logging.basicConfig = basic_config


def configure(folders: list[str]) -> None:
    """Take the first ``logging.json`` of these folders, if there is one: a dictionary for ``logging.config``."""
    found = [path for folder in folders if (path := pathlib.Path(folder, "logging.json")).is_file()]
    if found:
        logging.config.dictConfig(json.loads(found[0].read_text()))


class Streams:
    """The process's two streams and its root logger, from now on."""

    def __init__(self, *, level: str, structured: bool) -> None:
        # What a script prints is for people: a character that no text has is no reason to end its request.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # of the process, not yet a script's
        self._output = RequestLog(sys.stdout, name="print", structured=structured)
        self._errors = RequestLog(sys.stderr, name="stderr", structured=structured)
        sys.stdout, sys.stderr = self._output, self._errors
        handler = _Handler(self._errors)
        logging.basicConfig(level=level.upper(), handlers=[handler], format="%(message)s")
        _let_scripts_configure(handler)

    def begin(self, request: str) -> None:
        global _request  # noqa: PLW0603 - the streams of a process are global themselves
        _request = request

    def end(self) -> None:
        self._output.end()
        self._errors.end()
        self.begin("")
