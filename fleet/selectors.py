"""Which devices are meant: ``*``, or terms joined by commas that must all hold. Pure.

Terms: ``key=value``, ``key!=value`` (holds too where the key is missing), ``key in (a,b)``, and ``key>=4096`` with
``>``, ``<`` and ``<=`` for numbers and versions. Keys are a device's labels; its id is the label ``id``, and what it
says of itself are labels that begin with ``host.`` and ``agent.`` (:data:`FACTS`), of which some have several values.
An unreadable selector is refused; it never means "all" or "none".
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modules.errors import Invalid

LIMIT: Final = 2000
# What a device has by its facts, and what it is. Nobody can set these as labels.
FACTS: Final[dict[str, str]] = {
    "host.os": "linux",
    "host.arch": "amd64, arm64",
    "host.cores": "cores that the agent was granted",
    "host.memory_mb": "memory in MiB",
    "host.disk_free_mb": "free disk in MiB, in steps of 1024",
    "host.accelerator": "kinds of accelerators; several values",
    "host.provider": "execution providers; several values",
    "host.engine": "docker, process; several values",
    "agent.version": "version of the agent",
}
# Labels with one value, or of a fact with all that it has.
Labels = Mapping[str, str | frozenset[str]]
_KEY: Final = r"[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?"
_VALUE: Final = r"[A-Za-z0-9._-]{1,63}"
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,9}){0,3}"
_TERM: Final = re.compile(
    rf"\s*(?P<key>{_KEY})\s*(?:(?P<compare>>=|<=|>|<)\s*(?P<number>{_NUMBER})|(?P<op>=|!=)\s*(?P<value>{_VALUE})"
    r"|\s+in\s*\((?P<values>[^()]*)\))\s*(?:,|$)"
)
KEY: Final = re.compile(_KEY)
VALUE: Final = re.compile(_VALUE)
_PLAIN: Final = re.compile(_NUMBER)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_REMEDY: Final = "write *, or terms as site=berlin,ring!=canary,host.arch in (arm64,amd64),host.memory_mb>=2048"


@dataclass(frozen=True)
class Term:
    """One condition; ``values`` has one member unless ``op`` is ``in``."""

    key: str
    op: str
    values: tuple[str, ...]

    def matches(self, labels: Labels) -> bool:
        found = labels.get(self.key)
        have = found if isinstance(found, frozenset) else frozenset(() if found is None else (found,))
        if self.op in _COMPARE:
            wanted = _parts(self.values[0])
            return any(_COMPARE[self.op](_parts(one), wanted) for one in have if _PLAIN.fullmatch(one))
        return have.isdisjoint(self.values) if self.op == "!=" else not have.isdisjoint(self.values)

    def __str__(self) -> str:
        return f"{self.key} in ({','.join(self.values)})" if self.op == "in" else f"{self.key}{self.op}{self.values[0]}"


@dataclass(frozen=True)
class Selector:
    """All terms must hold; no term at all is ``*``."""

    terms: tuple[Term, ...]

    def matches(self, labels: Labels) -> bool:
        return all(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms)) or "*"


def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        Invalid: it is empty or not of that form; says where.
    """
    if text.strip() == "*":
        return Selector(())
    if not text.strip() or len(text) > LIMIT:
        raise Invalid(f"{text[:40]!r} is not a valid selector", element="selector", remedy=_REMEDY)
    terms, position = [], 0
    while position < len(text):
        match = _TERM.match(text, position)
        if not match:
            raise Invalid(f"cannot read {text[position : position + 40]!r}", element="selector", remedy=_REMEDY)
        terms.append(_term(match))
        position = match.end()
    if text.rstrip().endswith(","):
        raise Invalid("a term is missing after the last comma", element="selector", remedy=_REMEDY)
    return Selector(tuple(terms))


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Accept labels that a selector can ask for.

    Raises:
        Invalid: a key or value has a form that no selector could name, is a fact's, or there are more than 64.
    """
    if len(labels) > 64:  # noqa: PLR2004 - said in the docstring
        raise Invalid("a device has at most 64 labels", element="labels")
    for key, value in labels.items():
        if key.startswith(("host.", "agent.")):
            raise Invalid(
                f"{key[:80]} is what the device says of itself",
                element="labels",
                remedy="use keys that do not begin with host. or agent.",
            )
        if key == "id" or not KEY.fullmatch(key) or not VALUE.fullmatch(value):
            raise Invalid(
                f"{key[:80]}={value[:80]} is not a valid label",
                element="labels",
                remedy="use lower-case keys other than id, and values of letters, digits and ._-",
            )
    return dict(labels)


def _parts(number: str) -> tuple[int, ...]:
    """A number or a version as it is compared: 1.10 is more than 1.9, as versions are, and 4096 more than 512."""
    return tuple(int(part) for part in number.split("."))


def _term(match: re.Match[str]) -> Term:
    if match["key"].startswith(("host.", "agent.")) and match["key"] not in FACTS:
        raise Invalid(
            f"{match['key']} is no fact of a device", element="selector", remedy=f"there are {', '.join(FACTS)}"
        )
    if match["compare"]:
        return Term(match["key"], match["compare"], (match["number"],))
    if match["op"]:
        return Term(match["key"], match["op"], (match["value"],))
    values = tuple(part.strip() for part in match["values"].split(","))
    if not all(VALUE.fullmatch(value) for value in values):
        raise Invalid(f"cannot read the values ({match['values'][:80]})", element="selector", remedy=_REMEDY)
    return Term(match["key"], "in", values)
