"""The listener where devices fetch blobs over HTTPS: who is let in, what is answered, and who is cut."""

import contextlib
import datetime as dt
import http.client
import json
import random
import secrets
import socket
import ssl
import time

import pytest
from sqlalchemy import update

from fleet.authority import Authority
from fleet.blob_listener import PER_DEVICE
from fleet.db import Database
from fleet.folder import Folder
from fleet.tables import certificates
from modules import manifest as manifests
from modules.digests import sha256
from modules.protocol.topics import PREFIX
from tests.doubles.device import Device, join
from tests.doubles.publisher import Publisher, checked, module
from tests.doubles.rights import ordered
from tests.parts.certificates import self_signed
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import HOST, Broker, free_port
from tests.parts.pace import stretched

# TLS and a head get two seconds here; whoever is cut is cut within so many more.
QUICK = {"handshake_s": "2", "head_s": "2", "blob_port": "0"}
SOON_S = 10
SIZE = 3_000_001
DATA = random.Random(7).randbytes(SIZE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without a broker, whose devices may fetch over HTTPS."""
    data = initialise(tmp_path_factory.mktemp("lane") / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    with fleet_server(data, absent, **QUICK) as running:
        with running.client() as operator:
            Publisher(operator).found()
        yield running
        # Whoever is refused, cut or gone is no defect of the server's.
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def blob(server):
    """The digest of a blob that the server has, and that the order of each device here names."""
    return manifest_in(server).files[0].sha256


def manifest_in(server, data=DATA):
    """A module whose blobs are on the server: these bytes, and none."""
    manifest = module("acme", "lane", "1", {"model.onnx": data, "empty": b""})
    with server.client() as operator:
        for one in (data, b"", manifests.encode(manifest)):
            checked(operator.put(f"/api/v1/blobs/{sha256(one)}", content=one))
    return manifest


def orders(server, device, manifest):
    """The device is to have it."""
    database = Database.at(server.data.database)
    ordered(database, device.name, manifest)
    database.close()


@pytest.fixture
def enrolled(server, tmp_path):
    """Makes devices that have joined."""

    def make(name):
        with server.client() as operator:
            one = Device(tmp_path / name, join(operator), name)
        checked(one.enrol())
        orders(server, one, manifest_in(server))
        return one

    return make


@pytest.fixture
def device(enrolled):
    """One device, of its own name."""
    return enrolled(f"dev-{secrets.token_hex(4)}")


def context_of(folder, ca=None):
    context = ssl.create_default_context(cafile=str(ca or folder / "ca.pem"))
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@contextlib.contextmanager
def lane(device, context=None):
    """A connection to the listener that the device's join bundle names."""
    host, port = device.join.blob_url.removeprefix("https://").rsplit(":", 1)
    made = http.client.HTTPSConnection(host, int(port), timeout=SOON_S, context=context or context_of(device.folder))
    try:
        yield made
    finally:
        made.close()


def asked(connection, path, method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    return answer, answer.read()


def test_a_range_is_answered_with_its_bytes(device, blob):
    """206, where they lie, what the whole is called; one after another on one connection."""
    with lane(device) as connection:
        for first, last in ((0, 65535), (65536, 131071), (SIZE - 7, SIZE + 100)):
            answer, data = asked(connection, f"/blobs/{blob}", Range=f"bytes={first}-{last}")
            end = min(last, SIZE - 1)
            assert answer.status == 206
            assert data == DATA[first : end + 1]
            assert answer.headers["Content-Range"] == f"bytes {first}-{end}/{SIZE}"
            assert answer.headers["ETag"] == f'"{blob}"'
            assert int(answer.headers["Content-Length"]) == len(data)


def test_a_blob_is_answered_whole_without_a_range(device, blob):
    """And where the range is one that must not be used: another blob's, of another unit, or of HEAD."""
    with lane(device) as connection:
        for headers in ({}, {"Range": "bytes=0-1", "If_Range": '"other"'}, {"Range": "lines=1-2"}):
            answer, data = asked(connection, f"/blobs/{blob}", **headers)
            assert (answer.status, data) == (200, DATA)
        answer, data = asked(connection, f"/blobs/{blob}", "HEAD", Range="bytes=0-1")
        assert (answer.status, data, answer.headers["Content-Length"]) == (200, b"", str(SIZE))
        answer, data = asked(connection, f"/blobs/{blob}", Range="bytes=0-1", If_Range=f'"{blob}"')
        assert (answer.status, data) == (206, DATA[:2])
        assert asked(connection, f"/blobs/{sha256(b'')}")[0].status == 200


def test_a_range_behind_the_end_is_416(device, blob):
    """With the length that there is."""
    with lane(device) as connection:
        answer, data = asked(connection, f"/blobs/{blob}", Range=f"bytes={SIZE}-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert json.loads(data)["code"] == "range"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/blobs/" + sha256(b"nowhere"), 404),
        ("GET", "/blobs", 404),
        ("GET", "/blobs/", 404),
        ("GET", "/", 404),
        ("GET", "/blobs/../operator-token", 404),
        ("GET", "/blobs/%2e%2e%2foperator-token", 404),
        ("GET", "/blobs/sha256:0", 422),
        ("GET", "/api/v1/devices", 404),
        ("GET", "/metrics", 404),
        ("GET", "/docs", 404),
        ("POST", "/enroll", 404),
        ("PUT", "/blobs/" + sha256(b"mine"), 405),
        ("DELETE", "/blobs/" + sha256(DATA), 405),
    ],
)
def test_nothing_but_blobs_is_here(device, blob, method, path, status):
    """No list of them, no API, nothing that changes anything."""
    with lane(device) as connection:
        assert asked(connection, path, method)[0].status == status
        assert asked(connection, f"/blobs/{blob}", "HEAD")[0].status == 200


