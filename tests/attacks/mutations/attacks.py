"""Every way in which an attack changes the scene; several at once make one example.

An attacker owns the broker, the fleet server's disk and the way in between; he may hold a stolen director's key, an
online key, or the key of some device or team. Whoever publishes may blunder, and an engine may not hold what it got.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from typing import NamedTuple

from securesystemslib.formats import encode_canonical

from modules import canonical, signing
from modules.digests import BLOCK, measure_bytes, sha256
from modules.protocol import blobs as wire
from modules.signing import COMMAND_TYPE, ORDER_TYPE, REPORT_TYPE
from modules.trust import roles
from tests.attacks.mutations.edits import BytesEdit, JsonEdit
from tests.attacks.mutations.scene import Link, Scene
from tests.attacks.mutations.world import COMMANDS, SLOTS, STRANGER, World, path_of

KEYS = ("director", "snapshot", "timestamp", "targets", "acme", "other", "stranger", "device")
_TYPES = (ORDER_TYPE, COMMAND_TYPE, REPORT_TYPE, "", "application/json")


def _key(world: World, name: str):
    publisher = world.publisher
    if name in {"acme", "other"}:
        return publisher.team_signers[name]
    if name in {"stranger", "device"}:
        return getattr(world, name)
    return publisher.director if name == "director" else getattr(publisher, f"{name}_signer")


class DocumentEdited(NamedTuple):
    """The bytes of the order, or of a command, changed on the way."""

    what: str
    edit: BytesEdit

    def on(self, scene: Scene) -> None:
        change(scene, self.what, lambda old: self.edit.on(old, scene.world.releases[SLOTS["main"]].data))


class PayloadEdited(NamedTuple):
    """What is signed was changed: under the old signature, or signed anew with one of the fleet's keys."""

    what: str
    edit: JsonEdit
    key: str | None

    def on(self, scene: Scene) -> None:
        def changed(old: bytes) -> bytes:
            payload = self.edit.on(_payload(old), _payload(scene.orders[0]))
            return _resigned(scene.world, self.what, old, payload, self.key)

        change(scene, self.what, changed)


class Bent(NamedTuple):
    """An honest document in one respect that matters: signed by the director, or by ``key``, as another ``kind``."""

    what: str
    fields: dict[str, object]
    key: str
    kind: str

    def on(self, scene: Scene) -> None:
        def changed(old: bytes) -> bytes:
            payload = json.dumps(_payload(old) | self.fields).encode()
            return scene.world.signed(payload, self.kind or _kind(self.what), _key(scene.world, self.key))

        change(scene, self.what, changed)


class EnvelopeEdited(NamedTuple):
    """Another payload, type, key id or number of signatures than was signed."""

    what: str
    kind: str
    value: int

    def on(self, scene: Scene) -> None:  # noqa: C901 - a list of cases
        def changed(old: bytes) -> bytes:
            try:
                envelope = json.loads(old)
                signature = envelope["signatures"][0]
            except (ValueError, LookupError, TypeError):
                return old
            command = scene.world.signed(scene.world.command(COMMANDS[0]), COMMAND_TYPE)
            stranger = scene.world.signed(b64decode(json.loads(command)["payload"]), COMMAND_TYPE, scene.world.stranger)
            match self.kind:
                case "payload of a command":
                    envelope["payload"] = json.loads(command)["payload"]
                case "payload of another device":
                    order = canonical.encode(scene.world.order(device=STRANGER))
                    envelope["payload"] = b64encode(order).decode()
                case "signature of a command":
                    envelope["signatures"] = json.loads(command)["signatures"]
                case "a stranger's beside it":
                    envelope["signatures"] += json.loads(stranger)["signatures"]
                case "key id":
                    signature["keyid"] = _key(scene.world, KEYS[self.value % len(KEYS)]).public_key.keyid
                case "none":
                    envelope["signatures"] = []
                case "twice":
                    envelope["signatures"] += [signature] * (self.value % 20 + 1)
                case "type":
                    envelope["payloadType"] = _TYPES[self.value % len(_TYPES)]
            return json.dumps(envelope).encode()

        change(scene, self.what, changed)


class Delivered(NamedTuple):
    """Documents on topics that are not theirs, again, or in another order."""

    kind: str

    def on(self, scene: Scene) -> None:
        match self.kind:
            case "command as order":
                scene.orders[0] = scene.world.signed(scene.world.command("ping"), COMMAND_TYPE)
            case "order as command" if scene.commands:
                scene.commands[0] = scene.commands[0][0], scene.orders[0]
            case "twice":
                scene.orders *= 2
                scene.commands *= 2
            case "older after":
                scene.orders.append(scene.world.signed(scene.world.order({}, counter=2), ORDER_TYPE))
            case "older before":
                scene.orders.insert(0, scene.world.signed(scene.world.order({}, counter=0), ORDER_TYPE))
            case "other topics" if scene.commands:
                topics = [levels for levels, _ in scene.commands]
                moved = zip(topics[1:] + topics[:1], scene.commands, strict=True)
                scene.commands = [(levels, envelope) for levels, (_, envelope) in moved]


