"""Every document with a bad value at every place: it is refused in one way, or what it says can be worked with."""

import json
import math
import sqlite3
from datetime import UTC, datetime

import msgspec
import pytest

from modules.errors import Invalid
from tests.doubles.bad_values import BAD, PACKED, spoilt
from tests.modules.protocol.examples import EXAMPLES

LONGEST_REFUSAL = 1000


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
    for data in spoilt(document, BAD[bad]):
        check(example, data)


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
