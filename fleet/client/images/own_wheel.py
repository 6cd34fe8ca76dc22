"""edgefleet's own wheel, which goes into every image: made from a checkout, or again from what is installed.

So an engineer who has only ``edgefleet[client]`` builds the same images as one with the source.
"""

import base64
import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from fleet.client.images.pip import pip
from modules.errors import NeedsOperator

SOURCE: Final = Path(__file__).resolve().parents[3]
_NAME: Final = "edgefleet"
# Written by whatever installed the wheel, of no meaning in another.
_OF_THE_INSTALLER: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def is_checkout() -> bool:
    """Whether this runs from its source, not from an installed wheel."""
    return (SOURCE / "pyproject.toml").is_file()


def deploy_folder() -> Path:
    """Where locks and Dockerfiles are: ``deploy/`` of the checkout, or below ``share/`` where pip put them."""
    if is_checkout():
        return SOURCE / "deploy"
    marker = "share/edgefleet/deploy/images/scoring.Dockerfile"
    try:
        found = [one for one in distribution(_NAME).files or () if one.as_posix().endswith(marker)]
    except PackageNotFoundError:
        found = []
    return Path(str(found[0].locate())).resolve().parents[1] if found else SOURCE / "deploy"


def ingredients(packages: Iterable[str]) -> dict[str, Path]:
    """The files that decide what the wheel brings into an image that runs these packages, by name."""
    found = (path for package in packages for path in sorted((SOURCE / package).rglob("*.py")))
    files = {path.relative_to(SOURCE).as_posix(): path for path in found}
    if is_checkout():
        return {"pyproject.toml": SOURCE / "pyproject.toml"} | files
    return files


def make_own_wheel(folder: Path) -> Path:
    """Write the wheel into a folder and return its path.

    Raises:
        NeedsOperator: there is neither source nor an installed wheel, or pip fails.
    """
    if is_checkout():
        pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(SOURCE))
        (made,) = folder.glob(f"{_NAME}-*.whl")
        return made
    found = _installed()
    if not any(name.startswith("modules/") for name in found):
        raise NeedsOperator(
            "edgefleet was installed without a list of its files, from which its wheel is made",
            element=str(SOURCE),
            remedy="install edgefleet[client] with pip, or run this in a checkout",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return _packed(found, folder / f"{_NAME}-{distribution(_NAME).version}-py3-none-any.whl")


def _installed() -> dict[str, Path]:
    """Every file of the installed wheel by its name in it, but programs and shared files, which no image uses."""
    try:
        files = distribution(_NAME).files or ()
    except PackageNotFoundError:
        return {}
    return {
        one.as_posix(): Path(str(one.locate()))
        for one in files
        if ".." not in one.parts
        and "__pycache__" not in one.parts
        and not (one.parts[0].endswith(".dist-info") and one.name in _OF_THE_INSTALLER)
    }


def _packed(files: Mapping[str, Path], place: Path) -> Path:
    """A wheel with these files; the same files give the same bytes."""
    metadata = next(name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info"))
    lines = []
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, file in sorted(files.items()):
            data = file.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
            wheel.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        record = f"{metadata}/RECORD"
        wheel.writestr(zipfile.ZipInfo(record, _EPOCH), "".join([*lines, f"{record},,\n"]))
    return place
