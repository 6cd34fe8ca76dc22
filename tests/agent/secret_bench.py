"""A device on the workbench that is given secrets: sealed to its own key, and opened to files in memory."""

from pathlib import Path

import msgspec

from agent import sealing_key
from agent.launch import Launcher
from agent.secrets_here import SecretFiles
from modules.protocol.order import Secret
from modules.protocol.phases import Phase
from modules.sealing import seal
from tests.agent.workbench import DEVICE, Bench


class SecretBench(Bench):
    """``memory``, or the whole folder, lies in memory, as the runtime folder of a device does."""

    def __init__(self, folder: Path, memory: Path | None = None) -> None:
        self.memory = memory or folder / "memory"
        super().__init__(folder)

    def build(self):
        super().build()
        self.public = sealing_key.ensure(self.folder / "identity")
        self.secrets = SecretFiles(self.memory / "secrets", self.folder / "identity", DEVICE)
        launcher = Launcher(
            store=self.store,
            shelf=self.shelf,
            instances=self.folder / "i",
            facts=lambda: self.host.facts,
            group=self.group,
            clock=self.clock,
            secrets=self.secrets,
        )
        self.executor._hands.launcher = launcher

    def sealed(self, value, version, *, name="token", slot="main", key=None):
        where = {"device": DEVICE, "slot": slot, "name": name, "version": version}
        return Secret(version=version, sealed=seal(value, key or self.public, **where))

    async def give(self, release, **secrets):
        await self.order(main=msgspec.structs.replace(release.ordered(), secrets=secrets))

    def files(self, instance):
        """What an instance is given, by name."""
        folder = self.secrets.folder(instance.rpartition("-")[2])
        if not folder.exists():
            return None
        return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}

    async def settled(self, wanted, **secrets):
        """The module serves with these secrets."""
        self.server.blobs.update(wanted.blobs)
        self.shelf.keep_manifest(wanted.digest, wanted.data)
        await self.give(wanted, **secrets)
        await self.phase(Phase.PROBATION)
        self.clock.advance(wanted.manifest.proof.probation_s + 1)
        await self.phase(Phase.COMMITTED)