def test_a_removed_device_is_refused_in_the_middle_of_a_connection(server, device, blob):
    """403 with the reason, from its next request on."""
    with lane(device) as connection, server.client() as operator:
        assert asked(connection, f"/blobs/{blob}", Range="bytes=0-1")[0].status == 206
        checked(operator.delete(f"/api/v1/devices/{device.name}"))
        answer, data = asked(connection, f"/blobs/{blob}", Range="bytes=0-1")
        assert (answer.status, json.loads(data)["detail"]) == (403, "this certificate is revoked")


def test_a_certificate_that_was_replaced_and_revoked_is_refused(server, device, blob):
    """The serial number counts, not the name."""
    database = Database.at(server.data.database)
    with database.write() as connection:
        connection.execute(update(certificates).where(certificates.c.device == device.name).values(revoked=1.0))
    database.close()
    with lane(device) as connection:
        assert asked(connection, f"/blobs/{blob}")[0].status == 403
    checked(device.enrol())
    with lane(device) as connection:
        assert asked(connection, f"/blobs/{blob}")[0].status == 200


def test_a_certificate_that_ends_meanwhile_is_refused(server, device, blob):
    """On a connection that began before its end."""
    database = Database.at(server.data.database)
    with lane(device) as connection:
        assert asked(connection, f"/blobs/{blob}", "HEAD")[0].status == 200
        with database.write() as rows:
            rows.execute(update(certificates).where(certificates.c.device == device.name).values(expires=1.0))
        answer, data = asked(connection, f"/blobs/{blob}")
        assert (answer.status, json.loads(data)["detail"]) == (403, "this certificate has expired")
    database.close()


def written(folder, device, certificate, key=None):
    """A folder with another certificate than the device's own."""
    folder.mkdir()
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key or device.key_pem)
    return context_of(folder, device.folder / "ca.pem")


def test_a_certificate_that_the_database_does_not_know_is_refused(server, device, blob, tmp_path):
    """Also one that the fleet's own CA has signed: whoever stole its key cannot read by it."""
    made = Authority.load(server.data.ca).device(device.name, device.key.public_key(), dt.timedelta(days=1))
    with lane(device, written(tmp_path / "made", device, made)) as connection:
        answer, data = asked(connection, f"/blobs/{blob}")
    assert (answer.status, json.loads(data)["detail"]) == (403, "this certificate was not issued here")


@pytest.mark.parametrize("who", ["nobody", "expired", "foreign", "the server", "a service"])
def test_tls_lets_in_devices_of_the_fleet_alone(server, device, blob, tmp_path, who):
    """Without a certificate, with an ended one, another authority's, a server's or a service's: no connection."""
    authority, data = Authority.load(server.data.ca), server.data
    if who == "nobody":
        context = ssl.create_default_context(cafile=str(device.folder / "ca.pem"))
    elif who == "expired":
        ended = authority.device(device.name, device.key.public_key(), dt.timedelta(minutes=-5))
        context = written(tmp_path / who, device, ended)
    elif who == "foreign":
        (tmp_path / who).mkdir()
        self_signed(tmp_path / who / "certificate.pem", tmp_path / who / "key.pem", device.name)
        context = context_of(tmp_path / who, data.ca)
    else:
        path = data.server if who == "the server" else data.service
        context = written(tmp_path / "other", device, path.read_bytes(), Folder.key(path).read_bytes())
    with lane(device, context) as connection, pytest.raises((OSError, http.client.HTTPException)):
        asked(connection, f"/blobs/{blob}")


