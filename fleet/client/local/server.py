"""The scoring server on the engineer's machine: one address, and whatever changes in its files is taken in.

Each version of the files is a process of its own behind a Unix socket; this process owns the TCP address and hands each
request's bytes to the newest version that became ready. So a version that does not start takes nothing away.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from fleet.client.local.ends_with_us import ends_with_us
from fleet.client.local.passing import Passing
from fleet.client.local.scorers import missing_extra
from fleet.client.local.socket_folder import socket_folder
from fleet.client.models.conversion import framework_of
from fleet.client.workspace import MANIFEST
from modules.errors import BadSettings, EdgefleetError, Invalid, NotReady

READY_WITHIN_S: Final = 120.0
_LOOK_S: Final = 0.5
_ASK_AGAIN_S: Final = 0.05
_STOP_WITHIN_S: Final = 35.0
_LINE_LIMIT: Final = 1 << 20
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules"})
# What a running script writes beside itself must not start it again.
_WRITTEN: Final = (".log", ".pyc", ".tmp")
_ENDS_WITH_US: Final = (signal.SIGINT, signal.SIGTERM)

_LIBRARIES: Final = {
    "sklearn": "scikit-learn (a pickle)",
    "tensorflow": "TensorFlow",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
}

Say = Callable[[str], None]
Seen = dict[Path, tuple[int, int]]


class Target(msgspec.Struct, frozen=True):
    """What is served: arguments of ``python -m modules.scoring``, and the files and folders that it is made of."""

    arguments: tuple[str, ...]
    watched: tuple[Path, ...]


def target_of(path: Path, *, model_dir: Path | None = None) -> Target:
    """A module's folder, an entry script, or an ONNX file.

    Raises:
        Invalid: it is none of them; a model of another library is told how it gets there.
    """
    if path.exists() and (framework := framework_of(path)) != "onnx":
        trusted = " --trusted-pickle" if framework == "sklearn" else ""
        raise Invalid(
            f"this is a model of {_LIBRARIES[framework]}, which is converted to ONNX when it is registered",
            element=str(path),
            remedy=f"edgefleet models register {path} -n NAME --team TEAM{trusted}, and serve that module; "
            "or serve an entry script that opens the file",
        )
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return Target(("--module", str(path)), (path,))
        graphs = [file for file in sorted(path.iterdir()) if file.suffix in {".onnx", ".ort"}]
        if len(graphs) == 1:
            return Target(("--model", str(graphs[0])), (path,))
    elif path.suffix == ".py" and path.is_file():
        folder = model_dir or path.parent
        return Target(("--script", str(path), "--model-dir", str(folder)), (path.parent, folder))
    elif path.is_file():
        return Target(("--model", str(path)), (path,))
    raise Invalid(
        "there is nothing here that could be served",
        element=str(path),
        remedy="name an ONNX file, an entry script (.py), or a module's folder",
    )


def seen(target: Target) -> Seen:
    """Time and size of every file that the target is made of."""
    found: Seen = {}
    for place in target.watched:
        for file in [place] if place.is_file() else _files(place):
            with contextlib.suppress(OSError):
                status = file.stat()
                found[file] = (status.st_mtime_ns, status.st_size)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith(".") and not name.endswith(_WRITTEN))


class _Version:
    """One process, serving at a socket of its own; what it prints goes on to standard error."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self.path = path
        self._process = process
        self._said = ""
        self._reading = asyncio.create_task(self._read(), name="read the server's log")

    @classmethod
    async def start(cls, target: Target, path: Path, python: str, environment: Mapping[str, str]) -> "_Version":
        """Return once it is ready.

        Raises:
            BadSettings: the interpreter cannot be started.
            NotReady: it ended, or took too long.
        """
        command = ends_with_us(python, "-m", "modules.scoring", *target.arguments, "--unix", str(path))
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"} | dict(environment),
                limit=_LINE_LIMIT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BadSettings(
                f"the interpreter cannot be started: {error.strerror}",
                element=python,
                remedy="name one that has edgefleet[scoring]: --interpreter PATH",
            ) from error
        version = cls(process, path)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await version._ready():  # noqa: ASYNC110  a socket that does not exist cannot be awaited
                    await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError as error:
            await version.stop()
            raise NotReady(f"it was not ready within {READY_WITHIN_S:.0f} s", element="scoring server") from error
        except BaseException:
            await version.stop()
            raise
        return version

    async def _ready(self) -> bool:
        if self._process.returncode is not None:
            await self._reading
            raise NotReady(
                f"it ended with exit code {self._process.returncode}",
                element="scoring server",
                remedy=missing_extra(self._said) or "the last line that it printed says why",
            )
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path))
        except OSError:
            return False
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    async def stop(self) -> None:
        """Let it finish what it has, then make sure."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it was asked for
        while line := await self._process.stdout.readline():
            self._said = line.decode("utf-8", "replace")
            sys.stderr.write(self._said)


class LocalServer:
    """One address, the newest version that works behind it; ``address`` is known once it serves."""

    def __init__(self, target: Target, *, python: str = "", environment: Mapping[str, str], say: Say) -> None:
        self._target, self._python, self._environment, self._say = target, python, dict(environment), say
        self._version: _Version | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._count = 0

    async def run(self, host: str, port: int, *, reload: bool = True, ready: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM; ``ready`` is told the address once it answers.

        Raises:
            BadSettings: the address cannot be had, or the interpreter not started.
            NotReady: the first version does not start.
        """
        stop = asyncio.Event()
        with socket_folder() as scratch:
            before = seen(self._target)
            # A model may take minutes to load: until it is there, they end this as they end any program.
            self._version = await self._next(Path(scratch))
            for number in _ENDS_WITH_US:
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            try:
                server = await self._listen(host, port)
                async with server:
                    bound = server.sockets[0].getsockname()
                    ready(f"http://{bound[0]}:{bound[1]}")
                    watching = asyncio.create_task(self._watch(Path(scratch), before)) if reload else None
                    await stop.wait()
                    if watching is not None:
                        watching.cancel()
                        await asyncio.gather(watching, return_exceptions=True)
            finally:
                await asyncio.gather(*self._ending, self._version.stop())

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._pass_on, host, port)
        except OSError as error:
            raise BadSettings(
                f"cannot listen: {error.strerror or error}",
                element=f"{host}:{port}",
                remedy="choose another with --port, or end what uses it",
            ) from error

    async def _next(self, scratch: Path) -> _Version:
        self._count += 1
        path = scratch / f"{self._count}.sock"
        return await _Version.start(self._target, path, self._python or sys.executable, self._environment)

    async def _watch(self, scratch: Path, before: Seen) -> None:
        """Look at the files for ever; a change counts once it has stopped changing."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = seen(self._target)
            if now == before:
                continue
            await asyncio.sleep(_LOOK_S)
            if (settled := seen(self._target)) != now:
                continue
            changed = sorted({path.name for path, _ in now.items() ^ before.items()})
            before = settled
            self._say(f"{', '.join(changed[:5])} changed: starting again")
            try:
                fresh = await self._next(scratch)
            except EdgefleetError as error:
                self._say(f"what was there before serves on, for the new version does not start: {error}")
                continue
            old, self._version = self._version, fresh
            self._say("the new version serves")
            if old is not None:
                task = asyncio.create_task(old.stop(), name="stop the old version")
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Passing(reader, writer, self._newest).run()

    def _newest(self) -> Path:
        assert self._version is not None  # noqa: S101  nobody listens before
        return self._version.path
