"""A module's files from the fleet server, believed only by their digests."""

import hashlib
import os
import shutil
from pathlib import Path

from fleet.client.api import Fleet
from fleet.client.publishing.pack import check_files
from fleet.client.screen import Step
from fleet.client.workspace import FILES, MANIFEST, Workspace
from modules import manifest as manifests
from modules.digests import sha256
from modules.errors import NeedsOperator, Untrusted
from modules.manifest import File
from modules.names import ModuleRef


def download(
    ref: ModuleRef, fleet: Fleet, folder: Path, step: Step, *, below: str = "", overwrite: bool = False
) -> list[Path]:
    """Write every file of a module below ``folder``, at its path in the module.

    With ``below`` only what is below this folder of the module, at its path there.

    Raises:
        Untrusted: the server sent other bytes than the manifest names.
        NeedsOperator: a file of that name is there already, and not to be overwritten.
        EdgefleetError: as :class:`Fleet`.
    """
    manifest = manifests.decode(manifest_of(ref, fleet))
    start = f"{below}/" if below else ""
    places = {
        entry: folder / entry.path.removeprefix(start) for entry in manifest.files if entry.path.startswith(start)
    }
    for place in places.values():
        if place.exists() and not overwrite:
            raise NeedsOperator(
                "a file is there already", element=str(place), remedy="choose another folder: --to FOLDER"
            )
    total, done = sum(entry.length for entry in places), 0
    for entry, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(entry, fleet, place)
        done += entry.length
        step("downloading", done, total)
    return list(places.values())


def manifest_of(ref: ModuleRef, fleet: Fleet) -> bytes:
    """A module's manifest, which has the digest that the server lists.

    Raises:
        Untrusted: it has not.
        EdgefleetError: as :class:`Fleet`.
    """
    data = fleet.manifest(ref)
    if sha256(data) != fleet.module(ref).digest:
        raise Untrusted("the server's manifest is not the one that it lists", element=str(ref))
    return data


def module_folder(ref: ModuleRef, fleet: Fleet, workspace: Workspace, folder: Path, step: Step) -> bytes:
    """Fill ``folder`` with a module as it was packed, manifest and files; returns the manifest's bytes.

    The publisher's own copy is taken where it still is what the server lists; else all of it is fetched.

    Raises:
        Untrusted, EdgefleetError: as :func:`download`.
    """
    data, own = manifest_of(ref, fleet), workspace.module(ref)
    if (own / MANIFEST).is_file() and (own / MANIFEST).read_bytes() == data:
        shutil.copytree(own / FILES, folder / FILES, dirs_exist_ok=True)
        check_files(manifests.decode(data), folder, step)
    else:
        download(ref, fleet, folder / FILES, step)
    (folder / MANIFEST).write_bytes(data)
    return data


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
        passing.replace(place)
    finally:
        passing.unlink(missing_ok=True)
