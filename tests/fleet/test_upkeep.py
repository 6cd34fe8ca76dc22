"""What ends one day and does not: certificates and lists that the server renews, and what it says where it cannot."""

import datetime as dt
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from fleet import endings, events, health_counts, revocation
from fleet.authority import SERVER_LIFE, Authority
from fleet.broker_config import render
from fleet.db import Database
from fleet.endings import CA_SOON_S, Ending
from fleet.enrolment import _new_device
from fleet.folder import Folder, replace_file
from fleet.mishaps import Mishaps
from fleet.revocation import FILE, Revocations
from fleet.setup import initialise
from fleet.tables import devices
from fleet.upkeep import Upkeep
from modules.names import DeviceId
from tests.parts.fleet_server import fleet_server
from tests.parts.mosquitto import HOST, broker, free_port
from tests.parts.programs import until as until_within

DAY_S = 86_400.0
YEARS_S = 3 * 365 * DAY_S
# Certificates of a server made so long ago are due, and hold.
DUE_SINCE_S = SERVER_LIFE.total_seconds() * 0.75


def until(met, what, within_s=20.0):
    until_within(met, what, within_s=within_s)


@pytest.fixture
def one_database(tmp_path):
    """SQLite's alone, for what writes for years."""
    made = Database.at(tmp_path / "fleet.sqlite")
    made.migrate()
    yield made
    made.close()


class Kept:
    """A data folder that was made some time ago, and the upkeep of it; ``now`` is the server's clock."""

    def __init__(self, folder, database, now) -> None:
        self.now, self.database = now, database
        self.data = Folder(folder / "data")
        initialise(self.data, self.clock)
        self.authority = Authority.load(self.data.ca, self.clock)
        self.revocations = Revocations(self.authority, self.data)
        self.mishaps = Mishaps(self.clock)
        self.upkeep = Upkeep(
            database=database,
            folder=self.data,
            authority=self.authority,
            services=Authority.load(self.data.service_ca, self.clock),
            revocations=self.revocations,
            clock=self.clock,
            mishaps=self.mishaps,
        )

    def clock(self):
        return self.now

    def device(self, path, life=dt.timedelta(days=90)):
        """A device's certificate and key, made now, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        path.write_bytes(self.authority.device(DeviceId("dev-a"), key.public_key(), life) + secret)
        return path

    def told(self):
        with self.database.read() as connection:
            return [(one["kind"], one["message"]) for one in events.newest(connection, limit=10_000)]


def shown(host, port, *, authority, pem=None):
    """The number of the certificate that a server shows; who shows ``pem`` waits until the other side has taken it."""
    context = ssl.create_default_context(cafile=str(authority))
    if pem:
        context.load_cert_chain(pem)
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        if pem:
            # MQTT's CONNECT; with TLS 1.3 a client learns only after its handshake that it was refused.
            secured.sendall(bytes.fromhex("100d00044d5154540402003c0001") + b"x")
            assert secured.recv(4)[:1] == b"\x20"
        return int(secured.getpeercert()["serialNumber"], 16)


def number(path):
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def lives(path, now):
    """The share of a certificate's life that is over."""
    one = x509.load_pem_x509_certificate(path.read_bytes())
    begins, ends = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
    return (now - begins) / (ends - begins)


