"""A site's own broker: mosquitto with TLS, a password and a list of rights, and an application that uses it."""

import getpass
import json
import shutil
import subprocess
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.parts.certificates import self_signed
from tests.parts.mosquitto import free_port
from tests.parts.presence import program as installed
from tests.parts.programs import Program

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

    def end(self):
        if self.client is not None:
            self.client.disconnect()
            self.client.loop_stop()
        if self.broker.runs:
            self.broker.stop()

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
