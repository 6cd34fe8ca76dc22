"""Python packages made by tests: wheels and sources in a folder that pip is pointed at, so that no index is asked."""

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

PURE = "py3-none-any"
# Needs nothing but itself: no network in these tests.
BACKEND = """
import zipfile, pathlib
def get_requires_for_build_wheel(config_settings=None): return []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as out:
        info = "{name}-{version}.dist-info"
        out.writestr("{name}.py", "x = 1")
        out.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        out.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: {tag}\\n")
        out.writestr(info + "/RECORD", "")
    return name
"""


def wheel(shop: Path, name: str, version: str, *requires: str, tag: str = PURE) -> Path:
    """A wheel with one module, which knows its version."""
    file = shop / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {one}" for one in requires),
            ]
        )
        + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    with zipfile.ZipFile(file, "w") as out:
        record = []
        for path, text in files.items():
            out.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(text)}\n")
        out.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
    return file


def source(shop: Path, name: str, version: str, *, tag: str = PURE, broken: bool = False) -> None:
    """A source distribution with a build backend of its own."""
    backend = (
        "raise RuntimeError('no compiler here')" if broken else BACKEND.format(name=name, version=version, tag=tag)
    )
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(shop / f"{name}-{version}.tar.gz", "w:gz") as out:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            out.addfile(member, io.BytesIO(text.encode()))
