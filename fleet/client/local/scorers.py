"""The scoring server on the publisher's machine, for one module's folder: as a child process, or in its own image."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from fleet.client.images.docker_engine import docker_engine
from fleet.client.local.containers import MODULE_MOUNT, NO_TELEMETRY, hardened, held_image
from fleet.client.local.ends_with_us import ends_with_us
from fleet.client.local.socket_folder import socket_folder
from fleet.client.screen import Step
from modules.errors import BadSettings, EdgefleetError, NotReady
from modules.manifest import Image

READY_WITHIN_S: Final = 120.0
_ASK_AGAIN_S: Final = 0.05
_LOG_LINES: Final = 20
_OK: Final = 200
_STOP_WITHIN_S: Final = 10
_SOCKET: Final = "s.sock"
# The same place as on a device (agent/engines), so that the reference is made the same way.
_SOCKET_MOUNT: Final = "/run/edgefleet"
_NOT_INSTALLED: Final = re.compile(r"ModuleNotFoundError: No module named '(\w+)")
# What the server itself imports (the extra scoring).
_SCORING: Final = frozenset(
    {"httptools", "msgspec", "modules", "numpy", "onnxruntime", "orjson", "simdjson", "werkzeug"}
)
_IN_PROCESS: Final = "correct the entry script, or name a Python that has edgefleet[scoring]: --interpreter PATH"
_IN_IMAGE: Final = "correct the entry script, or build an image with what it imports: edgefleet images build --with"


def missing_extra(said: str) -> str:
    """What to do where the last line of a server that ended names a package of its own that is not installed."""
    found = _NOT_INSTALLED.match(said.strip().rpartition("\n")[2])
    if not found or found[1] not in _SCORING:
        return ""
    return "install edgefleet[scoring] where edgefleet runs, or name a Python that has it: --interpreter PATH"


class Scorer(Protocol):
    """A ready scoring server: a client whose relative addresses reach it, and the end of its log."""

    http: httpx.Client

    def log_tail(self, lines: int) -> str: ...


class Starting(Scorer, Protocol):
    """One that may not be ready yet: how it ended, if it has, and what to do about that."""

    @property
    def remedy(self) -> str: ...

    def exit_code(self) -> int | None: ...


class _Process:
    remedy = _IN_PROCESS

    def __init__(self, child: subprocess.Popen[bytes], log: Path, http: httpx.Client) -> None:
        self.http = http
        self._child = child
        self._log = log

    def log_tail(self, lines: int) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    def exit_code(self) -> int | None:
        return self._child.poll()


class ContainerScorer:
    """In a container, of which more can be said: where its socket is, and how much memory it took at most."""

    remedy = _IN_IMAGE

    def __init__(self, container: Any, http: httpx.Client, path: Path) -> None:
        self.http = http
        self.path = path
        self._container = container

    def memory(self) -> int:
        """Bytes in use now, without what the kernel merely keeps of files."""
        return self._in_use(self._memory_stats())

    def memory_peak(self) -> int:
        """The most bytes in use so far, where the kernel counts it (cgroup v1, files included); else as now."""
        found = self._memory_stats()
        return int(found.get("max_usage") or self._in_use(found))

    def _memory_stats(self) -> dict[str, Any]:
        found = self._container.client.api.stats(self._container.id, stream=False, one_shot=True)
        return dict(found.get("memory_stats") or {})

    @staticmethod
    def _in_use(found: dict[str, Any]) -> int:
        details = found.get("stats") or {}
        return int(found.get("usage", 0)) - int(details.get("total_inactive_file", details.get("inactive_file", 0)))

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended it for the memory it took."""
        self._container.reload()
        return bool(self._container.attrs["State"]["OOMKilled"])

    def log_tail(self, lines: int) -> str:
        return str(self._container.logs(tail=lines).decode("utf-8", "replace")).strip()

    def exit_code(self) -> int | None:
        self._container.reload()
        return int(self._container.attrs["State"]["ExitCode"]) if self._container.status == "exited" else None


