"""A module's files from the fleet server, believed only by their digests."""

import hashlib
import os
from pathlib import Path

from fleet.client.api import Fleet
from fleet.client.screen import Step
from modules import manifest as manifests
from modules.digests import sha256
from modules.errors import NeedsOperator, Untrusted
from modules.manifest import File
from modules.names import ModuleRef


def download(ref: ModuleRef, fleet: Fleet, folder: Path, step: Step) -> list[Path]:
    """Write every file of a module below ``folder``, at its path in the module.

    Raises:
        Untrusted: the server sent other bytes than the manifest names.
        NeedsOperator: a file of that name is there already.
        EdgefleetError: as :class:`Fleet`.
    """
    data = fleet.manifest(ref)
    if sha256(data) != fleet.module(ref).digest:
        raise Untrusted("the server's manifest is not the one that it lists", element=str(ref))
    manifest = manifests.decode(data)
    places = {entry: folder / entry.path for entry in manifest.files}
    for place in places.values():
        if place.exists():
            raise NeedsOperator(
                "a file is there already", element=str(place), remedy="choose another folder: --to FOLDER"
            )
    total, done = sum(entry.length for entry in manifest.files), 0
    for entry, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(entry, fleet, place)
        done += entry.length
        step("downloading", done, total)
    return list(places.values())


def _fetch(entry: File, fleet: Fleet, place: Path) -> None:
    """One file, under a passing name until its digest is right."""
    passing = place.with_name(f".{place.name}.{os.getpid()}")
    whole, length = hashlib.sha256(), 0
    try:
        with passing.open("wb") as stream:
            for chunk in fleet.get_blob(entry.sha256):
                length += len(chunk)
                if length > entry.length:
                    break
                whole.update(chunk)
                stream.write(chunk)
        if f"sha256:{whole.hexdigest()}" != entry.sha256:
            raise Untrusted("the server sent other bytes than the manifest names", element=entry.path)
        passing.rename(place)
    finally:
        passing.unlink(missing_ok=True)
