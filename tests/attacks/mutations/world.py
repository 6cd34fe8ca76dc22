"""The honest world, made once: an owner, two teams, a director, releases with an image, and a device that knows them.

Team ``acme`` has its releases in its role, team ``other`` in bins. ``acme/digits:1`` was published and is below the
floor now; what the publisher's files were before that is kept, as an attacker would have kept it.
"""

import copy
import gzip
import hashlib
import io
import random
import tarfile
from datetime import UTC, datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile, Targets

from modules import canonical, manifest, oci, signing
from modules.digests import BLOCK, measure_bytes, sha256
from modules.manifest import Image, Runtime
from modules.names import ModuleRef, device_id
from modules.protocol.commands import Command
from modules.protocol.order import Order
from modules.trust import metadata, roles
from tests.doubles import keys
from tests.doubles.blob_server import index_of
from tests.doubles.release import Release, make

DEVICE = device_id("dev-1")
STRANGER = device_id("dev-2")
NOW = 1_800_000_000
SLOTS = {"main": "acme/digits:2", "side": "other/tones:3"}
#: Ordered by the honest director when an attack is over.
NEXT = "other/next:1"
COMMANDS = ("collect-now", "restart-agent", "rotate-key", "ping")


def _key(seed: random.Random) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed.randbytes(32)))


def _layer(content: bytes) -> tuple[bytes, str]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0), "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()


def _image(name: str) -> tuple[Image, list[bytes]]:
    (one, first), (two, second) = _layer(f"the base of {name}".encode()), _layer(f"the rest of {name}".encode())
    rootfs = {"type": "layers", "diff_ids": [first, second]}
    config = canonical.encode({"architecture": "amd64", "os": "linux", "rootfs": rootfs})
    layers = tuple(measure_bytes(layer) for layer in (one, two))
    listed = oci.manifest_bytes(measure_bytes(config), layers)
    image = Image(name=name, manifest=measure_bytes(listed), config=measure_bytes(config), layers=layers)
    return image, [listed, config, one, two]


class World:
    """``releases`` by reference; ``files`` and ``blobs`` are what the server offers, ``old_files`` what it did once."""

    def __init__(self) -> None:
        seed = random.Random(9)
        self.publisher = keys.Publisher(now=datetime.fromtimestamp(NOW, UTC), most=2, new=lambda: _key(seed))
        self.stranger, self.device = _key(seed), _key(seed)
        shared, rests = seed.randbytes(BLOCK), [seed.randbytes(BLOCK + 5000) for _ in range(3)]
        self.models = [shared + rest for rest in rests]  # of one length, with the first block in common
        self.image, self.image_parts = _image("scoring:1")
        self.blobs: dict[str, bytes] = {}
        for data in (*self.image_parts, self.models[2]):
            self._offer(data)
        self.releases: dict[str, Release] = {}
        self._release("acme/digits:1", self.models[0])
        self.old_files = self.publisher.copy_files()
        self._release("acme/digits:2", self.models[1])
        self.publisher.set_floor("acme/digits:2")
        for version in ("1", "2", "3"):
            self._release(f"other/tones:{version}", f"tones {version}".encode())
        self._release(NEXT, b"what comes next")
        self.files = self.publisher.copy_files()
        self.blobs |= self.publisher.targets
        self.bins_in_use = [roles.bin_of(keys.OTHER, path_of(ref)) for ref in (SLOTS["side"], NEXT)]
        self.published = {
            one.manifest.ref.target: {one.digest} for ref, one in self.releases.items() if ref != "acme/digits:1"
        }

    def _offer(self, data: bytes) -> None:
        blob = measure_bytes(data)
        self.blobs |= {blob.sha256: data, blob.blocks: index_of(data)}

    def _release(self, ref: str, model: bytes) -> None:
        made = make(ref, model=model, prove="samples" if ref != NEXT else "ready-only", image=False)
        made = msgspec.structs.replace(made.manifest, runtimes=(Runtime(image=self.image),)), made.blobs
        data = manifest.encode(made[0])
        self.publisher.release(ref, data=data)
        self.releases[ref] = Release(made[0], data, made[1])
        self.blobs |= {**made[1], sha256(data): data}

    def order(self, slots: dict[str, str] | None = None, **more) -> Order:
        named = {name: self.releases[ref].ordered() for name, ref in (SLOTS if slots is None else slots).items()}
        fields = {"device": DEVICE, "counter": 5, "issued": NOW, "expires": NOW + 3600, "slots": named}
        return Order(**{**fields, **more})

    def command(self, name: str, **more) -> Command:
        fields = {"id": hashlib.md5(name.encode()).hexdigest(), "device": DEVICE, "name": name}
        return Command(**{**fields, "issued": NOW, "expires": NOW + 600, **more})

    def signed(self, document, kind: str, signer=None) -> bytes:
        payload = document if isinstance(document, bytes) else canonical.encode(document)
        return signing.sign(payload, payload_type=kind, signers=[signer or self.publisher.director])


class Blunderer:
    """The teams and the server after this: they sign as a release whatever they are given, as no tool of ours does."""

    def __init__(self, world: World) -> None:
        self._one = one = copy.copy(world.publisher)
        one.teams, one.bins, one.files = dict(one.teams), dict(one.bins), dict(one.files)

    def release(self, ref: str, data: bytes) -> dict[str, bytes]:
        """All metadata after these bytes were signed as this release."""
        one, named = self._one, ModuleRef.parse(ref)
        place = roles.bin_of(named.team, named.target) if named.team == keys.OTHER else roles.team_role(named.team)
        held, where = (one.bins, place) if place in one.bins else (one.teams, named.team)
        file = metadata.read(held[where], Targets, place)
        file.signed.targets[named.target] = TargetFile.from_data(named.target, data, ["sha256"])
        file.signed.version += 1
        held[where] = metadata.seal(file, place, [one.team_signers[named.team]], one.now)
        one.publish()
        return one.files


def path_of(ref: str) -> str:
    return ModuleRef.parse(ref).target
