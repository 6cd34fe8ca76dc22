"""What is written on the command line means one thing, or is refused."""

import pytest

from fleet.client import arguments
from fleet.client.commands import fallback_options
from modules.errors import Invalid
from modules.settable import Adjustable


def test_pairs_are_split_at_the_first_equals_sign():
    """A value may hold an equals sign itself."""
    assert arguments.pairs(["a=1", "b=x=y", "c="], option="--tag") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("words", [["a"], ["=1"], ["a=1", "a=2"]])
def test_pairs_that_are_none_are_refused(words):
    """Neither a missing key nor a second value is guessed away."""
    with pytest.raises(Invalid, match=r"has no key|twice"):
        arguments.pairs(words, option="--tag")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("15m", 900), ("24h", 86400), ("7d", 604800)])
def test_durations_have_units(text, seconds):
    """Seconds, minutes, hours and days can be written."""
    assert arguments.seconds(text, option="--expires") == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1w", "1h30m", "1e3"])
def test_other_durations_are_refused(text):
    """What is not a duration is an error, not zero."""
    with pytest.raises(Invalid, match="not a duration"):
        arguments.seconds(text, option="--expires")


def test_adjustable_settings_have_bounds_or_choices():
    """A number is bounded below and above, a word chosen from a list."""
    words = ["probation_s=60:10:600", "score_timeout_ms=1000::5000", "log_level=info:debug:info"]

    assert arguments.adjustable(words, option="--adjustable") == {
        "probation_s": Adjustable(default=60.0, minimum=10.0, maximum=600.0),
        "score_timeout_ms": Adjustable(default=1000.0, maximum=5000.0),
        "log_level": Adjustable(default="info", choices=("debug", "info")),
    }


def test_hosts_of_fallbacks_are_hosts():
    """Each is a name, an address, or one name below a name; a repeated one counts once."""
    words = ["api.example.org", "*.example.org", "192.0.2.1", "[2001:db8::1]", "api.example.org"]

    assert arguments.fallback_hosts(words, option="--fallback-host") == tuple(words[:-1])


@pytest.mark.parametrize(
    "word",
    ["", "*", "*.", "*.*.example.org", "a.*.org", "https://example.org", "example.org:443", "example.org/score",
     "Example.org", "user@example.org", "example.org ", "example.org\n", "*.[2001:db8::1]", "-a.example", "a\x00"],
)  # fmt: skip
def test_what_is_no_host_would_never_match_and_is_refused(word):
    """A publisher learns of it when he registers, and no operator at the first outage."""
    with pytest.raises(Invalid, match="not a valid fallback host") as error:
        arguments.fallback_hosts([word], option="--fallback-host")
    assert "*.example.org" in str(error.value)


@pytest.mark.parametrize("word", ["probation_s=60:a:b", "probation_s=60:1:2:3"])
def test_bounds_that_are_none_are_refused(word):
    """A bound that is no number does not become no bound."""
    with pytest.raises(Invalid, match="default:minimum:maximum"):
        arguments.adjustable([word], option="--adjustable")


def test_secrets():
    """A name, whether it is required, and what a new value takes."""
    words = ["a", "b:optional", "c:file", "d:signal", "e:signal:optional"]
    assert [(one.name, one.required, one.reload) for one in arguments.secrets(words, option="--secret")] == [
        ("a", True, "restart"),
        ("b", False, "restart"),
        ("c", True, "file"),
        ("d", True, "signal"),
        ("e", False, "signal"),
    ]


@pytest.mark.parametrize("word", ["A", "a:later", "a:file:signal", "../a", ""])
def test_no_secrets(word):
    """What no file can be called, or takes a value in two ways, is refused."""
    with pytest.raises(Invalid, match="is not a valid secret"):
        arguments.secrets([word], option="--secret")


def test_a_data_rule_says_which_data_and_where_they_may_go():
    """Nothing said is no rule; a kind alone lets them go anywhere; data that stay have no region."""
    assert arguments.data_rule("", (), stays=False) is None
    assert arguments.data_rule("personal", ("eu-west", "eu-west"), stays=False).regions == ("eu-west",)
    assert arguments.data_rule("personal", (), stays=False).regions is None
    assert arguments.data_rule("personal", (), stays=True).regions == ()


@pytest.mark.parametrize(
    ("kind", "regions", "stays", "says"),
    [
        ("", ("eu-west",), False, "of which data"),
        ("", (), True, "of which data"),
        ("personal", ("eu-west",), True, "stay where they are"),
        ("personal", ("EU West",), False, "write for instance eu-west"),
    ],
)
def test_a_data_rule_that_says_nothing_clear_is_refused(kind, regions, stays, says):
    """What would be signed is asked about first."""
    with pytest.raises(Invalid, match=says):
        arguments.data_rule(kind, regions, stays=stays)


def test_the_terms_of_a_fallback_are_what_was_said(tmp_path):
    """What is left out, the server says; never is no reason at all."""
    (tmp_path / "ca.pem").write_text("PEM")
    nothing = {"when": None, "ca": None, "region": None, "waiting": None}
    assert fallback_options.terms(**nothing) == {}
    said = fallback_options.terms(when="unhealthy, overloaded", ca=tmp_path / "ca.pem", region="eu", waiting=None)
    assert said == {"when": ["unhealthy", "overloaded"], "ca": "PEM", "region": "eu"}
    assert fallback_options.terms(**nothing | {"when": "never"}) == {"when": []}
    for wrong in ({"when": "sometimes"}, {"when": "never,unhealthy"}, {"ca": tmp_path / "none"}):
        with pytest.raises(Invalid):
            fallback_options.terms(**nothing | wrong)
