"""A device's trust alone, as the agent has it, and its way to the server, in memory: what accepts orders, measured.

``python -m tests.benchmarks.trusting_device FOLDER`` is the fresh process whose memory is measured, with the metadata
files, the targets and ``orders.json`` that :mod:`tests.benchmarks.trust` left there.
"""

import asyncio
import gc
import importlib
import json
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.fetch import Puller
from agent.shelf import Shelf
from modules.digests import sha256
from modules.names import Digest, device_id
from modules.protocol import blobs as wire
from tests.benchmarks.process_memory import memory
from tests.doubles.blob_server import BlobServer

if TYPE_CHECKING:
    from agent.verify import Accepted

DEVICE = device_id("dev-1")
# What imports all of the running agent that does not import trust itself.
_REST_OF_THE_AGENT = (
    "agent.adopt",
    "agent.engines.docker",
    "agent.health",
    "agent.link",
    "agent.observe",
    "agent.report",
    "agent.schema",
    "agent.supply",
    "agent.verdict",
    "hardware.probe",
    "modules.signing",  # by which it signs reports and facts
    "modules.sketch",
)


class Took(NamedTuple):
    """One order accepted: milliseconds by the clock and of CPU, and what came over the link, in bytes and files."""

    ms: float
    cpu_ms: float
    trust_bytes: float
    manifest_bytes: float
    files: float


class Counting(BlobServer):
    """Counts the payloads at ``down/blob``: those of trust (metadata, and the list of director keys), and manifests."""

    def __init__(self, targets: Mapping[Digest, bytes], files: Mapping[str, bytes]) -> None:
        super().__init__(targets, files)  # type: ignore[arg-type]
        self.trust = self.manifest = self.files = 0

    def _answer(self, get: wire.Get) -> list[wire.Block]:
        blocks = super()._answer(get)
        came = sum(len(wire.encode(block)) for block in blocks)
        if isinstance(get, wire.MetadataGet) or b'"edgefleet.keys/1"' in self.blobs[get.digest][:200]:
            self.trust += came
            self.files += 1
        else:
            self.manifest += came
        return blocks


class Device:
    """The agent's own store, shelf, puller and verifier on a folder of the disk; ``now`` in Unix seconds."""

    def __init__(self, folder: Path, *, root: bytes, server: Counting, now: float) -> None:
        # Loaded here, so that a process can be measured before it has any of it.
        store, verify = importlib.import_module("agent.store"), importlib.import_module("agent.verify")
        self.store = store.Store(folder)
        puller = Puller(server.send, timeout_s=5, tries=2)
        server.deliver, self._server = puller.on_block, server
        self.verifier = verify.Verifier(
            device=DEVICE,
            folder=folder / "trust",
            root=root,
            store=self.store,
            shelf=Shelf(folder / "modules"),
            puller=puller,
            now=lambda: now,
        )

    async def accept(self, envelope: bytes) -> Took:
        """From the order's bytes until it is accepted, and what was seen and its numbers are kept and synced."""
        server = self._server
        server.trust = server.manifest = server.files = 0
        began, cpu = time.perf_counter(), time.process_time()
        accepted: Accepted = await self.verifier.accept(envelope)
        with self.store.together():
            self.store.keep(accepted.roles)
            for name, value in accepted.marks.items():
                self.store.raise_number(name, value)
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
        return Took(wall * 1000, spent * 1000, server.trust, server.manifest, server.files)

    def close(self) -> None:
        self.verifier.close()
        self.store.close()


class _Files(Mapping[Any, bytes]):
    """Files of a folder by name or digest, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Any:
        return iter(path.name for path in self._folder.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.iterdir())


async def _measured(folder: Path) -> dict[str, float]:
    """Megabytes that trust adds to a process with the rest of the agent's packages and a thread, at each step."""
    for name in _REST_OF_THE_AGENT:
        importlib.import_module(name)
    sqlite3.connect(":memory:").execute("CREATE TABLE one (number)")
    server = Counting(_Files(folder / "targets"), _Files(folder / "files"))
    await asyncio.to_thread(sha256, b"")
    gc.collect()
    assert not sys.modules.keys() & {"tuf", "modules.trust.device"}
    before = memory("self").rss  # type: ignore[arg-type]
    orders = json.loads((folder / "orders.json").read_bytes())
    device = Device(
        folder / "state", root=(folder / "files" / "1.root.json").read_bytes(), server=server, now=orders["now"]
    )
    loaded = memory("self").rss  # type: ignore[arg-type]
    for envelope in orders["envelopes"]:
        await device.accept(envelope.encode())
    gc.collect()
    after = memory("self").rss  # type: ignore[arg-type]
    device.close()
    return {"before": before, "imported": loaded - before, "holding": after - before}


def main() -> int:
    """Print the figures as JSON."""
    folder = Path(sys.argv[1])
    (folder / "state").mkdir()
    print(json.dumps(asyncio.run(_measured(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
