"""Which devices are meant: ``*``, or terms joined by commas that must all hold. Pure.

Terms: ``key=value``, ``key!=value`` (holds too where the key is missing) and ``key in (a,b)``. The id of a device is
the label ``id``. An unreadable selector is refused; it never means "all" or "none".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modules.errors import Invalid

LIMIT: Final = 2000
_KEY: Final = r"[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?"
_VALUE: Final = r"[A-Za-z0-9._-]{1,63}"
_TERM: Final = re.compile(
    rf"\s*(?P<key>{_KEY})\s*(?:(?P<op>=|!=)\s*(?P<value>{_VALUE})|\s+in\s*\((?P<values>[^()]*)\))\s*(?:,|$)"
)
KEY: Final = re.compile(_KEY)
VALUE: Final = re.compile(_VALUE)
_REMEDY: Final = "write *, or terms as site=berlin,ring!=canary,arch in (arm64,amd64)"


@dataclass(frozen=True)
class Term:
    """One condition; ``values`` has one member unless ``op`` is ``in``."""

    key: str
    op: Literal["=", "!=", "in"]
    values: tuple[str, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return (value not in self.values) if self.op == "!=" else (value in self.values)

    def __str__(self) -> str:
        return f"{self.key} in ({','.join(self.values)})" if self.op == "in" else f"{self.key}{self.op}{self.values[0]}"


@dataclass(frozen=True)
class Selector:
    """All terms must hold; no term at all is ``*``."""

    terms: tuple[Term, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
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
        Invalid: a key or value has a form that no selector could name, or there are more than 64.
    """
    if len(labels) > 64:  # noqa: PLR2004 - said in the docstring
        raise Invalid("a device has at most 64 labels", element="labels")
    for key, value in labels.items():
        if key == "id" or not KEY.fullmatch(key) or not VALUE.fullmatch(value):
            raise Invalid(
                f"{key[:80]}={value[:80]} is not a valid label",
                element="labels",
                remedy="use lower-case keys other than id, and values of letters, digits and ._-",
            )
    return dict(labels)


def _term(match: re.Match[str]) -> Term:
    if match["op"]:
        return Term(match["key"], "=" if match["op"] == "=" else "!=", (match["value"],))
    values = tuple(part.strip() for part in match["values"].split(","))
    if not all(VALUE.fullmatch(value) for value in values):
        raise Invalid(f"cannot read the values ({match['values'][:80]})", element="selector", remedy=_REMEDY)
    return Term(match["key"], "in", values)
