"""A device that is never dark: a real agent, and an endpoint on a real container host that answers for it."""

import http.server
import json
import ssl
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.certificates import self_signed
from tests.parts.pace import stretched
from tests.parts.presence import engine_socket
from tests.parts.programs import CommandFailed
from tests.parts.traffic import Traffic

ENDPOINT, REGION, HOST = "stand-in", "lab", "127.0.0.1"
RULES = ("--fallback-host", HOST, "--fallback-host", "localhost", "--data-class", "personal", "--data-region", REGION)
# More than any machine has.
HUGE_MB = "99999999"
QUICKLY_S = 1.0
STEADY = 100


@pytest.fixture(scope="module")
def small(system, tmp_path_factory):
    """A version that fits every device."""
    options = digits.samples(tmp_path_factory.mktemp("small"))
    return system.sign(system.register(digits.GRAPH, "digits", *options, *RULES))


@pytest.fixture(scope="module")
def huge(system, small, tmp_path_factory):
    """Another version of it, that fits none."""
    options = digits.samples(tmp_path_factory.mktemp("huge"))
    return system.sign(system.register(digits.GRAPH, "digits", *options, *RULES, "--memory-mb", HUGE_MB))


@pytest.fixture(scope="module")
def endpoint(system, small):
    """On this machine's engine, with a certificate of the fleet's authority; removed at the end."""
    with docker_parts.engine() as _:
        client = docker_parts.client()
        image = docker_parts.gateway_image(client)
        client.close()
    attached = ("--docker", f"unix://{engine_socket()}", "--gateway-image", image, "--region", REGION)
    system.cli("targets", "attach", "lab", *attached)
    found = system.cli("endpoints", "deploy", ENDPOINT, "--target", "lab", "--module", small,
                       "--set", "devices=true", "--wait")  # fmt: skip
    assert (found["state"], found["url"].startswith("https://")) == ("ready", True), found
    yield found
    system.cli("endpoints", "remove", ENDPOINT, "--wait")


@pytest.fixture(scope="module")
def edge(shared_device):
    """A device whose owner lets its gateway ask at this machine's loopback."""
    return shared_device("dev-dark", fallback_hosts=HOST)


def score(device, slot):
    return device.score(slot, digits.QUESTIONS[0].body)


def by(scored):
    return scored.status, scored.headers["x-edgefleet-served-by"]


def from_cloud(scored):
    return by(scored) == (200, "fallback") and not digits.QUESTIONS[0].wrong(scored.body)


def brought(system, device, ref, slot, *terms):
    rollout = system.ended(system.start_rollout(ref, device.name, slot=slot, more=terms), said=device.said)
    assert rollout["state"] == "done", rollout
    device.until(lambda: score(device, slot).status != 404, "the gateway knows the slot")


def answered(device, slot):
    """Whom the gateway says that it asked, how often."""
    with urllib.request.urlopen(f"http://{HOST}:{device.port}/", timeout=30) as answer:
        return next(one for one in json.load(answer) if one["slot"] == slot)


@pytest.mark.long
def test_a_model_that_does_not_fit_is_served_from_the_cloud(system, edge, endpoint, huge):
    """The rollout is done, the device says why it runs nothing, and its clients have right answers."""
    brought(system, edge, huge, "big", "--fallback", f"endpoint:{ENDPOINT}")
    assert from_cloud(score(edge, "big"))
    assert "MiB of memory" in edge.slot("big").reason.message


def test_a_module_that_crashes_under_load_costs_no_request(system, edge, endpoint, small):
    """While two clients ask all the time its container is killed: the cloud answers, and then the module again."""
    brought(system, edge, small, "busy", "--fallback", f"endpoint:{ENDPOINT}")
    assert by(score(edge, "busy")) == (200, "local")
    with Traffic(edge.port, "/busy/score", digits.QUESTIONS) as traffic:
        edge.until(lambda: len(traffic.answers) > STEADY, "answers come")
        with edge.containers() as containers:
            for one in containers:
                one.kill()
        edge.until(lambda: answered(edge, "busy")["answered"].get("fallback"), "the cloud answers")
        edge.until(lambda: by(score(edge, "busy")) == (200, "local"), "the module answers again")
        seen = len(traffic.answers)
        edge.until(lambda: len(traffic.answers) > seen + STEADY, "answers come")

    assert traffic.failed == []


