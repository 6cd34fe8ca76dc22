"""What scripts return as JSON, with orjson in their environment and without: missing values, keys, circles."""

import collections
import dataclasses
import datetime as dt
import decimal
import importlib.util
import json
import math

import numpy as np
import pandas as pd
import pydantic
import pytest

from tests.modules.scoring.conftest import ROOT

PLACE = ROOT / "modules/scoring/scripts/shims/edgefleet_worker/json_text.py"
UNITS = ["D", "h", "m", "s", "ms", "us", "ns"]
DAY = "2021-02-03T00:00:00"


def json_text():
    """The file as a worker loads it, which is in no package of ours."""
    spec = importlib.util.spec_from_file_location("json_text", PLACE)
    text = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(text)
    return text


@pytest.fixture(params=["orjson", "json"])
def written(request):
    """Write a value with either library, and read it again."""
    text = json_text()
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.timedelta(days=1, seconds=3723, milliseconds=500), "P1DT1H2M3.5S"),
        (dt.timedelta(seconds=-1), "P-1DT23H59M59S"),
        (pd.Timedelta("1D"), "P1DT0H0M0S"),
        (np.timedelta64(90, "s"), "P0DT0H1M30S"),
        (np.array([90, "NaT"], "m8[s]"), ["P0DT0H1M30S", None]),
        (decimal.Decimal("1.10"), 1.1), (decimal.Decimal(12345678901234567890), 12345678901234567890),
        (decimal.Decimal("NaN"), None),
        (pd.Period("2021-02"), "2021-02"), (pd.cut(pd.Series([1, 3]), [0, 2, 4]), ["(0, 2]", "(2, 4]"]),
        (collections.deque([1]), [1]), (range(2), [0, 1]), ({"a": 1}.values(), [1]),
        (collections.UserDict(a=np.int8(1)), {"a": 1}), (collections.UserString("a"), "a"),
        (np.datetime64("12021-02-03"), "12021-02-03"),
        (np.array(["12021-02-03", "NaT"], "M8[D]"), ["12021-02-03", None]),
    ],
)  # fmt: skip
def test_durations_decimals_and_containers(written, value, text):
    """Durations, decimals, years beyond 9999, periods, intervals and whatever is a list or mapping are written."""
    assert written(value) == text
    assert written([np.int8(1), {"a": value}]) == [1, {"a": text}]


def test_records(written):
    """Records have the values that their columns had; dates are dates, and missing ones null."""
    frame = pd.DataFrame({"d": pd.to_datetime(["2021-02-03", None]).astype("M8[ns]"), "n": [1.5, math.nan]})
    assert written(frame.to_records(index=False)) == [[DAY, 1.5], [None, None]]


def test_models_of_pydantic(written):
    """A model of pydantic is an object of its fields."""
    inner = pydantic.create_model("Inner", day=dt.date, n=object)
    outer = pydantic.create_model("Outer", inner=inner)
    found = outer(inner=inner(day=dt.date(2021, 2, 3), n=np.float32(0.5)))
    assert written([found]) == [{"inner": {"day": "2021-02-03", "n": 0.5}}]


def test_nothing_is_lost_by_names(written):
    """Columns of one name, and keys that become one text, are an error: the answer would lack a value."""
    with pytest.raises(TypeError, match="two columns of one name"):
        written(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    for keys in ({np.int64(1): 1, "1": 2}, {math.nan: 1, None: 2}):
        with pytest.raises(TypeError, match="two keys become the same text"):
            written(keys)


@pytest.mark.parametrize("keys", [{1: 1, "1": 2}, {True: 1, "true": 2}, {0.5: 1, "0.5": 2}, {None: 1, "null": 2}])
def test_no_key_is_written_twice(written, keys):
    """What a reader would take the last of is an error, as either library would write it."""
    with pytest.raises(TypeError, match="two keys become the same text"):
        written([keys])


def test_a_dataclass_has_all_its_fields(written):
    """Those that begin with an underscore, too, as without orjson."""
    inner = dataclasses.make_dataclass("Inner", [("_n", object)], slots=True)
    outer = dataclasses.make_dataclass("Outer", ["a", ("_b", object)])
    assert written([outer(1, inner(np.float32(0.5)))]) == [{"a": 1, "_b": {"_n": 0.5}}]


def test_no_time_turns_into_another(written):
    """Dates and durations beyond what microseconds can count are told as they are, or refused, alone and in arrays."""
    far = 2**64 // 10**6 + 100  # which NumPy makes some seconds after 1970 of
    assert written(np.datetime64(far, "s")).startswith("586524-")
    assert written(np.array([far, "NaT", 0], "M8[s]")) == [str(np.datetime64(far, "s")), None, "1970-01-01T00:00:00"]
    for value in (np.timedelta64(far, "s"), np.array([1, 2**62], "m8[D]")):
        with pytest.raises(TypeError, match="292 thousand years"):
            written(value)
    assert written(np.array([1, "NaT"], "m8[25s]")) == ["P0DT0H0M25S", None]


def test_decimals_of_every_kind(written):
    """A signalling NaN is missing like any other, and a number without end is no reason to compute for ever."""
    assert written([decimal.Decimal("sNaN"), decimal.Decimal("-Infinity"), decimal.Decimal("1E+30")]) == [
        None,
        None,
        10**30,
    ]
    with pytest.raises(TypeError, match="more than 4000 digits"):
        written(decimal.Decimal("1E+999999999"))


def test_bytes_in_any_form(written):
    """Bytes, a view of them too, are no list of numbers: the error says what to return."""
    with pytest.raises(TypeError, match=r"memoryview, which JSON cannot hold; return AMLResponse"):
        written(memoryview(b"ab"))
