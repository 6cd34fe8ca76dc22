"""What an order may set: a fallback address that every reader takes alike, at an allowed host."""

import contextlib
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules import manifest
from modules.adjustable import check_data, check_fallback, check_settings
from modules.data_rule import DataRule
from modules.errors import Invalid
from modules.protocol.routing import Fallback
from modules.settable import Adjustable
from tests.modules.test_manifest import GOOD

HOSTS = ("cloud.example.org", "*.scoring.example.org", "[2001:db8::1]", "10.0.0.7")
GOOD_ADDRESSES = [
    "https://cloud.example.org",
    "https://cloud.example.org/",
    "https://CLOUD.example.org/digits",
    "https://eu.scoring.example.org:8443/v1/digits/score",
    "https://[2001:db8::1]:443/score",
    "https://10.0.0.7/score%20all;v=1",
]
BAD_ADDRESSES = [
    "",
    "//",
    "https:",
    "https://",
    "http://cloud.example.org/",
    "https://cloud.example.org/?key=1",
    "https://cloud.example.org/#part",
    "https://user@cloud.example.org/",
    "https://cloud.example.org@evil.test/",
    "https://cloud.example.org:99999/",
    "https://cloud.example.org:0/",
    "https://cloud.example.org:-1/",
    "https://cloud.example.org:/",
    "https://[::1",
    "https://[v1.x]/",
    "https://[1.2.3.4]/",
    "https://[:::::]/",
    "https://a..b/",
    "https://" + "x" * 64 + ".example.org/",
    "https://cloud.example.org/\n",
    "https://cloud.example.org/a b",
    "https://cloud.example.org\\@evil.test/",
    "https://cloud.example.org/\0",
    "https://cloud.example.org/\ud800",
    "https://cl\u00f6ud.example.org/",
    "https://cloud.example.org/" + "x" * 2000,
]


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_takes_addresses_of_allowed_hosts(address):
    """Host, port and path of an allowed host are taken, and the gateway takes them, too."""
    check_fallback(address, HOSTS)

    route = Fallback(url=address, cert="c", key="k", module="acme/digits:1")
    assert msgspec.json.decode(msgspec.json.encode(route), type=Fallback) == route


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_refuses_what_readers_could_take_differently(address):
    """An address with anything else in it is refused, whatever its host."""
    with pytest.raises(Invalid, match=r"fallback: .* is not a valid fallback address"):
        check_fallback(address, (*HOSTS, "evil.test"))


@pytest.mark.parametrize("host", ["evil.test", "example.org", "a.b.scoring.example.org", "scoring.example.org"])
def test_refuses_other_hosts(host):
    """A host that nobody allowed is refused; a star stands for one name."""
    with pytest.raises(Invalid, match=f"allows the host {re.escape(host)}"):
        check_fallback(f"https://{host}/", HOSTS)


@given(st.text(max_size=60) | st.text(alphabet="htps:/[]@?#.a1\\%", max_size=40).map("https://".__add__))
def test_no_text_is_more_than_refused(text):
    """Any text is taken or refused; no other error comes of it."""
    with contextlib.suppress(Invalid):
        check_fallback(text, ("a", "*.a"))


def test_settings_are_those_that_the_manifest_declares():
    """Another setting is refused by name, with those that may be set."""
    manifest = msgspec.structs.replace(GOOD, adjustable={"probation_s": Adjustable(default=1.0)})
    check_settings(manifest, {"probation_s": 2.0})
    with pytest.raises(Invalid, match=r"settings\.log_level: .*set: probation_s"):
        check_settings(manifest, {"log_level": "debug"})
    with pytest.raises(Invalid, match="set: none"):
        check_settings(GOOD, {"log_level": "debug"})


def with_data(**rule):
    return msgspec.structs.replace(GOOD, fallback_hosts=(), data=DataRule(kind="personal", **rule))


@pytest.mark.parametrize(
    ("manifest", "region"),
    [
        pytest.param(with_data(regions=("eu-west", "berlin")), "berlin", id="when the region is named it may"),
        pytest.param(with_data(regions=()), None, id="when there is no fallback nothing goes anywhere"),
        pytest.param(with_data(), "", id="when the publisher names no region it may go anywhere"),
        pytest.param(GOOD, "", id="when the publisher says nothing of the data they may go anywhere"),
    ],
)
def test_data_may_go_where_the_publisher_says(manifest, region):
    """A fallback in a region that the data rule allows is taken."""
    check_data(manifest, region)


@pytest.mark.parametrize(
    ("rule", "region", "why"),
    [
        ({"regions": ("eu-west",)}, "us-east", r"\(personal\) may go to eu-west alone, and the fallback is in us-east"),
        ({"regions": ("eu-west",)}, "", "in a region that nobody says"),
        ({"regions": ()}, "eu-west", r"\(personal\) never leave the site"),
        ({"regions": ()}, "", "never leave the site"),
    ],
)
def test_data_that_may_not_go_there_do_not(rule, region, why):
    """Another region, an unnamed one, or any where the data never leave the site: one sentence says which and why."""
    with pytest.raises(Invalid, match=why):
        check_data(with_data(**rule), region)


def test_what_stays_has_nowhere_to_go():
    """A manifest whose data never leave the site and that names hosts for a fallback contradicts itself."""
    wrong = msgspec.structs.replace(with_data(regions=()), fallback_hosts=("cloud.example.org",))
    with pytest.raises(Invalid, match="never leave the site, and there are hosts"):
        manifest.encode(wrong)
