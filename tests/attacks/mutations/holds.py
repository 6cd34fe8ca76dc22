"""What must hold after any attack, written a second time, so that the product is not its own judge.

Signatures are verified with ``cryptography`` alone, documents read with ``json``, digests taken with ``hashlib``.
"""

import hashlib
import json
import logging
from base64 import b64decode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.fetch import Missing
from modules import errors
from modules.digests import HASH
from modules.signing import COMMAND_TYPE, ORDER_TYPE
from tests.attacks.mutations.device import Device
from tests.attacks.mutations.openings import Openings
from tests.attacks.mutations.scene import Scene
from tests.attacks.mutations.world import DEVICE, NOW, World, path_of

_TREE = (errors.Transient, errors.Refused, errors.Unproved, errors.NeedsOperator)
_CODES = {kind.code for branch in _TREE for kind in (branch, *branch.__subclasses__())} | {Missing.code}


class Signed:
    """What publishers signed in a scene: ``files`` are hexadecimal digests, ``blocks`` those in signed indexes."""

    def __init__(self, scene: Scene) -> None:
        self.manifests = {digest.removeprefix("sha256:") for digest in scene.signed_manifests}
        self.files, self.blocks = set(), set()
        for data in scene.signed_manifests.values():
            for one in _blobs(_read(data)):
                index = scene.blobs.get(str(one.get("blocks")), b"")
                self.files |= {str(one.get(name)).removeprefix("sha256:") for name in ("sha256", "blocks")}
                if _named(index) == one.get("blocks"):
                    self.blocks |= {index[at : at + HASH].hex() for at in range(0, len(index), HASH)}
        self.blocks |= self.files

    def holds(self, digest: str) -> bool:
        return digest in self.files or digest in self.manifests

    def right(self, block: bytes) -> bool:
        """Whether this stands in a signed index; nothing but zeros has not come yet."""
        short = block.rstrip(b"\0")
        return not short or any(hashlib.sha256(one).hexdigest() in self.blocks for one in (block, short))


