"""One worker process that runs an entry script, seen from the server: start it, ask it, stop it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from pathlib import Path
from typing import Any, Final, Protocol, Self

import msgspec

from modules.errors import Invalid, Transient
from modules.scoring.runtime import Answer, ProviderChoice, Request, RunFailed
from modules.scoring.scripts.script_stream import Parts, Stream
from modules.scoring.scripts.worker_link import Link
from modules.scoring.settings import Script

HOST: Final = Path(__file__).with_name("worker_host.py")
_STOP_WAIT_S: Final = 5.0
_JSON: Final = (("content-type", "application/json"),)
_JSON_LISTS: Final = [["content-type", "application/json"]]
# Thread pools of numerical libraries, which would otherwise be sized from the host.
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerDied(Transient):
    """The process ended, or spoke nonsense; it cannot be asked again."""

    code = "worker-died"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told at its start; ``init()`` may take ``start_s`` seconds, None is for ever."""

    script: Script
    providers: tuple[ProviderChoice, ...]
    threads: int
    log_level: str = "info"
    structured_log: bool = False
    start_s: float | None = None


class ScriptSchema(msgspec.Struct, frozen=True, kw_only=True):
    """What the script's own decorators declare: JSON schemas, the example they were given, versions of OpenAPI."""

    request: dict[str, Any] = {}
    answer: dict[str, Any] = {}
    example: dict[str, Any] | None = None
    versions: tuple[str, ...] | None = None


class Job:
    """A request on its way to a worker, and the future of its answer. ``came`` and ``began`` are loop times."""

    __slots__ = ("began", "came", "future", "request")

    def __init__(self, request: Request, future: asyncio.Future[Answer], came: float) -> None:
        self.request, self.future, self.came, self.began = request, future, came, came

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Owner(Protocol):
    """Who gives a worker its jobs, and hears from it."""

    def free(self, worker: "Worker", job: Job) -> None:
        """It has answered this job, and can be asked another."""

    def overdue(self, worker: "Worker") -> None:
        """What it runs takes longer than the time-out."""