@pytest.mark.long
@pytest.mark.needs("mosquitto")
def test_three_years_pass_and_every_device_still_connects(tmp_path, one_database):
    """Day after day nothing has ended; what the broker was given in the end lets devices in, and keeps out the revoked.
    A list that was not made anew keeps out everybody, and somebody was told before."""
    kept = Kept(tmp_path, one_database, time.time() - YEARS_S)
    ports = {"device_port": free_port(), "service_port": free_port(), "prefix": "edgefleet/v1", "host": HOST}
    place = tmp_path / "broker"
    configuration = render(place, kept.data, **ports)
    first = number(kept.data.broker)
    today = time.time()
    while kept.now < today:
        kept.upkeep.step()
        for path in (kept.data.server, kept.data.broker, kept.data.service):
            assert lives(path, kept.now) < 0.7
        listed = x509.load_pem_x509_crl((place / FILE).read_bytes())
        assert listed.last_update_utc.timestamp() <= kept.now
        assert listed.next_update_utc.timestamp() - kept.now > 28 * DAY_S
        kept.now += DAY_S
    kept.now = today
    kept.upkeep.step()
    assert number(place / "broker.pem") == number(kept.data.broker) != first
    assert [kind for kind, _ in kept.told() if kind == "certificate-renewed"] != []
    assert kept.mishaps.warnings == []
    pem = kept.device(tmp_path / "dev-a.pem")
    with subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL) as running:
        try:
            at = (HOST, ports["device_port"])
            until(lambda: listens(*at), "the broker listens")
            assert shown(*at, authority=kept.data.ca, pem=pem) == number(kept.data.broker)

            replace_file(place / FILE, Authority.load(kept.data.ca, lambda: today - 31 * DAY_S).revocations({}))
            assert revocation.reload(place)
            until(lambda: not let_in(*at, authority=kept.data.ca, pem=pem), "the lapsed list keeps it out")
            shutil.copy(place / FILE, kept.data.revoked)
            with one_database.read() as connection:
                found = endings.found(connection, kept.data, today)
            assert any(one.startswith("revocations ended on") for one in endings.warnings(found, today))

            with one_database.write() as connection:
                kept.revocations.publish(connection, today)
            until(lambda: let_in(*at, authority=kept.data.ca, pem=pem), "the next list lets it in")
        finally:
            running.terminate()


