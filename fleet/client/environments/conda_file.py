"""conda's environment file as pip's requirements: each entry translated, left out with a note, or refused by name."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from fleet.client.environments.conda_names import (
    CHANNELS_ONLY,
    CHANNELS_ONLY_PREFIXES,
    INCLUDED,
    LEFT_OUT,
    NOT_CHANNELS_ONLY,
    PUBLIC_CHANNELS,
    RENAMED,
)
from fleet.client.environments.requirements import IMAGES_PYTHON, OURS_INSTEAD, Entry, Requirements, read_lines
from modules.errors import Invalid

LIMIT: Final = 1 << 20
_MATCH: Final = re.compile(r"(?:(?P<channel>[\w./-]+)::)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?P<rest>.*)", re.DOTALL)
_CLAUSE: Final = re.compile(r"(?P<how>==|=|>=|<=|!=|~=|>|<)?\s*(?P<version>[0-9][\w.!+]*?)(?P<any>\.?\*)?")
_IN_IMAGE: Final = "install it in an image of your own and name that with --base-image, or take it out of the file"


class _File(msgspec.Struct, frozen=True):
    """What we read of the file."""

    dependencies: list[str | dict[str, list[str]]] = []
    channels: list[str] = []
    name: str | None = None
    prefix: str | None = None
    variables: dict[str, Any] = {}


def read_conda(data: bytes, *, where: str) -> tuple[str, Requirements]:
    """The environment's name, which may be empty, and its requirements.

    Raises:
        Invalid: no such file, or an entry that pip has not got.
    """
    if len(data) > LIMIT:
        raise Invalid(f"more than {LIMIT} bytes", element=where, remedy="name conda's environment file")
    try:
        file = msgspec.convert(yaml.safe_load(data) or {}, _File)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        raise Invalid(
            f"this is not a conda environment file: {' '.join(str(error).split())}",
            element=where,
            remedy="write name: and a list dependencies:, with the entries of pip in a list pip: at its end",
        ) from error
    return file.name or "", _read(file, where)


def _read(file: _File, where: str) -> Requirements:
    python, entries, pip_lines = "", [], []
    for dependency in file.dependencies:
        if isinstance(dependency, dict):
            if dependency.keys() - {"pip"}:
                raise Invalid("a list that is not pip's", element=f"{where}: {', '.join(dependency)}")
            pip_lines += dependency["pip"]
            continue
        entry = _translate(dependency, where)
        if entry.note == IMAGES_PYTHON:
            python = entry.became.removeprefix("python")
        entries.append(entry)
    from_pip = read_lines(pip_lines, where=f"{where}: pip")
    return Requirements(
        python=python,
        entries=(*entries, *from_pip.entries),
        options=from_pip.options,
        variables={name: str(value) for name, value in file.variables.items()},
    )


def _translate(text: str, where: str) -> Entry:
    """One entry of conda's list."""
    match = _MATCH.fullmatch(text.strip())
    element = f"{where}: {text}"
    if match is None:
        raise Invalid("this is not a package", element=element, remedy="write name, name=version or name>=version")
    channel, name, rest = match["channel"], match["name"].lower(), match["rest"].strip()
    if channel and channel.removeprefix("conda-forge/label/") not in PUBLIC_CHANNELS:
        raise Invalid(
            f"only the channel {channel} is known to have this package; pip's of that name may be somebody else's",
            element=element,
            remedy=f"write its requirement under pip:, without the channel; or {_IN_IMAGE}",
        )
    if name in INCLUDED:
        return Entry(text=text, became="", note="comes with the image's Python or inside the wheels that need it")
    if name in LEFT_OUT:
        return Entry(text=text, became="", note=OURS_INSTEAD)
    if name in CHANNELS_ONLY or (name.startswith(CHANNELS_ONLY_PREFIXES) and name not in NOT_CHANNELS_ONLY):
        raise Invalid("this is in conda's channels only, pip does not have it", element=element, remedy=_IN_IMAGE)
    specifier = ",".join(_clauses(_version(rest), element))
    if name == "python":
        return Entry(text=text, became=f"python{specifier}", note=IMAGES_PYTHON)
    became = RENAMED.get(name, name) + specifier
    return Entry(text=text, became=became, note="from pip" if became != text else "")


def _version(rest: str) -> str:
    """The part with the version: without the build, and out of ``[version='...']``."""
    if rest.startswith("["):
        named = re.search(r"version\s*=\s*['\"]?([^'\"\]]+)", rest)
        return named[1] if named else ""
    exact = re.fullmatch(r"=(?P<version>[^=\s]+)=(?P<build>[^=\s]+)", rest) or re.fullmatch(
        r"(?P<version>[0-9][^=\s]*)\s+(?P<build>[\w*.]+)", rest
    )
    return f"=={exact['version']}" if exact else rest


def _clauses(version: str, element: str) -> Iterator[str]:
    if version in ("", "*", "=*"):
        return
    for part in version.split(","):
        clause = _CLAUSE.fullmatch(part.strip())
        if clause is None:
            raise Invalid(
                f"the version {part.strip()!r} has no counterpart in pip",
                element=element,
                remedy="write =1.2, ==1.2.3, or bounds with a comma between them: >=1.2,<2",
            )
        how, number, wild = clause["how"] or "==", clause["version"], clause["any"]
        # A single = means any version that begins so.
        yield f"=={number}.*" if how == "=" or (wild and how == "==") else f"{how}{number}{'.*' if wild else ''}"
