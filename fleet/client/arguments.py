"""Words of the command line into values: ``key=value``, ``30m``, ``log_level=info:debug:info``."""

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from modules.adjustable import is_fallback_pattern
from modules.data_rule import DataRule
from modules.errors import Invalid
from modules.manifest import SecretFile
from modules.names import ModuleRef, Slug, slug
from modules.settable import Adjustable

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SECRET: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_OTHER_MARKS: Final = re.compile(r"[._]+")
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


def pairs(words: Iterable[str], *, option: str) -> dict[str, str]:
    """``key=value`` words.

    Raises:
        Invalid: a word without ``=``, or a key twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or key in found:
            problem = "is given twice" if equals and key else "has no key and value"
            raise Invalid(f"{word!r} {problem}", element=option, remedy=f"write {option} key=value, each key once")
        found[key] = value
    return found


def mebibytes(text: str, *, option: str) -> int:
    """``4Gi``, ``512Mi`` or a number of MiB.

    Raises:
        Invalid: it is no such size.
    """
    number, unit = text.removesuffix("i").rstrip("MG"), text.removesuffix("i").lstrip("0123456789.")
    try:
        return round(float(number) * {"": 1, "M": 1, "G": 1024}[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise Invalid(f"{text!r} is no size", element=option, remedy="write 4Gi or 512Mi") from error


def secrets(words: Iterable[str], *, option: str) -> tuple[SecretFile, ...]:
    """``token``, with ``:optional``, ``:file`` or ``:signal`` behind it: the secrets that a module declares.

    Raises:
        Invalid: none of these, or a name that no file can have.
    """
    found = []
    for word in words:
        name, *marks = word.split(":")
        takes = {"file", "signal"} & set(marks)
        if not _SECRET.fullmatch(name) or set(marks) - {"optional", *takes} or len(takes) > 1:
            raise Invalid(
                f"{word[:80]!r} is not a valid secret",
                element=option,
                remedy="write NAME in lower-case letters, digits, dots, hyphens; behind it :optional, :file or :signal",
            )
        reload: Literal["file", "signal", "restart"]
        reload = "file" if "file" in takes else "signal" if "signal" in takes else "restart"
        found.append(SecretFile(name=name, required="optional" not in marks, reload=reload))
    return tuple(found)


def model_name(text: str) -> Slug:
    """A model's name as modules have it; Azure ML's, with capitals, underscores and dots, becomes one with hyphens.

    Raises:
        Invalid: it is none of them.
    """
    return slug(_OTHER_MARKS.sub("-", text.lower()), what="model name")


def module_ref(text: str) -> ModuleRef:
    """``team/name:version``, the name as :func:`model_name` reads it.

    Raises:
        Invalid: it is not of that form.
    """
    team, slash, rest = text.partition("/")
    name, colon, version = rest.partition(":")
    return ModuleRef.parse(f"{team}{slash}{_OTHER_MARKS.sub('-', name.lower())}{colon}{version}")


def value(text: str) -> float | str | bool:
    """A setting's value: a number or ``true``/``false`` where it reads as one, else text."""
    if text in {"true", "false"}:
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def seconds(text: str, *, option: str) -> float:
    """A duration: seconds, or a number with s, m, h or d behind it.

    Raises:
        Invalid: anything else.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise Invalid(
            f"{text!r} is not a duration", element=option, remedy="write for instance 90, 90s, 15m, 24h or 7d"
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


def fallback_hosts(words: Iterable[str], *, option: str) -> tuple[str, ...]:
    """Hosts that an order may name as a fallback, each once, as given.

    Raises:
        Invalid: one is more or less than a host, or ``*.`` and a host.
    """
    hosts = tuple(dict.fromkeys(words))
    for host in hosts:
        if not is_fallback_pattern(host):
            raise Invalid(
                f"{host[:120]!r} is not a valid fallback host",
                element=option,
                remedy="write api.example.org or *.example.org in lower case, without https://, port and path",
            )
    return hosts


def data_rule(kind: str, regions: Iterable[str], *, stays: bool) -> DataRule | None:
    """Where a module's data may go; None: nothing is said of them.

    Raises:
        Invalid: a region without a kind of data, regions for data that stay, or no region's name.
    """
    named = tuple(dict.fromkeys(regions))
    if stays and named:
        raise Invalid("these data stay where they are", element="--data-region", remedy="leave out one of the two")
    if not kind and (stays or named):
        raise Invalid("of which data?", element="--data-class", remedy="say for instance --data-class personal")
    try:
        rule = {"kind": kind, "regions": named if named or stays else None}
        return msgspec.convert(rule, DataRule) if kind else None
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element="--data-region", remedy="write for instance eu-west") from error


def adjustable(words: Iterable[str], *, option: str) -> dict[str, Adjustable]:
    """``name=default:minimum:maximum`` for numbers, ``name=default:choice:choice...`` for words.

    Raises:
        Invalid: no such form.
    """
    found = {}
    for name, text in pairs(words, option=option).items():
        first, *rest = text.split(":")
        default = value(first)
        if not isinstance(default, float):
            found[name] = Adjustable(default=default, choices=tuple(rest))
            continue
        bounds = [value(bound) if bound else None for bound in rest]
        numbers = [bound for bound in bounds if bound is None or type(bound) is float]
        if len(numbers) != len(rest) or len(numbers) > 2:  # noqa: PLR2004  a minimum and a maximum
            raise Invalid(f"{text!r} has no default:minimum:maximum", element=f"{option} {name}")
        low, high = (*numbers, None, None)[:2]
        found[name] = Adjustable(default=default, minimum=low, maximum=high)
    return found
