"""What a hostile publisher can have signed, brought to a device by the honest server.

His manifest is honest about digests only: everything else in it is as the attack wants it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from fleet.client.publishing import pack
from fleet.client.publishing.publish import publish
from fleet.client.signing.offline_keys import team_signers
from fleet.client.signing.sign import sign
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import FILES
from modules import canonical, samples
from modules.digests import sha256
from modules.manifest import EntryScript, Image, Manifest, Needs, OnnxGraph, Proof, Runtime
from modules.names import Slug
from modules.oci import blob_path, manifest_bytes
from modules.unpacked import sized
from tests.attacks.standing import Standing
from tests.doubles.blob_server import BlobServer
from tests.parts.programs import until
from tests.parts.system import TEAM

ENDS = ("rejected", "reverted", "committed")
# Of no end yet, whatever reason is there already.
GOING = ("reverting", "starting", "probation")
GRAPH = "model/model.onnx"
SCRIPT = "source/score.py"
SAMPLES = "samples.json"


class End(NamedTuple):
    """Where a slot's way ended, as the device told the server."""

    phase: str
    code: str
    message: str


class Hold:
    """The attacker's, for one device; nothing of it is left when a test ends."""

    def __init__(self, standing: Standing) -> None:
        self.standing, self.system = standing, standing.system
        self.scoring = sized(self.system.workspace.image("scoring:cpu"), self.system.workspace.blobs)

    def graph(self, name: str, data: bytes, *, asked: tuple[bytes, ...] = (), **parts: Any) -> str:
        """A module that serves these bytes as a graph."""
        return self.signed(name, {GRAPH: data}, OnnxGraph(file=GRAPH), asked=asked, **parts)

    def script(self, name: str, code: str, files: Mapping[str, bytes] | None = None, **parts: Any) -> str:
        """A module with this entry script."""
        placed = {SCRIPT: code.encode(), "model/nothing.txt": b"", **(files or {})}
        return self.signed(name, placed, EntryScript(script=SCRIPT), **parts)

    def signed(
        self,
        name: str,
        files: Mapping[str, bytes],
        serve: OnnxGraph | EntryScript,
        *,
        asked: tuple[bytes, ...] = (),
        image: Image | None = None,
        needs: Needs | None = None,
        ready_within_s: float = 20.0,
        **parts: Any,
    ) -> str:
        """A signed module of these files; ``asked`` are requests whose answers no module gives."""
        prove = "samples" if asked else "ready-only"
        named = {
            f"{number}": samples.Sample(name=f"{number}", body=body, answer=b"{}") for number, body in enumerate(asked)
        }
        placed = {**files, **({SAMPLES: samples.encode(samples.Samples(tuple(named.values())))} if asked else {})}
        with self.system.fleet() as fleet, self.system.workspace.staging() as folder:
            for path, data in placed.items():
                (folder / FILES / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / FILES / path).write_bytes(data)
            manifest = Manifest(
                team=Slug(TEAM),
                name=Slug(name),
                version="1",
                serve=serve,
                files=pack.measure_files(folder, _silent),
                runtimes=(Runtime(image=image or self.scoring),),
                needs=needs or Needs(memory_mb=256),
                proof=Proof(prove=prove, ready_within_s=ready_within_s, probation_s=0.5),
                **parts,
            )
            pack.write_manifest(manifest, folder)
            made = publish(manifest, folder, fleet, self.system.workspace, _silent)
            home = self.system.folder / "client"
            sign(
                made.manifest.ref,
                signers=team_signers([str(self.system.folder / "keys")], Slug(TEAM)),
                fleet=fleet,
                trusted=Trusted(fleet, home),
                workspace=self.system.workspace,
                step=_silent,
            )
        return str(made.manifest.ref)

    def image(self, layer: bytes, *, diff: bytes | None = None, unpacked_bytes: int = 1 << 20) -> Image:
        """An image of one gzipped layer; ``diff`` is what it is said to be when it is unpacked."""
        server, blobs = BlobServer(), self.system.workspace.blobs
        rootfs = {"type": "layers", "diff_ids": [sha256(diff if diff is not None else layer)]}
        config = canonical.encode(
            {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/x"]}, "rootfs": rootfs}
        )
        made = [server.add(data) for data in (config, layer)]
        listed = server.add(manifest_bytes(made[0], made[1:]))
        for digest, data in server.blobs.items():
            path = blob_path(blobs, digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return Image(name="hostile", manifest=listed, config=made[0], layers=(made[1],), unpacked_bytes=unpacked_bytes)

    def order(self, ref: str, slot: str, **more: Any) -> str:
        """Have it rolled out to the device; the rollout's number."""
        wish = {"module": ref, "slot": slot, "devices": [self.standing.name], "supersede": True, **more}
        with self.system.server.client() as http:
            started = http.post("/api/v1/rollouts", json=wish)
            assert started.is_success, started.text
            return str(started.json()["id"])

    def ends(self, slot: str, *, within_s: float = 60.0) -> End:
        """Wait until the server is told where the way of what was ordered ended, or that it can go no further."""
        told = until(
            lambda: (
                (found := self.standing.told(slot))
                and (found["phase"] in ENDS or (found["reason"] is not None and found["phase"] not in GOING))
                and found
            ),
            f"{slot} ends",
            within_s=within_s,
            said=self.standing.device.said,
        )
        reason = told["reason"] or {"code": "", "message": ""}
        assert reason["message"].isprintable()
        return End(told["phase"], reason["code"], reason["message"])

    def brought(self, slot: str, ref: str, **more: Any) -> End:
        """Order it, and see where it ends."""
        self.order(ref, slot, **more)
        return self.ends(slot)

    def empty(self, *slots: str) -> None:
        """Take it away again: the device has neither its container nor its files afterwards."""
        device = self.standing.device
        with self.system.fleet() as fleet:
            for slot in slots:
                fleet.empty_slot(self.standing.name, slot)
        device.until(lambda: not {row.slot for row in device.slots()} & set(slots), f"{slots} are emptied")
        with device.containers() as containers:
            left = {one.labels["edgefleet.slot"] for one in containers}
        assert not left & set(slots)


def _silent(*_: object) -> None:
    pass


def as_document(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(manifest)
    return found
