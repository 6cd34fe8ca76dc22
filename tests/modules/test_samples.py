"""Samples: stored requests, and the comparison that decides whether an answer is right."""

import json
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules import samples
from modules.errors import Invalid
from modules.samples import Exact, Numeric, Sample, TopK, differences
from tests.modules.documents import SAMPLES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def sample(answer, compare=Numeric(), status=200):  # noqa: B008 - a frozen value
    return Sample(name="one", body=b"[]", answer=answer, compare=compare, status=status)


@given(document=SAMPLES)
def test_samples_survive(document):
    """Samples decode to themselves, bodies of any bytes included."""
    assert samples.decode(samples.encode(document)) == document


def test_refuses_an_empty_list():
    """A file without samples proves nothing and is refused."""
    with pytest.raises(Invalid, match="there is no sample in it"):
        samples.decode(b'{"samples":[]}')


@pytest.mark.parametrize(
    "spoilt",
    [
        {"path": "/score?x=\u00e4"},
        {"path": "/\u4e2d"},
        {"path": "/score HTTP/1.1\r\nX: y"},
        {"path": "score"},
        {"path": "http://other/score"},
        {"method": "P\u00d6ST"},
        {"method": "POST /x HTTP/1.1\r\nX:"},
        {"content_type": "a\r\nTransfer-Encoding: chunked"},
        {"content_type": "a\u4e2d"},
    ],
)
def test_a_sample_asks_one_request_in_plain_letters(spoilt):
    """What a device could not send, or would send as another request than the publisher's machine did, is no sample."""
    document = json.loads(samples.encode(samples.Samples((sample(b"1"),))))
    document["samples"][0] |= spoilt
    with pytest.raises(Invalid, match="not a valid document"):
        samples.decode(json.dumps(document).encode())


@given(value=JSON)
def test_reference_answer_is_right(value):
    """Every JSON answer equals itself, numerically and exactly."""
    body = json.dumps(value).encode()

    assert differences(sample(body), 200, body) == []
    assert differences(sample(body, Exact()), 200, body) == []


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (b"[1.0, 2.0]", b"[1.0005, 2.001]"),
        (b'{"a": 1, "b": [2]}', b'{"b":[2],"a":1}'),
        (b"[1]", b"[1.0]"),
        (b"1" + b"0" * 400, b"1" + b"0" * 400),
    ],
)
def test_numbers_within_tolerance_are_right(reference, answer):
    """Layout, order of keys and small differences of numbers do not count."""
    assert differences(sample(reference), 200, answer) == []


@pytest.mark.parametrize(
    ("reference", "answer", "said"),
    [
        (b"[1.0, 2.0]", b"[1.0, 2.1]", r"2\.1 instead of 2\.0 at \$\[1\]"),
        (b'{"a": [1]}', b'{"a": [1, 2]}', r"2 values instead of 1 at \$\.a"),
        (b'{"a": 1}', b'{"b": 1}', r"keys \['b'\] instead of \['a'\]"),
        (b"[true]", b"[1]", r"1 instead of True"),
        (b'"cat"', b'"dog"', "'dog' instead of 'cat'"),
        (b"[1]", b"[null]", r"None instead of 1 at \$\[0\]"),
        (b"[1]", b"no json", "the answer is not JSON"),
        (b"[1]", b"[" * 100_000, "the answer is not JSON"),
        (b"[1]", b'["\xff"]', "the answer is not JSON"),
        (b'{"a": 1}', b'{"\xff": 1}', "the answer is not JSON"),
        (b'{"a": 1}', b'{"' + b"b" * 1_000_000 + b'": 1}', r"keys \['b+"),
        (b'["a"]', b'["' + b"b" * 1_000_000 + b'"]', r"'b+"),
        (b"[1]", b"[[]" + b",[]" * 1_000_000 + b"]", "is not compared value by value"),
        (b"[1]", b'[{"": 0}' + b',{"": 0}' * 500_000 + b"]", "is not compared value by value"),
        (b"[1]", b"[0" + b",0" * 3_000_000 + b"]", "is not compared value by value"),
        (b"[1.0]", b"[1" + b"0" * 400 + b"]", r"10+ instead of 1\.0 at \$\[0\]"),
    ],
)
def test_wrong_answers_are_named(reference, answer, said):
    """A wrong answer is one short difference with the place where it stands; no answer makes the comparison fail."""
    (difference,) = differences(sample(reference), 200, answer)

    assert len(difference) < 250
    assert re.search(said, difference), difference


