"""Get the model of the file-type example: ``python -m modules.examples.filetype.fetch OUTDIR``.

The model is Magika's (Apache-2.0), taken from the Python package ``magika`` by pip, as pip is configured. Only a
package with the digest below is opened. Writes ``OUTDIR/model/`` with the graph, its configuration and the description
of the content types; ``source/score.py`` beside this file is the entry script that goes with it.
"""

import sys
from pathlib import Path
from typing import Final

from modules.errors import EdgefleetError
from modules.examples import packages

PACKAGE: Final = packages.Package(
    "magika",
    "1.0.3",
    "sha256:938d8e033953f2ddeb8c35dc423aa289ca116bfa7a71a778f6e77460f9025803",
    {
        "magika/models/standard_v3_3/model.onnx": "model.onnx",
        "magika/models/standard_v3_3/config.min.json": "config.json",
        "magika/config/content_types_kb.min.json": "content_types.json",
    },
)


def fetch(out: Path) -> Path:
    """Write ``out/model`` and return it.

    Raises:
        LinkLost: pip could not get the package.
        Untrusted: it got another package than the one named above.
    """
    return packages.fetch(PACKAGE, out / "model")


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
