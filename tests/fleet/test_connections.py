"""Rough clients of the server: half heads, slow bodies, readers that do not read, foreign names and foreign pages."""

import contextlib
import json
import socket
import ssl
import time

import pytest

from modules.protocol.topics import PREFIX
from tests.doubles.publisher import checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import HOST, Broker, free_port
from tests.parts.rough_clients import many_files

HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Half: "
BODY = b"POST /enroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
# The first bytes of a client's greeting in TLS: the record's head says that 512 are to come.
GREETING = b"\x16\x03\x01\x02\x00\x01"
# TLS, a head and a body get two seconds here; whoever is cut is cut within so many more.
QUICK = {"handshake_s": "2", "head_s": "2", "body_s": "2"}
SOON_S = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without a broker, with a certificate for one name, and one more that the settings name."""
    data = initialise(tmp_path_factory.mktemp("rough") / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    names = {"allowed_hosts": "console.example, other.example", "public_url": "https://fleet.example:8443"}
    with many_files(), fleet_server(data, absent, **QUICK, **names) as running:
        port = int(running.log().rsplit("listens at 127.0.0.1:", 1)[1].split()[0])
        yield running._replace(url=f"https://127.0.0.1:{port}")


@contextlib.contextmanager
def opened(server, sent):
    """A TLS connection on which this was sent."""
    context = ssl.create_default_context(cafile=str(server.data.ca))
    address = (HOST, int(server.url.rsplit(":", 1)[1]))
    with (
        socket.create_connection(address, timeout=SOON_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as one,
    ):
        one.sendall(sent)
        yield one


def rest(one):
    """Everything until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while part := one.recv(65536):
            data += part
    return data


def problem(data):
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"]


@pytest.mark.long
def test_half_heads_are_cut_and_keep_nobody_out(server):
    """Of six hundred from one address all are gone within seconds, and meanwhile others are answered at once."""
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        half = [stack.enter_context(opened(server, HALF)) for _ in range(600)]
        asked = time.monotonic()
        with server.client() as http:
            checked(http.get("/healthz"))
        assert time.monotonic() - asked < 2
        answers = [rest(one) for one in half]
        assert time.monotonic() - begun < 4 * SOON_S
    told = [problem(one) for one in answers if one]
    assert {status for status, _ in told} == {408}
    assert any("100 newer connections" in detail for _, detail in told), "all of them waited for their whole time"


@pytest.mark.parametrize("sent", [b"", GREETING], ids=["nothing", "half of a greeting"])
@pytest.mark.long
def test_half_done_handshakes_are_cut(server, sent):
    """Whoever connects and does not go on with TLS is gone as soon as one who sends half of a head."""
    with socket.create_connection((HOST, int(server.url.rsplit(":", 1)[1])), timeout=SOON_S) as one:
        one.sendall(sent)
        begun = time.monotonic()
        assert rest(one) == b""
    assert time.monotonic() - begun < SOON_S


@pytest.mark.long
def test_a_half_head_is_told_why(server):
    """Also one that goes on dripping, on a connection that has had an answer before."""
    with opened(server, HALF) as one:
        assert problem(rest(one)) == (408, "the head took longer than 2 seconds")
    with opened(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as one:
        one.recv(65536)
        one.sendall(HALF)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < SOON_S:
                one.sendall(b"a")
                time.sleep(0.2)
        assert time.monotonic() - begun < SOON_S


def test_an_endless_head_is_cut(server):
    """After 64 KiB, however fast it comes."""
    with opened(server, HALF) as one, contextlib.suppress(OSError):
        for _ in range(40):
            one.sendall(b"a" * 4096)
        assert problem(rest(one))[0] == 431


@pytest.mark.long
def test_a_slow_body_is_cut_and_told_why(server):
    """A client that sends one byte of nine thousand."""
    with opened(server, BODY) as one:
        assert problem(rest(one)) == (408, "the body came too slowly")
    assert "Traceback" not in server.log()


@pytest.mark.long
def test_a_body_that_comes_steadily_is_taken(server):
    """Longer than the two seconds, and above 4 KiB a second."""
    with opened(server, BODY[:-1].replace(b"9000", b"60000")) as one:
        for _ in range(12):
            one.sendall(b"x" * 5000)
            time.sleep(0.4)
        assert int(one.recv(65536).split()[1]) == 413


@pytest.mark.long
def test_who_says_goodbye_and_reads_nothing_is_forgotten(server):
    """Bytes between requests do not keep a connection open."""
    with opened(server, b"\r\n") as one:
        assert problem(rest(one))[0] == 408


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "a.localhost",
        "127.0.0.1",
        "[::1]:8443",
        "192.0.2.7",
        "fleet.example",
        "console.example.",
    ],
)
def test_its_own_names_are_answered(server, host):
    """Loopback, addresses, the public address and what the settings name, with any port."""
    with server.client() as http:
        checked(http.get("/healthz", headers={"Host": host}))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "xlocalhost", "fleet.example.evil", ""])
@pytest.mark.parametrize("path", ["/healthz", "/api/v1/devices", "/nothing"])
def test_a_foreign_name_is_refused_with_what_to_set(server, host, path):
    """A page whose name was pointed at the server's address gets nothing, on any path."""
    with server.client() as http:
        answer = http.get(path, headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "foreign-host")
    assert "allowed_hosts" in answer.json()["remedy"]


def test_two_names_are_none(server):
    """What a proxy and the server might read differently is refused."""
    with opened(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n") as one:
        assert int(one.recv(65536).split()[1]) == 421


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://localhost:9", "file://", "https://fleet.example"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/enroll"), ("DELETE", "/api/v1/devices/a/slots/b")])
def test_a_foreign_page_changes_nothing(server, origin, method, path):
    """Whatever it knows: a browser says where a page comes from, and the server asks."""
    with server.client() as http:
        answer = http.request(method, path, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")


def test_its_own_pages_may_ask(server):
    """Of the address that was asked, of the public address, and of hosts in the settings."""
    with server.client() as http:
        for origin in (server.url, "https://fleet.example:8443", "https://console.example:9"):
            answer = http.post("/api/v1/models/acme/any/versions", headers={"Origin": origin})
            assert answer.is_success, answer.text


def test_a_protocol_is_not_changed(server):
    """No upgrade to anything: the request is answered as it stands."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    with server.client() as http:
        assert http.get("/healthz", headers=upgrade).status_code == 200


def test_an_answer_does_not_wait_for_a_receipt(server):
    """On a connection that is kept an answer comes at once, not with the 40 ms in which systems hold back receipts."""
    with server.client() as http:

        def took():
            began = time.perf_counter()
            assert http.get("/healthz").status_code == 200
            return time.perf_counter() - began

        assert min(took() for _ in range(30)) < 0.03
