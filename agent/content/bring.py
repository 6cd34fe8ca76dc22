"""From the pinned root to files on the disk: what a device does with an order, without an order and without a memory.

The settings say which module, as the director does for a device. What they say counts only as far as its publisher has
signed it, at or above its floor, in metadata that has not expired and is no older than the fleet server had when it
wrote them.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from agent.clock import BUILT
from agent.content.door import Door
from modules import manifest as manifests
from modules.bounds import MAX_TIME
from modules.digests import sha256
from modules.errors import NoSpace, Untrusted
from modules.manifest import Manifest
from modules.names import Digest, ModuleRef
from modules.order_rules import Ordered, accept, believed_time, release_objections
from modules.protocol.content import ACCESS, MODULE, Content
from modules.trust.device import RoleMark, Target, Trust

# Beside the module while it is made: both on the one volume that may be written.
_DRAFT: Final = ".module.draft"
_TRUST: Final = ".trust"
# Folders, and whatever else a file system needs for itself.
_SPARE_BYTES: Final = 1 << 20


class _Seen:
    """The versions of roles that the settings know, and those that this run has seen."""

    def __init__(self, content: Content) -> None:
        self._marks = {role: RoleMark(one.version, one.keyids) for role, one in content.roles.items()}

    def marks(self) -> Mapping[str, RoleMark]:
        return dict(self._marks)

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        self._marks.update(marks)


def bring(content: Content, to: Path, *, now: float, say: Callable[[str], None]) -> Manifest:
    """Lay the module out below ``to``, whole or not at all; what an earlier run left there goes.

    Args:
        content: the settings.
        to: an existing folder that may be written.
        now: the system clock, in Unix seconds.
        say: is told in a line what is tried again.

    Raises:
        Untrusted: something does not verify, has expired, or is older than what was seen.
        Invalid: a reference or a manifest is none.
        NoSpace: the folder may not, or cannot, hold it.
        LinkLost, NeedsOperator: as :class:`Door`.
        OSError: the folder cannot be written.
    """
    ref = ModuleRef.parse(content.module)
    draft = to / _DRAFT
    for old in (draft, to / _TRUST):
        shutil.rmtree(old, ignore_errors=True)
    try:
        with Door(content, say) as door:
            data = _manifest(content, ref, _published(content, ref, door, to / _TRUST, now=now), door)
            manifest = manifests.decode(data)
            if str(manifest.ref) != str(ref):
                raise Untrusted("the manifest names another module than its path", element=ref.target)
            _check_room(content, manifest, len(data), to)
            _lay_out(manifest, data, door, draft)
        access = to / f".{ACCESS}"
        access.unlink(missing_ok=True)
        _write(access, lambda out: out.write(msgspec.json.encode({"keys": content.keys})), mode=0o400)
        access.replace(to / ACCESS)
        shutil.rmtree(to / MODULE, ignore_errors=True)
        draft.replace(to / MODULE)
    finally:
        for left in (draft, to / _TRUST):
            shutil.rmtree(left, ignore_errors=True)
    return manifest


def _published(content: Content, ref: ModuleRef, door: Door, folder: Path, *, now: float) -> Target:
    """What the publisher signed for the module, once nothing is against it."""
    time = believed_time(clock=_time(now), built=BUILT, known=_time(content.written))
    trust = Trust(folder, root=content.root, fetch=door.metadata, read_target=_none, versions=_Seen(content))
    trust.refresh(time)  # nothing is from a cache, so all that is read from here on has not expired
    target, floor = trust.manifest_target(ref.target), trust.floor(ref.team, ref.name)
    accept(
        release_objections(
            [Ordered(ref.target, content.digest)],
            published={ref.target: target.sha256} if target else {},
            floors={f"{ref.team}/{ref.name}": floor} if floor else {},
        )
    )
    assert target is not None  # noqa: S101 - or there was an objection
    return target


def _manifest(content: Content, ref: ModuleRef, target: Target, door: Door) -> bytes:
    if not 0 < target.length <= manifests.LIMIT:
        raise Untrusted(
            f"no manifest has {target.length} bytes", element=ref.target, remedy="let its team sign the release again"
        )
    data = door.small(content.digest, target.length)
    if sha256(data) != content.digest:
        raise Untrusted("the manifest is not the one that was asked for", element=content.digest)
    return data


def _none(path: str, _digest: Digest, _length: int) -> bytes:
    raise Untrusted("a pod asks for no director", element=path)


def _check_room(content: Content, manifest: Manifest, own: int, to: Path) -> None:
    """Whether all of it may be written, before anything is."""
    needed = own + sum(file.length for file in manifest.files) + _SPARE_BYTES
    if content.room_bytes and needed > content.room_bytes:
        raise NoSpace(
            f"the module needs {needed} bytes, and the volume may have {content.room_bytes}",
            element=str(manifest.ref),
            remedy="give the endpoint's pods a larger volume",
        )
    disk = os.statvfs(to)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise NoSpace(
            f"the module needs {needed} bytes, and {free} are free",
            element=str(to),
            remedy="make room on the node's disk, or give the volume more",
        )


def _lay_out(manifest: Manifest, data: bytes, door: Door, draft: Path) -> None:
    (draft / "files").mkdir(parents=True)
    _write(draft / "manifest.json", lambda out: out.write(data))
    for file in manifest.files:
        path = draft / "files" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, partial(door.into, file))
    # Whatever the umask was: the scoring server may be another user.
    for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _write(path: Path, fill: Callable[[BinaryIO], object], *, mode: int = 0o444) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w+b") as out:
        fill(out)
        out.flush()
        os.fchmod(out.fileno(), mode)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), MAX_TIME), UTC)
