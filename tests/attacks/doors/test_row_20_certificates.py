"""Row 20: whoever comes with a certificate that is not, not yet or no longer a device's of this fleet."""

import datetime as dt
import http.client
import ssl
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tuf.api.metadata import Metadata, Targets

from fleet.authority import Authority
from fleet.doors import Place, enters, enters_plain
from fleet.folder import Folder
from modules.names import DeviceId
from tests.doubles.device import Device, join
from tests.parts.certificates import self_signed
from tests.parts.mosquitto import HOST
from tests.parts.pace import stretched

DAY = dt.timedelta(days=1)


class Doors:
    """The places where a certificate is asked for, and where none is."""

    def __init__(self, system, folder):
        self.system, self.folder = system, folder
        self.place = Place(HOST, system.broker.device_port, system.data.ca)
        with system.server.client() as http:
            targets = Metadata[Targets].from_bytes(http.get("/api/v1/tuf/targets.json").raise_for_status().content)
            # What every device may have: the list of directors. It gets no other blob than what it was ordered.
            self.blob = "sha256:" + targets.signed.targets["trust/director.json"].hashes["sha256"]
            self.data = http.get(f"/api/v1/blobs/{self.blob}").raise_for_status().content

    def pem(self, name, certificate, key):
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate)
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.with_suffix(".key").write_bytes(key.private_bytes(*plain))
        return path

    def issued(self, name, authority, device):
        key = ec.generate_private_key(ec.SECP256R1())
        return self.pem(name, authority.device(DeviceId(device), key.public_key(), DAY), key)

    def broker(self, pem, name):
        """Whether the devices' listener lets in."""
        return enters(self.place, name, certificate=pem)

    def blobs(self, pem):
        """What the blob listener answers; empty where it refuses the connection, or answers no blob."""
        context = ssl.create_default_context(cafile=str(self.system.data.ca))
        if pem is not None:
            context.load_cert_chain(pem, pem.with_suffix(".key"))
        connection = http.client.HTTPSConnection(HOST, self.system.blob_port, timeout=10, context=context)
        try:
            connection.request("GET", f"/blobs/{self.blob}")
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else b""
        except OSError:
            return b""
        finally:
            connection.close()

    def api(self, pem):
        """What the server's own address answers to this certificate alone, without a token."""
        context = ssl.create_default_context(cafile=str(self.system.data.ca))
        if pem is not None:
            context.load_cert_chain(pem, pem.with_suffix(".key"))
        with httpx.Client(
            base_url=self.system.server.url, verify=context, trust_env=False, timeout=stretched(30)
        ) as http:
            return [http.get(f"/api/v1/{path}").status_code for path in ("devices", "modules", "events")]


@pytest.fixture(scope="module")
def doors(system, tmp_path_factory):
    return Doors(system, tmp_path_factory.mktemp("doors"))


@pytest.fixture(scope="module")
def honest(system, tmp_path_factory):
    """A device's own certificate, by which what is refused is seen to be refused for another reason."""
    with system.server.client() as http:
        one = Device(tmp_path_factory.mktemp("honest"), join(http), "dev-honest")
        assert one.enrol().is_success
    (one.folder / "certificate.key").write_bytes(one.key_pem)
    return one


def none(_doors, _victim, _honest):
    return None


def expired(doors, victim, _honest):
    past = Authority.load(doors.system.data.ca, lambda: time.time() - 3 * DAY.total_seconds())
    return doors.issued("expired", past, victim)


def future(doors, victim, _honest):
    ahead = Authority.load(doors.system.data.ca, lambda: time.time() + 3 * DAY.total_seconds())
    return doors.issued("future", ahead, victim)


def foreign(doors, victim, _honest):
    """Of an authority of the same name."""
    with_name = Authority.load(doors.system.data.ca).certificate.subject.rfc4514_string().removeprefix("CN=")
    return doors.issued("foreign", Authority.create(with_name), victim)


def own(doors, victim, _honest):
    """Signed by itself."""
    path = doors.folder / "own.pem"
    self_signed(path, path.with_suffix(".key"), victim)
    return path


def by_a_device(doors, victim, honest):
    """Signed by a device's certificate, which is no authority; sent with the chain."""
    below = Authority.load(doors.system.data.ca)
    key = ec.generate_private_key(ec.SECP256R1())
    own_key = serialization.load_pem_private_key(honest.key_pem, None)
    chain = (honest.folder / "certificate.pem").read_bytes()
    made = type(below)(_certificate(chain), own_key, time.time).device(DeviceId(victim), key.public_key(), DAY)
    return doors.pem("by-a-device", made + chain, key)


def _certificate(pem):
    return x509.load_pem_x509_certificate(pem)


def servers(doors, _victim, _honest):
    """The server's own, which says that it is for servers."""
    return _copied(doors, "server", doors.system.data.server)


def services(doors, _victim, _honest):
    """The server's at the broker, of the services' authority."""
    return _copied(doors, "service", doors.system.data.service)


def _copied(doors, name, certificate):
    path = doors.folder / f"{name}.pem"
    path.write_bytes(certificate.read_bytes())
    path.with_suffix(".key").write_bytes(Folder.key(certificate).read_bytes())
    return path


@pytest.mark.parametrize(
    "make", [none, expired, future, foreign, own, by_a_device, servers, services], ids=lambda one: one.__name__
)
def test_row_20_a_certificate_that_is_no_devices_opens_no_door(system, edge, doors, honest, make):
    """Under the name of a device that is at work: the broker's listener, the listener of blobs and the API refuse it,
    and the device's own session does not end for it."""
    pem = make(doors, edge.name, honest)
    boots = edge.device.agent.said().count("broker lost")
    events = edge.events()

    assert not doors.broker(pem, edge.name)
    assert doors.blobs(pem) == b""
    assert doors.api(pem) == [401, 401, 401]

    assert edge.device.agent.said().count("broker lost") == boots
    assert edge.events() == events
    edge.holds()


def test_row_20_a_devices_own_certificate_opens_its_doors_and_no_other(system, edge, doors, honest):
    """What the other tests find refused is not refused for another reason: broker and blobs let it in, and not under
    another's name; the API and the services' listener do not, and nothing is open without TLS."""
    pem = honest.folder / "certificate.pem"

    assert doors.broker(pem, honest.name)
    assert doors.blobs(pem) == doors.data
    assert doors.broker(pem, edge.name)  # it is its own session whatever it calls itself, see row 19
    assert doors.api(pem) == [401, 401, 401]
    assert not enters(doors.place._replace(port=system.broker.service_port), honest.name, certificate=pem)
    assert not enters_plain(doors.place, honest.name)
    edge.holds()
