"""One worker process that runs an entry script, seen from the server: start it, ask it, stop it."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import orjson

from modules.errors import Invalid, Transient
from modules.scoring.runtime import Answer, ProviderChoice, Request, RunFailed
from modules.scoring.settings import Script

HOST: Final = Path(__file__).with_name("worker_host.py")
_FRAME: Final = struct.Struct(">IQ")
_STOP_WAIT_S: Final = 5.0
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
    """What the script's own decorators declare: JSON schemas, and the example they were given."""

    request: dict[str, Any] = {}
    answer: dict[str, Any] = {}
    example: dict[str, Any] | None = None


class _Link(asyncio.Protocol):
    """Frames over the worker's socket: each that is sent is answered by one."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._wanted = _FRAME.size
        self._answer: asyncio.Future[tuple[dict[str, Any], bytes]] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio types it for datagrams too

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or EOFError())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._wanted:
            return
        head_length, body_length = _FRAME.unpack_from(self._received)
        body_start = _FRAME.size + head_length
        self._wanted = body_start + body_length
        if len(self._received) < self._wanted:
            return
        with memoryview(self._received) as view:
            head, body = orjson.loads(view[_FRAME.size : body_start]), bytes(view[body_start : self._wanted])
        self._received = bytearray()
        self._wanted = _FRAME.size
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((head, body))

    def exchange(self, head: dict[str, Any], body: bytes | bytearray) -> asyncio.Future[tuple[dict[str, Any], bytes]]:
        """Send a frame; returns the answering one."""
        text = orjson.dumps(head)
        self._answer = asyncio.get_running_loop().create_future()
        # Somebody may have stopped waiting: that it then failed is no news.
        self._answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        if self._transport.is_closing():
            self._answer.set_exception(EOFError())
        else:
            self._transport.writelines((_FRAME.pack(len(text), len(body)), text, body))
        return self._answer

    async def settled(self) -> dict[str, Any] | None:
        """The head of the answer that somebody stopped waiting for."""
        return (await self._answer)[0] if self._answer is not None else None

    def close(self) -> None:
        self._transport.close()


class Worker:
    """A running worker whose ``init()`` has returned; ``provider`` and ``onnxruntime`` are what it last told."""

    def __init__(self, process: Process, link: _Link) -> None:
        self._process = process
        self._link = link
        self._wants_headers = False
        self.schema: ScriptSchema | None = None
        self.provider: str | None = None
        self.onnxruntime: str | None = None

    @classmethod
    async def start(cls, settings: WorkerSettings) -> Self:
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
                start_new_session=True,
            )  # fmt: skip
        _, link = await asyncio.get_running_loop().create_connection(_Link, sock=ours)
        worker = cls(process, link)
        try:
            async with asyncio.timeout(settings.start_s):
                head, _ = await worker._exchange(_told(settings))
        except TimeoutError as error:
            await worker.kill()
            raise Invalid(
                f"init() took longer than {settings.start_s:g} s", element="WORKER_TIMEOUT", remedy="allow more time"
            ) from error
        except BaseException:
            await worker.kill()
            raise
        if head["kind"] == "failed":
            await worker.kill()
            raise Invalid(head["message"], element=settings.script.file.name, remedy="correct the entry script")
        worker._wants_headers = head["wants"]["headers"]
        worker.schema = msgspec.convert(head["schema"], ScriptSchema | None)
        return worker

    async def ask(self, request: Request) -> tuple[Answer, bool]:
        """Have the script answer one request; one at a time. Whether the body is still to come, through :meth:`more`.

        Raises:
            RunFailed: ``run()`` raised, or returned what JSON cannot hold.
            WorkerDied: the process ended.
        """
        head = {
            "kind": "request", "id": request.id, "method": request.method, "path": request.path, "query": request.query,
        }  # fmt: skip
        if self._wants_headers:
            head["headers"] = request.headers  # type: ignore[assignment]  # orjson writes the tuple as it is
        told, body = await self._exchange(head, request.body)
        if "message" in told:
            raise RunFailed(told["message"])
        answer = Answer(
            body=body, status=told["status"], headers=tuple((name, value) for name, value in told["headers"]),
            run_ms=told.get("run_ms"), failed=told["failed"],
        )  # fmt: skip
        return answer, "stream" in told

    async def more(self) -> bytes | None:
        """The next part of a body that is made while it is sent; None after the last.

        Raises:
            RunFailed: the script ended it by an error.
            WorkerDied: the process ended.
        """
        told, part = await self._exchange({"kind": "more"})
        if told["kind"] == "broken":
            raise RunFailed(told["message"])
        return part if told["kind"] == "part" else None

    async def abandon(self) -> None:
        """End a body that nobody wants any more, after the part that is being made.

        Raises:
            WorkerDied: the process ended.
        """
        try:
            told = await self._link.settled()
        except (OSError, EOFError) as error:
            raise WorkerDied("the worker process ended", element="entry script") from error
        if told is not None and (told["kind"] == "part" or "stream" in told):
            await self._exchange({"kind": "stop"})

    async def ended(self) -> str:
        """Wait for the end of the process; returns how it ended, for people."""
        code = await self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self) -> None:
        """Let it end by itself, and kill it if it does not."""
        self._link.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WAIT_S):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kill the process and the processes that the script started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._link.close()

    async def _exchange(self, head: dict[str, Any], body: bytes | bytearray = b"") -> tuple[dict[str, Any], bytes]:
        """Send a frame and wait for the answering one, which :meth:`abandon` still gets if the wait is cancelled."""
        try:
            answer, content = await asyncio.shield(self._link.exchange(head, body))
        except (OSError, EOFError) as error:
            raise WorkerDied(f"the worker process {await self.ended()}", element="entry script") from error
        if sessions := answer.get("sessions"):
            self.provider, self.onnxruntime = sessions["provider"], sessions["onnxruntime"]
        return answer, content


def _told(settings: WorkerSettings) -> dict[str, Any]:
    script = settings.script
    return {
        "script": str(script.file), "source": str(script.source), "threads": settings.threads,
        "providers": settings.providers, "log_level": settings.log_level, "structured_log": settings.structured_log,
    }  # fmt: skip


def _environment(settings: WorkerSettings) -> dict[str, str]:
    threads = dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))
    return threads | os.environ | {"AZUREML_MODEL_DIR": str(settings.script.model_dir), "ORT_DISABLE_TELEMETRY": "1"}


def _interpreter() -> str:
    """The Python that the script runs in: of its own environment, where the image has one."""
    return os.environ.get("EDGEFLEET_SCRIPT_PYTHON") or sys.executable
