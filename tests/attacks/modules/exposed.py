"""A device that hostile modules are let loose on: the agent's core, the real container engine, a real gateway.

Only the network is simulated (the link and the server of blobs): what a module does to its host does not pass it.
"""

import asyncio
import http.client
import os
import re
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agent.clock import SystemClock
from agent.engines.docker import DockerEngine
from agent.engines.docker_api import DockerApi
from agent.installation import Installation
from modules.names import device_id
from modules.protocol.phases import Phase
from modules.protocol.report import LIMIT as REPORT_LIMIT
from tests.agent.workbench import Bench
from tests.attacks.modules.ground import QUESTION, Ground
from tests.doubles.release import RIGHT, Release
from tests.parts.pace import stretched
from tests.parts.programs import Program

OTHER = "other"
HONEST = "import plain\nplain.serve()\n"
_LOOPBACK = "127.0.0.1"


class Asked(NamedTuple):
    """What a client got from the gateway."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class FlowingClock(SystemClock):
    """The machine's own, which nobody moves on."""

    def advance(self, seconds: float) -> None:
        pass


class Exposed(Bench):
    """One device with the slot ``evil`` for a hostile module, and the slot ``other``, whose module is honest."""

    within_s = 30.0
    group = 4242 if os.geteuid() == 0 else os.getgid()

    def __init__(self, folder: Path, ground: Ground, *, probe_timeout_s: float, device: str = "") -> None:
        self.ground, self.probe_timeout_s = ground, probe_timeout_s
        self.installation = Installation(id=uuid.uuid4().hex[:12], modules=folder / "modules")
        ready = folder / "gateway-ready"
        self.program = Program(
            "gateway",
            [
                *(sys.executable, "-m", "agent.gateway", "--table", folder / "gateway/table.json"),
                *("--listen", f"{_LOOPBACK}:0", "--ready-file", ready),
            ],
            folder / "gateway.log",
        )
        self.program.start(ready=ready.exists)
        known = device_id(device or f"evil-{uuid.uuid4().hex[:12]}")
        super().__init__(
            folder,
            device=known,
            clock=FlowingClock(),
            engine=DockerEngine(known, self.installation, DockerApi(ground.socket)),
            gateway=ready.read_text().strip(),
        )

    async def untaken(self) -> str:
        return await self.router.untaken()

    async def lost(self, instance: str) -> bool:
        return await self.router.lost(instance)

    # What happens

    async def attacked(self, script: str | Release, **proof) -> Release:
        """Order a hostile module beside the honest one, and wait until the honest one is committed."""
        release = script if isinstance(script, Release) else self.ground.release(script, **proof)
        await self.order(evil=release, other=self.ground.release(HONEST, "other"))
        await self.phase(Phase.COMMITTED, slot=OTHER)
        return release

    def turn(self, release: Release) -> None:
        """From now on the module is as hostile as it can be."""
        (self.shelf.path(release.digest) / "files/turned").touch()

    async def ends(self, phase: Phase, code: str, words: str = "", *, slot: str = "evil"):
        """Wait until the server is told of this phase, for this reason; returns what it is told of the slot."""

        def told():
            found = self.reported(slot)
            return found is not None and found.phase == phase and found.reason is not None

        await self.until(told)
        found = self.reported(slot)
        assert (found.reason.code, bool(re.search(words, found.reason.message))) == (code, True), found.reason
        return found

    # What can be seen from outside

    def reported(self, slot: str = "evil"):
        """What the newest report says of a slot; every report is one that a server reads, and a person can."""
        for topic, payload, _ in self.link.published:
            assert len(payload) < 2 * REPORT_LIMIT, topic
        reports = self.link.reports(self.key)
        for report in reports:
            assert all(one.reason is None or one.reason.message.isprintable() for one in report.slots)
        return next((one for one in reports[-1].slots if one.slot == slot), None) if reports else None

    def restarts(self, slot: str = "evil") -> int:
        """How often the server knows a committed module to have been restarted without lasting success."""
        found = self.reported(slot)
        return found.current.restarts if found and found.current else 0

    def placed(self, slot: str = "evil"):
        """What serves a slot, or is to; None where nothing was started."""
        row = self.store.slot(slot)
        return row and (row.candidate or row.current)

    def container(self, slot: str = "evil"):
        """The engine's own client's view of it."""
        (found,) = self.containers(self.placed(slot).instance)
        return found

    def containers(self, instance: str = "") -> list:
        labels = [f"edgefleet.installation={self.installation.id}"]
        labels += [f"edgefleet.instance={instance}"] if instance else []
        return self.ground.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def socket_folder(self, slot: str = "evil") -> Path:
        return Path(self.placed(slot).socket).parent

    async def ask(self, slot: str = "evil", body: bytes = QUESTION, path: str = "/score", **fields: str) -> Asked:
        """One request of a client's, through the gateway."""
        return await asyncio.to_thread(self._ask, f"/{slot}{path}", body, fields)

    def _ask(self, path: str, body: bytes, fields) -> Asked:
        host, _, port = self.gateway.rpartition(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=15)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json"} | fields)
            response = connection.getresponse()
            return Asked(response.status, response.headers, response.read())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the gateway."""
        host, _, port = self.gateway.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def others_answer(self) -> None:
        """The honest module's answer comes, from itself, and at once."""
        async with asyncio.timeout(stretched(3)):
            got = await self.ask(OTHER)
        assert (got.status, got.body) == (200, RIGHT)
        assert (got.headers["x-edgefleet-served-by"], got.headers["x-edgefleet-module"]) == ("local", "acme/other:1")

    def logs(self, slot: str = "evil") -> str:
        return self.container(slot).logs().decode(errors="replace")

    # The end

    async def leaves_nothing(self) -> None:
        """Once it is ordered away: no container, no volume, no file, and the gateway knows of nobody."""
        kinds = {mount["Type"] for one in self.containers() for mount in one.attrs["Mounts"]}
        assert kinds <= {"bind", "tmpfs"}
        if self.task is None:
            await self.restart()
        await self.order()
        await self.until(lambda: not self.store.slots() and not self.containers())
        await self.until(lambda: list((self.folder / "i").iterdir()) == [])
        await self.until(lambda: (found := self.link.reports(self.key)) and found[-1].slots == ())
        assert self.program.runs
        assert "Traceback" not in self.program.said()

    async def close(self) -> None:
        await self.stop()
        self.store.close()
        for container in self.containers():
            container.remove(force=True, v=True)
        self.program.stop()
