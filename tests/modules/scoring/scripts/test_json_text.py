"""What scripts return as JSON, with orjson in their environment and without: missing values, keys, circles."""

import datetime as dt
import importlib.util
import json
import math

import numpy as np
import pandas as pd
import pytest

from tests.modules.scoring.conftest import ROOT

PLACE = ROOT / "modules/scoring/scripts/shims/edgefleet_worker/json_text.py"
UNITS = ["D", "h", "m", "s", "ms", "us", "ns"]
DAY = "2021-02-03T00:00:00"


@pytest.fixture(params=["orjson", "json"])
def written(request):
    """Write a value with either library, and read it again."""
    spec = importlib.util.spec_from_file_location("json_text", PLACE)
    text = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(text)
    if request.param == "json":
        text.orjson = None
    return lambda value: json.loads(text.encode(value), parse_constant=pytest.fail)


@pytest.mark.parametrize("unit", UNITS)
def test_missing_dates(written, unit):
    """A date that is missing is null in every unit, alone, in lists and arrays of any shape; the others stay."""
    missing, day = np.datetime64("NaT", unit), np.datetime64("2021-02-03", unit)
    assert written({"a": missing, "b": [missing, day]}) == {"a": None, "b": [None, DAY]}
    assert written(np.array([[missing, day], [day, missing]])) == [[None, DAY], [DAY, None]]


def test_missing_values_of_pandas(written):
    """So are pandas' NaT and NA, in a series, a frame, an index or by themselves."""
    assert written([pd.NaT, pd.NA]) == [None, None]
    assert written(pd.Series([1, None], dtype="Int64")) == [1, None]
    assert written(pd.Series([True, None], dtype="boolean")) == [True, None]
    assert written(pd.to_datetime(pd.Series(["2021-02-03", None]))) == [DAY, None]
    assert written(pd.DatetimeIndex(["2021-02-03", None])) == [DAY, None]
    assert written(pd.DatetimeIndex([DAY, None], tz="Europe/Paris")) == [f"{DAY}+01:00", None]
    frame = pd.DataFrame({"n": pd.Series([1, None], dtype="Int64"), "d": pd.to_datetime(["2021-02-03", None])})
    assert written(frame) == [{"n": 1, "d": DAY}, {"n": None, "d": None}]
    assert written(np.array([1.5, math.nan, math.inf], np.float32)) == [1.5, None, None]


def test_times_as_nanoseconds(written):
    """A time in nanoseconds is a date, not a number."""
    assert written(np.datetime64("2021-02-03T04:05:06.123456789", "ns")) == "2021-02-03T04:05:06.123456"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (np.int64(7), "7"), (np.float32(0.5), "0.5"), (np.bool_(1), "true"), (np.str_("a"), "a"), (1, "1"),
        (True, "true"), (None, "null"), (pd.NA, "null"), (pd.Timestamp("2021-02-03"), DAY),
        (np.datetime64("2021-02-03"), DAY), (dt.date(2021, 2, 3), "2021-02-03"),
    ],
)  # fmt: skip
def test_keys(written, key, text):
    """Keys become text as their values would be written, NumPy's and pandas' too."""
    assert written({key: {key: np.int64(3)}}) == {text: {text: 3}}


def test_keys_that_are_no_text(written):
    """A key that has no text says so by its type."""
    with pytest.raises(TypeError, match="tuple as key"):
        written({(1, 2): 3})


def test_a_value_that_contains_itself(written):
    """A circle ends in one sentence."""
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        written({"a": circle})


def test_deep_nesting(written):
    """Lists within lists are written as deep as the standard library goes."""
    deep = found = []
    for _ in range(400):
        deep.append([])
        deep = deep[0]
    assert written(found) == found


def test_numbers_as_they_are(written):
    """Numbers of any size and order of memory, texts and sets stay what they are."""
    assert written([2**80, np.asfortranarray(np.arange(4).reshape(2, 2)), np.float16(0.5), {1}, "\ud800"]) == [
        2**80, [[0, 1], [2, 3]], 0.5, [1], "\ud800",
    ]  # fmt: skip
    assert written(np.longdouble(0.5)) == 0.5
    assert written({"x": np.array(["a"]), "y": np.array([1, "b"], object)}) == {"x": ["a"], "y": [1, "b"]}
    assert written(type("F", (float,), {})(0.5)) == 0.5