class ManifestEdited(NamedTuple):
    """Another manifest: in the place of the signed one, ordered by its own digest, or signed by a publisher who
    blundered."""

    slot: str
    edit: BytesEdit | JsonEdit
    way: str

    def on(self, scene: Scene) -> None:
        old = scene.world.releases[SLOTS[self.slot]]
        if isinstance(self.edit, JsonEdit):
            new = self.edit.on(json.loads(old.data), _payload(scene.orders[0]))
        else:
            new = self.edit.on(old.data, scene.world.releases["acme/digits:1"].data)
        put_manifest(scene, self.slot, new, self.way)


class ManifestTwin(NamedTuple):
    """A manifest as long as the signed one, whose file ``number`` says the digest, the index or all of another's."""

    number: int
    fields: tuple[str, ...]
    donor: int
    way: str

    def on(self, scene: Scene) -> None:
        old = scene.world.releases[SLOTS["main"]]
        document, donors = json.loads(old.data), _donors(scene.world)
        file = document["files"][self.number % len(document["files"])]
        donor = donors[self.donor % len(donors)]
        file |= {field: donor[field] for field in self.fields}
        put_manifest(scene, "main", canonical.encode(document), self.way)


class MetadataEdited(NamedTuple):
    """One file of trust metadata: its bytes, its content under the old signature, or signed by who may not sign it."""

    name: int
    edit: BytesEdit | JsonEdit
    key: str | None

    def on(self, scene: Scene) -> None:
        name = _named(scene, self.name)
        old = scene.files.get(name, b"{}")
        if isinstance(self.edit, BytesEdit):
            scene.files[name] = self.edit.on(old, scene.world.files["timestamp.json"])
            return
        try:
            document = json.loads(old)
            new = self.edit.on(document["signed"], json.loads(scene.world.files["timestamp.json"]))
            document["signed"] = json.loads(new)
            if self.key and self.key not in name:  # who may sign a release is a publisher, and no attacker
                signer = _key(scene.world, self.key)
                signature = signer.sign(encode_canonical(document["signed"]).encode())
                document["signatures"] = [signature.to_dict()]
            scene.files[name] = json.dumps(document).encode()
        except Exception:  # noqa: BLE001 - what has no canonical form cannot be signed, and is sent as it is
            scene.files[name] = old[:-1]


class OnlineEdited(NamedTuple):
    """Snapshot or timestamp, changed by who has broken into the server and has their keys; the timestamp fits."""

    role: str
    edit: JsonEdit

    def on(self, scene: Scene) -> None:
        scene.poisoned = True
        snapshots = sorted(name for name in scene.files if name.endswith(".snapshot.json"))
        name = "timestamp.json" if self.role == "timestamp" else snapshots[-1] if snapshots else ""
        if name not in scene.files:
            return
        try:
            signed = json.loads(self.edit.on(json.loads(scene.files[name])["signed"]))
            scene.files[name] = _online(scene.world, self.role, signed)
            if self.role == "snapshot":
                timestamp = json.loads(scene.files["timestamp.json"])["signed"]
                found = scene.files[name]
                fits = {"length": len(found), "hashes": {"sha256": hashlib.sha256(found).hexdigest()}}
                timestamp["meta"]["snapshot.json"] |= fits
                scene.files["timestamp.json"] = _online(scene.world, "timestamp", timestamp | {"version": 99})
        except Exception:  # noqa: BLE001 - what has no canonical form, or was changed before, cannot be signed
            scene.files[name] = b"{}"


def _online(world: World, role: str, signed) -> bytes:
    signature = _key(world, role).sign(encode_canonical(signed).encode())
    return json.dumps({"signatures": [signature.to_dict()], "signed": signed}).encode()


class MetadataMoved(NamedTuple):
    """A file under another's name, none at all, or what it was before: one file, or all."""

    kind: str
    name: int
    other: int
    lost: bool

    def on(self, scene: Scene) -> None:
        name, other = _named(scene, self.name), _named(scene, self.other)
        match self.kind:
            case "another's":
                scene.files[name] = scene.files.get(other, b"")
            case "gone":
                scene.files.pop(name, None)
            case "old one":
                scene.files[name] = scene.world.old_files.get(name, b"")
            case "old":
                scene.files.clear()
                scene.files.update(scene.world.old_files)
        scene.lost |= self.lost


class OldWorld(NamedTuple):
    """All is as it was before a floor was set, the device has lost its copy, and what is below the floor is ordered."""

    lost: bool

    def on(self, scene: Scene) -> None:
        scene.files.clear()
        scene.files.update(scene.world.old_files)
        scene.lost |= self.lost
        scene.orders[0] = scene.world.signed(scene.world.order({"main": "acme/digits:1"}), ORDER_TYPE)


