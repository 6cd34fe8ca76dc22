"""What keeps a server standing and watched: bounds, keys, TLS, draining, metrics, logs; through real sockets."""

import base64
import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import time

import pytest
from cryptography import x509

from modules import access_tokens
from modules.cores import granted, threads
from tests.parts.certificates import self_signed

SECRET = bytes(range(32))
KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def slow(start, counting):
    """A server of the graph that counts, where one request may wait."""

    def starting(**environment):
        limits = json.dumps({"max_queue": 1, "drain_s": 20})
        return start("--model", counting, EDGEFLEET_LIMITS=limits, **environment).ready()

    return starting


def figure(server, name):
    """The sum of a metric's values over its labels."""
    lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", server.ask("/metrics").body.decode(), re.MULTILINE)
    return sum(map(float, lines))


def occupied(server):
    """Requests that keep every thread of the server busy until their time-out."""
    count = threads(granted())
    busy = [server.later(body={"times": 1 << 60, "x": 1.0}) for _ in range(count)]
    server.until(lambda: figure(server, "edgefleet_scoring_running") == count, "running")
    return busy


def waiting(server):
    """One more, which waits for them."""
    one = server.later(body={"times": 1, "x": 0.0})
    server.until(lambda: figure(server, "edgefleet_scoring_queue_depth") == 1, "a full queue")
    return one


def test_full_queue(slow):
    """When the queue is full the answer is 429 with Retry-After, health is still answered, and it passes."""
    server = slow(EDGEFLEET_SETTINGS='{"score_timeout_ms": 1500}')
    busy, last = occupied(server), waiting(server)
    refused = server.ask(body={"times": 1, "x": 0.0})
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "waiting already" in refused.json["message"]
    assert server.ask("/").status == 200
    assert figure(server, "edgefleet_scoring_refused_total") == 1
    assert {one().status for one in busy} == {500}
    assert last().status == 200


