"""The program of a worker process: it loads an entry script and answers one request after another.

It is started by its path and imports the standard library only, so that a user's folder called ``modules`` or ``agent``
is no clash. It talks to the server over a socket in frames: 4 bytes length of a JSON head, 8 bytes length of a body
(both big-endian), head, body. The server first sends its configuration; the host answers ``ready`` or ``failed``, then
an ``answer`` to each ``request``. It ends when the socket does. Exit code 3: the script cannot be served.
"""

import ctypes
import faulthandler
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import json
import math
import pathlib
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TextIO

FRAME = struct.Struct(">IQ")
CANNOT_SERVE = 3
PR_SET_PDEATHSIG = 1
# Our own top-level packages: a user's folder of that name wins, even one without __init__.py.
OURS = frozenset({"agent", "fleet", "hardware", "modules"})
HINTS = {"sklearn.externals": "write `import joblib` instead of `from sklearn.externals import joblib`"}
JSON = (("content-type", "application/json"),)

Head = dict[str, Any]
Pairs = Sequence[tuple[str, str]]


class CannotServe(Exception):
    """The script cannot be served, with a message for its author."""


class RequestLog(io.TextIOBase):
    """A standard stream with the id of the request in front of each line."""

    request = ""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
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

    def _write(self, lines: list[str]) -> None:
        prefix = f"[{RequestLog.request}] " if RequestLog.request else ""
        if lines:
            self._stream.write("".join(f"{prefix}{line}\n" for line in lines))
            self._stream.flush()