class BlobEdited(NamedTuple):
    """What the server has as a blob, or as a block index, is something else; ``swap``: another of them."""

    name: int
    edit: BytesEdit
    swap: int | None

    def on(self, scene: Scene) -> None:
        names = sorted(scene.world.blobs)
        name = names[self.name % len(names)]
        if self.swap is None:
            scene.blobs[name] = self.edit.on(scene.blobs[name], scene.world.models[0])
        else:
            scene.blobs[name] = scene.world.blobs[names[self.swap % len(names)]]


class BlockEdited(NamedTuple):
    """A block on its way: the ``which``-th of all, or each from there on."""

    which: int
    every: bool
    kind: str
    value: int
    edit: BytesEdit

    def on(self, scene: Scene) -> None:
        scene.link.mangles.append(self._mangled)

    def _mangled(self, link: Link, block: wire.Block) -> list[bytes]:  # noqa: C901 - a list of cases
        encoded = wire.encode(block)
        if link.count < self.which or (link.count > self.which and not self.every):
            return [encoded]
        number, length, request, status, data = block.number, block.length, block.request, block.status, block.data
        match self.kind:
            case "lost":
                return []
            case "twice":
                return [encoded, encoded]
            case "late":
                link.late.append(encoded)
                return []
            case "raw":
                return [self.edit.on(encoded, encoded)]
            case "number":
                number = max(0, number + self.value)
            case "length":
                length = max(0, length + self.value * 1000)
            case "request":
                request = max(0, request + self.value)
            case "status":
                status = (wire.MISSING, wire.INVITED, wire.BUSY, 299)[self.value % 4]
            case "data":
                data = self.edit.on(data, bytes(BLOCK))[:BLOCK]
            case "foreign":
                blobs = sorted(link.blobs)
                data = link.blobs[blobs[self.value % len(blobs)]][:BLOCK]
        return [wire.encode(wire.Block(request, status, number, length, data))]


class Swapped(NamedTuple):
    """The engine holds other layers than it was given."""

    layers: tuple[str, ...]

    def on(self, scene: Scene) -> None:
        scene.swapped = list(self.layers)


def change(scene: Scene, what: str, changed) -> None:
    """Change the order, or the command of this number."""
    if what == "order":
        scene.orders[0] = changed(scene.orders[0])
    elif scene.commands:
        at = int(what) % len(scene.commands)
        levels, envelope = scene.commands[at]
        scene.commands[at] = levels, changed(envelope)


def put_manifest(scene: Scene, slot: str, new: bytes, way: str) -> None:
    """Bring a manifest to the device in one of the ways of :class:`ManifestEdited`."""
    old = scene.world.releases[SLOTS[slot]]
    digest = scene.offer(new)
    if way == "instead":
        scene.blobs[old.digest] = new
        return
    order = json.loads(canonical.encode(scene.world.order()))
    order["slots"][slot]["digest"] = digest
    scene.orders[0] = scene.world.signed(json.dumps(order).encode(), ORDER_TYPE)
    if way == "published":
        scene.files.update(scene.blunderer.release(SLOTS[slot], new))
        scene.published[path_of(SLOTS[slot])].add(digest)
        scene.signed_manifests[digest] = new
        scene.poisoned = True  # the honest files are older than these now


def _donors(world: World) -> list[dict]:
    """Files of the same length as the main release's model: of the release before, and one of nobody's."""
    data = [world.models[0], world.models[2]]
    names = [json.loads(one.data)["files"] for one in world.releases.values()]
    known = {file["sha256"]: file for files in names for file in files}
    return [known.get(sha256(one)) or _described(one) for one in data] + list(known.values())


def _described(data: bytes) -> dict:
    blob = measure_bytes(data)
    return {"sha256": blob.sha256, "length": blob.length, "blocks": blob.blocks}


def _named(scene: Scene, number: int) -> str:
    """A file of metadata that a device asks for today, the top-level ones more often than bins."""
    names = sorted(name for name in scene.files if not roles.is_bin(name.split(".")[-2]))
    needed = [f"{name}.json" for name in scene.world.bins_in_use]
    names += [name for name in sorted(scene.files) if name.split(".", 1)[1] in needed]
    return names[number % len(names)] if names else "timestamp.json"


def _payload(envelope: bytes):
    """What stands in it, or a little document where nothing can be read."""
    try:
        found = json.loads(signing.unverified(envelope, limit=1 << 20))
    except Exception:  # noqa: BLE001 - changed before, it may be anything
        return {"a": [1, {"b": 2}]}
    return found if isinstance(found, dict) and found else {"a": [1]}


def _kind(what: str) -> str:
    return ORDER_TYPE if what == "order" else COMMAND_TYPE


def _resigned(world: World, what: str, old: bytes, payload: bytes, key: str | None) -> bytes:
    if key:
        return world.signed(payload, _kind(what), _key(world, key))
    try:
        envelope = json.loads(old)
        envelope["payload"] = b64encode(payload).decode()
    except (ValueError, TypeError):
        return old
    return json.dumps(envelope).encode()