class Heard(logging.Handler):
    """What the agent logs as its own defect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.defects: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.defects.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


def genuine(world: World, envelope: bytes, kind: str) -> dict | None:
    """The payload of what the director signed as this kind; None for anything else."""
    document = _read(envelope)
    try:
        payload, named = b64decode(document["payload"]), document["payloadType"]
        said = named.encode()
        pae = b"DSSEv1 %d %s %d %s" % (len(said), said, len(payload), payload)
        signatures = [b64decode(one["sig"]) for one in document["signatures"]]
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    public = world.publisher.director.public_key.keyval["public"]
    director = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    if named != kind or not any(_verifies(director, one, pae) for one in signatures):
        return None
    found = _read(payload)
    return found if isinstance(found, dict) else None


def holds(scene: Scene, device: Device, signed: Signed, openings: Openings, heard: Heard) -> None:
    """Fails with what does not hold."""
    assert not openings.wrong, openings.wrong
    assert not heard.defects, heard.defects
    assert not device.blobs.wrong, device.blobs.wrong
    _orders(scene, device)
    _launches(scene, device)
    _disk(device, signed)
    _commands(scene, device)
    reasons = [slot.reason for slot in device.store.slots()] + [one.reason for one in device.store.refusals()]
    strange = [one for one in reasons if one and one.code not in _CODES]
    assert not strange, strange


def _orders(scene: Scene, device: Device) -> None:
    last = 1
    for envelope in device.adopted:
        order = genuine(scene.world, envelope, ORDER_TYPE)
        assert order is not None, "an order was followed that the director did not sign as one"
        assert order["device"] == DEVICE, "another device's order was followed"
        assert order["counter"] >= last, "an order was followed that is older than the last"
        assert order["expires"] > NOW, "an order was followed that had expired"
        last = order["counter"]
        for slot in order.get("slots", {}).values():
            published = scene.published.get(slot["manifest"], ())
            assert slot["digest"] in published, f"{slot} is not what its publisher signed"


def _launches(scene: Scene, device: Device) -> None:
    ordered = [genuine(scene.world, envelope, ORDER_TYPE) or {} for envelope in device.adopted]
    for launch, files, layers in device.engine.launches:
        named = [order["slots"][launch.slot] for order in ordered if launch.slot in order.get("slots", {})]
        assert launch.digest in [one["digest"] for one in named], "what was not ordered was started"
        manifest = _read(scene.signed_manifests[launch.digest])
        expected = {f"files/{one['path']}": one["sha256"] for one in manifest["files"]}
        assert {name: _named(data) for name, data in files.items()} == {"manifest.json": launch.digest, **expected}
        images = [one["image"] for one in manifest["runtimes"] if one.get("image")]
        configs = [_read(_bytes(scene, image["config"]["sha256"])) for image in images]
        assert layers in [config["rootfs"]["diff_ids"] for config in configs], "the engine holds what nobody signed"


def _disk(device: Device, signed: Signed) -> None:
    for path in (device.folder / "blobs").iterdir():
        if path.suffix == ".part":
            device.blobs.look(path)
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in signed.files, f"{path.name} lies there, and nobody signed it"
        assert path.suffix == ".index" or digest == path.name, f"{path.name} is {digest}"
    assert not device.blobs.wrong, device.blobs.wrong
    for path in (device.folder / "modules").rglob("*"):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert signed.holds(digest), f"{path} lies there, and nobody signed it"
            assert path.suffix != ".manifest" or path.stem == digest, f"{path.name} is {digest}"


def _commands(scene: Scene, device: Device) -> None:
    followed, effects = device.followed(), {"restart-agent": 0, "collect-now": 0, "rotate-key": 0}
    for ident, digest in followed.items():
        found = [
            (levels, command)
            for levels, envelope in scene.commands
            if (command := genuine(scene.world, envelope, COMMAND_TYPE))
            and (command.get("id"), _named(b64decode(_read(envelope)["payload"]))) == (ident, digest)
        ]
        assert found, "a command was followed that the director did not sign as one"
        command = found[0][1]
        assert any(levels == (command["name"], ident) for levels, _ in found), "it came at another's topic"
        assert command["device"] == DEVICE, "another device's command was followed"
        assert command["issued"] < command["expires"] <= command["issued"] + 7 * 86_400, "it lives too long"
        assert command["expires"] > NOW, "a command was followed that had expired"
        assert command["issued"] <= NOW + 86_400, "a command of the future was followed"
        effects[command["name"]] = effects.get(command["name"], 0) + 1
    assert device.ends <= effects["restart-agent"], "the agent was to end"
    assert device.telemetry.collected <= effects["collect-now"], "something was collected"
    assert device.renewed <= effects["rotate-key"], "the key was replaced"


def serves_next(device: Device, ref: str) -> None:
    """The honest order that came afterwards was followed."""
    rows = {slot.slot: (slot.phase, slot.wanted.module, slot.reason) for slot in device.store.slots()}
    assert device.scene.orders[0] == device.adopted[-1], device.store.refusals()
    assert rows["next"][:2] == ("probation", ref), rows
    assert device.engine.launches[-1][0].digest in device.scene.published[path_of(ref)]


def _bytes(scene: Scene, digest: str) -> bytes:
    for blobs in (scene.blobs, scene.world.blobs):
        if _named(blobs.get(digest, b"")) == digest:
            return blobs[digest]
    raise AssertionError(f"{digest} was started, and nobody has its bytes")


def _blobs(document):
    """Everything in a manifest that names a blob."""
    if isinstance(document, dict):
        if "sha256" in document:
            yield document
        for one in document.values():
            yield from _blobs(one)
    elif isinstance(document, list):
        for one in document:
            yield from _blobs(one)


def _verifies(key, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _read(data: bytes):
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _named(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
