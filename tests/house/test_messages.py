"""The page of all messages has what people are really shown, whichever way the code puts it together."""

import re

import pytest

from agent.engines.contract import check_socket
from fleet.client.signing.keys import init
from fleet.selectors import parse
from modules.errors import EdgefleetError
from modules.names import ModuleRef, slug
from tests.house import messages
from tests.house.tree import ROOT


def known(error):
    """What the page says of an error that was really raised."""
    return [
        one
        for one in messages.messages()
        if error.code == one.code and matches(one.text, error.message) and matches(one.remedy, error.remedy)
    ]


def matches(template, text):
    return re.fullmatch(".+".join(map(re.escape, re.split(r"<[^<>]*>", template))), text) is not None


REAL = {
    "a name": lambda: slug("No Name", what="team"),
    "a module": lambda: ModuleRef.parse("acme"),
    "a selector": lambda: parse("site=="),
    "a socket's path": lambda: check_socket(ROOT / ("x" * 200)),
    "keys without a passphrase": lambda: init(ROOT / "no", teams=[], online=None, passphrase=None, now=None),
    "keys with a short one": lambda: init(ROOT / "no", teams=[], online=None, passphrase="short", now=None),
}


@pytest.mark.parametrize("raises", REAL.values(), ids=REAL)
def test_an_error_that_was_really_raised_is_on_the_page(raises):
    """Its message and its remedy are found by the words that are printed."""
    with pytest.raises(EdgefleetError) as raised:
        raises()

    assert known(raised.value) != []


@pytest.mark.parametrize(
    ("who", "text"),
    [
        ("The device", "did not answer within 60 s"),  # a constant's value
        ("The device", "its instance is gone from the engine"),  # a reason that is no exception
        ("The edgefleet command", "it has this image already"),  # one of two
        ("Any program that reads or checks the same thing", "no runtime for <platform> (offers: <offered>)"),
        ("Any program that reads or checks the same thing", "the order is for <device>, and this is <own>"),
        ("The fleet server", "the server failed; its log says where"),
        ("The fleet server", "you started this rollout, and another person has to let it go on"),  # words within others
        ("The scoring server", "cannot listen for gRPC"),
    ],
)
def test_a_message_is_found_wherever_it_is_written(who, text):
    """Constants have their value, alternatives are two messages, and functions are followed: given it, or answering."""
    assert text in {one.text for one in messages.messages() if one.who == who}


def test_what_a_place_says_stays_together():
    """A function that is given a message's words and its remedy: each place's own, and not another's."""
    asked = {one for one in messages.messages() if one.text.startswith("you started this rollout, and")}

    assert {
        (one.text.partition("has to ")[2], one.remedy.partition("have ")[2].partition(";")[0]) for one in asked
    } == {
        ("approve it", "rollout:approve"),
        ("let it go on", "rollout:write"),
    }


def test_the_page_can_be_searched():
    """Each message stands in one line, however long, with its code below."""
    lines = messages.shown().splitlines()

    assert {line for line in lines if line.startswith("- `")} == {
        f"- `{messages._plain(one.text)}`" for one in messages.messages()
    }
    assert all(re.match(r"- `|  [a-z<]|  → `|### |$", line) for line in lines)


def test_values_are_named_in_words():
    """No message shows Python where a value stands."""
    assert not [one for one in messages.messages() if re.search(r"<[^>]*(\(|lambda|\[)", one.text)]
