"""Messages in and out through a real broker, with TLS and a password, and whatever breaks on the way."""

import getpass
import json
import shutil
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.parts.certificates import self_signed
from tests.parts.mosquitto import free_port
from tests.parts.presence import program as installed
from tests.parts.programs import Program, until

pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.timeout(180)]

PASSWORD = "only for the tests"


class Site:
    """A site's own broker, which can be started again at the same port, and an application that uses it."""

    def __init__(self, folder):
        folder.mkdir()
        self.port, self.folder = free_port(), folder
        self_signed(folder / "ca.pem", folder / "key.pem", "localhost")
        (folder / "password").write_text(f"{PASSWORD}\n")
        subprocess.run([shutil.which("mosquitto_passwd"), "-b", "-c", folder / "passwords", "me", PASSWORD], check=True)
        (folder / "acl").write_text("user me\ntopic readwrite site/#\n")
        lines = [
            f"listener {self.port} 127.0.0.1", f"cafile {folder}/ca.pem", f"certfile {folder}/ca.pem",
            f"keyfile {folder}/key.pem", "allow_anonymous false", f"password_file {folder}/passwords",
            f"acl_file {folder}/acl", f"user {getpass.getuser()}", "persistence true",
            f"persistence_location {folder}/",
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        command = [installed("mosquitto"), "-c", folder / "mosquitto.conf", "-v"]
        self.broker = Program("mosquitto", command, folder / "log")
        self.got, self._lock = [], threading.Lock()
        self.client = None

    def start(self):
        self.broker.start(lambda: "running" in self.broker.said())

    def meet(self):
        """The application: what it is sent, with the mark it is known by."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "application", protocol=mqtt.MQTTv5)
        client.username_pw_set("me", PASSWORD)
        client.tls_set(str(self.folder / "ca.pem"))
        client.on_connect = lambda client, *_: client.subscribe([("site/out", 1), ("site/out/poison", 1)])
        subscribed = threading.Event()
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._take
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 3600
        client.connect("localhost", self.port, clean_start=False, properties=kept)
        client.loop_start()
        assert subscribed.wait(20)
        self.client = client

    def _take(self, _client, _data, message):
        mark = getattr(message.properties, "CorrelationData", None)
        with self._lock:
            self.got.append((message.topic, json.loads(message.payload), mark))

    def send(self, text, *, mark=None, topic="site/in/one"):
        properties = Properties(PacketTypes.PUBLISH)
        if mark:
            properties.CorrelationData = mark
        self.client.publish(topic, text, qos=1, properties=properties).wait_for_publish(20)

    def variables(self):
        return {
            "EDGEFLEET_TRIGGER": "topic", "EDGEFLEET_TRIGGER_INPUT": "site/in/+",
            "EDGEFLEET_TRIGGER_OUTPUT": "site/out",
            "EDGEFLEET_TRIGGER_BROKER": f"mqtts://me@localhost:{self.port}", "EDGEFLEET_TRIGGER_CLIENT": "trigger",
            "EDGEFLEET_TRIGGER_CA": str(self.folder / "ca.pem"),
            "EDGEFLEET_TRIGGER_PASSWORD_FILE": str(self.folder / "password"),
        }  # fmt: skip


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "site")
    (tmp_path / "data").mkdir()
    made.start()
    made.meet()
    yield made
    made.client.disconnect()
    made.client.loop_stop()
    if made.broker.runs:
        made.broker.stop()


def connected(program):
    return lambda: "connected to the broker" in program.said()


def arrived(site, program, wanted):
    return until(
        lambda: [one for one in site.got if one[:2] == wanted], f"{wanted} came", within_s=40, said=program.said
    )


def test_a_message_is_answered_and_acknowledged(site, trigger, counts):
    """Over TLS, with a password, the sender's mark carried over; what was answered does not come again."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send("[1, 2]", mark=b"order-7")
    site.send("[3]")
    arrived(site, program, ("site/out", [6]))
    program.stop()
    again = trigger(**site.variables())
    again.start(connected(again))
    site.send("[4]")
    arrived(site, again, ("site/out", [8]))

    assert site.got == [("site/out", [2, 4], b"order-7"), ("site/out", [6], None), ("site/out", [8], None)]
    assert counts() == ["[1, 2]", "[3]", "[4]"]


def test_what_comes_while_it_is_away_is_answered(site, trigger):
    """The broker keeps the session and its messages."""
    program = trigger(**site.variables())
    program.start(connected(program))
    program.stop()
    site.send("[5]")
    site.send("[5]")
    again = trigger(**site.variables())
    again.start(connected(again))

    until(lambda: len(site.got) == 2, "both came", within_s=40, said=again.said)
    assert site.got == [("site/out", [10], None)] * 2


def test_it_goes_on_when_the_broker_is_back(site, trigger):
    """A broker that ends and starts again, with messages that nobody has acknowledged yet."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.broker.stop()
    site.start()
    until(lambda: program.said().count("connected to the broker") == 2, "again", within_s=60, said=program.said)
    until(site.client.is_connected, "the application, too", within_s=60)
    site.send("[6]")

    arrived(site, program, ("site/out", [12]))


def test_poison_goes_to_a_topic_of_its_own(site, trigger, counts):
    """With the reason and the message; what ends the server is tried three times, across starts, and then given up."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send('"wrong"', mark=b"w")
    site.send('"ends"')
    site.send("[7]")
    until(lambda: not program.runs, "it ends", within_s=40, said=program.said)
    for _ in range(2):
        program = trigger(**site.variables())
        program.start(connected(program))
        until(lambda program=program: not program.runs, "it ends", within_s=40, said=program.said)
    program = trigger(**site.variables())
    program.start(connected(program))
    arrived(site, program, ("site/out", [14]))

    poison = [(one[1]["why"], one[1]["topic"], one[1]["message"], one[2]) for one in site.got if "poison" in one[0]]
    assert poison == [
        ("the model answers 400: not like this", "site/in/one", "Indyb25nIg==", b"w"),
        ("the scoring server ended while it worked on this, 3 times", "site/in/one", "ImVuZHMi", None),
    ]
    assert counts() == ['"wrong"', '"ends"', '"ends"', '"ends"', "[7]"]


def test_a_connection_that_breaks_over_an_answer_loses_nothing(site, trigger, counts):
    """The broker ends while a message is scored: its answer comes in the next connection, and nothing is done twice."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send('"fails"')
    until(lambda: counts() == ['"fails"'], "it is worked on", within_s=30, said=program.said)
    site.broker.stop()
    time.sleep(3)  # the three tries pass while there is no broker
    site.start()
    until(site.client.is_connected, "the application is back", within_s=60)
    site.send("[8]")
    arrived(site, program, ("site/out", [16]))

    assert len([one for one in site.got if one[0] == "site/out/poison"]) == 1
    assert counts() == ['"fails"', '"fails"', '"fails"', "[8]"]


def test_what_the_broker_forbids_is_said(site, trigger):
    """A client that may not answer ends with what to do, and the message stays with the broker."""
    program = trigger(**site.variables())
    program.start(connected(program))
    (site.folder / "acl").write_text("user me\ntopic readwrite site/in/#\ntopic read site/out/#\n")
    subprocess.run(["kill", "-HUP", str(site.broker.pid)], check=True)
    until(lambda: "Reloading config" in site.broker.said(), "reloaded", within_s=20, said=site.broker.said)
    site.send("[9]")
    until(lambda: not program.runs, "it ends", within_s=40, said=program.said)
    assert "takes no answer of ours" in program.said()
    assert "Traceback" not in program.said()

    (site.folder / "acl").write_text("user me\ntopic readwrite site/#\n")
    subprocess.run(["kill", "-HUP", str(site.broker.pid)], check=True)
    again = trigger(**site.variables())
    again.start(connected(again))
    arrived(site, again, ("site/out", [18]))