def test_a_cloud_that_nobody_reaches_is_said_quickly(system, edge, huge):
    """With the breaker open the 503 comes within a second, says why, and when to come again."""
    brought(system, edge, huge, "gone", "--fallback", f"https://{HOST}:9/none", "--fallback-region", REGION,
            "--fallback-when", "unplaceable")  # fmt: skip
    edge.until(lambda: b"does not, either" in score(edge, "gone").body, "it is left alone")
    began = time.monotonic()
    told = score(edge, "gone")
    took = time.monotonic() - began
    assert (told.status, int(told.headers["Retry-After"]) > 0, took < QUICKLY_S) == (503, True, True), took


@pytest.mark.long
def test_a_spent_budget_is_said_and_survives_the_gateway(system, edge, endpoint, huge):
    """The third of two is refused until midnight, by a gateway that was started again, too."""
    brought(system, edge, huge, "poor", "--fallback", f"endpoint:{ENDPOINT}", "--fallback-requests-a-day", "2")
    edge.until(lambda: score(edge, "poor").status == 503, "the budget is spent")
    assert answered(edge, "poor")["cloud"]["sent_today"] == 2
    assert b"the 2 requests that slot poor may send to the cloud today are spent" in score(edge, "poor").body
    edge.gateway.stop()
    edge.start_gateway()
    assert score(edge, "poor").status == 503


@pytest.mark.parametrize("region", [("--fallback-region", "moon"), ()])
def test_data_that_may_not_go_there_are_refused_before_any_order(system, edge, small, region):
    """One sentence says which data, where they may go, and where the fallback is."""
    more = ("--fallback", f"https://{HOST}:9/none", *region)
    with pytest.raises(CommandFailed, match=r"\(personal\) may go to lab alone, and the fallback is in"):
        system.start_rollout(small, edge.name, slot="forbidden", more=more)
    assert edge.slot("forbidden") is None


@contextmanager
def sends_elsewhere(folder, target):
    """A TLS server that answers every request with a redirect; its port and its certificate."""
    self_signed(folder / "a.pem", folder / "a.key", HOST, address=HOST)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "a.pem", folder / "a.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join(stretched(10))
        server.server_close()


@pytest.mark.long
def test_a_hostile_address_leads_nowhere(system, edge, huge, tmp_path):
    """A redirect to this device is neither followed nor passed on; nor is a name asked that leads to loopback."""
    with sends_elsewhere(tmp_path, f"http://{HOST}:{edge.port}/") as (port, asked):
        terms = ("--fallback-region", REGION, "--fallback-ca", str(tmp_path / "a.pem"))
        brought(system, edge, huge, "elsewhere", "--fallback", f"https://{HOST}:{port}/x", *terms)
        edge.until(lambda: asked, "it was asked", within_s=10)
        told = score(edge, "elsewhere")
        assert (told.status, told.headers["Location"]) == (503, None)
        assert b"would send us elsewhere" in told.body

        count = len(asked)
        brought(system, edge, huge, "rebound", "--fallback", f"https://localhost:{port}/x", *terms)
        told = score(edge, "rebound")
        assert (told.status, b"is not a public address" in told.body) == (503, True), told.body
        assert len(asked) == count


@pytest.mark.long
def test_a_device_whose_certificate_is_revoked_is_told_so(system, device, endpoint, huge):
    """In the middle of its work the endpoint lets it in no more: its clients hear a clear 503, and nothing breaks."""
    lost = device("dev-lost", fallback_hosts=HOST)
    brought(system, lost, huge, "big", "--fallback", f"endpoint:{ENDPOINT}")
    assert from_cloud(score(lost, "big"))
    system.cli("devices", "revoke", lost.name)
    lost.until(lambda: score(lost, "big").status == 503, "the endpoint knows of it")
    told = score(lost, "big")
    assert (told.status, b"certificate is revoked" in told.body) == (503, True), told.body
    assert lost.gateway.runs
