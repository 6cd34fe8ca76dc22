"""A container engine in memory: its instances are real HTTP servers on real Unix sockets, and fail as they are told.

Instances belong to the engine, not to the agent: they outlive every agent that a test drops.
"""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.engines.contract import Instance, Launch, Usage
from modules.errors import EdgefleetError, EngineBusy, NoEngine, NotReady
from modules.manifest import Image
from modules.names import Digest
from modules.needs import Engine
from tests.doubles.clock import VirtualClock


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How the instances of one module behave. ``answer`` is what ``/score`` says; seconds are the virtual clock's.

    ``exits`` ends it before it is ready, ``hangs`` lets its health path say 503, ``dies_after_s`` ends it later,
    ``oom`` says for memory; ``dies_of_signal`` ends it at SIGHUP; ``slow_s`` are real seconds before an answer.
    ``answers`` and ``slow_for`` say the same of single requests, by their bodies.
    """

    answer: bytes = b'{"y": [1.0]}'
    answers: dict[bytes, bytes] = {}
    slow_for: dict[bytes, float] = {}
    status: bytes | None = None
    provider: str = "CPUExecutionProvider"
    exits: bool = False
    hangs: bool = False
    dies_after_s: float | None = None
    oom: bool = False
    dies_of_signal: bool = False
    slow_s: float = 0.0
    memory_mb: float = 50.0


class _Running:
    def __init__(self, launch: Launch, started_at: float) -> None:
        self.launch = launch
        self.started_at = started_at
        self.server: asyncio.Server | None = None
        self.exit_code: int | None = None
        self.oom = False


class SimulatedEngine:
    """Implements ``agent.engines.contract.ContainerEngine``.

    ``behaviours`` are by manifest digest and may change at any time. ``down`` and ``busy`` make every call fail,
    ``start_errors``, ``load_errors``, ``let_go_errors`` and ``hang_up_errors`` are raised by the next calls, one each.
    ``gates`` hold calls of the name of their key until they are set. ``starts`` and ``stops`` list what was done, in
    order.
    """

    def __init__(self, clock: VirtualClock, name: str = "docker") -> None:
        self.name = name
        self.behaviours: dict[Digest, Behaviour] = {}
        self.down = False
        self.busy = False
        self.start_errors: list[EdgefleetError | OSError] = []
        self.load_errors: list[EdgefleetError | OSError] = []
        self.let_go_errors: list[EdgefleetError] = []
        self.hang_up_errors: list[EdgefleetError] = []
        self.starts: list[str] = []
        self.stops: list[str] = []
        #: what an instance found in the files of its secrets whenever it was signalled
        self.signals: list[tuple[str, dict[str, bytes]]] = []
        #: what an instance has written, where a test says it
        self.said: dict[str, str] = {}
        self.images: set[Digest] = set()
        self.named: set[Digest] = set()
        self.goes_before_it_is_named = False
        self.store: Path | None = None
        self.loads = 0
        self.gates: dict[str, asyncio.Event] = {}
        self._held: Counter[str] = Counter()
        self._clock = clock
        self._instances: dict[str, _Running] = {}

    async def facts(self) -> Engine:
        self._check()
        return Engine(name=self.name, version="1", detail="simulated")

    async def has_image(self, image: Image, blobs: Path) -> bool:
        self._check()
        return image.manifest.sha256 in self.images

    async def image_store(self) -> Path | None:
        return self.store

    async def load_image(self, image: Image, blobs: Path) -> None:
        self._check()
        await self._gate("load")
        if self.load_errors:
            raise self.load_errors.pop(0)
        for blob in (image.manifest, image.config, *image.layers):
            if not (blobs / blob.sha256.removeprefix("sha256:")).exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), blob.sha256)
        self.loads += 1
        self.images.add(image.manifest.sha256)
        self.named.add(image.manifest.sha256)

    async def start(self, launch: Launch) -> Instance:
        self._check()
        await self._gate("start")
        if self.start_errors:
            raise self.start_errors.pop(0)
        known = self._instances.get(launch.instance)
        if known and known.exit_code is None:
            return self._show(known)
        one = _Running(launch, self._clock.monotonic())
        self.starts.append(launch.instance)
        self._instances[launch.instance] = one
        behaviour = self._behaviour(one)
        if launch.task is not None:
            return self._show(one)  # a job has no socket: a test ends it
        if behaviour.exits:
            self._end(one, 1, oom=behaviour.oom)
        else:
            one.server = await asyncio.start_unix_server(
                lambda reader, writer: self._serve(one, reader, writer), path=launch.socket
            )
            if one.exit_code is not None:
                self._close(one)  # it was ended meanwhile
        return self._show(one)

    async def stop(self, instance: str, *, grace_s: float) -> None:
        self._check()
        await self._gate("stop")
        one = self._instances.pop(instance, None)
        if one:
            self.stops.append(instance)
            self._close(one)

    async def hang_up(self, instance: str) -> None:
        self._check()
        await self._gate("hang_up")
        if self.hang_up_errors:
            raise self.hang_up_errors.pop(0)
        one = self._instances.get(instance)
        if one is not None and one.exit_code is None:
            self.signals.append((instance, _files(Path(one.launch.secrets_dir))))
            if self._behaviour(one).dies_of_signal:
                self._end(one, 129)

    async def list(self) -> list[Instance]:
        self._check()
        for one in self._instances.values():
            self._age(one)
        shown = [self._show(one) for one in self._instances.values()]
        await self._gate("list")  # what it says then is old news
        return shown

    async def logs(self, instance: str, *, tail_bytes: int) -> str:
        self._check()
        log = self.said.get(instance, f"the log of {instance}")
        return log[-tail_bytes:] if instance in self._instances else ""

    async def usage(self, instance: str) -> Usage | None:
        self._check()
        one = self._instances.get(instance)
        return Usage(memory_mb=self._behaviour(one).memory_mb, cpu_s=1.0) if one else None

    async def keep_image(self, image: Image) -> None:
        self._check()
        if self.goes_before_it_is_named:
            self.images.discard(image.manifest.sha256)
        if image.manifest.sha256 in self.images:
            self.named.add(image.manifest.sha256)

    async def let_go_images(self, keep: Collection[Image]) -> None:
        self._check()
        await self._gate("let_go")
        if self.let_go_errors:
            raise self.let_go_errors.pop(0)
        gone = self.named - {image.manifest.sha256 for image in keep}
        self.named -= gone
        self.images -= gone

    # What a test does to it

    def running(self) -> set[Digest]:
        """The modules that have a running instance."""
        return {one.launch.digest for one in self._instances.values() if one.exit_code is None}

    def answers(self, instance: str) -> bool:
        """Whether this instance runs and gives answers."""
        one = self._instances.get(instance)
        return one is not None and one.exit_code is None and not self._behaviour(one).hangs

    def held(self, call: str) -> bool:
        """Whether a call of this name waits at its gate."""
        return self._held[call] > 0

    def launch(self, instance: str) -> Launch:
        return self._instances[instance].launch

    def crash(self, instance: str, *, oom: bool = False, code: int | None = None) -> None:
        """End an instance, by its own fault if nothing else is said."""
        self._end(self._instances[instance], code if code is not None else 137 if oom else 1, oom=oom)

    def restart(self, *, code: int = 0) -> None:
        """The engine is started again and has ended whatever ran."""
        for one in self._instances.values():
            if one.exit_code is None:
                self._end(one, code)

    def power_cut(self) -> None:
        """Nothing runs any more."""
        for one in self._instances.values():
            if one.exit_code is None:
                self._end(one, 255)

    def close(self) -> None:
        """Close every socket, at the end of a test."""
        for one in self._instances.values():
            self._close(one)
        self._instances.clear()

    # Its inside

    def _check(self) -> None:
        if self.down:
            raise NoEngine("the engine is down", remedy="start it")
        if self.busy:
            raise EngineBusy("the engine is busy")

    async def _gate(self, call: str) -> None:
        if gate := self.gates.get(call):
            self._held[call] += 1
            try:
                await gate.wait()
            finally:
                self._held[call] -= 1

    def _behaviour(self, one: _Running) -> Behaviour:
        return self.behaviours.get(one.launch.digest, Behaviour())

    def _age(self, one: _Running) -> None:
        behaviour = self._behaviour(one)
        ends = behaviour.dies_after_s
        if one.exit_code is None and ends is not None and self._clock.monotonic() >= one.started_at + ends:
            self._end(one, 137 if behaviour.oom else 1, oom=behaviour.oom)

    def _end(self, one: _Running, code: int, *, oom: bool = False) -> None:
        one.exit_code, one.oom = code, oom
        self._close(one)

    @staticmethod
    def _close(one: _Running) -> None:
        if one.server is not None:
            loop = one.server.get_loop()
            # asyncio loses a connection whose server closes while it is being accepted: those are let in before.
            for listening in one.server.sockets:
                loop.remove_reader(listening.fileno())
            loop.call_soon(one.server.close)
            one.server = None
            Path(one.launch.socket).unlink(missing_ok=True)

    def _show(self, one: _Running) -> Instance:
        return Instance(
            instance=one.launch.instance,
            slot=one.launch.slot,
            digest=one.launch.digest,
            state="running" if one.exit_code is None else "exited",
            exit_code=one.exit_code,
            oom=one.oom,
            started_at=one.started_at,
        )

    async def _serve(self, one: _Running, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target, sent = await _request(reader)
            behaviour = self._behaviour(one)
            if slow_s := behaviour.slow_for.get(sent, behaviour.slow_s):
                with suppress(TimeoutError):  # or until whoever asked has gone
                    await asyncio.wait_for(reader.read(), slow_s)
            code, body = _answer(target, sent, behaviour)
            writer.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (code, len(body)) + body)
            await writer.drain()
        except ConnectionError:
            pass  # whoever asked has gone
        finally:
            writer.close()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The target and the body of one request."""
    with suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")), "0")
        return head.split(" ")[1], await reader.readexactly(int(length))
    return "", b""


def _answer(target: str, sent: bytes, behaviour: Behaviour) -> tuple[int, bytes]:
    match target:
        case "/":
            return (503, b"not yet") if behaviour.hangs else (200, b"Healthy")
        case "/edgefleet/status":
            told = {"ready": True, "provider_in_use": behaviour.provider, "module": "m", "answers": {"looked": 0}}
            return 200, behaviour.status if behaviour.status is not None else msgspec.json.encode(told)
        case "/score":
            return 200, behaviour.answers.get(sent, behaviour.answer)
    return 404, b""


def could_not_start() -> NotReady:
    """What an engine raises that refuses a container."""
    return NotReady("the engine refused to start it")
