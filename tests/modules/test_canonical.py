"""One byte form for documents, and bounded strict reading of it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules import canonical
from modules.errors import Invalid

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    values: dict[str, int] = {}


@given(value=VALUES)
def test_values_survive(value):
    """What is encoded decodes to the same value, and encodes to the same bytes again."""
    data = canonical.encode(value)

    assert msgspec.json.decode(data) == value
    assert canonical.encode(msgspec.json.decode(data)) == data


@given(pairs=st.lists(st.tuples(st.text(), st.integers()), unique_by=lambda pair: pair[0]))
def test_order_of_keys_does_not_matter(pairs):
    """Maps with the same content have the same bytes, in whatever order they were filled."""
    assert canonical.encode(dict(pairs)) == canonical.encode(dict(reversed(pairs)))


def test_has_no_spaces_and_keeps_the_fields_order():
    """The byte form is compact JSON with Struct fields as declared and map keys sorted."""
    assert canonical.encode(Document("x", {"b": 1, "a": 2})) == b'{"name":"x","values":{"a":2,"b":1}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"name":"\xff"}',
        b'{"name":1}',
        b'{"values":{}}',
        b'{"name":"x","extra":1}',
        b'{"name":"x"} {}',
        b'{"name":' + b"[" * 50_000,
    ],
)
def test_refuses_what_is_no_such_document(data):
    """Truncated, mistyped, unknown or absurdly nested input is one refusal that names the document."""
    with pytest.raises(Invalid, match="the thing"):
        canonical.decode(data, Document, limit=1 << 20, what="the thing")


def test_bounds_the_size_before_reading():
    """A document over its limit is refused even if it is well formed; one of just that size is read."""
    data = canonical.encode(Document("x" * 100))

    assert canonical.decode(data, Document, limit=len(data), what="it") == Document("x" * 100)
    with pytest.raises(Invalid, match="more than"):
        canonical.decode(data, Document, limit=len(data) - 1, what="it")