def test_client_that_goes_away(slow):
    """A request that waits is given up when its client goes away, and counted."""
    server = slow(EDGEFLEET_SETTINGS='{"score_timeout_ms": 1500}')
    busy = occupied(server)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(server.socket))
    body = b'{"times": 1, "x": 0.0}'
    connection.sendall(b"POST /score HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    server.until(lambda: figure(server, "edgefleet_scoring_queue_depth") == 1, "a waiting request")
    connection.close()
    server.until(lambda: figure(server, "edgefleet_scoring_abandoned_total") == 1, "giving it up")
    assert {one().status for one in busy} == {500}


def test_memory_for_bodies(start, relu):
    """Bodies beyond the memory set aside are refused before they are sent, and room comes back."""
    limits = {"max_body": 1 << 20, "max_held": 1 << 20}
    server = start("--model", relu, EDGEFLEET_LIMITS=json.dumps(limits)).ready()
    holder = socket.socket(socket.AF_UNIX)
    holder.connect(str(server.socket))
    holder.sendall(b"POST /score HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
    server.until(lambda: figure(server, "edgefleet_scoring_held_bytes") == 1_000_000, "holding")
    refused = server.ask(body=b" " * 100_000)
    assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (429, "1", "close")
    assert server.ask(body=b" " * (1 << 20 | 1)).status == 413
    assert server.ask(body={"data": [[0] * 4]}).status == 200
    holder.close()
    server.until(lambda: figure(server, "edgefleet_scoring_held_bytes") == 0, "letting go")
    assert "not valid JSON" in server.ask(body=b" " * 100_000).json["message"]


def test_chunked_body_over_the_limit(start, relu):
    """A body without an announced length is cut off where it passes the limit, and the answer says why."""
    server = start("--model", relu, EDGEFLEET_LIMITS='{"max_body": 1000}').ready()
    reply = server.ask(body=iter([b" " * 600, b" " * 600]))
    assert (reply.status, reply.headers["connection"]) == (413, "close")


@pytest.fixture(scope="module")
def guarded(start, relu, tmp_path_factory, free_port):
    """A server on TCP with keys and a token secret."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(json.dumps({"keys": [KEY], "token_secret": base64.b64encode(SECRET).decode()}))
    server = start("--model", relu, tcp=free_port(), EDGEFLEET_ACCESS_FILE=str(keys)).ready()
    server.keys = keys
    return server


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def test_keys_and_tokens(guarded):
    """A key or a token that has not expired lets in; health needs none."""
    body = {"data": [[0] * 4]}
    assert guarded.ask(body=body, headers=bearer(KEY)).status == 200
    assert (
        guarded.ask(body=body, headers=bearer(access_tokens.make(SECRET, expires=int(time.time()) + 60))).status == 200
    )
    assert guarded.ask("/metrics", headers=bearer(KEY)).status == 200
    assert guarded.ask("/v2/health/live").status == 200


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param({}, "send a key or a token", id="when there is none"),
        pytest.param({"Authorization": "Basic abc"}, "send a key or a token", id="when it is another scheme"),
        pytest.param(bearer("wrong-wrong-wrong"), "not a token of this endpoint", id="when the key is wrong"),
        pytest.param(bearer(access_tokens.make(SECRET, expires=1)), "has expired", id="when the token has expired"),
        pytest.param(
            bearer(access_tokens.make(b"x" * 32, expires=1 << 40)), "not a token", id="when another signed it"
        ),
        pytest.param(bearer("et1.²." + "a" * 43), "not a token", id="when its expiry is no number"),
    ],
)
@pytest.mark.parametrize("path", ["/score", "/metrics", "/v2/models/graph", "/edgefleet/status"])
def test_unauthorised(guarded, headers, said, path):
    """Without a key or token that is good every path but health is 401, and says why."""
    given = {name: value.encode() for name, value in headers.items()}
    reply = guarded.ask(path, headers=given)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert said in reply.json["message"]


def test_new_keys(guarded):
    """A renewed key is in force without a restart, and the old one no longer."""
    guarded.keys.write_text(
        json.dumps({"keys": ["fedcba9876543210"], "token_secret": base64.b64encode(SECRET).decode()})
    )
    guarded.until(lambda: guarded.ask("/metrics", headers=bearer("fedcba9876543210")).status == 200, "the new key")
    assert guarded.ask("/metrics", headers=bearer(KEY)).status == 401
    guarded.keys.write_text("{}")
    guarded.until(lambda: "the old keys stay in force" in guarded.log, "the complaint")
    assert guarded.ask("/metrics", headers=bearer("fedcba9876543210")).status == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"keys": ["short"]}', "shorter than 16"),
        ("{}", "no key in it"),
        ("", "keys.json"),
        ('{"key": "a"}', "keys.json"),
        (json.dumps({"keys": [KEY], "cors_origins": ["*"]}), "set AML_CORS_ORIGINS"),
    ],
)
def test_bad_keys(start, relu, tmp_path, free_port, content, said):
    """A file without usable keys keeps the server from starting, rather than opening it to everybody."""
    (tmp_path / "keys.json").write_text(content)
    server = start("--model", relu, tcp=free_port(), EDGEFLEET_ACCESS_FILE=str(tmp_path / "keys.json"))
    assert server.wait() == 3
    assert said in server.log


def test_an_open_port_asks_for_no_key(start, relu, tmp_path, free_port):
    """``open`` in the file lets anybody score."""
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [KEY], "open": True}))
    server = start("--model", relu, tcp=free_port(), EDGEFLEET_ACCESS_FILE=str(tmp_path / "keys.json")).ready()
    assert server.ask(body={"data": [[0] * 4]}).status == 200


def test_no_keys_on_a_unix_socket(start, relu, tmp_path):
    """On a Unix socket the folder's rights decide, and no key is asked for."""
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [KEY]}))
    server = start("--model", relu, EDGEFLEET_ACCESS_FILE=str(tmp_path / "keys.json")).ready()
    assert server.ask(body={"data": [[0] * 4]}).status == 200


