"""The list of revoked certificates, where the server itself cannot make the broker read it: a person is told to."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import insert

from fleet import revocation
from fleet.authority import Authority
from fleet.broker_config import render
from fleet.db import Database
from fleet.folder import Folder
from fleet.revocation import PID_FILE, Revocations, revoke
from fleet.setup import initialise
from fleet.tables import certificates, devices
from modules.protocol.topics import PREFIX
from tests.parts.mosquitto import HOST, free_port
from tests.parts.presence import program

SERIAL = 0xABC
DEVICE = {"id": "dev-a", "labels": {}, "certificate": "", "public_key": "", "enrolled": 0.0, "online": False}
DEVICE |= dict.fromkeys(("boot", "facts_number", "report_number", "order_counter", "order_published"), 0)


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "data")
    initialise(made, time.time)
    return made


def published(folder):
    """Revoke the one certificate of a device; whether the broker knows of it now."""
    database = Database.at(folder.database)
    try:
        with database.write() as connection:
            connection.execute(insert(devices).values(**DEVICE))
            one = {"serial": f"{SERIAL:x}", "device": DEVICE["id"], "expires": time.time() + 1000}
            connection.execute(insert(certificates).values(**one))
            revoke(connection, time.time(), "dev-a")
            return Revocations(Authority.load(folder.ca), folder).publish(connection, time.time())
    finally:
        database.close()


def no_broker_here(place):
    pass


def no_folder(place):
    place.rmdir()


def no_pid(place):
    (place / PID_FILE).unlink(missing_ok=True)


def nonsense(place):
    (place / PID_FILE).write_text("soon")


def another_program(place):
    """Whose number is the one that mosquitto had."""
    (place / PID_FILE).write_text(str(os.getpid()))


@pytest.mark.parametrize("spoil", [no_broker_here, no_folder, no_pid, nonsense, another_program])
def test_where_the_broker_cannot_be_told_that_is_said(folder, tmp_path, spoil):
    """A broker elsewhere, one that does not run, or that another account runs: the list is written all the same, no
    other program gets a signal, and whoever removed the device is told what to do."""
    place = tmp_path / "broker"
    place.mkdir()
    if spoil is not no_broker_here:
        folder.broker_place.write_text(str(place))
    spoil(place)

    assert published(folder) is False
    listed = x509.load_pem_x509_crl(folder.revoked.read_bytes())
    assert listed.get_revoked_certificate_by_serial_number(SERIAL) is not None
    assert "SIGHUP" in revocation.UNTOLD


@pytest.mark.needs("mosquitto")
def test_a_broker_that_was_started_by_a_relative_path_is_told(folder, tmp_path):
    """As the README starts it: the running mosquitto is found, and reads the new list."""
    place = tmp_path / "broker"
    ports = {"device_port": free_port(), "service_port": free_port()}
    render(place, folder, **ports, prefix=PREFIX, host=HOST)
    executable = program("mosquitto")
    with subprocess.Popen([executable, "-c", "broker/mosquitto.conf"], cwd=tmp_path, stderr=subprocess.PIPE) as running:
        lines = iter(running.stderr.readline, b"")
        assert any(line.rstrip().endswith(b"running") for line in lines)
        assert published(folder)
        assert any(b"Reloading" in line for line in lines)
        running.terminate()


def test_another_configuration_of_the_same_name_is_not_ours(folder, tmp_path):
    """A mosquitto with a relative path in another folder is left alone."""
    place = tmp_path / "broker"
    place.mkdir()
    folder.broker_place.write_text(f"{place}\n")
    other = tmp_path / "other" / "broker"
    other.mkdir(parents=True)
    waits = f"exec -a mosquitto {sys.executable} -c 'import time; time.sleep(60)' broker/mosquitto.conf"
    with subprocess.Popen(["bash", "-c", waits], cwd=other.parent) as running:
        (place / PID_FILE).write_text(str(running.pid))
        while not Path(f"/proc/{running.pid}/cmdline").read_bytes().startswith(b"mosquitto\0"):
            time.sleep(0.01)
        assert not published(folder)
        running.kill()