def listens(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def let_in(host, port, *, authority, pem):
    try:
        shown(host, port, authority=authority, pem=pem)
    except (OSError, AssertionError):
        return False
    return True


@pytest.mark.needs("mosquitto")
def test_a_running_broker_shows_its_renewed_certificate(tmp_path, database):
    """It reads its certificate again when it is told to, also where the list of revoked ones is not due."""
    kept = Kept(tmp_path, database, time.time() - DUE_SINCE_S)
    first = kept.data.broker.read_bytes()
    with broker(tmp_path / "broker", kept.data) as running:
        kept.now = time.time()
        pem = kept.device(tmp_path / "dev-a.pem")

        def shows(data):
            seen = shown(HOST, running.device_port, authority=kept.data.ca, pem=pem)
            return seen == x509.load_pem_x509_certificate(data).serial_number

        assert shows(first)
        kept.upkeep.step()
        renewed = kept.data.broker.read_bytes()
        assert renewed != first
        until(lambda: shows(renewed), "the renewed certificate")

        replace_file(tmp_path / "broker" / "broker.pem", first)
        assert revocation.reload(tmp_path / "broker")
        until(lambda: shows(first), "the one of before")
        kept.upkeep.step()
        until(lambda: shows(renewed), "the renewed certificate again")


@pytest.mark.needs("mosquitto")
@pytest.mark.long
def test_a_running_server_shows_its_renewed_certificate(tmp_path, database):
    """At its own port and at that for blobs, without a new start; and again when somebody brings another one."""
    kept = Kept(tmp_path, database, time.time() - DUE_SINCE_S)
    before = number(kept.data.server)
    kept.now = time.time()
    pem = kept.device(tmp_path / "dev-a.pem")
    blobs = free_port()
    with (
        broker(tmp_path / "broker", kept.data) as running,
        fleet_server(kept.data, running, blob_port=str(blobs)) as server,
    ):
        port = int(server.url.rpartition(":")[2])

        def everywhere(wanted):
            seen = {shown(HOST, port, authority=kept.data.ca)}
            context = ssl.create_default_context(cafile=str(kept.data.ca))
            context.load_cert_chain(pem)
            with (
                socket.create_connection((HOST, blobs), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=HOST) as secured,
            ):
                seen.add(int(secured.getpeercert()["serialNumber"], 16))
            return seen == {wanted()}

        until(lambda: everywhere(lambda: number(kept.data.server)), "the renewed one", within_s=40.0)
        assert number(kept.data.server) != before
        key = serialization.load_pem_private_key(Folder.key(kept.data.server).read_bytes(), None)
        brought = kept.authority.server(["localhost", HOST], key).certificate
        replace_file(kept.data.server, brought)
        mine = x509.load_pem_x509_certificate(brought).serial_number
        until(lambda: everywhere(lambda: mine), "the one that was brought", within_s=40.0)
        with server.client() as http:
            said = http.get("/healthz").json()
            assert said["warnings"] == []
            told = http.get("/metrics").text
    for what in ("ca", "service-ca", "server", "broker", "service", "revocations"):
        assert f'edgefleet_ends_in_seconds{{what="{what}"}}' in told
    assert 'edgefleet_device_certificates{within="ended"} 0.0' in told


def test_a_certificate_of_somebody_else_is_left_alone(tmp_path, database):
    """What the operator brought is told of, and not replaced."""
    kept = Kept(tmp_path, database, time.time() - DUE_SINCE_S)
    stranger = Authority.create("stranger", kept.clock).server(["localhost"])
    kept.data.server.write_bytes(stranger.certificate)
    kept.now = time.time() + 200 * DAY_S
    kept.upkeep.step()
    assert kept.data.server.read_bytes() == stranger.certificate
    assert any(one.startswith("server ") for one in kept.mishaps.warnings)


def test_a_broker_that_cannot_be_given_the_list_is_an_alarm_until_it_is(tmp_path, database):
    """In the log, in what /healthz says and as an event; and it is over once the list could be written."""
    kept = Kept(tmp_path, database, time.time())
    (tmp_path / "gone").write_text("a file where the folder was")
    kept.data.broker_place.write_text(str(tmp_path / "gone"))
    for _ in range(3):
        kept.upkeep.step()
        assert any("cannot be written" in one for one in kept.mishaps.warnings)
    assert [kind for kind, _ in kept.told()].count("upkeep-trouble") == 1
    (tmp_path / "gone").unlink()
    (tmp_path / "gone").mkdir()
    kept.upkeep.step()
    assert kept.mishaps.warnings == []


def test_somebody_is_told_once_at_two_thirds_and_every_day_of_the_last_tenth(tmp_path, database):
    """Not before, and not more often; a renewal begins it anew. Of a CA, it is two years before its end."""

    def told(now, *every):
        with database.write() as connection:
            before = len(events.newest(connection, limit=10_000))
            endings.tell(connection, now, every)
            return len(events.newest(connection, limit=10_000)) - before

    one = Ending.of("server", 0.0, 90 * DAY_S)
    days = [day for day in range(95) if told(day * DAY_S, one)]
    assert days == [60, *range(81, 95)]
    renewed = Ending.of("server", 94 * DAY_S, 184 * DAY_S)
    assert told(95 * DAY_S, renewed) == 0
    assert told(155 * DAY_S, renewed) == 1
    authority = Ending.of("ca", 0.0, 3650 * DAY_S)
    assert told(3650 * DAY_S - CA_SOON_S - 1, authority) == 0
    assert told(3650 * DAY_S - CA_SOON_S, authority) == 1
    assert endings.warnings([authority], 3650 * DAY_S - CA_SOON_S) != []


def test_devices_are_counted_by_what_is_left(tmp_path, database):
    """Each once, by the certificate that holds longest; the next to end is named."""
    kept = Kept(tmp_path, database, time.time())
    with database.write() as connection:
        for name, days in (("dev-a", 3), ("dev-b", 20), ("dev-c", 80), ("dev-d", 200), ("dev-e", 5)):
            for life in (1, days):
                key = ec.generate_private_key(ec.SECP256R1()).public_key()
                made = kept.authority.device(DeviceId(name), key, dt.timedelta(days=life)).decode()
                if life == 1:
                    connection.execute(insert(devices).values(**_new_device(name, made, "key", kept.now)))
                revocation.issued(connection, name, made, kept.now)
        revocation.revoke(connection, kept.now, "dev-e")
        assert endings.buckets(connection, kept.now) == {"ended": 0, "7d": 1, "30d": 1, "90d": 1, "later": 1}
        (first,) = (one for one in endings.found(connection, kept.data, kept.now) if one.device)
        assert first.device == "dev-a"
        later = kept.now + 10 * DAY_S
        assert endings.buckets(connection, later)["ended"] == 1
        (first,) = (one for one in endings.found(connection, kept.data, later) if one.device)
        assert first.device == "dev-b"


def test_the_fleets_health_is_counted_four_times_an_hour(tmp_path, one_database):
    """By the server that leads, however often it looks; another leaves it to that one."""
    kept = Kept(tmp_path, one_database, now=1_000_000 * health_counts.QUARTER_S + 60.0)

    def counted():
        with one_database.read() as connection:
            return len(health_counts.since(connection, 0))

    for later in (0, 60, 900):
        kept.now += later
        kept.upkeep.step()
    assert counted() == 2
    kept.upkeep._leads = lambda: False
    kept.now += 900
    kept.upkeep.step()
    assert counted() == 2