class Import(importlib.abc.MetaPathFinder):
    """Before all other finders: the user's folders go before our packages, and onnxruntime's sessions are observed."""

    def __init__(self, source: str, sessions: "Sessions") -> None:
        self._source = source
        self._sessions = sessions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in OURS and pathlib.Path(self._source, name).is_dir():
            return importlib.machinery.PathFinder.find_spec(name, [self._source])
        if name != "onnxruntime":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                self._sessions.observe(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # only this spec's own loader
        return spec


class Sessions:
    """What the script runs on: sizes each onnxruntime session from the cores granted, and sees its provider."""

    def __init__(self, threads: int, providers: list[Any]) -> None:
        self.version: str | None = None
        self.provider: str | None = None
        self._threads = threads
        self._providers = [(name, options) for name, options in providers]

    def observe(self, module: types.ModuleType) -> None:
        """Wrap ``InferenceSession.__init__``: thread count and providers where the script leaves them open."""
        if not hasattr(module, "InferenceSession"):
            return
        self.version = module.__version__
        original = module.InferenceSession.__init__

        def observed(
            session: Any, model: Any, sess_options: Any = None, providers: Any = None, *rest: Any, **more: Any
        ) -> None:
            sess_options = sess_options or module.SessionOptions()
            sess_options.intra_op_num_threads = sess_options.intra_op_num_threads or self._threads
            here = module.get_available_providers()
            wanted = providers or [one for one in self._providers if one[0] in here] or None
            original(session, model, sess_options, wanted, *rest, **more)
            self.provider = session.get_providers()[0]

        module.InferenceSession.__init__ = observed

    def head(self) -> Head:
        return {"onnxruntime": self.version, "provider": self.provider}


class Script:
    """The user's ``init()`` and ``run()``."""

    def __init__(self, path: str) -> None:
        module = _import(path)
        self.run: Callable[..., Any] = _function(module, "run", path)
        self.raw = bool(getattr(self.run, "raw_http", False))
        self._wants_headers = _check_signature(self.run)
        init = getattr(module, "init", None)
        if init is not None:
            _guarded(init, "init() failed")

    def answer(self, head: Head, body: bytes) -> tuple[Head, bytes]:
        """Run it for one request; whatever it raises becomes an answer."""
        if head["method"] == "OPTIONS" and not self.raw:
            return {"status": 200, "headers": []}, b""
        more = {"request_headers": dict(head["headers"])} if self._wants_headers else {}
        try:
            data = self._input(head, body)
        except UnicodeDecodeError as error:
            return _message(400, f"the body is not UTF-8: {error}"), b""
        started = time.perf_counter()
        try:
            result = self.run(data, **more)
            run_ms = (time.perf_counter() - started) * 1000
            status, headers, content = _encoded(result)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the script's own code may raise anything
            traceback.print_exc()
            return _message(500, f"run() failed: {_told(error)}", failed=True), b""
        return {"status": status, "headers": headers, "run_ms": run_ms, "failed": status >= 500}, content  # noqa: PLR2004

    def _input(self, head: Head, body: bytes) -> Any:
        if self.raw:
            shim = importlib.import_module("azureml.contrib.services.aml_request")
            return shim.AMLRequest(
                method=head["method"], path=head["path"], query=head["query"], headers=head["headers"], body=body
            )
        if head["method"] == "GET":
            return json.dumps(dict(urllib.parse.parse_qsl(head["query"], keep_blank_values=True)))
        return body.decode("utf-8")


def _import(path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("entry_module", path)
    if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
        raise CannotServe(f"{path}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["entry_module"] = module
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), "it cannot be imported")
    return module


def _guarded(call: Callable[[], Any], what: str) -> None:
    """Call the user's code; what it raises is printed and becomes one line with its file and line."""
    try:
        call()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        users = [frame for frame in places if not frame.filename.startswith("<frozen")]
        where = f"{users[-1].filename}:{users[-1].lineno}: " if users else ""
        if isinstance(error, SyntaxError):
            where = f"{error.filename}:{error.lineno}: "
        missing = isinstance(error, ModuleNotFoundError)
        hint = next((hint for name, hint in HINTS.items() if name in str(error)), None)
        hint = hint or ("add the package to the image's requirements" if missing else "")
        raise CannotServe(f"{where}{what}: {_told(error)}" + (f" ({hint})" if hint else "")) from error


def _function(module: types.ModuleType, name: str, path: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise CannotServe(f"{path}: there is no function {name}(data)")
    return function  # type: ignore[no-any-return] # callable() leaves it Any


def _check_signature(run: Callable[..., Any]) -> bool:
    """Whether ``run`` wants ``request_headers`` beside its data.

    Raises:
        CannotServe: it has no parameter for the data, or one that can only be given by other means.
    """
    parameters = list(inspect.signature(run).parameters.values())
    data = [one for one in parameters if one.name != "request_headers"]
    if not data or any(one.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for one in data):
        raise CannotServe(
            "run() must take one parameter for the data, not *args, **kwargs, keyword- or positional-only ones"
        )
    if any(one.default is inspect.Parameter.empty for one in data[1:]):
        raise CannotServe(f"run() must have defaults for the parameters after {data[0].name}")
    return len(data) < len(parameters)


def _encoded(result: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body: a response object as it is, anything else as JSON."""
    if hasattr(result, "status_code") and hasattr(result, "get_data"):
        data = result.get_data()
        content = data.encode() if isinstance(data, str) else bytes(data)
        return int(result.status_code), [(str(name), str(value)) for name, value in result.headers.items()], content
    try:
        text = json.dumps(result, default=_plain, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(json.loads(json.dumps(result, default=_plain))), allow_nan=False)
    return 200, list(JSON), text.encode()


def _plain(value: Any) -> Any:
    """NumPy's arrays and scalars, and objects that say how they become JSON."""
    for method in ("toJSON", "tolist", "item"):
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(f"run() returned a {type(value).__name__}, which JSON cannot hold; return lists, numbers or text")


def _finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return {key: _finite(one) for key, one in value.items()} if isinstance(value, dict) else value


def _message(status: int, text: str, *, failed: bool = False) -> Head:
    return {"status": status, "headers": JSON, "failed": failed, "message": text}


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def frames(stream: BinaryIO) -> Iterator[tuple[Head, bytes]]:
    while len(start := stream.read(FRAME.size)) == FRAME.size:
        head, body = FRAME.unpack(start)
        yield json.loads(stream.read(head)), stream.read(body)


def send(stream: BinaryIO, head: Head, body: bytes = b"") -> None:
    text = json.dumps(head).encode()
    stream.write(FRAME.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def main() -> int:
    # A server killed without warning must not leave its worker behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.enable()
    server = socket.socket(fileno=int(sys.argv[1]))
    requests, answers = server.makefile("rb"), server.makefile("wb")
    incoming = frames(requests)
    told, _ = next(incoming)
    sys.path[:0] = [told["source"], told["shims"]]
    sessions = Sessions(told["threads"], told["providers"])
    sys.meta_path.insert(0, Import(told["source"], sessions))
    output, errors = RequestLog(sys.stdout), RequestLog(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        script = Script(told["script"])
    except CannotServe as error:
        send(answers, {"kind": "failed", "message": str(error)})
        return CANNOT_SERVE
    send(answers, {"kind": "ready", **sessions.head()})
    for head, body in incoming:
        RequestLog.request = head["id"]
        answer, content = script.answer(head, body)
        output.end()
        errors.end()
        RequestLog.request = ""
        send(answers, {"kind": "answer", **sessions.head(), **answer}, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
