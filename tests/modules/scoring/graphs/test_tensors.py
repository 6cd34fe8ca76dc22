"""JSON to arrays and back, for any values of the types that a graph can have."""

import json
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.scoring.graphs import inputs, large_json, tensors
from modules.scoring.runtime import BadInput, Tensor

INTEGERS = [name for name in tensors.DTYPES.values() if "int" in name]
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)


def nested(shape, values):
    """A strategy for nested lists of this shape."""
    for size in reversed(shape):
        values = st.lists(values, min_size=size, max_size=size)
    return values


# bfloat16 is rounded on its way: test_bfloat16.
@pytest.mark.parametrize("dtype", sorted({*tensors.DTYPES.values()} - {"bfloat16"}))
@given(data=st.data(), shape=shapes)
def test_round_trip(dtype, data, shape):
    """When values fit the type they come back as they were sent."""
    if dtype in INTEGERS:
        values = st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
    elif dtype.startswith("float"):
        values = st.floats(allow_nan=False, allow_infinity=False, width=int(dtype[5:])) | st.none()
    else:
        values = st.booleans() if dtype == "bool" else st.text(st.characters(codec="utf-8"))
    sent = data.draw(nested(shape, values))
    body = json.dumps({"x": sent}).encode()
    array = inputs.decode(body, [Tensor("x", dtype, shape)])["x"]
    assert array.shape == shape
    if dtype != "string":
        assert array.dtype == dtype
    back = json.loads(tensors.encode(["x"], [array]))["x"]
    if dtype.startswith("float"):
        # JSON carries the shortest number that is the same in this type.
        np.testing.assert_array_equal(np.array(back, dtype), np.array(sent, dtype))
    else:
        assert back == sent


@pytest.mark.parametrize("dtype", INTEGERS)
@given(value=st.integers(-(1 << 70), 1 << 70))
def test_no_integer_wraps_around(dtype, value):
    """When an integer does not fit the type it is refused, never wrapped around."""
    limits = np.iinfo(dtype)
    tensor = Tensor("x", dtype, (None,))
    if limits.min <= value <= limits.max:
        assert tensors.array([value], tensor).tolist() == [value]
    else:
        with pytest.raises(BadInput):
            tensors.array([value], tensor)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "uint8"])
@pytest.mark.parametrize("sent", [[1, True], [True, 2.5], [[1], [False]], [[1, 2], [True, False]], [2**63, True]])
@pytest.mark.parametrize("much", [1, 10_000])
def test_a_boolean_is_no_number(dtype, sent, much):
    """Neither alone nor among numbers, in bodies of any size."""
    tensor = Tensor("x", dtype, (None,) * np.ndim(sent))
    with pytest.raises(BadInput, match="boolean"):
        inputs.decode(json.dumps({"x": sent * much}).encode(), [tensor])


def test_a_word_for_a_boolean_elsewhere_changes_nothing():
    """It may be part of a text, or another input's."""
    tensors_ = [Tensor("x", "float32", (None,)), Tensor("y", "bool", (None,)), Tensor("z", "string", (None,))]
    found = inputs.decode(b'{"x": [1, 0], "y": [true], "z": ["false"]}', tensors_)
    assert (found["x"].tolist(), found["y"].tolist(), found["z"].tolist()) == ([1.0, 0.0], [True], ["false"])


@pytest.mark.parametrize("sent", [-(2**63) - 1, -(2**63) - 1000, 2**64, 2**64 + 1000, 2**63])
def test_no_integer_is_moved_into_bounds(sent):
    """One that JSON's reader makes a float of may be the next one's float: it is refused, alone and among others."""
    for body in ([sent], [sent, 1], [1.0, sent]):
        with pytest.raises(BadInput):
            inputs.decode(json.dumps({"x": body}).encode(), [Tensor("x", "int64", (None,))])
    assert inputs.decode(json.dumps({"x": [-(2**63)]}).encode(), [Tensor("x", "int64", (None,))])["x"] == [-(2**63)]


@pytest.mark.parametrize("keys", [("1", "01"), ("-0", "0"), ("7", "007")])
def test_two_keys_of_one_number_lose_no_value(keys):
    """A map whose keys are numbers has one value for each."""
    tensor = Tensor("x", "map(int64,tensor(float))", ())
    with pytest.raises(BadInput, match="the same number"):
        inputs.decode(json.dumps({"data": dict.fromkeys(keys, 1.0)}).encode(), [tensor])
    with pytest.raises(BadInput, match="whole numbers"):
        inputs.decode(json.dumps({"data": {"1" * 5000: 1.0}}).encode(), [tensor])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(document=json_values, dtype=st.sampled_from(sorted(tensors.DTYPES.values())), shape=shapes)
def test_any_document(document, dtype, shape):
    """Any JSON at all gives an array of the right type and shape, or BadInput."""
    tensor = Tensor("x", dtype, shape)
    for body in (document, {"x": document}, {"data": document}):
        try:
            array = inputs.decode(json.dumps(body).encode(), [tensor])["x"]
        except BadInput:
            continue
        assert array.shape == shape


@given(body=st.binary())
def test_any_bytes(body):
    """Bytes that are no JSON are BadInput, whatever they are."""
    with pytest.raises(BadInput):
        inputs.decode(body, [Tensor("x", "float32", (None, 64))])


numbers = st.integers(-(1 << 66), 1 << 66) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    numbers | st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def plain(value):
    """Arrays as the lists they stand for, whole floats as integers (JSON knows no difference)."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


@given(document=documents | st.lists(st.lists(numbers, min_size=16, max_size=16)) | st.lists(numbers))
def test_large_documents(document):
    """Reading with arrays for lists of numbers gives what the general parser gives."""
    body = json.dumps(document).encode()
    with mock.patch.object(large_json, "LARGE", 0):
        assert plain(large_json.loads(body)) == plain(orjson.loads(body))
