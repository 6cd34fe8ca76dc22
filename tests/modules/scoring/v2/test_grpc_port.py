"""The gRPC port: bounds, keys, TLS, deadlines, draining, metrics, logs, and where its packages are missing."""

import base64
import json
import re
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub

from modules import access_tokens
from modules.cores import granted, threads
from tests.house.tree import ROOT
from tests.parts.certificates import self_signed
from tests.parts.pace import stretched

SECRET = bytes(range(32))
KEY = "0123456789abcdef"
FEW = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, -1, 2, -2]}}
REQUEST = protocol.ModelInferRequest(model_name="graph", inputs=[FEW])


@pytest.fixture
def connect():
    """Channels to a port, closed at the end of the test."""
    channels = []

    def run(port, credentials=None, **options):
        given = [(f"grpc.{name}", value) for name, value in options.items()]
        where = f"127.0.0.1:{port}"
        channels.append(
            grpc.secure_channel(where, credentials, given) if credentials else grpc.insecure_channel(where, given)
        )
        return GRPCInferenceServiceStub(channels[-1])

    yield run
    for channel in channels:
        channel.close()


@pytest.fixture
def serve(start, free_port):
    """Start a server with both ports."""

    def run(*arguments, **environment):
        port = free_port()
        server = start(*arguments, "--grpc-port", port, tcp=free_port(), **environment)
        server.grpc = port
        return server

    return run


def refusal(call, request, **more):
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=30, **more)
    return error.value.code(), error.value.details()


def figure(server, name):
    """The sum of a metric's values over its labels."""
    lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", server.ask("/metrics").body.decode(), re.MULTILINE)
    return sum(map(float, lines))


def count_to(times):
    inputs = [
        {"name": "times", "datatype": "INT64", "shape": [], "contents": {"int64_contents": [times]}},
        {"name": "x", "datatype": "FP32", "shape": [], "contents": {"fp32_contents": [0]}},
    ]
    return protocol.ModelInferRequest(model_name="graph", inputs=inputs)


def occupied(server, calls):
    """Requests that keep every thread of the server busy until their time-out."""
    count = threads(granted())
    busy = [calls.ModelInfer.future(count_to(1 << 60), timeout=30) for _ in range(count)]
    server.until(lambda: figure(server, "edgefleet_scoring_running") == count, "running")
    return busy


def waiting(server, calls, **more):
    """One more, which waits for them."""
    one = calls.ModelInfer.future(count_to(1), **more)
    server.until(lambda: figure(server, "edgefleet_scoring_queue_depth") == 1, "a full queue")
    return one


@pytest.fixture
def slow(serve, counting):
    """A server of the graph that counts, where one request may wait and none may take longer than 1.5 s."""
    limits = json.dumps({"max_queue": 1, "drain_s": 20})
    settings = '{"score_timeout_ms": 1500}'
    return serve("--model", counting, EDGEFLEET_LIMITS=limits, EDGEFLEET_SETTINGS=settings).ready()


