"""Values that nobody expects at some place of a document, and documents with one of them at any place."""

import json
import math

import msgspec

# As they stand in JSON text, for JSON's readers differ in what they make of them.
BAD = {
    "-1": "-1",
    "0": "0",
    "2^53": str(2**53),
    "2^63": str(2**63),
    "2^64": str(2**64),
    "10^400": "1" + "0" * 400,
    "10^5000": "1" + "0" * 5000,
    "1e999": "1e999",
    "-1e999": "-1e999",
    "a fraction": "0.5",
    "NaN": "NaN",
    "null": "null",
    "true": "true",
    "a surrogate": r'"\ud800"',
    "a surrogate before a letter": r'"\ud800x"',
    "NUL": r'"\u0000"',
    "1 MB": '"' + "x" * (1 << 20) + '"',
    "a list": "[" + "1," * 1000 + "1]",
    "a map": "{" + ",".join(f'"{n}":1' for n in range(1000)) + "}",
    "depth": "[" * 20_000 + "]" * 20_000,
}
# The same for packed documents; the last two are no text and no list that ends.
PACKED = [-1, 0, 2**53, 2**63 - 1, 2**64 - 1, math.inf, -math.inf, math.nan, 0.5, None, True, "x" * (1 << 20), b"", {}]
PACKED += [[1] * 1000, dict.fromkeys(range(1000), 1), "\0", msgspec.Raw(b"\xa2\xff\xfe"), msgspec.Raw(b"\x91" * 20_000)]
# Stands where the bad value goes, for some of them are no JSON that Python writes.
MARK = "here stands the bad value"


def places(value, path=()):
    """The path of every value in a document, itself included."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def put(value, path, new):
    """The document with something else at one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def spoilt(document, bad):
    """The document's JSON with this bad value at each of its places, and in a field that nobody knows."""
    changed = [put(document, path, MARK) for path in places(document)] + [document | {"unknown": MARK}]
    return [json.dumps(one).replace(f'"{MARK}"', bad).encode() for one in changed]
