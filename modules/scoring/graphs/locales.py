"""The locale that graphs which take text ask for, on images that have none.

onnxruntime's StringNormalizer, which is in every graph that skl2onnx makes of a text vectorizer, constructs the locale
``en_US.UTF-8`` when a graph is loaded, if only to write small letters. Slim images have no locales but ``C.UTF-8``,
whose letters are the same; it stands in under the other name.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

WANTED: Final = "en_US.UTF-8"
_SAID: Final = f"Failed to construct locale with name:{WANTED}"
# Where Debian, Ubuntu and their kin keep it.
_PLAIN: Final = (Path("/usr/lib/locale/C.utf8"), Path("/usr/lib/locale/C.UTF-8"))
_VARIABLE: Final = "LOCPATH"


def lacking(said: str) -> bool:
    """Whether a graph could not be loaded for want of that locale, and another can stand in."""
    return _SAID in said and any(path.is_dir() for path in _PLAIN)


@contextmanager
def standing_in() -> Iterator[None]:
    """While this lasts, ``C.UTF-8`` is found as ``en_US.UTF-8`` by this process; what was loaded then stays."""
    before = os.environ.get(_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="locale-") as folder:
        (Path(folder) / WANTED).symlink_to(next(path for path in _PLAIN if path.is_dir()))
        os.environ[_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before