def test_full_queue_and_time_out(slow, connect):
    """A full queue is RESOURCE_EXHAUSTED, a run that takes too long INTERNAL, and what waited is answered."""
    calls = connect(slow.grpc)
    busy = occupied(slow, calls)
    last = waiting(slow, calls)
    code, text = refusal(calls.ModelInfer, count_to(1))
    assert (code, "waiting already" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    assert calls.ServerReady(protocol.ServerReadyRequest()).ready
    assert {one.code() for one in busy} == {grpc.StatusCode.INTERNAL}
    assert last.result().outputs[0].name == "y"
    text = slow.ask("/metrics").body.decode()
    assert f'edgefleet_scoring_requests_total{{code="500"}} {len(busy)}' in text
    assert 'edgefleet_scoring_requests_total{code="429"} 1' in text
    assert 'edgefleet_scoring_requests_total{code="200"} 1' in text
    assert figure(slow, "edgefleet_scoring_held_bytes") == 0


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_client_that_gives_up(slow, connect, how):
    """A request that waits is dropped when its deadline passes or its client cancels it, and counted."""
    calls = connect(slow.grpc)
    busy = occupied(slow, calls)
    last = waiting(slow, calls, timeout=0.5 if how == "deadline" else 30)
    if how == "cancel":
        last.cancel()
    else:
        assert last.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    slow.until(lambda: figure(slow, "edgefleet_scoring_abandoned_total") == 1, "giving it up")
    assert {one.code() for one in busy} == {grpc.StatusCode.INTERNAL}
    assert figure(slow, "edgefleet_scoring_queue_depth") == 0
    assert 'requests_total{code="200"}' not in slow.ask("/metrics").body.decode()


def test_drain(slow, connect):
    """After SIGTERM what runs and what waits is answered, a new request is not taken, and the exit code is 0."""
    calls = connect(slow.grpc)
    busy = occupied(slow, calls)
    last = waiting(slow, calls, timeout=30)
    slow.process.send_signal(signal.SIGTERM)

    def closed():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", slow.grpc)) != 0

    slow.until(closed, "closing the port")
    assert refusal(connect(slow.grpc, use_local_subchannel_pool=1).ModelInfer, count_to(1))[0] == (
        grpc.StatusCode.UNAVAILABLE
    )
    assert {one.code() for one in busy} == {grpc.StatusCode.INTERNAL}
    assert last.result().outputs[0].name == "y"
    assert slow.wait() == 0


def test_bounds_on_messages(serve, relu, connect):
    """A message over the limit, more than fits beside others, or compressed, is refused, and the next one taken."""
    limits = {"max_body": 1 << 20, "max_held": 1 << 20}
    server = serve("--model", relu, EDGEFLEET_LIMITS=json.dumps(limits)).ready()
    calls = connect(server.grpc)
    large = protocol.ModelInferRequest(model_name="graph", raw_input_contents=[b" " * (1 << 20)])
    code, text = refusal(calls.ModelInfer, large)
    assert (code, "larger than max" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    code, _ = refusal(calls.ModelInfer, REQUEST, compression=grpc.Compression.Gzip)
    assert code == grpc.StatusCode.UNIMPLEMENTED
    holder = socket.create_connection(("127.0.0.1", server.port))
    holder.sendall(b"POST /score HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
    server.until(lambda: figure(server, "edgefleet_scoring_held_bytes") == 1_000_000, "holding")
    beside = protocol.ModelInferRequest(model_name="graph", raw_input_contents=[b" " * 100_000])
    code, text = refusal(calls.ModelInfer, beside)
    assert (code, "fill the memory" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    holder.close()
    server.until(lambda: figure(server, "edgefleet_scoring_held_bytes") == 0, "letting go")
    assert calls.ModelInfer(REQUEST).outputs[0].name == "y"
    assert figure(server, "edgefleet_scoring_held_bytes") == 0


def test_bound_on_connections(serve, relu, connect):
    """More connections than are allowed are closed; those that are there go on, and so does HTTP."""
    server = serve("--model", relu, EDGEFLEET_LIMITS='{"max_connections": 2}').ready()
    alone = {"use_local_subchannel_pool": 1}
    first, second = (connect(server.grpc, **alone) for _ in range(2))
    assert [calls.ModelInfer(REQUEST, timeout=30).model_name for calls in (first, second)] == ["graph"] * 2
    assert refusal(connect(server.grpc, **alone).ModelInfer, REQUEST)[0] == grpc.StatusCode.UNAVAILABLE
    assert first.ModelInfer(REQUEST, timeout=30).model_name == "graph"
    assert server.ask("/").status == 200


def bearer(text):
    return {"metadata": [("authorization", f"Bearer {text}")]}


def test_keys_and_tokens(serve, relu, connect, tmp_path):
    """Keys and tokens are those of HTTP, in the metadata; life and readiness need none; a new key counts at once."""
    keys = tmp_path / "keys.json"
    secret = base64.b64encode(SECRET).decode()
    keys.write_text(json.dumps({"keys": [KEY], "token_secret": secret}))
    server = serve("--model", relu, EDGEFLEET_ACCESS_FILE=str(keys)).ready()
    calls = connect(server.grpc)
    token = access_tokens.make(SECRET, expires=int(time.time()) + 60)
    assert calls.ServerLive(protocol.ServerLiveRequest()).live
    assert calls.ServerReady(protocol.ServerReadyRequest()).ready
    for good in (KEY, token):
        assert calls.ModelInfer(REQUEST, **bearer(good)).model_name == "graph"
    for given, said in (
        ({}, "send a key or a token"),
        (bearer("wrong-wrong-wrong"), "not a token of this endpoint"),
        (bearer(access_tokens.make(SECRET, expires=1)), "has expired"),
    ):
        for call, request in (
            (calls.ModelInfer, REQUEST),
            (calls.ModelReady, protocol.ModelReadyRequest(name="graph")),
            (calls.ServerMetadata, protocol.ServerMetadataRequest()),
        ):
            code, text = refusal(call, request, **given)
            assert (code, said in text) == (grpc.StatusCode.UNAUTHENTICATED, True)
    large = protocol.ModelInferRequest(model_name="graph", raw_input_contents=[bytes(50 << 20)])
    assert refusal(calls.ModelInfer, large)[0] == grpc.StatusCode.UNAUTHENTICATED
    keys.write_text(json.dumps({"keys": ["fedcba9876543210"]}))
    server.until(lambda: "are in force" in server.log, "the new keys")
    assert calls.ModelInfer(REQUEST, **bearer("fedcba9876543210")).model_name == "graph"
    assert refusal(calls.ModelInfer, REQUEST, **bearer(KEY))[0] == grpc.StatusCode.UNAUTHENTICATED


def test_tls(serve, relu, connect, tmp_path):
    """The port speaks TLS with HTTP's certificate alone; a renewed one is used without a restart."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    self_signed(certificate, key, "first")
    names = {"EDGEFLEET_TLS_CERTIFICATE": str(certificate), "EDGEFLEET_TLS_KEY": str(key)}
    server = serve("--model", relu, **names)

    def trusting(pem):
        options = {"ssl_target_name_override": "localhost", "use_local_subchannel_pool": 1}
        return connect(server.grpc, grpc.ssl_channel_credentials(pem), **options)

    def answers(pem):
        try:
            return trusting(pem).ModelInfer(REQUEST, timeout=5).model_name == "graph"
        except grpc.RpcError:
            return False

    old = certificate.read_bytes()
    server.until(lambda: answers(old), "TLS")
    staying = trusting(old)
    assert staying.ModelInfer(REQUEST).model_name == "graph"
    self_signed(certificate, key, "second")
    server.until(lambda: answers(certificate.read_bytes()), "the new certificate")
    assert not answers(old)
    assert staying.ModelInfer(REQUEST).model_name == "graph"
    code, _ = refusal(connect(server.grpc).ModelInfer, REQUEST)
    assert code == grpc.StatusCode.UNAVAILABLE


def test_ids_and_log(serve, relu, connect):
    """An answer carries the client's id or a new one, which is on the line that is logged; a bad one is refused."""
    server = serve("--model", relu, EDGEFLEET_LOG_FORMAT="json", EDGEFLEET_SETTINGS='{"log_level": "debug"}').ready()
    calls = connect(server.grpc)

    def ask(*metadata):
        _, call = calls.ModelInfer.with_call(REQUEST, metadata=metadata)
        return dict(call.trailing_metadata())["x-request-id"]

    assert ask(("x-request-id", "mine")) == "mine"
    assert len(ask()) == 36
    server.until(lambda: '"mine"' in server.log, "the line")
    (about,) = [one for one in map(json.loads, server.log.splitlines()) if one.get("request_id") == "mine"]
    assert re.fullmatch(r"gRPC 200 in [\d.]+ ms", about["message"])
    with pytest.raises(grpc.RpcError) as error:
        calls.ModelInfer(protocol.ModelInferRequest(model_name="q"), metadata=[("x-request-id", "lost")], timeout=30)
    assert dict(error.value.trailing_metadata())["x-request-id"] == "lost"
    code, text = refusal(calls.ModelInfer, REQUEST, metadata=[("x-request-id", "a" * 101)])
    assert (code, "at most 100" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_metrics(serve, relu, connect):
    """Requests over gRPC are counted with those over HTTP, and by phase; calls that run nothing are not."""
    server = serve("--model", relu).ready()
    calls = connect(server.grpc)
    calls.ModelInfer(REQUEST)
    calls.ModelReady(protocol.ModelReadyRequest(name="graph"))
    refusal(calls.ModelInfer, protocol.ModelInferRequest(model_name="graph"))
    server.ask(body={"data": [[0] * 4]})
    text = server.ask("/metrics").body.decode()
    assert 'edgefleet_scoring_requests_total{code="200"} 2' in text
    assert 'edgefleet_scoring_requests_total{code="400"} 1' in text
    assert "edgefleet_scoring_seconds_count 3" in text
    assert 'edgefleet_scoring_phase_seconds_count{model="graph",phase="run"} 2' in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--unix", "s.sock", "--grpc-port", "0"], "--grpc-port goes with --host and --port"),
        (["--port", "0", "--grpc-port", "70000"], "70000 is not a valid port"),
        (["--port", "0", "--grpc-port", "-1"], "-1 is not a valid port"),
    ],
)
def test_bad_port(relu, arguments, said):
    """A port that is none, or beside a Unix socket, is refused with exit code 1."""
    command = [sys.executable, "-m", "modules.scoring", "--model", str(relu), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_port_in_use(serve, relu, start, free_port):
    """A port that another server has is refused with exit code 1, rather than shared."""
    first = serve("--model", relu).ready()
    second = start("--model", relu, "--grpc-port", first.grpc, tcp=free_port())
    assert second.wait() == 1
    assert f"127.0.0.1:{first.grpc}: cannot listen for gRPC" in second.log


# As where the extra is not installed: importing the name fails in the same way.
MISSING = """
import sys
sys.modules[sys.argv.pop(1)] = None
from modules.scoring.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["grpc", "open_inference"])
def test_packages_missing(relu, name):
    """Where the extra is not installed the port is refused with exit code 1, and the log says what to install."""
    command = [sys.executable, "-c", MISSING, name, "--model", str(relu), "--port", "0", "--grpc-port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edgefleet-scoring: bad-command-line: --grpc-port: it needs a package that is not installed")
    assert "pip install 'edgefleet[scoring,grpc]'" in last