@pytest.mark.parametrize(
    ("rule", "reference", "answer", "right"),
    [
        (Numeric(absolute=0.5, relative=0), b"0", b"0.5", True),  # near nothing, only the absolute one can hold
        (Numeric(absolute=0.5, relative=0), b"0", b"0.51", False),
        (Numeric(absolute=0, relative=0.5), b"-10", b"-15", True),
        (Numeric(absolute=0, relative=0.5), b"-10", b"-15.1", False),  # of the answer it would be 7.55
        (Numeric(absolute=0, relative=0.5), b"10", b"5", True),  # of the answer it would be 2.5
        (Numeric(absolute=0, relative=0.5), b"0", b"0.000001", False),
        (Numeric(absolute=1, relative=0.5), b"10", b"16", True),  # both together
        (Numeric(absolute=1, relative=0.5), b"10", b"16.1", False),
    ],
)
def test_tolerances_are_the_references(rule, reference, answer, right):
    """An answer may be off by the absolute tolerance and so much of the reference, never so much of itself."""
    assert (differences(sample(reference, rule), 200, answer) == []) is right


@pytest.mark.parametrize("rule", [Numeric(), TopK(field="", k=1_000_000)])
def test_no_answer_costs_many_times_its_size_to_compare(rule):
    """An agent on a small device compares what a module answers, which may be up to 32 MiB of anything."""
    for answer in (b"[[]" + b",[]" * 10_000_000 + b"]", b"[0" + b",0" * 15_000_000 + b"]"):
        tracemalloc.start()
        try:
            (difference,) = differences(sample(b"[1]", rule), 200, answer)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        assert "not compared value by value" in difference
    (difference,) = differences(sample(b"[1]", rule), 200, b"[2" + b",0" * 1_000_000 + b"]")
    assert len(difference) < 250


def test_status_counts_first():
    """Another status is the difference, whatever the body."""
    assert differences(sample(b"{}"), 500, b"{}") == ["one: status 500 instead of 200: b'{}'"]
    assert differences(sample(b"bad", Exact(), status=400), 400, b"bad") == []


def test_exact_means_bytes():
    """An exact sample takes the same bytes and no equivalent JSON."""
    assert differences(sample(b"[1]", Exact()), 200, b"[1]") == []
    assert differences(sample(b"[1]", Exact()), 200, b"[1.0]") == ["one: b'[1.0]' instead of b'[1]'"]


@pytest.mark.parametrize(
    ("rule", "reference", "answer", "right"),
    [
        (TopK(field=""), b"[0.1, 0.9]", b"[0.4, 0.6]", True),
        (TopK(field=""), b"[0.1, 0.9]", b"[0.6, 0.4]", False),
        (TopK(field="scores.0", k=2), b'{"scores":[[3,2,1]]}', b'{"scores":[[2,3,1]]}', True),
        (TopK(field="scores.0", k=2), b'{"scores":[[3,2,1]]}', b'{"scores":[[3,1,2]]}', False),
        (TopK(field="scores"), b'{"scores":[1,2]}', b"{}", False),
        (TopK(field="scores"), b'{"scores":[1,2]}', b'{"scores":null}', False),
        (TopK(field="scores"), b'{"scores":[1,2]}', b'{"scores":["a","b"]}', False),
        (TopK(field="scores.x"), b'{"scores":[1,2]}', b'{"scores":[1,2]}', False),
    ],
)
def test_top_k_compares_the_best_indices(rule, reference, answer, right):
    """A top-k sample asks for the same best indices, whatever their scores; an answer without scores is wrong."""
    assert (differences(sample(reference, rule), 200, answer) == []) == right
