"""Samples: stored requests with reference answers, and the comparison that decides whether an answer is right.

They are made on the publisher's machine in the very image that will serve, travel in the module as ``samples.json``,
and are asked again on every device before a module gets traffic.
"""

import math
from typing import Annotated, Any, Final

import msgspec

from modules import canonical
from modules.bounds import Line
from modules.errors import Invalid

LIMIT: Final = 16 << 20
MAX_SAMPLES: Final = 10_000
_SHOWN: Final = 80
_LONGEST: Final = 240
# What is compared value by value is decoded in the agent's memory, and a list costs 20 times its two characters.
MAX_VALUES: Final = 2 << 20
MAX_NESTS: Final = 200_000


Body = Annotated[bytes, msgspec.Meta(max_length=LIMIT)]
Tolerance = Annotated[float, msgspec.Meta(ge=0, le=1e300)]


# As they stand in a request's head, where a line break or a letter beyond ASCII would make another request of it.
Target = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*\Z", max_length=500)]
Method = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{1,20}\Z")]
MediaType = Annotated[str, msgspec.Meta(pattern=r"^[ -~]*\Z", max_length=500)]


class Exact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="exact", tag_field="how"):
    """The body is the same bytes."""


class Numeric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="numeric", tag_field="how"):
    """The same JSON, numbers within ``absolute + relative * |reference|`` (NumPy's ``allclose``)."""

    absolute: Tolerance = 1e-5
    relative: Tolerance = 1e-3


class TopK(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="top-k", tag_field="how"):
    """At ``field`` (keys and indices joined by dots) stands a list of scores whose ``k`` best indices are the same."""

    field: Line
    k: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


Comparison = Exact | Numeric | TopK


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One request to the scoring server and the answer that it must give. Bodies are base64 in the JSON form."""

    name: Line
    path: Target = "/score"
    method: Method = "POST"
    content_type: MediaType = "application/json"
    body: Body
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] = 200
    answer_type: Line = "application/json"
    answer: Body
    compare: Comparison = Numeric()


class Samples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``samples.json``."""

    samples: Annotated[tuple[Sample, ...], msgspec.Meta(max_length=MAX_SAMPLES)]


def encode(samples: Samples) -> bytes:
    return canonical.encode(samples)


def decode(data: bytes) -> Samples:
    """Read ``samples.json``.

    Raises:
        Invalid: not such a document, or without any sample.
    """
    samples = canonical.decode(data, Samples, limit=LIMIT, what="samples.json")
    if not samples.samples:
        raise Invalid("there is no sample in it", element="samples.json", remedy="add one, or say prove: ready-only")
    return samples


def differences(sample: Sample, status: int, body: bytes) -> list[str]:
    """Why an answer is not the reference, each in a line; an empty list means that it is right."""
    return [f"{sample.name}: {problem}"[:_LONGEST] for problem in _differences(sample, status, body)]


def _differences(sample: Sample, status: int, body: bytes) -> list[str]:
    if status != sample.status:
        return [f"status {status} instead of {sample.status}: {body[:_SHOWN]!r}"]
    if isinstance(sample.compare, Exact):
        return [] if body == sample.answer else [f"{body[:_SHOWN]!r} instead of {sample.answer[:_SHOWN]!r}"]
    if _is_heavy(body) or _is_heavy(sample.answer):
        return [
            f"an answer of more than {MAX_VALUES} values, or {MAX_NESTS} lists and maps, is not compared value by value"
        ]
    try:
        got, expected = msgspec.json.decode(body), msgspec.json.decode(sample.answer)
    except canonical.UNREADABLE:
        return [f"the answer is not JSON: {body[:_SHOWN]!r}"]
    try:
        return (
            _top_k(sample.compare, got, expected)
            if isinstance(sample.compare, TopK)
            else _numeric(sample.compare, got, expected, "$")
        )
    except RecursionError:
        return ["it is nested too deeply to be compared"]


def _is_heavy(body: bytes) -> bool:
    """Whether decoding it would cost many times its size; counted in its text, where one in a string counts, too."""
    return body.count(b",") > MAX_VALUES or body.count(b"[") + body.count(b"{") > MAX_NESTS


def _numeric(rule: Numeric, got: Any, expected: Any, where: str) -> list[str]:
    """Differences below ``where``; stops at the first so that a report stays short."""
    if _is_number(got) and _is_number(expected):
        try:
            close = math.isclose(got, expected, rel_tol=0, abs_tol=rule.absolute + rule.relative * abs(expected))
        except OverflowError:  # an integer beyond every float
            close = got == expected
        return [] if close else [f"{str(got)[:_SHOWN]} instead of {str(expected)[:_SHOWN]} at {where}"]
    if type(got) is not type(expected):
        return [f"{str(got)[:_SHOWN]} instead of {str(expected)[:_SHOWN]} at {where}"]
    if isinstance(expected, dict):
        if got.keys() != expected.keys():
            return [f"keys {sorted(got)} instead of {sorted(expected)} at {where}"]
        pairs = [(got[key], expected[key], f"{where}.{key}") for key in expected]
    elif isinstance(expected, list):
        if len(got) != len(expected):
            return [f"{len(got)} values instead of {len(expected)} at {where}"]
        pairs = [(one, other, f"{where}[{i}]") for i, (one, other) in enumerate(zip(got, expected, strict=True))]
    else:
        return [] if got == expected else [f"{got!r} instead of {expected!r} at {where}"]
    for one, other, place in pairs:
        if problems := _numeric(rule, one, other, place):
            return problems
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _top_k(rule: TopK, got: Any, expected: Any) -> list[str]:
    try:
        found, reference = (_best(_at(rule.field, value), rule.k) for value in (got, expected))
    except (LookupError, TypeError, ValueError) as error:
        return [f"no scores at {rule.field!r}: {error}"]
    return [] if found == reference else [f"best {found} instead of {reference} at {rule.field}"]


def _at(field: str, value: Any) -> Any:
    for part in field.split(".") if field else []:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _best(scores: list[float], k: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:k])
