"""A user's extra steps for an image: the instructions of a Dockerfile that need no file of the user's machine."""

import re
from pathlib import Path
from typing import Final

from modules.errors import Invalid

ALLOWED: Final = ("ARG", "ENV", "LABEL", "RUN", "SHELL")
_INSTEAD: Final = {
    "ADD": "fetch it with RUN, or put the file beside the entry script",
    "CMD": "the scoring server is what starts in the image",
    "COPY": "put the file beside the entry script, or into an image of your own: --base-image",
    "ENTRYPOINT": "the scoring server is what starts in the image",
    "FROM": "name the image with --base-image",
    "USER": "steps run as root, the module as a user of its own",
}
_INSTRUCTION: Final = re.compile(r"\s*([A-Za-z]+)\b")


def read_steps(file: Path) -> str:
    """The steps as they stand in the file.

    Raises:
        Invalid: it cannot be read, or has an instruction that is not ours to allow.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the Docker steps cannot be read as text", element=str(file)) from error
    return check_steps(text, where=str(file))


def check_steps(text: str, *, where: str) -> str:
    """The same text, once every instruction in it may stand there.

    Raises:
        Invalid: one may not.
    """
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        comment = line.lstrip().startswith("#")
        if line.strip() and not continued and not comment:
            match = _INSTRUCTION.match(line)
            word = match[1].upper() if match else line.split()[0]
            if word not in ALLOWED:
                raise Invalid(
                    f"{word} cannot stand among the extra steps",
                    element=f"{where}, line {number}",
                    remedy=_INSTEAD.get(word, f"use {', '.join(ALLOWED)}"),
                )
        if not comment:
            continued = line.rstrip().endswith("\\")
    return text.rstrip() + "\n" if text.strip() else ""
