"""A device as far as it renews: the real session, outbox, signer and renewal, against a real broker and server."""

import asyncio
import errno
import os
import time
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from agent import identity as identities
from agent.enroll import enroll
from agent.link import Link
from agent.outbox import Outbox
from agent.own_key import OwnKey
from agent.renewal_due import RenewalDue
from agent.store import Store
from modules import canonical
from modules.protocol.enrollment import JoinBundle
from modules.protocol.report import Ack
from tests.doubles.clock import VirtualClock
from tests.doubles.device import join
from tests.doubles.publisher import Publisher
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

DAY_S = 86_400.0


class Dead(BaseException):
    """The agent was killed here."""


@contextmanager
def site(folder, **settings):
    """A server with its broker, founded; for :class:`Agent`."""
    data = initialise(folder / "data")
    with (
        broker(folder / "broker", data) as running,
        fleet_server(data, running, **settings) as server,
        server.client() as http,
    ):
        Publisher(http).found()
        yield server, http


def enrolled(folder: Path, http, name: str) -> Path:
    """The folder of a device that has joined."""
    folder.mkdir(exist_ok=True)
    bundle: JoinBundle = join(http)
    enroll(canonical.encode(bundle), folder / "identity", name=name)
    return folder


class Agent:
    """Runs in a ``with``. ``ahead_s`` is what the device believes the time to be, beyond the true one."""

    def __init__(self, folder: Path, *, ahead_s: float = 0.0) -> None:
        self.folder, self.identity = folder, folder / "identity"
        self.ahead_s = ahead_s
        self.clock = VirtualClock()
        self.known = identities.load(self.identity)
        (folder / "state").mkdir(exist_ok=True)
        self.store = Store(folder / "state")
        self.signer = OwnKey(self.identity)
        self.link = Link(
            self.known,
            self.identity,
            on_message=self._on_message,
            on_connect=self._on_connect,
            next_boot=lambda: self.store.count("boot"),
            epoch=lambda: self.store.epoch,
            keepalive_s=60,
            clock=self.clock,
        )
        self.outbox = Outbox(
            device=self.known.device,
            store=self.store,
            link=self.link,
            signer=self.signer,
            now=time.time,
            monotonic=self.clock.monotonic,
        )
        self.due = RenewalDue(
            device=self.known.device,
            folder=self.identity,
            store=self.store,
            clock=self.clock,
            believed=lambda: time.time() + self.ahead_s,
            link=self.link,
            signer=self.signer,
            told=(self.signer.reload, self.outbox.renewed),
            refuse=self._refuse,
        )
        self.refused: list[str] = []
        self.answers: list[bytes] = []
        self.deaf = False
        self.acknowledged = 0

    def _on_message(self, topic, payload):
        match topic.rest:
            case ("enroll",):
                self.answers.append(payload)
                if not self.deaf:
                    self.due.on_answer(payload)
            case ("ack",):
                ack = canonical.decode(payload, Ack, limit=1024, what="ack")
                self.outbox.on_ack(ack)
                self.acknowledged = max(self.acknowledged, ack.report)

    def _refuse(self, error, *, what):
        self.refused.append(f"{what}: {error}")

    async def _on_connect(self):
        await self.outbox.on_connect()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.link.run(), name="link")
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()
        self.store.close()

    async def until(self, met, what="it", within_s=20.0):
        try:
            async with asyncio.timeout(stretched(within_s)):
                while not met():
                    assert not self.task.done(), "the session's task ended"
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what} did not come") from None

    async def connected(self):
        await self.until(lambda: self.link.connected, "a session")

    @property
    def serial(self):
        return serial(self.identity)


def serial(identity: Path) -> str:
    """The number of the certificate that a device is known by, in hexadecimal."""
    data = identities.present(identity).certificate.read_bytes()
    return f"{x509.load_pem_x509_certificate(identities.certificate_of(data)).serial_number:x}"


class Effects:
    """Counts what is done to the files of one folder, and strikes at effect number ``at``.

    ``dies``: it is not done, nor anything that the dead agent still tries. ``full``: this one effect finds no space.
    """

    def __init__(self, folder, patch, *, at=0, way="dies") -> None:
        self._folder, self._at, self._way = str(folder), at, way
        self.passed: list[str] = []
        self.dead = False
        self._names: dict[int, str] = {}
        real_open, real_sync = os.open, os.fsync
        real_replace, real_unlink = Path.replace, Path.unlink

        def opened(path, flags, *more, **named):
            mine = self._is_mine(path)
            if mine and flags & os.O_CREAT:
                number = self._effect(f"create {Path(path).name}", lambda: real_open(path, flags, *more, **named))
            else:
                number = real_open(path, flags, *more, **named)
            if mine:
                self._names[number] = Path(path).name
            return number

        def synced(number):
            name = self._names.get(number)
            if name is None or not self._is_mine(str(Path(f"/proc/self/fd/{number}").readlink())):
                return real_sync(number)
            return self._effect(f"sync {name}", lambda: real_sync(number))

        def replaced(path, target):
            if not self._is_mine(path):
                return real_replace(path, target)
            return self._effect(f"rename {path.name} to {Path(target).name}", lambda: real_replace(path, target))

        def unlinked(path, missing_ok=False):  # noqa: FBT002
            if not self._is_mine(path) or not path.exists():
                return real_unlink(path, missing_ok)
            return self._effect(f"remove {path.name}", lambda: real_unlink(path, missing_ok))

        patch.setattr(os, "open", opened)
        patch.setattr(os, "fsync", synced)
        patch.setattr(Path, "replace", replaced)
        patch.setattr(Path, "unlink", unlinked)

    def _is_mine(self, path) -> bool:
        return isinstance(path, str | Path) and str(path).startswith(self._folder)

    def _effect(self, name, do):
        if self.dead:
            raise Dead(name)
        self.passed.append(name)
        if len(self.passed) != self._at:
            return do()
        if self._way == "full":
            raise OSError(errno.ENOSPC, "No space left on device", name)
        self.dead = True
        raise Dead(name)
