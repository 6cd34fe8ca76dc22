"""The broker as a container runs it: by run.sh of its folder, which the fleet server can write to and not signal."""

import os
import subprocess
import time
from contextlib import contextmanager

import pytest

from fleet.authority import Authority
from fleet.broker_config import render
from fleet.folder import Folder, replace_file
from fleet.revocation import WATCHED, reload
from fleet.setup import initialise
from tests.deploy.test_broker import ACCEPTED, Site, knock
from tests.parts.mosquitto import HOST, Broker, free_port
from tests.parts.pace import stretched
from tests.parts.programs import until

pytestmark = pytest.mark.needs("mosquitto", "openssl")


@contextmanager
def running(folder, data):
    ports = free_port(), free_port()
    render(folder, data, device_port=ports[0], service_port=ports[1], prefix="edgefleet/v1", host=HOST)
    with subprocess.Popen(["sh", folder / "run.sh"]) as process:
        site = Site(folder.parent, data, Broker(HOST, *ports, "edgefleet/v1", process))
        try:
            until(lambda: (folder / WATCHED).exists() and answers(site), "the broker answers", within_s=20)
            yield site
        finally:
            process.terminate()
            process.wait(stretched(20))


def answers(site):
    try:
        return knock(site, site.device("dev-good"), site.broker.device_port) == ACCEPTED
    except ConnectionRefusedError:  # it writes what it watches before it listens
        return False


@pytest.fixture
def data(tmp_path):
    folder = Folder(tmp_path / "data")
    initialise(folder, time.time)
    return folder


def test_a_revoked_certificate_is_refused_within_seconds(data, tmp_path):
    """The server replaces the list in the folder; nobody has to send a signal, and the server knows that."""
    with running(tmp_path / "broker", data) as site:
        lost = site.device("dev-lost")
        assert knock(site, lost, site.broker.device_port) == ACCEPTED
        serial = subprocess.run(
            ["openssl", "x509", "-noout", "-serial", "-in", lost],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout
        listed = {int(serial.strip().partition("=")[2], 16): time.time()}
        replace_file(tmp_path / "broker/revoked.pem", Authority.load(data.ca).revocations(listed))
        # A number of the container's, which here is another program's.
        (tmp_path / "broker/mosquitto.pid").write_text("1")
        assert reload(tmp_path / "broker")
        until(lambda: knock(site, lost, site.broker.device_port) == b"", "it is refused", within_s=20)
        assert answers(site)


def test_it_ends_with_its_broker_and_the_broker_with_it(data, tmp_path):
    """SIGTERM ends both in order; a broker that dies is an error, which a container engine sees."""
    with running(tmp_path / "broker", data) as site:
        site.broker.process.terminate()
        assert site.broker.process.wait(stretched(20)) == 0
        assert not (tmp_path / "broker" / WATCHED).exists()
    with running(tmp_path / "broker", data) as site:
        os.kill(int((tmp_path / "broker/mosquitto.pid").read_text()), 9)
        assert site.broker.process.wait(stretched(20)) != 0
