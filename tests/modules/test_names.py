"""Names that travel: what passes the door, and the order of versions."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules import names
from modules.errors import Invalid
from modules.names import DeviceField, DigestField, ModuleRef, SlugField, Version

SLUGS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
NUMBERS = st.lists(st.integers(0, 999_999_999), min_size=1, max_size=4)
REFS = st.builds(
    lambda team, name, numbers: ModuleRef.parse(f"{team}/{name}:{'.'.join(map(str, numbers))}"), SLUGS, SLUGS, NUMBERS
)
DOORS = [
    pytest.param(names.slug, SlugField, id="slug"),
    pytest.param(names.device_id, DeviceField, id="device"),
    pytest.param(names.digest, DigestField, id="digest"),
]


def passes(read):
    try:
        read()
    except (Invalid, msgspec.ValidationError):
        return False
    return True


@pytest.mark.parametrize(("function", "field"), DOORS)
@given(text=st.one_of(SLUGS, st.text(max_size=70), st.from_regex(r"^sha256:[0-9a-f]{64}$"), st.from_regex(r"^[a-z]+$")))
def test_field_and_function_agree(function, field, text):
    """A document's field takes exactly the names that the function takes."""
    assert passes(lambda: function(text)) == passes(lambda: msgspec.convert(text, field))


@pytest.mark.parametrize(("function", "field"), DOORS)
@pytest.mark.parametrize(
    "text", ["edge-1\n", "sha256:" + "0" * 64 + "\n", "", "-a", "A", "ä", "a/b", "a:b", "a_b", "+", "#"]
)
def test_refuses_what_would_need_escaping(function, field, text):
    """No name has a separator, a wildcard, a capital or a newline at its end."""
    with pytest.raises(Invalid, match=r"use|write"):
        function(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, field)


@given(ref=REFS)
def test_reference_survives_text_and_target_path(ref):
    """A module reference comes back from its text and from its TUF target path, unchanged."""
    assert str(ModuleRef.parse(str(ref))) == str(ref)
    assert str(ModuleRef.from_target(ref.target)) == str(ref)


@pytest.mark.parametrize(
    "text",
    ["digits:3", "acme/digits", "acme/digits:", "acme/digits:v3", "acme/digits:3:4", "acme/x/digits:3", "a/b:3\n"],
)
def test_refuses_what_is_no_reference(text):
    """A reference without team, name and numeric version is refused."""
    with pytest.raises(Invalid):
        ModuleRef.parse(text)


@pytest.mark.parametrize(
    "path",
    ["modules/acme/digits/3", "floors/acme/digits/3.json", "modules/acme/x/digits/3.json", "modules/../b/3.json"],
)
def test_refuses_foreign_target_paths(path):
    """A target path outside modules/<team>/<name>/<version>.json is no module's."""
    with pytest.raises(Invalid):
        ModuleRef.from_target(path)


@given(one=NUMBERS, other=NUMBERS)
def test_versions_order_as_numbers(one, other):
    """Versions compare as their numbers, missing ones being zero."""
    first, second = (Version.parse(".".join(map(str, numbers))) for numbers in (one, other))
    padded = [numbers + [0] * (4 - len(numbers)) for numbers in (one, other)]

    assert (first < second) == (padded[0] < padded[1])
    assert (first == second) == (padded[0] == padded[1])
    assert first != second or hash(first) == hash(second)


def test_ten_comes_after_nine():
    """Version 1.10 is newer than 1.9, and 1.0 is 1."""
    assert Version.parse("1.10") > Version.parse("1.9")
    assert Version.parse("1.10") >= Version.parse("1.9")
    assert Version.parse("1.9") <= Version.parse("1.9.0")
    assert Version.parse("1.0") == Version.parse("1")
    assert Version.parse("1") != "1"


@pytest.mark.parametrize("text", ["", "v1", "01", "1.", "1.2.3.4.5", "1.-2", "latest", "1\n", "1234567890"])
def test_refuses_what_is_no_version(text):
    """A tag, a leading zero or a fifth number is no version."""
    with pytest.raises(Invalid, match="not a valid version"):
        Version.parse(text)


@pytest.mark.parametrize("path", ["model/digits.onnx", "a", "source/my file (1).py", "x" * 200])
def test_takes_plain_paths(path):
    """Relative paths of ordinary characters are taken as they are."""
    assert names.module_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".env", "a/.git", "a\\b", "a\0b", "a\n", "x" * 201, "x/" * 250],
)
def test_refuses_paths_that_could_leave_the_module(path):
    """Absolute, climbing, hidden, empty or overlong parts are refused."""
    with pytest.raises(Invalid, match="not a valid path inside a module"):
        names.module_path(path)


@pytest.mark.parametrize("text", ["score", "metrics", "v2"])
def test_no_slot_hides_the_addresses_of_an_only_slot(text):
    """A slot cannot be called like a part of the scoring address."""
    with pytest.raises(Invalid, match="another name"):
        names.slot_name(text)
    assert names.slug(text) == text
