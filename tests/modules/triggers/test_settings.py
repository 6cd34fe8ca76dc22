"""What the trigger is told by the variables of its container."""

import pytest

from modules.errors import BadSettings
from modules.triggers.settings import address, is_covered, read

FOLDER = {
    "EDGEFLEET_TRIGGER": "folder",
    "EDGEFLEET_TRIGGER_INPUT": "in/{name}.json",
    "EDGEFLEET_TRIGGER_OUTPUT": "out/{name}.json",
}
TOPIC = {
    "EDGEFLEET_TRIGGER": "topic",
    "EDGEFLEET_TRIGGER_INPUT": "site/in",
    "EDGEFLEET_TRIGGER_OUTPUT": "site/out",
    "EDGEFLEET_TRIGGER_BROKER": "mqtts://me@broker.example",
}


def test_variables_become_settings():
    """Numbers are numbers, and what is not said has its usual value."""
    settings = read(FOLDER | {"EDGEFLEET_TRIGGER_SETTLE_S": "2.5"})

    assert (settings.settle_s, settings.data, settings.port) == (2.5, "/data", 5001)
    found = address(read(TOPIC).broker)
    assert (found.host, found.port, found.tls, found.user) == ("broker.example", 8883, True, "me")


@pytest.mark.parametrize(
    ("given", "element"),
    [
        ({}, "environment"),
        (FOLDER | {"EDGEFLEET_TRIGGER": "timer"}, "EDGEFLEET_TRIGGER"),
        (FOLDER | {"EDGEFLEET_TRIGGER_SETTLE_S": "soon"}, "environment"),
        (FOLDER | {"EDGEFLEET_TRIGGER_PORT": "0"}, "environment"),
        (FOLDER | {"EDGEFLEET_ACCESS_FILE": "/keys"}, "EDGEFLEET_ACCESS_FILE"),
        (FOLDER | {"EDGEFLEET_TLS_KEY": "/key"}, "EDGEFLEET_TLS_KEY"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_BROKER": ""}, "EDGEFLEET_TRIGGER_BROKER"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_BROKER": "mqtt://me:secret@host"}, "EDGEFLEET_TRIGGER_BROKER"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_BROKER": "http://host"}, "EDGEFLEET_TRIGGER_BROKER"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_BROKER": "mqtt://host:none"}, "EDGEFLEET_TRIGGER_BROKER"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_OUTPUT": "site/+"}, "EDGEFLEET_TRIGGER_OUTPUT"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_INPUT": "site/#"}, "EDGEFLEET_TRIGGER_OUTPUT"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_INPUT": "site/out/+"}, "EDGEFLEET_TRIGGER_OUTPUT"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_CERTIFICATE": "/a"}, "EDGEFLEET_TRIGGER_CERTIFICATE"),
        ({**TOPIC, "EDGEFLEET_TRIGGER_CA": "/none.pem"}, "EDGEFLEET_TRIGGER_CA"),
    ],
)
def test_what_cannot_be_used_is_named(given, element):
    """By its variable, with what to do; and a password is not repeated."""
    with pytest.raises(BadSettings) as caught:
        read(given)

    assert caught.value.element == element
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("topic", "by", "covered"),
    [
        ("a/b", "a/b", True), ("a/b", "a/+", True), ("a/b", "#", True), ("a", "a/#", True), ("a/b/c", "a/+", False),
        ("a/b", "a/b/c", False), ("a/b", "$share/g/a/+", True), ("a/b", "b/+", False),
    ],
)  # fmt: skip
def test_a_subscription_covers_topics(topic, by, covered):
    """By MQTT's wildcards, shared or not."""
    assert is_covered(topic, by) is covered
