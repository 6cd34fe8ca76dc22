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
from modules.scoring.runtime import Answer, BadInput, ProviderChoice, Request, RunFailed
from modules.scoring.settings import Script

HOST: Final = Path(__file__).with_name("worker_host.py")
SHIMS: Final = Path(__file__).with_name("shims")
_FRAME: Final = struct.Struct(">IQ")
_STOP_WAIT_S: Final = 5.0
_BAD_INPUT: Final = 400
# Thread pools of numerical libraries, which would otherwise be sized from the host.
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerDied(Transient):
    """The process ended, or spoke nonsense; it cannot be asked again."""

    code = "worker-died"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told at its start."""

    script: Script
    providers: tuple[ProviderChoice, ...]
    threads: int


class Worker:
    """A running worker whose ``init()`` has returned; ``provider`` and ``onnxruntime`` are what it last told."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
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
                sys.executable, "-P", "-u", str(HOST), str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), cwd=source, env=_environment(settings), stdin=DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(process, reader, writer)
        try:
            head, _ = await worker._exchange(_told(settings), b"")
        except BaseException:
            await worker.kill()
            raise
        if head["kind"] == "failed":
            await worker.kill()
            raise Invalid(head["message"], element=settings.script.file.name, remedy="correct the entry script")
        return worker

    async def ask(self, request: Request) -> Answer:
        """Have the script answer one request; one at a time.

        Raises:
            BadInput: the body is not text.
            RunFailed: ``run()`` raised, or returned what JSON cannot hold.
            WorkerDied: the process ended.
        """
        head = {
            "kind": "request", "id": request.id, "method": request.method, "path": request.path, "query": request.query,
            "headers": request.headers,
        }  # fmt: skip
        told, body = await self._exchange(head, request.body)
        if "message" in told:
            raise (BadInput if told["status"] == _BAD_INPUT else RunFailed)(told["message"])
        return Answer(
            body=body, status=told["status"], headers=tuple((name, value) for name, value in told["headers"]),
            run_ms=told.get("run_ms"), failed=told.get("failed", False),
        )  # fmt: skip

    async def ended(self) -> str:
        """Wait for the end of the process; returns how it ended, for people."""
        code = await self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self) -> None:
        """Let it end by itself, and kill it if it does not."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WAIT_S):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kill the process and the processes that the script started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._writer.close()

    async def _exchange(self, head: dict[str, Any], body: bytes | bytearray) -> tuple[dict[str, Any], bytes]:
        """Send a frame and read the answering one."""
        text = orjson.dumps(head)
        try:
            self._writer.write(_FRAME.pack(len(text), len(body)) + text)
            self._writer.write(body)
            await self._writer.drain()
            head_length, body_length = _FRAME.unpack(await self._reader.readexactly(_FRAME.size))
            answer = orjson.loads(await self._reader.readexactly(head_length))
            content = await self._reader.readexactly(body_length)
        except (OSError, EOFError) as error:
            raise WorkerDied(f"the worker process {await self.ended()}", element="entry script") from error
        self.provider, self.onnxruntime = answer.get("provider"), answer.get("onnxruntime")
        return answer, content


def _told(settings: WorkerSettings) -> dict[str, Any]:
    script = settings.script
    return {
        "script": str(script.file), "source": str(script.source), "shims": str(SHIMS),
        "threads": settings.threads, "providers": settings.providers,
    }  # fmt: skip


def _environment(settings: WorkerSettings) -> dict[str, str]:
    threads = dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))
    return threads | os.environ | {"AZUREML_MODEL_DIR": str(settings.script.model_dir), "ORT_DISABLE_TELEMETRY": "1"}
