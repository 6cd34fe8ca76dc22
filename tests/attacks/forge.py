"""Trust metadata as somebody signs it who has some of the keys, or none: nothing is checked here, the device must.

``changed`` makes the next version of a file of the fleet's, ``tied`` the snapshot and timestamp around such files, as
the names and bytes that ``HostileBroker.files`` answers a device with.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Timestamp

from modules import manifest as manifests
from modules.manifest import Manifest
from modules.trust.metadata import version
from modules.trust.roles import SNAPSHOT, TARGETS, TIMESTAMP, file_name
from tests.attacks.scene import Scene

TEAM: Final = "team-acme"
LIFE_S: Final = 86_400.0


def changed(
    data: bytes,
    signers: Sequence[CryptoSigner],
    edit: Callable[[Any], object] = lambda _: None,
    *,
    step: int = 1,
    life_s: float = LIFE_S,
) -> bytes:
    """A file ``step`` versions later, changed by ``edit``, signed by these and nobody else."""
    file: Metadata[Any] = Metadata.from_bytes(data)
    edit(file.signed)
    file.signed.version += step
    file.signed.expires = _later(life_s)
    return _sealed(file, signers)


def listing(manifest: Manifest, path: str = "") -> Callable[[Any], None]:
    """An edit: the file lists this module, under its own path unless told."""
    name = path or manifest.ref.target
    target = TargetFile.from_data(name, manifests.encode(manifest), ["sha256"])

    def edit(signed: Any) -> None:
        signed.targets[name] = target

    return edit


def tied(
    scene: Scene,
    files: Mapping[str, bytes],
    *,
    snapshot: Sequence[CryptoSigner] = (),
    timestamp: Sequence[CryptoSigner] = (),
    life_s: float = LIFE_S,
    step: int = 1,
    says: Mapping[str, bytes] | None = None,
) -> dict[str, bytes | None]:
    """A snapshot and a timestamp over these files by role and the server's own, newer than all that the device saw.

    Signed with the server's stolen keys, unless told. Under the file that ``says`` has for a role, the snapshot vouches
    for that and the files have the other.
    """
    present = {role: scene.file(role) for role in (TARGETS, TEAM)} | dict(files)
    vouched = present | dict(says or {})
    meta = {f"{role}.json": MetaFile.from_data(stated(data), data, ["sha256"]) for role, data in vouched.items()}
    for name, entry in Metadata.from_bytes(scene.file(SNAPSHOT)).signed.meta.items():
        meta.setdefault(name, entry)
    numbers = [max(scene.seen(role), version(scene.file(role), role)) + step for role in (SNAPSHOT, TIMESTAMP)]
    shot = _sealed(
        Metadata(Snapshot(version=numbers[0], meta=meta, expires=_later(LIFE_S))),
        snapshot or [scene.stolen(SNAPSHOT)],
    )
    stamp = Timestamp(
        version=numbers[1],
        snapshot_meta=MetaFile.from_data(numbers[0], shot, ["sha256"]),
        expires=_later(life_s),
    )
    made: dict[str, bytes | None] = {file_name(role, stated(vouched[role])): data for role, data in present.items()}
    made[file_name(SNAPSHOT, numbers[0])] = shot
    made[file_name(TIMESTAMP, 0)] = _sealed(Metadata(stamp), timestamp or [scene.stolen(TIMESTAMP)])
    return made


def stated(data: bytes) -> int:
    """The version that stands in a file, whatever else is wrong with it."""
    return int(json.loads(data)["signed"]["version"])


def _sealed(file: Metadata[Any], signers: Sequence[CryptoSigner]) -> bytes:
    file.signatures.clear()
    for signer in signers:
        file.sign(signer, append=True)
    return file.to_bytes()


def _later(seconds: float) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
