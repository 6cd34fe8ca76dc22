"""What an environment asks of pip, with a record of what became of each line that a user wrote."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from fleet.client.environments.conda_names import LEFT_OUT, WITH_SCHEMA
from modules.errors import Invalid

IMAGES_PYTHON: Final = "the image's Python"
OURS_INSTEAD: Final = "edgefleet's own import-compatible modules stand in its place"
_SCHEMA: Final = "inference-schema"
_NESTED: Final = ("-r", "--requirement")
_DEPTH: Final = 5
# Where packages come from besides pip's own configuration; anything else would make the image depend on this machine.
_PASSED_ON: Final = ("--extra-index-url", "--find-links", "-f", "--index-url", "-i", "--pre", "--trusted-host")
_VERSION_CONTROL: Final = re.compile(r"\b(git|hg|svn|bzr)\+")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line as the user wrote it, and what it became: a requirement of pip's, or nothing; ``note`` says why."""

    text: str
    became: str
    note: str = ""

    def __str__(self) -> str:
        if self.text == self.became:
            return self.text
        return f"{self.text or 'added'} -> {self.became or 'left out'}" + (f" ({self.note})" if self.note else "")


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be installed: ``python`` is a specifier (``==3.11.*``) or empty; ``options`` are lines for pip."""

    python: str = ""
    entries: tuple[Entry, ...] = ()
    options: tuple[str, ...] = ()
    variables: dict[str, str] = {}

    @property
    def packages(self) -> tuple[str, ...]:
        """The requirements alone, each once, in the order in which they were written."""
        wanted = (one.became for one in self.entries if one.became and one.note != IMAGES_PYTHON)
        return tuple(dict.fromkeys(wanted))

    def accepts(self, python: str) -> bool:
        """Whether this Python (``3.11``) will do; the last part of its version is the image's business."""
        if not self.python:
            return True
        whole = SpecifierSet(self.python, prereleases=True)
        return any(whole.contains(f"{python}.{patch}") for patch in range(64))


def read_requirements(file: Path) -> Requirements:
    """A ``requirements.txt``, with the files that it includes.

    Raises:
        Invalid: it cannot be read, or has a line that no image could be made from.
    """
    return read_lines(_lines(file, 0), where=str(file))


def _lines(file: Path, depth: int) -> list[str]:
    if depth > _DEPTH:
        raise Invalid("the files include each other", element=str(file), remedy="include each file once")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise Invalid(f"cannot be read: {reason}", element=str(file)) from error
    found: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and words[0] in _NESTED and len(words) > 1:
            found += _lines(file.parent / words[1], depth + 1)
        else:
            found.append(line)
    return found


def read_lines(lines: Iterable[str], *, where: str) -> Requirements:
    """Lines as pip takes them.

    Raises:
        Invalid: a line that is not a requirement, or one that no lock can hold.
    """
    entries: list[Entry] = []
    options: list[str] = []
    with_schema = False
    for line in lines:
        text = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not text:
            continue
        if text.startswith("-"):
            options.append(_option(text, where))
            continue
        entry = _entry(text, f"{where}: {text}")
        with_schema |= not entry.became and canonicalize_name(_parsed(text).name) in WITH_SCHEMA
        entries.append(entry)
    if with_schema and not any(canonicalize_name(one.became).startswith(_SCHEMA) for one in entries):
        entries.append(Entry(text="", became=_SCHEMA, note="which a package that was left out brings along"))
    return Requirements(entries=tuple(entries), options=tuple(options))


def _option(text: str, where: str) -> str:
    if text.split("=", maxsplit=1)[0].split(maxsplit=1)[0] not in _PASSED_ON:
        raise Invalid(
            "this option of pip has no meaning for an image",
            element=f"{where}: {text}",
            remedy="build the project to a wheel and name its file" if "-e" in text.split() else "take it out",
        )
    return text


def _entry(text: str, element: str) -> Entry:
    if _VERSION_CONTROL.search(text):
        raise Invalid(
            "a place in version control cannot be locked by digest",
            element=element,
            remedy="build it to a wheel (pip wheel), and name the file or the released version",
        )
    if text.endswith(".whl") and "@" not in text:
        file = Path(text).absolute()
        if not file.is_file():
            raise Invalid("there is no such wheel", element=element, remedy="name it by its path from here")
        return Entry(text=text, became=str(file))
    name = canonicalize_name(_parsed(text, element).name)
    if name in LEFT_OUT:
        return Entry(text=text, became="", note=OURS_INSTEAD)
    return Entry(text=text, became=text)


def _parsed(text: str, element: str = "") -> Requirement:
    try:
        return Requirement(re.sub(r"\s--hash=\S+", "", text).strip())
    except (InvalidRequirement, InvalidSpecifier) as error:
        raise Invalid(
            f"this is not a requirement as pip writes it: {str(error).splitlines()[0]}",
            element=element or text,
            remedy="write name, name==1.2.3 or name>=1.2,<2; folders and sources are built to a wheel first",
        ) from error
