"""What the image's health check says of a server."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched
from tests.parts.warm import ROOT


def asked(**settings):
    given = {f"EDGEFLEET_FLEET_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "fleet.healthy"], cwd=ROOT, env=os.environ | given, capture_output=True, text=True,
        timeout=stretched(30), check=False,
    )  # fmt: skip


class Troubled(BaseHTTPRequestHandler):
    """A server that answers, and cannot work."""

    def do_GET(self):
        self.send_response(503 if self.path == "/healthz" else 200)
        self.end_headers()
        self.wfile.write(b"the disk is full")

    def log_message(self, *_):
        """Nobody reads it."""


@pytest.fixture
def troubled():
    with HTTPServer(("127.0.0.1", 0), Troubled) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.needs("mosquitto")
def test_a_server_that_works_is_well(tmp_path):
    """Over TLS, whatever its certificate, and without loading the server."""
    data = initialise(tmp_path / "data")
    with broker(tmp_path / "broker", data) as running, fleet_server(data, running) as server:
        done = asked(port=server.url.rsplit(":", 1)[1], host="127.0.0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"status":"ok"' in done.stdout


def test_a_server_that_cannot_work_is_not(troubled):
    """Its own words are shown."""
    done = asked(port=troubled, host="127.0.0.1", tls="False")
    assert (done.returncode, done.stdout.strip()) == (1, "the disk is full")


def test_a_server_that_is_not_there_is_not_well_either(troubled, free_port):
    """Nobody listens, or somebody who speaks no TLS."""
    for port in (str(free_port()), troubled):
        done = asked(port=port)
        assert done.returncode == 1
        assert "does not answer" in done.stdout
        assert done.stderr == ""
