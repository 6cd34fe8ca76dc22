"""The real agent, months after it has enrolled: its certificate is renewed while it runs, and nobody has to come."""

import datetime as dt
import json
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.identity import CERTIFICATE, KEY, PAIR
from fleet import revocation
from fleet.authority import Authority
from fleet.db import Database
from tests.agent.renewing import serial
from tests.parts.on_device import OnDevice
from tests.parts.system import TEAM, System

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto"), pytest.mark.timeout(300)]
LIFE = dt.timedelta(days=90)
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def system():
    """Broker, server and keys; without an engine, for nothing is started here."""
    with tempfile.TemporaryDirectory(prefix="efr-") as folder:
        fleet = System(Path(folder))
        try:
            fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
            fleet.cli("keys", "init", fleet.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
            yield fleet
        finally:
            fleet.close()


def aged(system, name, days):
    """A device that enrolled so many days ago: the fleet's own CA made its certificate then."""
    device = OnDevice(system, name, engine="/nonexistent.sock")
    device.enroll()
    identity = device.state / "identity"
    key = serialization.load_pem_private_key((identity / KEY).read_bytes(), None)
    authority = Authority.load(system.data.ca, lambda: time.time() - days * DAY_S)
    made = authority.device(device.name, key.public_key(), LIFE)
    (identity / CERTIFICATE).write_bytes(made)
    database = Database.at(system.data.database)
    with database.write() as connection:
        revocation.issued(connection, device.name, made.decode(), time.time() - days * DAY_S)
    database.close()
    return device, identity


@contextmanager
def stopping(device):
    """Its agent ends with this."""
    try:
        yield
    finally:
        device.agent.stop()


def starts(system, device):
    device.agent.start(ready=lambda: system.api(f"devices/{device.name}")["online"])


def test_a_device_renews_after_months_and_is_the_same_to_everybody(system):
    """Its process goes on, its reports are taken, its status names the new end; the events name the renewal."""
    device, identity = aged(system, "dev-months", 70)
    before = serial(identity)
    with stopping(device):
        starts(system, device)
        pid = device.agent.pid
        device.until((identity / PAIR).exists, "a renewed pair")
        device.until(
            lambda: system.api(f"devices/{device.name}")["certificate"]["serial"] == serial(identity) != before,
            "the server knows it",
        )
        assert device.agent.pid == pid
        assert device.agent.runs
        shown = system.api(f"devices/{device.name}")["certificate"]
        assert shown["ends"] > time.time() + 89 * DAY_S
        assert json.loads(device.command("status", "--json"))["certificate"]["ends"] == shown["ends"]
    said = {one["kind"] for one in system.api("events") if one["device"] == device.name}
    assert "certificate-renewed" in said
    assert not said & {"forged-message", "renewal-refused"}


def test_a_renewal_waits_for_the_network(system):
    """Without a broker nothing is lost; when it is back the device connects with what it has, and renews."""
    device, identity = aged(system, "dev-waits", 70)
    system.kill_broker()
    try:
        device.agent.start(ready=lambda: "broker lost" in device.agent.said())
        assert not (identity / PAIR).exists()
    finally:
        system.start_broker()
    with stopping(device):
        device.until((identity / PAIR).exists, "a renewed pair")
        device.until(
            lambda: system.api(f"devices/{device.name}")["certificate"]["serial"] == serial(identity),
            "the server knows it",
        )


def test_a_young_certificate_is_left_alone(system):
    """A device that enrolled a month ago asks for nothing."""
    device, identity = aged(system, "dev-young", 30)
    with stopping(device):
        starts(system, device)
        device.until(lambda: system.report(device.name), "a report")
        time.sleep(1.0)
        assert not (identity / PAIR).exists()