def test_a_claims_certificate_is_no_devices(server, device, blob, tmp_path):
    """The fleet's own authority has signed it, for somebody who may only ask to join."""
    claim = Authority.load(server.data.ca).service("claim:0123456789abcdef")
    with lane(device, written(tmp_path / "claim", device, claim.certificate, claim.key)) as connection:
        answer, data = asked(connection, f"/blobs/{blob}")
    assert (answer.status, json.loads(data)["detail"]) == (403, "this certificate was not issued here")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_1_2_or_newer(device, blob, version):
    """Nothing older is spoken."""
    context = context_of(device.folder)
    with contextlib.ExitStack() as stack:
        if version is ssl.TLSVersion.TLSv1_1:
            stack.enter_context(pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"))
            stack.enter_context(pytest.raises(ssl.SSLError))
        context.minimum_version = context.maximum_version = version
        connection = stack.enter_context(lane(device, context))
        assert asked(connection, f"/blobs/{blob}", "HEAD")[0].status == 200


def address(device):
    return HOST, int(device.join.blob_url.rsplit(":", 1)[1])


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half of a greeting"])
def test_half_done_handshakes_are_cut(device, sent):
    """As at the server's other listener."""
    with socket.create_connection(address(device), timeout=SOON_S) as one:
        one.sendall(sent)
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert one.recv(100) == b""
    assert time.monotonic() - begun < SOON_S


def test_a_half_head_is_cut(device):
    """A device that opens and asks for nothing."""
    with lane(device) as connection:
        connection.connect()
        begun = time.monotonic()
        assert b"408" in connection.sock.recv(100)
        assert time.monotonic() - begun < SOON_S


def test_one_device_has_its_share_of_connections(enrolled, device, blob):
    """The oldest goes when there is one more, and another device is answered meanwhile."""
    other = enrolled("dev-other")
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(lane(device)) for _ in range(PER_DEVICE + 1)]
        for connection in many:
            asked(connection, f"/blobs/{blob}", "HEAD")
        with pytest.raises((OSError, http.client.HTTPException)):
            asked_again(many[0], blob)
        assert [asked_again(one, blob) for one in many[1:]] == [200] * PER_DEVICE
        assert asked_again(stack.enter_context(lane(other)), blob) == 200


def asked_again(connection, blob):
    connection.auto_open = 0
    if connection.sock is None:
        connection.connect()
    return asked(connection, f"/blobs/{blob}", "HEAD")[0].status


def test_devices_that_do_not_read_hold_nobody_up(server, device, blob):
    """Eight answers are asked for and not read; the API and another connection answer at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(PER_DEVICE - 1):
            connection = stack.enter_context(lane(device))
            connection.request("GET", f"/blobs/{blob}")
        begun = time.monotonic()
        with server.client() as operator:
            checked(operator.get("/healthz"))
        assert asked(stack.enter_context(lane(device)), f"/blobs/{blob}")[1] == DATA
        assert time.monotonic() - begun < SOON_S / 2


def test_the_server_stops_though_a_device_does_not_read(tmp_path):
    """An answer under way holds nobody up: it ends within seconds, and without a traceback."""
    data = initialise(tmp_path / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    large = random.Random(8).randbytes(30_000_000)
    with fleet_server(data, absent, blob_port="0") as running:
        with running.client() as operator:
            Publisher(operator).found()
            one = Device(tmp_path / "dev", join(operator), "dev-slow")
            checked(one.enrol())
        orders(running, one, manifest_in(running, large))
        with lane(one) as connection:
            connection.request("GET", f"/blobs/{sha256(large)}")
            assert connection.getresponse().status == 200
            begun = time.monotonic()
            running.process.terminate()
            running.process.wait(3 * SOON_S)
        assert time.monotonic() - begun < SOON_S
        assert "Traceback" not in running.log()


def test_it_is_off_unless_it_is_set(tmp_path):
    """Without blob_port there is no listener, and no address in a bundle."""
    data = initialise(tmp_path / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    with fleet_server(data, absent) as running, running.client() as operator:
        Publisher(operator).found()
        assert join(operator).blob_url == ""
        assert "blobs for devices" not in running.log()


def test_a_bundle_names_the_address_that_is_set_and_a_wrong_name_is_said(tmp_path):
    """Behind another name; where the certificate does not have it, the log says what to do."""
    data = initialise(tmp_path / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    url = "https://blobs.example:9443"
    with fleet_server(data, absent, blob_port="0", blob_url=url) as running, running.client() as operator:
        Publisher(operator).found()
        assert join(operator).blob_url == url
        assert "blobs.example:9443 names no host of this server's certificate" in running.log()


LIMITS = {"in all": {"pull_bytes_s": "1000000"}, "each device": {"device_bytes_s": "1000000"}}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_the_limits_of_the_server_hold_here_too(tmp_path, limit):
    """Two megabytes at one a second, and they are counted with what goes over the broker."""
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    with fleet_server(initialise(tmp_path / "data"), absent, **QUICK, **limit) as server:
        with server.client() as operator:
            Publisher(operator).found()
            one = Device(tmp_path / "device", join(operator), "dev-slow")
            checked(one.enrol())
        manifest = manifest_in(server)
        orders(server, one, manifest)
        name = manifest.files[0].sha256
        with lane(one) as connection:
            began = time.monotonic()
            answer, data = asked(connection, f"/blobs/{name}", Range="bytes=0-1999999")
            took = time.monotonic() - began
        with server.client() as operator:
            counted = checked(operator.get("/metrics")).text

    assert (answer.status, data) == (206, DATA[:2_000_000])
    assert 1.5 < took < stretched(2.4)
    assert 'edgefleet_block_bytes_total{way="https"} 2e+06' in counted
