"""The Range header: what RFC 9110 says of it, for one range of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ranges import Unsatisfiable, selected

LENGTH = 1000


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-499", 0, 499),
        ("bytes=500-", 500, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=999-5000", 999, 999),
        ("BYTES=1-2", 1, 2),
        ("bytes= 1-2 ,", 1, 2),
        ("bytes=00000000000000001-2", 1, 2),
    ],
)
def test_one_range_is_selected(header, first, last):
    """First and last byte, an open end, the last bytes; what goes beyond the end ends there."""
    assert selected(header, LENGTH) == range(first, last + 1)


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "blocks=0-1", "x=", "bytes=0-1,5-6", "bytes=0-1, -1", "bytes=0-,0-,0-,0-"]
)
def test_what_a_server_may_ignore_means_all(header):
    """No header, another unit, several ranges: the whole blob, once, whatever they would add up to."""
    assert selected(header, LENGTH) is None


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=2-1", "bytes=", "bytes=,", "bytes=-", "bytes=a-b"),
        *("bytes=+1-2", "bytes=1_0-20", "bytes=1-2-3", "bytes=1 - 2", "bytes=0x1-2", "bytes=\u0661-2", "bytes=--1"),
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_selects_nothing_is_refused(header):
    """Behind the end, backwards, or no range: never the whole blob instead."""
    with pytest.raises(Unsatisfiable) as raised:
        selected(header, LENGTH)
    assert len(raised.value.message) < 200


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-5", "bytes=0-0"])
def test_an_empty_blob_has_no_range(header):
    """Nothing of nothing can be sent."""
    with pytest.raises(Unsatisfiable):
        selected(header, 0)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=40), st.integers(0, 2000))
def test_whatever_is_selected_lies_within(header, length):
    """Any header: nothing, a refusal, or bytes that are there."""
    try:
        part = selected(header, length)
    except Unsatisfiable:
        return
    assert part is None or (0 <= part.start < part.stop <= length)
