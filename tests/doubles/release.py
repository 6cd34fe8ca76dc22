"""Modules ready to be ordered: manifest, files, samples and image, with every byte that a device would pull."""

import msgspec

from agent.slots import Wanted
from modules import canonical, manifest, samples
from modules.digests import Blob, measure_bytes, sha256
from modules.manifest import Image, Limits, Manifest, OnnxGraph, Proof, Runtime
from modules.names import Digest, ModuleRef
from modules.protocol.order import SlotOrder
from tests.doubles.blob_server import index_of

BODY = b'{"x": [1.0]}'
RIGHT = b'{"y": [1.0]}'
WRONG = b'{"y": [7.0]}'


class Release(msgspec.Struct, frozen=True):
    """A module version: ``data`` are the manifest's bytes, ``blobs`` all that a server must offer for it."""

    manifest: Manifest
    data: bytes
    blobs: dict[Digest, bytes]

    @property
    def digest(self) -> Digest:
        return sha256(self.data)

    def ordered(self, **more) -> SlotOrder:
        return SlotOrder(manifest=self.manifest.ref.target, digest=self.digest, **more)

    def wanted(self, **more) -> Wanted:
        return Wanted(**({"module": str(self.manifest.ref), "digest": self.digest, "engine": "docker"} | more))


def make(
    ref: str = "acme/digits:1",
    *,
    model: bytes | None = None,
    prove: str = "samples",
    image: bool = True,
    ready_within_s: float = 2.0,
    probation_s: float = 300.0,
    limits: Limits | None = None,
    accelerators: tuple[str, ...] = ("cpu",),
    providers: tuple[str, ...] = ("CPUExecutionProvider",),
    bodies: tuple[bytes, ...] = (BODY,),
    **more,
) -> Release:
    """A module with a sample of each of these bodies, which expects ``RIGHT``."""
    named = ModuleRef.parse(ref)
    names = ("one", "two", "three", "four", "five")
    asked = tuple(samples.Sample(name=name, body=body, answer=RIGHT) for name, body in zip(names, bodies, strict=False))
    files = {
        "model.onnx": f"the graph of {ref}".encode() if model is None else model,
        "samples.json": samples.encode(samples.Samples(asked)),
    }
    blobs = dict(pair for data in files.values() for pair in _offered(data))
    runtime = Runtime(providers=providers)
    if image:
        made, image_blobs = make_image(ref)
        runtime = Runtime(image=made, providers=providers)
        blobs |= image_blobs
    built = Manifest(
        team=named.team,
        name=named.name,
        version=str(named.version),
        serve=OnnxGraph(file="model.onnx"),
        files=tuple(_file(path, data) for path, data in files.items()),
        runtimes=tuple(msgspec.structs.replace(runtime, accelerator=kind) for kind in accelerators),
        proof=Proof(prove=prove, ready_within_s=ready_within_s, probation_s=probation_s, limits=limits or Limits()),
        **more,
    )
    encoded = manifest.encode(built)
    return Release(built, encoded, blobs | {sha256(encoded): encoded})


def make_image(name: str) -> tuple[Image, dict[Digest, bytes]]:
    """An image of one layer; no engine but a simulated one would take it."""
    parts = [canonical.encode({"image": name, "part": part}) for part in ("manifest", "config", "layer")]
    blobs = [measure_bytes(part) for part in parts]
    image = Image(name=name, manifest=blobs[0], config=blobs[1], layers=(blobs[2],))
    return image, dict(pair for part in parts for pair in _offered(part))


def _file(path: str, data: bytes) -> manifest.File:
    blob: Blob = measure_bytes(data)
    return manifest.File(path=path, sha256=blob.sha256, length=blob.length, blocks=blob.blocks)


def _offered(data: bytes) -> list[tuple[Digest, bytes]]:
    blob = measure_bytes(data)
    return [(blob.blocks, index_of(data)), (blob.sha256, data)]
