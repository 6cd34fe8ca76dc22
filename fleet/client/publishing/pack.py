"""Files into a module's folder, each named by digest: the same input gives the same manifest, byte for byte."""

import os
import re
import shutil
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Final

from fleet.client.models.check_model import OnnxModel
from fleet.client.models.links import followed
from fleet.client.screen import Step
from fleet.client.workspace import FILES, MANIFEST
from modules import class_files
from modules import manifest as manifests
from modules.digests import measure_file
from modules.errors import Invalid
from modules.manifest import MAX_FILES, File, Manifest
from modules.names import module_path

MODEL: Final = "model"
SOURCE: Final = "source"
# What no path of a module may have.
_ODD: Final = re.compile(r"[^A-Za-z0-9._@+=,() -]")
_LONGEST: Final = 100
# What editors, version control and interpreters leave in a folder; never part of a model.
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules"})

Sources = dict[str, Path]


def graph_sources(model: OnnxModel) -> Sources:
    """An ONNX graph below ``model/`` and its external data, at the same places relative to each other.

    Raises:
        Invalid: as :func:`weights_sources`.
    """
    return {graph_path(model.file.name): model.file} | weights_sources(model, MODEL)


def class_sources(path: Path) -> Sources:
    """In a folder of a graph the file that names its classes, for people; none where the graph itself was named."""
    found = (path / name for name in class_files.NAMES) if path.is_dir() else ()
    plain = (one for one in found if one.is_file() and not one.is_symlink())
    file = next((one for one in plain if one.stat().st_size <= class_files.LIMIT), None)
    return {} if file is None else {f"{MODEL}/{file.name}": file}


def graph_path(name: str) -> str:
    """Where a graph's file goes: its own path, in letters that every system has."""
    letters = (one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
    parts = "".join(letters).split("/")
    return module_path("/".join([MODEL, *(_plain(part) for part in parts)]))


def _plain(part: str) -> str:
    """A name without what no path of a module may have; the end of a long one, which has its ending."""
    return part if part in {"", ".", ".."} else _ODD.sub("_", part).lstrip(".")[-_LONGEST:]


def weights_sources(model: OnnxModel, below: str) -> Sources:
    """A graph's external data as paths in the module; the graph names them, so they keep their names.

    Raises:
        Invalid: a name that not every system can hold.
    """
    try:
        return {module_path((PurePosixPath(below) / name).as_posix()): path for name, path in model.external.items()}
    except Invalid as error:
        raise Invalid(
            error.message,
            element=f"{model.file}: its external data",
            remedy="save the model again with a plain name: onnx.save_model(..., location='weights.bin')",
        ) from error


def folder_sources(folder: Path, below: str) -> Sources:
    """Every plain file of a folder, hidden ones and caches left out, as paths below ``below`` in the module.

    Raises:
        Invalid: a link that leads elsewhere than into the folder or a cache, or a name that not every system can hold.
    """
    found: Sources = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in _LEFT_OUT and not one.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if name.startswith(".") or name.endswith(".pyc"):
                continue
            if not path.is_file() or not followed(path, folder):
                raise Invalid(
                    "only plain files can be packed",
                    element=str(path),
                    remedy="replace the link by the file itself (cp -L)",
                )
            found[module_path(f"{below}/{path.relative_to(folder).as_posix()}")] = path
        if len(found) > MAX_FILES:
            raise Invalid(f"more than {MAX_FILES} files", element=str(folder), remedy="pack only what the model needs")
    for one in (Path(place, name) for place, folders, _ in os.walk(folder) for name in folders):
        if one.is_symlink() and not one.name.startswith("."):
            raise Invalid("only plain files can be packed", element=str(one), remedy="replace the link by its folder")
    return found


def model_sources(path: Path) -> Sources:
    """A registered model's file or folder, below ``model/``.

    Raises:
        Invalid: there is nothing there, or it cannot be packed.
    """
    if path.is_dir():
        sources = folder_sources(path, MODEL)
    elif path.is_file():
        sources = {module_path(f"{MODEL}/{path.name}"): path}
    else:
        raise Invalid("there is no such file or folder", element=str(path), remedy="name the model's file or folder")
    if not sources:
        raise Invalid("the folder has no files", element=str(path), remedy="name the folder that holds the model")
    return sources


def copy_in(sources: Sources, folder: Path, step: Step) -> None:
    """Copy files below ``folder/files``, so that later edits to the originals do not change what is signed."""
    total = sum(source.stat().st_size for source in sources.values())
    done = 0
    for path, source in sources.items():
        place = folder / FILES / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        done += place.stat().st_size
        step("packing", done, total)


def measure_files(folder: Path, step: Step) -> tuple[File, ...]:
    """The entries of every file below ``folder/files``, by path."""
    root = folder / FILES
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in paths), 0
    entries = []
    for path in paths:
        blob, _ = measure_file(path)
        name = path.relative_to(root).as_posix()
        entries.append(File(path=name, sha256=blob.sha256, length=blob.length, blocks=blob.blocks))
        done += blob.length
        step("hashing", done, total)
    return tuple(sorted(entries, key=lambda entry: entry.path))


def write_manifest(manifest: Manifest, folder: Path) -> bytes:
    """Check a manifest and write it into a module's folder; returns the bytes.

    Raises:
        Invalid: as :func:`modules.manifest.encode`.
    """
    data = manifests.encode(manifest)
    (folder / MANIFEST).write_bytes(data)
    return data


def check_files(manifest: Manifest, folder: Path, step: Step) -> None:
    """Hash a module's files again and compare them with its manifest.

    Raises:
        Invalid: a file is missing, changed, or there is one more; all of them are named.
    """
    found = {entry.path: entry for entry in measure_files(folder, step)}
    listed = {entry.path: entry for entry in manifest.files}
    problems = [f"{path} is missing" for path in sorted(listed.keys() - found.keys())]
    problems += [f"{path} is not in the manifest" for path in sorted(found.keys() - listed.keys())]
    problems += [f"{path} has changed" for path in sorted(listed.keys() & found.keys()) if listed[path] != found[path]]
    if problems:
        raise Invalid(
            f"the files are not those of the manifest: {'; '.join(problems[:10])}",
            element=str(folder),
            remedy="register the model again",
        )