@contextmanager
def process_scorer(folder: Path, *, interpreter: str = "") -> Iterator[Scorer]:
    """``python -m modules.scoring`` as a child, with this interpreter or another that has ``edgefleet[scoring]``.

    Raises:
        BadSettings: there is no such interpreter.
        NotReady: the server ended or did not become ready; the message ends with the last lines of its log.
    """
    with socket_folder() as scratch:
        path, log = Path(scratch, _SOCKET), Path(scratch, "log")
        command = ends_with_us(
            interpreter or sys.executable,
            "-m",
            "modules.scoring",
            "--module",
            str(folder.resolve()),
            "--unix",
            str(path),
        )
        with log.open("wb") as stream:
            try:
                child = subprocess.Popen(  # noqa: S603  the user's own interpreter, no shell
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=os.environ | NO_TELEMETRY
                )
            except OSError as error:
                raise BadSettings(
                    f"the interpreter cannot be started: {error.strerror}",
                    element=command[0],
                    remedy="name one that has edgefleet[scoring]: --interpreter PATH",
                ) from error
        try:
            with _client(path) as http:
                scorer = _Process(child, log, http)
                await_ready(scorer, lambda: _listens(path))
                yield scorer
        finally:
            child.terminate()
            try:
                child.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def container_scorer(
    folder: Path,
    image: Image,
    blobs: Path,
    *,
    memory_mb: int | None = None,
    cpus: float | None = None,
    step: Step,
) -> Iterator[ContainerScorer]:
    """The scoring server in its own image: no network, nothing writable, as on a device.

    Raises:
        NoEngine: no Docker answers.
        Untrusted: the engine's image of that id has other layers.
        NotReady: as :func:`process_scorer`.
    """
    with socket_folder() as scratch, docker_engine() as engine:
        held = held_image(engine, image, blobs, step)
        container = engine.containers.create(
            held,
            ["--module", MODULE_MOUNT, "--unix", f"{_SOCKET_MOUNT}/{_SOCKET}"],
            network_mode="none",
            environment=NO_TELEMETRY,
            volumes={
                str(folder.resolve()): {"bind": MODULE_MOUNT, "mode": "ro"},
                scratch: {"bind": _SOCKET_MOUNT, "mode": "rw"},
            },
            **hardened(memory_mb=memory_mb, cpus=cpus),
        )
        try:
            container.start()
            path = Path(scratch, _SOCKET)
            with _client(path) as http:
                scorer = ContainerScorer(container, http, path)
                await_ready(scorer, lambda: _listens(path))
                yield scorer
        finally:
            container.remove(force=True)


def _client(path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://scoring", timeout=READY_WITHIN_S)


def await_ready(scorer: Starting, listens: Callable[[], bool]) -> None:
    """Return when ``GET /`` is 200.

    Raises:
        NotReady: it ended, or it took too long; the message ends with the last lines of its log.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    said = "it does not listen"
    while time.monotonic() < deadline:
        code = scorer.exit_code()
        if code is not None:
            raise _not_ready(f"the scoring server ended with exit code {code}", scorer)
        if listens():
            try:
                answer = scorer.http.get("/")
                if answer.status_code == _OK:
                    return
                said = f"it answers {answer.status_code}"
            except httpx.HTTPError as error:
                said = f"it gives no answer: {error}"
        time.sleep(_ASK_AGAIN_S)  # a socket that does not exist yet cannot be awaited
    raise _not_ready(f"the scoring server was not ready within {READY_WITHIN_S:.0f} s: {said}", scorer)


def _listens(path: Path) -> bool:
    """Whether anything does; httpx would leave its own socket open when it fails to connect."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _not_ready(message: str, scorer: Starting) -> EdgefleetError:
    lines = scorer.log_tail(_LOG_LINES)
    return NotReady(
        f"{message}\nlast lines of its log:\n{lines}" if lines else message,
        element="scoring server",
        remedy=missing_extra(lines) or scorer.remedy,
    )
