"""Row 34: an address to ask instead of the module, chosen so that the device asks something of its own network.

The gateway is what asks, and all that can be asked today is the fallback of an order. Exports and uploads to a cloud
are not built, so there is no other URL to check. A name is resolved anew for each connection, and the connection is
made to what was looked at (agent/gateway/public_only.py); there is no list of networks to allow: the device's own
settings name hosts (``fallback_hosts``).
"""

import http.client
import http.server
import sys
import threading
from contextlib import closing

import pytest

from agent.gateway.table import write
from modules.protocol.routing import Fallback, Route, Table
from tests.parts.programs import Program

SLOT = "elsewhere"
SECRET = b'{"AccessKeyId": "the device owner alone may know it"}'
# Of the same services by another writing of their address.
PLACES = [
    "https://127.0.0.1:{port}/latest/",
    "https://localhost:{port}/latest/",
    "https://[::1]:{port}/latest/",
    "https://169.254.169.254/latest/",
    "https://[fd00:ec2::254]/latest/",
    "https://10.0.0.1/",
    "https://[::ffff:127.0.0.1]:{port}/",
]
MALFORMED = [
    "http://cloud.example/",
    "https://user:word@cloud.example/",
    "https://cloud.example@127.0.0.1:{port}/",
    "https://cloud.example/?to=127.0.0.1",
    "https://cloud.example/#127.0.0.1",
    "https://cloud.example:99999/",
    "file:///etc/passwd",
    "unix:///run/edgefleet/s.sock",
    "https://cloud.example\r\nX-Evil: 1/",
    "https://2130706433/",
]
NO_GRAPH = b"no graph"


class Service:
    """A service of the device's own, which nobody outside may ask; ``asked`` are the paths that were."""

    def __init__(self, answer):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(self.path)
                answer(self)

            do_GET = do_POST  # noqa: N815 - as the base class has it

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def secret(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(SECRET)))
    handler.end_headers()
    handler.wfile.write(SECRET)


@pytest.fixture
def metadata():
    with Service(secret) as service:
        yield service


@pytest.mark.parametrize("url", [*MALFORMED[:3], *(pytest.param(one, marks=pytest.mark.long) for one in MALFORMED[3:])])
def test_row_34_what_is_no_plain_https_address_is_no_fallback(edge, hold, metadata, url):
    """Refused when it is ordered, whatever the publisher allows: no order is made, nothing is asked."""
    ref = hold.graph("cloudy", NO_GRAPH, fallback_hosts=("cloud.example", "127.0.0.1"))
    wish = {"module": ref, "slot": SLOT, "devices": [edge.name], "fallback": url.format(port=metadata.port)}
    with edge.system.server.client() as api:
        answer = api.post("/api/v1/rollouts", json=wish)
    assert answer.status_code == 422, answer.text
    assert metadata.asked == []
    assert edge.told(SLOT) is None
    edge.holds()


def test_row_34_a_name_that_leads_to_this_device_is_not_asked(edge, hold, metadata):
    """The publisher allows the name and the order names it, and the module is down: the gateway looks where the name
    leads, asks nothing, and the application hears that nobody answers."""
    url = f"https://localhost:{metadata.port}/latest/"
    ref = hold.graph("cloudy", NO_GRAPH, fallback_hosts=("localhost",), ready_within_s=3.0)
    end = hold.brought(SLOT, ref, fallback=url)

    assert (end.phase, end.code) == ("reverted", "not-ready"), end
    got = edge.device.score(SLOT, b"{}")
    assert got.status == 503
    assert SECRET not in got.body
    assert metadata.asked == []
    assert "is not a public address" in edge.device.gateway.said()
    edge.holds()
    hold.empty(SLOT)
    edge.holds()


class Gateway:
    """The real gateway with a table of the test's; ``allowed`` are hosts of the device's own settings."""

    def __init__(self, folder, allowed=""):
        self._table, self._ready = folder / "table.json", folder / "ready"
        self._generation = 0
        self.route("")
        self.program = Program(
            "gateway",
            [
                *(sys.executable, "-m", "agent.gateway", "--table", self._table),
                *("--listen", "127.0.0.1:0", "--ready-file", self._ready),
            ],
            folder / "gateway.log",
            environment={"EDGEFLEET_AGENT_FALLBACK_HOSTS": allowed},
        )

    def __enter__(self):
        self.program.start(ready=self._ready.exists)
        return self

    def __exit__(self, *_):
        self.program.stop()

    def route(self, url):
        self._generation += 1
        slots = {SLOT: Route(fallback=Fallback(url=url))} if url else {}
        write(self._table, Table(generation=self._generation, slots=slots))

    def ask(self):
        host, _, port = self._ready.read_text().strip().rpartition(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=15)) as connection:
            connection.request("POST", f"/{SLOT}/score", b"{}", {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.headers, response.read()


def test_row_34_addresses_of_this_device_and_its_network_are_not_asked(edge, metadata, tmp_path):
    """Loopback, link-local and private addresses, in IPv4, in IPv6 and the one in the other: 503, nothing is asked."""
    with Gateway(tmp_path) as gateway:
        for place in PLACES:
            for scheme in ("https", "http"):
                gateway.route(place.format(port=metadata.port).replace("https", scheme, 1))
                status, _, body = gateway.ask()
                assert (status, SECRET in body) == (503, False), place
    assert metadata.asked == []
    assert gateway.program.said().count("is not a public address") >= 1
    edge.holds()


def test_row_34_a_redirect_is_not_followed(edge, metadata, tmp_path):
    """A fallback that the device allows sends on to its services: the application, which might follow, is told so, and
    the gateway asks nobody. Where the device's own settings allow a host, it may be a private one, and it is asked."""

    def sends_on(handler):
        handler.send_response(307)
        handler.send_header("Location", f"http://127.0.0.1:{metadata.port}/latest/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with Service(sends_on) as allowed, Gateway(tmp_path, "127.0.0.1") as gateway:
        gateway.route(f"http://127.0.0.1:{allowed.port}/")
        status, headers, body = gateway.ask()
    assert (status, headers["Location"], b"would send us elsewhere" in body) == (503, None, True)
    assert len(allowed.asked) == 1
    assert metadata.asked == []
    edge.holds()