def test_tls(start, relu, tmp_path, free_port):
    """With a certificate the port speaks TLS alone; a renewed certificate is used without a restart."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    self_signed(certificate, key, "first")
    port = free_port()
    names = {"EDGEFLEET_TLS_CERTIFICATE": str(certificate), "EDGEFLEET_TLS_KEY": str(key)}
    server = start("--model", relu, tcp=port, **names)

    def peer():
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", "/score", json.dumps({"data": [[1, -1, 1, -1]] * 9000}))
            subject = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True)).subject
            answer = connection.getresponse()
            return subject.rfc4514_string(), answer.status, json.loads(answer.read())

    def answers(name):
        try:
            return peer() == (f"CN={name}", 200, {"y": [[1, 0, 1, 0]] * 9000})
        except (ConnectionRefusedError, ssl.SSLError):
            return False

    server.until(lambda: answers("first"), "TLS")
    self_signed(certificate, key, "second")
    server.until(lambda: answers("second"), "the new certificate")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        server.ask("/")


def test_refusal_over_tls(start, relu, tmp_path, free_port):
    """Who sends too large a body over TLS can read that it was too large, and the server closes soon after."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    self_signed(certificate, key, "refusing")
    port = free_port()
    names = {"EDGEFLEET_TLS_CERTIFICATE": str(certificate), "EDGEFLEET_TLS_KEY": str(key)}
    server = start("--model", relu, tcp=port, EDGEFLEET_LIMITS='{"max_body": 1000000}', **names)
    server.until(lambda: "ready after" in server.log, "readiness")
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as client:
        client.settimeout(20)
        client.sendall(b"POST /score HTTP/1.1\r\ncontent-length: 8000000\r\n\r\n" + bytes(8_000_000))
        assert client.recv(12) == b"HTTP/1.1 413"
        while client.recv(65536):
            pass


def test_bad_tls(start, relu, tmp_path, free_port):
    """A certificate without its key, or that is none, keeps the server from starting."""
    alone = start("--model", relu, tcp=free_port(), EDGEFLEET_TLS_CERTIFICATE="c.pem")
    (tmp_path / "c.pem").write_text("nothing")
    names = dict.fromkeys(("EDGEFLEET_TLS_CERTIFICATE", "EDGEFLEET_TLS_KEY"), str(tmp_path / "c.pem"))
    broken = start("--model", relu, tcp=free_port(), **names)
    assert (alone.wait(), broken.wait()) == (3, 3)
    assert "a certificate needs its key" in alone.log
    assert "cannot be used" in broken.log


@pytest.mark.parametrize("text", ["1", "{", '{"max_bodies": 1}', '{"max_body": 0}'])
def test_bad_limits(start, relu, text):
    """Limits that are none keep the server from starting, and the log names those that there are."""
    server = start("--model", relu, EDGEFLEET_LIMITS=text)
    assert server.wait() == 3
    assert "max_queue" in server.log


def test_drain(slow):
    """After SIGTERM what runs and what waits is answered, idle connections are closed, and the exit code is 0."""
    server = slow(EDGEFLEET_SETTINGS='{"score_timeout_ms": 1500}')
    idle = socket.socket(socket.AF_UNIX)
    idle.connect(str(server.socket))
    busy, last = occupied(server), waiting(server)
    server.process.send_signal(signal.SIGTERM)
    assert idle.recv(1) == b""
    idle.close()
    assert ({one().status for one in busy}, last().status) == ({500}, 200)
    assert server.wait() == 0


def test_metrics_of_phases(start, relu):
    """Time by phase, batch sizes, queue and provider can be scraped, every line of a family behind its type."""
    server = start("--model", relu).ready()
    server.ask(body={"data": [[0] * 4]})
    lines = server.ask("/metrics").body.decode().splitlines()
    text = "\n".join(lines)
    for phase in ("decode", "queue", "run", "encode"):
        assert f'edgefleet_scoring_phase_seconds_count{{model="graph",phase="{phase}"}} 1' in text
    assert 'provider_info{model="graph",provider="CPUExecutionProvider",requested="CPUExecutionProvider"} 1' in text
    assert 'edgefleet_scoring_batch_size_bucket{model="graph",le="1"} 1' in text
    family = ""
    for line in lines:
        if line.startswith("# TYPE "):
            family = line.split()[2]
        else:
            assert line.startswith(family), line


def test_json_log(start, relu):
    """Where machines read the log each line is a JSON object, with the id of the request that it is about."""
    settings = '{"log_level": "debug"}'
    server = start("--model", relu, EDGEFLEET_LOG_FORMAT="json", EDGEFLEET_SETTINGS=settings).ready()
    server.ask(body={"data": [[0] * 4]}, headers={"x-request-id": "mine"})
    server.until(lambda: '"mine"' in server.log, "the line")
    records = [json.loads(line) for line in server.log.splitlines()]
    (about,) = [one for one in records if one.get("request_id") == "mine"]
    assert about["level"] == "debug"
    assert re.fullmatch(r"POST 200 in [\d.]+ ms", about["message"])
    assert start("--model", relu, EDGEFLEET_LOG_FORMAT="xml").wait() == 3
