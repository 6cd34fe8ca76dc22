"""A server and a broker whose certificates come from another authority than the fleet's own."""

import ssl

import pytest

from fleet.authority import AUTHORITIES_LIMIT, Authority, read_authorities
from fleet.folder import Folder
from modules.errors import BadSettings
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker

pytestmark = pytest.mark.long

COMPANY = Authority.create("a company's authority")


@pytest.fixture
def company(tmp_path):
    """The PEM file of another authority, among words that are no certificate."""
    path = tmp_path / "company.pem"
    path.write_text(f"# what IT sent\n{COMPANY.pem}")
    return path


@pytest.mark.needs("mosquitto")
async def test_a_broker_of_another_authority_is_in_the_bundle(tmp_path, company):
    """The server connects, and a device that knows only its bundle does."""
    data = initialise(tmp_path / "data")
    COMPANY.server(["127.0.0.1", "localhost"]).write(tmp_path / "other.pem")
    for made, file in ((tmp_path / "other.pem", data.broker), (tmp_path / "other.key", Folder.key(data.broker))):
        file.write_bytes(made.read_bytes())
    with (
        broker(tmp_path / "broker", data) as running,
        fleet_server(data, running, broker_ca=str(company)) as server,
        server.client() as http,
    ):
        Publisher(http).found()
        bundle = join(http)
        assert bundle.broker.ca == COMPANY.pem
        device = Device(tmp_path / "dev", bundle, "dev-other")
        checked(device.enrol())
        (device.folder / "ca.pem").write_text(bundle.broker.ca)  # what the agent believes for the broker
        async with device.connected():
            await device.acknowledgement(await device.report([], order=0))


@pytest.mark.needs("mosquitto")
def test_a_server_behind_a_proxy_of_another_authority_is_in_the_bundle(tmp_path, company):
    """``public_ca`` names who certifies the public address; ``system`` leaves it to the devices' own store."""
    data = initialise(tmp_path / "data")
    with broker(tmp_path / "broker", data) as running:
        for public_ca, carried in ((str(company), COMPANY.pem), ("system", "system")):
            with fleet_server(data, running, public_ca=public_ca) as server, server.client() as http:
                if carried == COMPANY.pem:
                    Publisher(http).found()
                assert join(http).fleet_ca == carried


@pytest.mark.parametrize("text", ["", "no certificate", COMPANY.pem * 120])
def test_what_is_no_authority_is_refused_at_the_start(tmp_path, text):
    """Missing certificates, and more than a bundle carries: named with what to do."""
    path = tmp_path / "bad.pem"
    path.write_text(text)
    with pytest.raises(BadSettings) as refused:
        read_authorities(path)
    assert refused.value.remedy
    assert len(text) < AUTHORITIES_LIMIT or "more than" in refused.value.message


def test_the_certificates_alone_are_taken(company):
    """Words around them are left out, and a device's TLS library reads the rest."""
    text = read_authorities(company)
    assert text == COMPANY.pem
    ssl.create_default_context(cadata=text)
