"""``make bench NAME=trust``: what it costs a device to accept an order, with few and with many published versions.

The agent's own verifier, store, shelf and puller on this machine's disk, and metadata that is signed and tied together
as publishers and server do it; only the link is in this process. *Cold* is a device that has the root of its join
bundle and nothing else. *Warm* is one that accepted an order before; then the team published one more version, and the
order names that. The last line of the output is one JSON object.
"""

import argparse
import asyncio
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile, Targets

from modules import canonical, signing
from modules.digests import sha256
from modules.names import ModuleRef
from modules.protocol.order import Order, SlotOrder
from modules.trust import metadata, roles
from tests.agent.trusting import NOW
from tests.benchmarks.trusting_device import DEVICE, Counting, Device, Took
from tests.doubles.keys import ACME, Publisher, release

SIZES = (10, 1_000, 10_000)
MODELS = 50
WARM_MS = 10.0
WARM_BYTES = 20_000
RSS_MB = 6.0


def published(count: int) -> Publisher:
    """A team with this many releases of some models, and a publisher who can release more.

    All are signed at once, as if each had been a version of its file; what moves them into bins is the product's own.
    """
    one = Publisher(now=NOW)
    refs = [ModuleRef.parse(f"acme/model-{number % MODELS}:{number // MODELS + 1}") for number in range(count)]
    first, rest = refs[: roles.MOST_IN_ONE_ROLE], refs[roles.MOST_IN_ONE_ROLE :]
    one.teams[ACME] = _with(one, one.teams[ACME], roles.team_role(ACME), first)
    one.publish()
    if rest:
        one.release(str(rest[0]))
        for name in roles.bins(ACME):
            own = [ref for ref in rest[1:] if roles.bin_of(ACME, ref.target) == name]
            one.bins[name] = _with(one, one.bins[name], name, own)
        one.publish()
    return one


def copied(publisher: Publisher) -> Publisher:
    """Another with the same keys, which may publish what the first does not know of."""
    one = copy.copy(publisher)
    for name in ("teams", "bins", "files", "targets"):
        setattr(one, name, dict(getattr(publisher, name)))
    return one


def _with(publisher: Publisher, data: bytes, role: str, refs: list[ModuleRef]) -> bytes:
    file = metadata.read(data, Targets, role)
    for ref in refs:
        file.signed.targets[ref.target] = TargetFile.from_data(ref.target, release(str(ref)), ["sha256"])
    file.signed.version += len(refs)
    return metadata.seal(file, role, [publisher.team_signers[ACME]], NOW)


class Releases:
    """One more release at a time, each with an order for it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher, self._counter = publisher, 0

    def order(self) -> bytes:
        """Publish a version, and order it."""
        self._counter += 1
        ref = ModuleRef.parse(f"acme/model-{self._counter % MODELS}:{10_000 + self._counter}")
        data = self._publisher.release(str(ref))
        issued = int(NOW.timestamp())
        order = Order(
            device=DEVICE,
            counter=self._counter,
            issued=issued,
            expires=issued + 3600,
            slots={"main": SlotOrder(manifest=ref.target, digest=sha256(data))},
        )
        return signing.sign(
            canonical.encode(order), payload_type=signing.ORDER_TYPE, signers=[self._publisher.director]
        )


async def measured(publisher: Publisher, folder: Path, *, rounds: int, warm: int) -> dict[str, list[Took]]:
    """Each round a new device: its first order, then some more, each for a version that has just been published."""
    found: dict[str, list[Took]] = {"cold": [], "warm": []}
    for number in range(rounds):
        own = copied(publisher)
        releases = Releases(own)
        (folder / str(number)).mkdir()
        server = Counting(own.targets, own.files)
        device = Device(folder / str(number), root=own.first_root, server=server, now=NOW.timestamp())
        try:
            found["cold"].append(await device.accept(releases.order()))
            for _ in range(warm):
                found["warm"].append(await device.accept(releases.order()))
        finally:
            device.close()
    return found


def added_memory(publisher: Publisher, folder: Path) -> dict[str, float]:
    """Megabytes in a fresh process, which accepts a first order and some more."""
    releases = Releases(publisher)
    envelopes = [releases.order().decode() for _ in range(5)]
    for name, content in (("files", publisher.files), ("targets", publisher.targets)):
        (folder / name).mkdir(parents=True)
        for file, data in content.items():
            (folder / name / file).write_bytes(data)
    orders = {"now": NOW.timestamp(), "envelopes": envelopes}
    (folder / "orders.json").write_text(json.dumps(orders))
    command = [sys.executable, "-m", "tests.benchmarks.trusting_device", str(folder)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    shutil.rmtree(folder)
    return found


def main() -> int:
    """Measure, print a table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm", type=int, default=9, help="warm orders each round")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; medians, and the least in brackets")
    print(f"{'versions':>8} {'':5} {'ms':>17} {'CPU ms':>16} {'trust bytes':>12} {'files':>6} {'manifest bytes':>15}")
    with tempfile.TemporaryDirectory() as name:
        for count in SIZES:
            folder = Path(name) / str(count)
            folder.mkdir()
            publisher = published(count)
            found = asyncio.run(measured(publisher, folder, rounds=options.rounds, warm=options.warm))
            for kind, took in found.items():
                figures |= told(count, kind, took)
        memories = [added_memory(publisher, Path(name) / f"memory-{number}") for number in range(3)]
    rss = statistics.median(one["holding"] for one in memories)
    imported = statistics.median(one["imported"] for one in memories)
    print(f"\nmemory: trust adds {rss:.1f} MB at {SIZES[-1]} versions, {imported:.1f} of them once it is imported")
    figures |= {"trust_rss_mb": round(rss, 2), "trust_imported_mb": round(imported, 2)}
    limits = {
        f"warm_accept_ms_{SIZES[-1]}": WARM_MS,
        f"warm_accept_bytes_{SIZES[-1]}": WARM_BYTES,
        "trust_rss_mb": RSS_MB,
    }
    targets = {what: {"at_most": most, "met": figures[what] <= most} for what, most in limits.items()}
    print(json.dumps({"benchmark": "trust", "figures": figures, "targets": targets}))
    return 0 if all(target["met"] for target in targets.values()) else 1


def told(count: int, kind: str, took: list[Took]) -> dict[str, float]:
    """Print one line; returns the figures."""
    middle = Took(*(statistics.median(part) for part in zip(*took, strict=True)))
    least = Took(*(min(part) for part in zip(*took, strict=True)))
    print(
        f"{count:8} {kind:5} {middle.ms:8.1f} ({least.ms:6.1f}) {middle.cpu_ms:7.1f} ({least.cpu_ms:6.1f}) "
        f"{middle.trust_bytes:12,.0f} {middle.files:6.0f} {middle.manifest_bytes:15,.0f}"
    )
    return {
        f"{kind}_accept_ms_{count}": round(middle.ms, 2),
        f"{kind}_accept_least_ms_{count}": round(least.ms, 2),
        f"{kind}_accept_cpu_ms_{count}": round(middle.cpu_ms, 2),
        f"{kind}_accept_bytes_{count}": round(middle.trust_bytes),
    }


if __name__ == "__main__":
    sys.exit(main())