class Worker:
    """A running worker whose ``init()`` has returned; ``provider`` and ``onnxruntime`` are what it last told.

    It runs one job at a time. More can be given to it beforehand: they are begun in order, each when the one before
    has been answered, so that whatever ends the worker has touched the first of ``jobs`` alone.
    """

    def __init__(self, process: Process, link: Link, owner: Owner, timeout: float) -> None:
        self._process = process
        self._link = link
        self._owner = owner
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._wants_headers = False
        self._stream: Stream | None = None
        self._began = 0.0
        self.jobs: deque[Job] = deque()
        self.schema: ScriptSchema | None = None
        self.provider: str | None = None
        self.onnxruntime: str | None = None

    @classmethod
    async def start(cls, settings: WorkerSettings, owner: Owner, timeout: float) -> Self:  # noqa: ASYNC109 - of each run, not of this
        """Start a process and wait until its script has been imported and initialised.

        Raises:
            Invalid: the script cannot be served.
            WorkerDied: the process ended without saying why.
        """
        source = settings.script.source
        if not source.is_dir():
            raise Invalid(
                "there is no such folder", element=str(source), remedy="name the entry script's source folder"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                _interpreter(), "-P", "-u", str(HOST), str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), cwd=source, env=_environment(settings), stdin=DEVNULL,
                # Of the server's session, by which the agent's process engine finds all that a module started.
                process_group=0,
            )  # fmt: skip
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(Link, sock=ours)
        worker = cls(process, link, owner, timeout)
        greeting: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        link.receive = lambda head, _: greeting.set_result(head) if not greeting.done() else None
        link.lost = lambda: greeting.set_result(None) if not greeting.done() else None
        try:
            async with asyncio.timeout(settings.start_s):
                link.send(_told(settings))
                head = await greeting
                how = await worker.ended() if head is None else ""
        except TimeoutError as error:
            await worker.kill()
            raise Invalid(
                f"init() took longer than {settings.start_s:g} s", element="WORKER_TIMEOUT", remedy="allow more time"
            ) from error
        except BaseException:
            await worker.kill()
            raise
        if head is None or head["kind"] == "failed":
            await worker.kill()
            if head is None:
                raise WorkerDied(f"the worker process {how}", element="entry script")
            raise Invalid(head["message"], element=settings.script.file.name, remedy="correct the entry script")
        worker._greeted(head)
        return worker

    @property
    def reachable(self) -> bool:
        return not self._link.transport.is_closing()

    def give(self, job: Job) -> None:
        """Have it answer this job, after those it has."""
        request = job.request
        head: dict[str, Any] = {
            "kind": "request", "id": request.id, "method": request.method, "path": request.path, "query": request.query,
        }  # fmt: skip
        if self._wants_headers:
            head["headers"] = request.headers
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin()
        if not self._link.transport.is_closing():
            self._link.send(head, request.body)

    def more(self) -> None:
        """Ask for the next part of the answer that is being made."""
        self._began = self._loop.time()
        self._link.send({"kind": "more"})

    def drop(self) -> None:
        """Nobody wants the rest of the answer that is being made."""
        self._began = self._loop.time()
        if not self._link.transport.is_closing():
            self._link.send({"kind": "stop"})

    def fail(self, error: Exception) -> list[Job]:
        """It cannot go on: what it runs has failed; returns the jobs that it has not begun."""
        if self._timer is not None:
            self._timer.cancel()
        others = list(self.jobs)[1:]
        if self.jobs:
            self.jobs[0].fail(error)
        self.jobs.clear()
        if self._stream is not None:
            self._stream.fail(error)
        return others

    async def ended(self) -> str:
        """Wait for the end of the process; returns how it ended, for people."""
        code = await self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self) -> None:
        """Let it end by itself, and kill it if it does not."""
        self._link.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WAIT_S):
                await self._process.wait()
        await self.kill()

    def hang_up(self) -> None:
        """Tell the script, by SIGHUP, that the files of its secrets are new."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)

    async def kill(self) -> None:
        """Kill the process and the processes that the script started."""
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._link.transport.close()

    def _greeted(self, head: dict[str, Any]) -> None:
        self._wants_headers = head["wants"]["headers"]
        self.schema = msgspec.convert(head["schema"], ScriptSchema | None)
        self._note(head)
        self._link.receive, self._link.lost = self._received, self._lost

    def _begin(self) -> None:
        self._began = self.jobs[0].began = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._look)

    def _look(self) -> None:
        """One timer looks at whatever runs, instead of one for each request."""
        self._timer = None
        if not self.jobs:
            return
        left = self._began + self._timeout - self._loop.time()
        if left > 0 or (self._stream is not None and not self._stream.awaited):
            self._timer = self._loop.call_later(max(left, self._timeout / 2), self._look)
        else:
            self._owner.overdue(self)

    def _note(self, head: dict[str, Any]) -> None:
        if sessions := head.get("sessions"):
            self.provider, self.onnxruntime = sessions["provider"], sessions["onnxruntime"]

    def _received(self, head: dict[str, Any], body: bytes) -> None:
        self._note(head)
        if not self.jobs:
            return
        kind = head["kind"]
        if self._stream is not None:
            stream = self._stream
            if kind != "part":
                self._stream = None
                self._next()
            stream.take(body if kind == "part" else None, head.get("message"))
            return
        job = self.jobs[0]
        if "message" in head:
            job.fail(RunFailed(head["message"]))
        else:
            self._stream = Stream(self) if "stream" in head else None
            headers = head["headers"]
            answer = Answer(
                body=body if self._stream is None else Parts(self._stream), status=head["status"],
                headers=_JSON if headers == _JSON_LISTS else tuple((name, value) for name, value in headers),
                run_ms=head.get("run_ms"), failed=head["failed"],
            )  # fmt: skip
            if not job.future.done():
                job.future.set_result(answer)
        if self._stream is None:
            self._next()

    def _next(self) -> None:
        job = self.jobs.popleft()
        if self.jobs:
            self._begin()
        self._owner.free(self, job)

    def _lost(self) -> None:
        """Without its socket it is of no use; the end of its process says the rest."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _told(settings: WorkerSettings) -> dict[str, Any]:
    script = settings.script
    return {
        "script": str(script.file), "source": str(script.source), "threads": settings.threads,
        "providers": settings.providers, "log_level": settings.log_level, "structured_log": settings.structured_log,
    }  # fmt: skip


def _environment(settings: WorkerSettings) -> dict[str, str]:
    ours = {
        "AZUREML_MODEL_DIR": str(settings.script.model_dir),
        "ORT_DISABLE_TELEMETRY": "1",
        # Beside the script lies what is packed, or was signed, and nothing else.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return dict.fromkeys(_THREAD_VARIABLES, str(settings.threads)) | os.environ | ours


def _interpreter() -> str:
    """The Python that the script runs in: of its own environment, where the image has one."""
    return os.environ.get("EDGEFLEET_SCRIPT_PYTHON") or sys.executable
