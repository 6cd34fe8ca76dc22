"""Every document with a bad value at every place: it is refused in one way, or what it says can be worked with."""

import json
import math
import sqlite3
from datetime import UTC, datetime

import msgspec
import pytest

from modules.errors import Invalid
from tests.modules.protocol.examples import EXAMPLES

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
MARK = "here stands the bad value"
LONGEST_REFUSAL = 1000
PACKED = [-1, 0, 2**53, 2**63 - 1, 2**64 - 1, math.inf, -math.inf, math.nan, 0.5, None, True, "x" * (1 << 20), b"", {}]
PACKED += [[1] * 1000, dict.fromkeys(range(1000), 1), "\0", msgspec.Raw(b"\xa2\xff\xfe"), msgspec.Raw(b"\x91" * 20_000)]


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


def workable(value):
    """What follows on decoding holds: SQLite takes each number and text, and each time is one."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            workable(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        assert math.isfinite(value)
        assert abs(value) < 2**63 or isinstance(value, float)
    with sqlite3.connect(":memory:") as database:
        database.execute("SELECT ?", (value if isinstance(value, str | int | float) else None,))


def check(example, data):
    try:
        document = example.decode(data)
    except Invalid as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert len(str(refusal)) < LONGEST_REFUSAL
        return
    workable(msgspec.to_builtins(document))
    for name in ("issued", "expires", "at"):
        datetime.fromtimestamp(getattr(document, name, 0), UTC)
    assert example.decode(example.encode(document)) == document


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith(".json")])
def test_json(name, bad):
    """A bad value anywhere in a document, or in a field that nobody knows, is refused or harmless."""
    example = EXAMPLES[name]
    document = json.loads(example.encode(example.document))
    for changed in [put(document, path, MARK) for path in places(document)] + [document | {"unknown": MARK}]:
        check(example, json.dumps(changed).replace(f'"{MARK}"', BAD[bad]).encode())


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith(".msgpack")])
def test_packed(name):
    """So it is in the packed documents."""
    example = EXAMPLES[name]
    document = msgspec.msgpack.decode(example.encode(example.document))
    known = dict(enumerate(document)) if isinstance(document, list) else document
    for place in [*known, len(known)]:
        for bad in PACKED:
            changed = known | {place: bad}
            check(example, msgspec.msgpack.encode([*changed.values()] if isinstance(document, list) else changed))
