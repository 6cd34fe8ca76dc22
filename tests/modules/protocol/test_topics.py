"""Topics: built and parsed in one place."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.errors import Invalid
from modules.protocol.topics import PREFIX, Topics
from tests.modules.documents import DEVICES, DIGESTS

LEVELS = st.lists(st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True), min_size=1, max_size=4)
PREFIXES = st.lists(st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True), min_size=1, max_size=3).map("/".join)


@given(prefix=PREFIXES, device=DEVICES, direction=st.sampled_from(["up", "down"]), rest=LEVELS)
def test_topics_survive(prefix, device, direction, rest):
    """A topic that was built below any prefix comes apart into what it was built from."""
    topics = Topics(prefix)

    parsed = topics.parse(getattr(topics, direction)(device, *rest))

    assert parsed == (device, direction, tuple(rest))


@pytest.mark.parametrize(
    ("method", "arguments", "topic"),
    [
        ("order", (), "down/order"),
        ("ack", (), "down/ack"),
        ("blob", (7,), "down/blob/7"),
        ("blob_get", (), "up/blob/get"),
        ("report", (), "up/report"),
        ("facts", (), "up/facts"),
        ("status", (), "up/status"),
        ("renewal", (), "up/enroll"),
        ("renewed", (), "down/enroll"),
        ("telemetry", ("host",), "up/telemetry/host"),
        ("command", ("ping", "c1"), "down/cmd/ping/c1"),
        ("answer", (), "up/cmd"),
        ("all_down", (), "down/#"),
    ],
)
def test_topics_are_those_of_the_field(method, arguments, topic):
    """The topics of a device are what devices in the field use."""
    assert getattr(Topics(), method)("edge-1", *arguments) == f"{PREFIX}/edge-1/{topic}"


def test_server_hears_every_device():
    """The server's one subscription covers what all devices say, and nothing that they are told."""
    assert Topics("a/b").all_up() == "a/b/+/up/#"


def test_every_topic_method_is_pinned_above():
    """A topic added to the class is added to the list above too."""
    pinned = {
        mark.args[1][i][0] for mark in test_topics_are_those_of_the_field.pytestmark for i in range(len(mark.args[1]))
    }
    public = {name for name, _ in inspect.getmembers(Topics, inspect.isfunction) if not name.startswith("_")}

    assert public - pinned == {
        *("down", "up", "all_up", "parse", "retained", "shared_blob", "of_shared_blob"),
        *("claim_up", "claim_down", "all_claims", "of_claim"),  # tests/deploy/test_broker_claims.py
    }


def test_what_the_broker_keeps_of_a_device():
    """These are cleared when the device is removed: what was retained under them would greet its successor."""
    topics = Topics()
    kept = (topics.order("edge-1"), topics.report("edge-1"), topics.facts("edge-1"), topics.status("edge-1"))
    streams = tuple(topics.telemetry("edge-1", stream) for stream in ("host", "gateway", "modules"))

    # No honest device retains a request for a certificate or an answer, but it could.
    assert topics.retained("edge-1") == (*kept, topics.renewal("edge-1"), topics.answer("edge-1"), *streams)


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a/+", "#", "$share/x", "a\0b"])
def test_refuses_prefixes_that_mean_something_else(prefix):
    """A prefix with a wildcard, an empty level or a share group is refused."""
    with pytest.raises(Invalid, match="not a valid topic prefix"):
        Topics(prefix)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        PREFIX,
        f"{PREFIX}/edge-1",
        f"{PREFIX}/edge-1/sideways/report",
        f"{PREFIX}/EDGE/up/report",
        f"{PREFIX}/_shared/down/blob",
        f"{PREFIX}x/edge-1/up/report",
        f"other/{PREFIX}/edge-1/up/report",
    ],
)
def test_refuses_foreign_topics(topic):
    """A topic of another prefix, of no device or in no direction is refused."""
    with pytest.raises(Invalid):
        Topics().parse(topic)


@given(prefix=PREFIXES, digest=DIGESTS)
def test_the_topic_for_all_who_pull_a_blob_survives(prefix, digest):
    """It stands beside the devices, where no device's name can be, and names its blob."""
    topics = Topics(prefix)
    topic = topics.shared_blob(digest)

    assert topic == f"{prefix}/_shared/blob/{digest}"
    assert topics.of_shared_blob(topic) == digest
    with pytest.raises(Invalid):
        topics.parse(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        f"{PREFIX}/_shared/blob/",
        f"{PREFIX}/_shared/blob/latest",
        f"{PREFIX}/_shared/other/sha256:{'a' * 64}",
        f"{PREFIX}/_shared/blob/sha256:{'a' * 64}/more",
        f"other/{PREFIX}/_shared/blob/sha256:{'a' * 64}",
        f"{PREFIX}/edge-1/down/blob/1",
    ],
)
def test_no_other_topic_is_a_blobs(topic):
    """Anything else below the shared branch, or beside it, names no blob."""
    assert Topics().of_shared_blob(topic) is None
