"""Which file becomes which."""

import pytest

from modules.errors import Invalid
from modules.triggers.paths import Paths


@pytest.mark.parametrize(
    ("given", "answers", "name", "output"),
    [
        ("input/{blobname}.json", "output/{blobname}_out.json", "a.b.json", "output/a.b_out.json"),
        ("{name}.json", "done/{name}.json", "x.json", "done/x.json"),
        ("in/{site}-{day}.csv", "out/{day}/{site}.json", "north-mon.csv", "out/mon/north.json"),
        ("in/{name}", "out/{name}", "{name}", "out/{name}"),
        ("in/{name}.json", "out/{name}.json", "a\nb.json", "out/a\nb.json"),
    ],
)
def test_an_input_has_its_output(given, answers, name, output):
    """The parts in braces are carried over as they are."""
    assert Paths(given, answers).output_of(name) == output


@pytest.mark.parametrize("name", ["x.txt", ".x.json", ".json", "x.json.partial", "x.json\n"])
def test_what_does_not_fit_is_no_input(name):
    """Other endings, and whatever begins with a dot, are left alone."""
    assert Paths("in/{name}.json", "out/{name}.json").output_of(name) is None


@pytest.mark.parametrize(
    ("given", "answers", "element", "said"),
    [
        ("input/x.json", "output/{name}.json", "input_path", "braces"),
        ("{folder}/{name}.json", "output/{name}.json", "input_path", "braces"),
        ("input/{name}-{name}.json", "output/{name}.json", "input_path", "twice"),
        ("input/{name}.json", "output/same.json", "output_path", "told apart"),
        ("input/{name}.json", "output/{other}.json", "output_path", "told apart"),
        ("/input/{name}.json", "output/{name}.json", "input_path", "below the folder"),
        ("input/{name}.json", "../{name}.json", "output_path", "below the folder"),
        ("input/{name}.json", "input/{name}_out.json", "output_path", "an input again"),
        ("{name}.json", "./{name}_out.json", "output_path", "an input again"),
        ("input/{na me}.json", "output/{na me}.json", "input_path", "do not fit"),
        ("", "output/{name}.json", "input_path", "below the folder"),
    ],
)
def test_what_cannot_be_is_said(given, answers, element, said):
    """With the argument's name: an output that overwrites others, leads out, or feeds itself."""
    with pytest.raises(Invalid, match=said) as caught:
        Paths(given, answers)

    assert caught.value.element == element
    assert caught.value.remedy
