"""The scoring server as a plain process, for trying things out on a machine without a container engine.

It isolates nothing but the process itself: the module runs as the agent's own user, sees the device's files and
network, and no limit of memory, CPU or processes holds it (the proof's memory limit is measured all the same). So the
device's own settings must name an interpreter for it, and a rollout must ask for it by name.

An instance is a session of its own and outlives the agent (under systemd with ``KillMode=process``); the next agent
finds it by the record in the state folder, ``<instance>/record.json``, written before the process is started, and the
process by that folder's name among its variables. No two agents share a state folder, so neither finds the other's.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.engines import processes
from agent.engines.contract import SECRETS_VARIABLE, Instance, Launch, Usage
from modules.canonical import UNREADABLE
from modules.errors import EngineBusy, Invalid, NoEngine, NotReady
from modules.manifest import Image
from modules.names import Digest
from modules.needs import Engine

ASK_S: Final = 60.0
KILL_S: Final = 10.0
LOG_LIMIT: Final = 2 << 20
_MIB: Final = 1 << 20
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")
# The variable by which a process says whose it is.
_RECORD: Final = "EDGEFLEET_RECORD"
_ASK: Final = """
import importlib.metadata, json, platform
from importlib.util import find_spec
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": platform.python_version(), "edgefleet": version("edgefleet"), "onnxruntime": version("onnxruntime"),
    "serves": find_spec("modules") is not None and find_spec("modules.scoring") is not None,
}))
"""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of an instance. Without a ``process`` it was about to be started."""

    instance: str
    slot: str
    digest: Digest
    # Nothing reads it any more; an older agent, put back, must.
    socket: str
    interpreter: str
    process: processes.Identity | None = None
    started_at: float = 0.0
    exit_code: int | None = None


