"""Selectors: what they match, what they refuse, and that their text says all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.selectors import Selector, Term, check_labels, parse
from modules.errors import Invalid

KEYS = st.from_regex(r"[a-z0-9]([a-z0-9._/-]{0,10}[a-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)
TERMS = st.one_of(
    st.builds(lambda key, op, value: Term(key, op, (value,)), KEYS, st.sampled_from(["=", "!="]), VALUES),
    st.builds(lambda key, values: Term(key, "in", tuple(values)), KEYS, st.lists(VALUES, min_size=1, max_size=4)),
)
LABELS = {
    "site": "berlin", "ring": "canary", "arch": "arm64", "host.memory_mb": "4096", "agent.version": "1.10.2",
    "host.provider": frozenset(["CPUExecutionProvider", "CUDAExecutionProvider"]), "host.accelerator": frozenset(),
}  # fmt: skip


@given(st.lists(TERMS, max_size=5))
def test_a_selector_written_and_read_is_the_same(terms):
    """Round trip for every selector that can exist."""
    selector = Selector(tuple(terms))
    assert parse(str(selector)) == selector


@given(st.lists(TERMS, max_size=5), st.dictionaries(KEYS, VALUES, max_size=5))
def test_a_selector_matches_exactly_if_every_term_does(terms, labels):
    """The comma means "and", for any terms and labels."""
    assert Selector(tuple(terms)).matches(labels) == all(term.matches(labels) for term in terms)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("*", True),
        ("site=berlin", True),
        ("site=paris", False),
        ("site!=paris", True),
        ("site!=berlin", False),
        ("missing!=x", True),
        ("missing=x", False),
        ("arch in (arm64, amd64)", True),
        ("arch in (amd64)", False),
        ("missing in (a)", False),
        (" site = berlin , ring=canary ", True),
        ("site=berlin,ring=stable", False),
        ("host.memory_mb>=4096", True),
        ("host.memory_mb>4096", False),
        ("host.memory_mb<4096", False),
        ("host.memory_mb<=4096", True),
        ("host.memory_mb > 512, host.memory_mb < 10000", True),
        ("agent.version>=1.9", True),
        ("agent.version<1.10.3", True),
        ("agent.version>=2", False),
        ("site>=1", False),
        ("missing>=0", False),
        ("host.provider=CUDAExecutionProvider", True),
        ("host.provider!=CUDAExecutionProvider", False),
        ("host.provider in (ROCMExecutionProvider,CPUExecutionProvider)", True),
        ("host.accelerator=cuda", False),
        ("host.accelerator!=cuda", True),
    ],
)
def test_terms_mean_what_they_say(text, matches):
    """Equal, unequal (which holds where the key is missing), in a list, and all together."""
    assert parse(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    ["", "  ", "site", "site=", "=x", "site==x", "site=a b", "*,site=x", "site=x,", "site=x,,ring=y", "a in ()",
     "a in (x", "a in x", "a in (x,)", "site=x ring=y", "Site=x", "a" * 3000, "a>=x", "a>=", "a=>1", "a>=1.2.3.4.5",
     "host.humidity=1", "agent.name=x", "host.memory_mb>=-1", "host.memory_mb>=" + "9" * 400],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text):
    """An unreadable selector never silently means all devices, or none."""
    with pytest.raises(Invalid, match="selector"):
        parse(text)


@pytest.mark.parametrize(
    "labels",
    [{"host.arch": "x"}, {"agent.x": "y"}, {"id": "x"}, {"Site": "x"}, {"site": ""}, {"site": "a b"}, {"a": "x" * 64}],
)
def test_a_label_that_no_selector_could_name_is_refused(labels):
    """Labels and selectors have one grammar; ``id`` is always the device's own."""
    with pytest.raises(Invalid):
        check_labels(labels)


def test_labels_have_a_bound():
    """64 labels are accepted, 65 are not."""
    many = {f"key{i}": "x" for i in range(64)}
    assert check_labels(many) == many
    with pytest.raises(Invalid, match="64"):
        check_labels(many | {"more": "x"})
