"""The secrets of replicas and batch jobs as files: at ``/run/secrets`` as on a device. Pure functions.

A new value makes new replicas beside the old ones, so no request fails for it.
"""

import hashlib
import hmac
import io
import tarfile
from collections.abc import Collection, Mapping
from typing import Final

from fleet.targets.contract import Wanted, WantedVersion
from modules.errors import Invalid, NeedsOperator
from modules.manifest import Manifest
from modules.sealing import LONGEST

#: where a module finds them, as on a device
MOUNT: Final = "/run/secrets"
_MARK: Final = 16
_FOLDER: Final = 0o550
_FILE: Final = 0o440


def given(version: WantedVersion, endpoint: str) -> dict[str, bytes]:
    """What a version's replicas are given.

    Raises:
        NeedsOperator: it requires one that is not set.
    """
    for name in missing(version.module.manifest, version.secrets):
        raise NeedsOperator(
            f"version {version.name} requires a secret that is not set",
            element=f"secret {name}",
            remedy=f"run: edgefleet secrets set {name} --endpoint {endpoint}",
        )
    return dict(version.secrets)


def missing(manifest: Manifest, there: Collection[str]) -> list[str]:
    """The secrets that a module requires and that are not among these."""
    return [one.name for one in manifest.declared.values() if one.required and one.name not in there]


def check_length(name: str, value: bytes) -> None:
    """Let a value be of a length that every kind of place takes.

    Raises:
        Invalid: it is empty or too long. Nothing of it is in the message.
    """
    if not 0 < len(value) <= LONGEST:
        raise Invalid(f"a secret has 1 to {LONGEST} bytes, and this one has {len(value)}", element=name)


def mark(wanted: Wanted, version: WantedVersion) -> str:
    """Tells one set of values from another, and nothing else: only this fleet's server could try values on it."""
    if not version.secrets:
        return ""
    told = hmac.new(wanted.token_secret, b"module secrets", hashlib.sha256)
    for name, value in sorted(version.secrets.items()):
        told.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(value).digest())
    return told.hexdigest()[:_MARK]


def packed(secrets: Mapping[str, bytes], *, user: int) -> bytes:
    """A tar of the folder as a device has it: the files are links into ``..data``, which is one version of them all."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, "..1", user, tarfile.DIRTYPE, mode=_FOLDER)
        for name, value in secrets.items():
            _add(tar, f"..1/{name}", user, tarfile.REGTYPE, mode=_FILE, data=value)
        _add(tar, "..data", user, tarfile.SYMTYPE, link="..1")
        for name in secrets:
            _add(tar, name, user, tarfile.SYMTYPE, link=f"..data/{name}")
    return out.getvalue()


def _add(
    tar: tarfile.TarFile, name: str, user: int, kind: bytes, *, mode: int = 0o777, data: bytes = b"", link: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    info.uid = info.gid = user
    tar.addfile(info, io.BytesIO(data))