class ProcessEngine:
    """One device's scoring servers as processes; implements :class:`agent.engines.contract.ContainerEngine`.

    Args:
        state: this device's own folder for records and logs; it must survive the agent.
        interpreter: a Python that has ``edgefleet[scoring]``, from the device's own settings.
    """

    name = "process"

    def __init__(self, state: Path, interpreter: str) -> None:
        self._state = state
        self._interpreter = interpreter
        self._children: set[int] = set()
        # Two threads may not reap one child.
        self._lock = threading.RLock()

    async def facts(self) -> Engine:
        return await asyncio.to_thread(self._facts)

    async def has_image(self, image: Image, blobs: Path) -> bool:  # noqa: ARG002 - the protocol's
        """True: no image is needed."""
        return True

    async def image_store(self) -> Path | None:
        """None: it keeps no images."""
        return None

    async def load_image(self, image: Image, blobs: Path) -> None:
        """Nothing: no image is needed."""

    async def keep_image(self, image: Image) -> None:
        """Nothing: there is none."""

    async def let_go_images(self, keep: Collection[Image]) -> None:
        """Nothing: there are none."""

    async def start(self, launch: Launch) -> Instance:
        return await asyncio.to_thread(self._start, launch)

    async def stop(self, instance: str, *, grace_s: float) -> None:
        await asyncio.to_thread(self._stop, instance, grace_s)

    async def hang_up(self, instance: str) -> None:
        await asyncio.to_thread(self._hang_up, instance)

    async def list(self) -> list[Instance]:
        return list(await asyncio.to_thread(self._all))

    async def logs(self, instance: str, *, tail_bytes: int) -> str:
        return await asyncio.to_thread(self._logs, instance, tail_bytes)

    async def usage(self, instance: str) -> Usage | None:
        return await asyncio.to_thread(self._usage, instance)

    def _facts(self) -> Engine:
        remedy = "name a Python that has edgefleet[scoring] in the device's settings"
        try:
            asked = subprocess.run(  # noqa: S603 - the device's own settings name the program
                [self._interpreter, "-P", "-c", _ASK], capture_output=True, timeout=ASK_S, check=True, text=True
            )
            told = json.loads(asked.stdout)
        except subprocess.TimeoutExpired as error:
            raise EngineBusy(f"did not answer within {ASK_S:g} s", element=self._interpreter, remedy="wait") from error
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise NoEngine(f"does not run: {error}", element=self._interpreter, remedy=remedy) from error
        if not told["serves"] or told["onnxruntime"] is None:
            lacks = "onnxruntime" if told["serves"] else "edgefleet"
            raise NoEngine(f"this Python has no {lacks}", element=self._interpreter, remedy=remedy)
        detail = f"{self._interpreter}, Python {told['python']}, onnxruntime {told['onnxruntime']}, not isolated"
        return Engine(name=self.name, version=told["edgefleet"] or "source tree", detail=detail)

    def _start(self, launch: Launch) -> Instance:
        with self._lock:
            found = self._seen(self._record(launch.instance))
            if found is not None and found.state == "running" and found.digest == launch.digest:
                return found
            self._stop(launch.instance, 0.0)
            record = _Record(
                instance=launch.instance,
                slot=launch.slot,
                digest=launch.digest,
                socket=launch.socket,
                interpreter=self._interpreter,
                started_at=time.time(),
            )
            self._folder(launch.instance).mkdir(parents=True)
            self._keep(record)
            try:
                pid = self._spawn(launch)
            except OSError as error:
                self._forget(launch.instance)
                raise NotReady(f"it could not be started: {error.strerror}", element=self._interpreter) from error
            self._children.add(pid)
            record = msgspec.structs.replace(record, process=processes.identity(pid))
            self._keep(record)
            started = self._seen(record)
        if started is None:
            raise NotReady("it was removed while it started", element=launch.instance)
        return started

    def _spawn(self, launch: Launch) -> int:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | launch.server_environment
        environment[_RECORD] = str(self._folder(launch.instance))
        if launch.secrets_dir:
            environment[SECRETS_VARIABLE] = launch.secrets_dir
        # -P: nothing is imported from the folder that the agent happens to stand in.
        command = [
            self._interpreter,
            "-P",
            "-m",
            "modules.scoring",
            "--module",
            launch.module_dir,
            "--unix",
            launch.socket,
        ]
        log = self._folder(launch.instance) / "log"
        files = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
        return os.posix_spawn(
            self._interpreter,
            command,
            environment,
            file_actions=files,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE,),
        )

    def _hang_up(self, instance: str) -> None:
        record = self._record(instance)
        if record is not None and record.process is not None:
            processes.hang_up(record.process)

    def _stop(self, instance: str, grace_s: float) -> None:
        record = self._record(instance)
        if record is not None and record.process is not None:
            gone = processes.end(record.process, grace_s=grace_s, kill_s=KILL_S)
            self._exit_code(record.process.pid)
            if not gone:
                raise EngineBusy("a process does not end, although it was killed", element=instance, remedy="wait")
        self._forget(instance)

    def _all(self) -> Sequence[Instance]:
        folders = sorted(self._state.iterdir()) if self._state.is_dir() else []
        found = []
        for folder in folders:
            instance = self._seen(self._record(folder.name))
            if instance is not None:
                self._bound_log(folder / "log")
                found.append(instance)
        return found

    def _seen(self, record: _Record | None) -> Instance | None:
        """The instance as it is now."""
        if record is None:
            return None
        running = False
        if record.process is not None:
            with self._lock:
                code = self._exit_code(record.process.pid)
                if code is not None and record.exit_code is None:
                    record = msgspec.structs.replace(record, exit_code=code)
                    self._keep(record)
            running = record.process is not None and processes.is_alive(record.process)
        killed = record.exit_code is not None and record.exit_code < 0
        return Instance(
            instance=record.instance,
            slot=record.slot,
            digest=record.digest,
            state="running" if running else "exited",
            # As a shell and a container engine count: 128 and the signal.
            exit_code=None if record.exit_code is None else 128 - record.exit_code if killed else record.exit_code,
            started_at=record.started_at,
            image=record.interpreter,
            detail=f"killed by signal {-(record.exit_code or 0)}" if killed else "",
        )

    def _exit_code(self, pid: int) -> int | None:
        """Reap a child of ours; its exit code, or the negative number of the signal that ended it."""
        with self._lock:
            if pid not in self._children:
                return None
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else in this program reaped it: it has ended, and how is not known.
                self._children.discard(pid)
                return None
            if not ended:
                return None
            self._children.discard(pid)
            return os.waitstatus_to_exitcode(status)

    def _logs(self, instance: str, tail_bytes: int) -> str:
        try:
            with (self._folder(instance) / "log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - tail_bytes))
                return log.read(tail_bytes).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _usage(self, instance: str) -> Usage | None:
        record = self._record(instance)
        members = [] if record is None or record.process is None else processes.session(record.process)
        if not members:
            return None
        return Usage(
            memory_mb=sum(one.memory for one in members) / _MIB,
            cpu_s=sum(one.cpu_s for one in members),
            tasks=sum(one.threads for one in members),
        )

    def _folder(self, instance: str) -> Path:
        if "/" in instance or instance.startswith("."):
            raise Invalid(f"{instance!r} is no instance", element="instance")
        return self._state / instance

    def _record(self, instance: str) -> _Record | None:
        try:
            record = msgspec.json.decode((self._folder(instance) / "record.json").read_bytes(), type=_Record)
        except (FileNotFoundError, NotADirectoryError, *UNREADABLE):
            return None
        # Somebody may have renamed the folder: it goes by the name that it has now, under which it can be stopped.
        record = msgspec.structs.replace(record, instance=instance)
        if record.process is None and (found := processes.find(f"{_RECORD}={self._folder(instance)}")) is not None:
            # The agent ended between starting the process and writing that down.
            record = msgspec.structs.replace(record, process=found)
            self._keep(record)
        return record

    def _keep(self, record: _Record) -> None:
        path = self._folder(record.instance) / "record.json"
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as out:
            out.write(msgspec.json.encode(record))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)

    def _forget(self, instance: str) -> None:
        shutil.rmtree(self._folder(instance), ignore_errors=True)

    @staticmethod
    def _bound_log(log: Path) -> None:
        """Start a log that has grown too long again with its end; the writer appends, so it goes on there."""
        if log.is_file() and log.stat().st_size > LOG_LIMIT:
            with log.open("r+b") as file:
                file.seek(-LOG_LIMIT // 2, os.SEEK_END)
                end = file.read()
                file.truncate(0)
                file.seek(0)
                file.write(end)
