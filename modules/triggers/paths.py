"""Which file becomes which: ``input/{name}.json`` and ``output/{name}_out.json``, both below one folder."""

import re
from pathlib import PurePosixPath
from typing import Final

from modules.errors import Invalid

_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_EXAMPLE: Final = 'write it as "input/{name}.json"'


class Paths:
    """A pair of patterns that fit together.

    Raises:
        Invalid: they do not; the message says which of them, and why.
    """

    def __init__(self, input_path: str, output_path: str) -> None:
        self.input, self.output = _checked(input_path, "input_path"), _checked(output_path, "output_path")
        self.folder = str(PurePosixPath(self.input).parent)
        last = PurePosixPath(self.input).name
        names, known = _PLACE.findall(last), _PLACE.findall(self.output)
        if not names or _PLACE.search(self.folder):
            raise Invalid(
                "the name of the file, and nothing else, has a part in braces", element="input_path", remedy=_EXAMPLE
            )
        if len(set(names)) < len(names):
            raise Invalid("a part in braces stands there twice", element="input_path", remedy=_EXAMPLE)
        if missing := set(names) ^ set(known):
            raise Invalid(
                f"{', '.join(sorted(f'{{{one}}}' for one in missing))} is only in one of the two paths, so outputs "
                "could not be told apart",
                element="output_path",
                remedy=f'write it as "output/{"_".join(f"{{{one}}}" for one in names)}_out.json"',
            )
        # What is between the parts in braces is taken as it is.
        pieces = _PLACE.split(last)
        self._pattern = re.compile(
            "".join(f"(?P<{one}>[^/]+)" if at % 2 else re.escape(one) for at, one in enumerate(pieces)) + r"\Z",
            re.DOTALL,
        )
        example = PurePosixPath(self.output_of(_PLACE.sub("x", last)) or "")
        if str(example.parent) == self.folder and self._pattern.match(example.name):
            raise Invalid(
                "an output would be an input again", element="output_path", remedy="put outputs into another folder"
            )

    @property
    def suffix(self) -> str:
        """The end of every input's name, as ``.json``."""
        return PurePosixPath(self.input).suffix

    def output_of(self, name: str) -> str | None:
        """Where the output of a file of this name goes; None where it is no input."""
        found = None if name.startswith(".") else self._pattern.match(name)
        return _PLACE.sub(lambda place: found[place[1]], self.output) if found else None


def _checked(path: str, what: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or path.endswith("/") or path.startswith("/") or ".." in parts or "\0" in path:
        raise Invalid(f"{path!r} is not a path below the folder of data", element=what, remedy=_EXAMPLE)
    if "{" in _PLACE.sub("", path) or "}" in _PLACE.sub("", path):
        raise Invalid(f"the braces of {path!r} do not fit", element=what, remedy=_EXAMPLE)
    return str(PurePosixPath(path))
