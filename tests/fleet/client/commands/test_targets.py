"""``edgefleet targets attach``: what is asked of the server for each kind of place, and what is refused before."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app
from fleet.targets.kinds import read


class Server(ThreadingHTTPServer):
    """Takes whatever is attached, and keeps what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []


class Handler(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = json.dumps({"name": "x", "is": {"engine": "it", "platform": "linux/amd64"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path))
        monkeypatch.setenv("EDGEFLEET_URL", f"http://127.0.0.1:{found.server_port}")
        monkeypatch.setenv("EDGEFLEET_TOKEN", "token")
        yield found
        found.shutdown()
        thread.join()


def attach(*words):
    return CliRunner().invoke(app, ["targets", "attach", "lab", *words])


def test_a_namespace_is_asked_for_with_all_that_was_said(server):
    """The server reads it as it was meant; without a registry images are on the nodes."""
    done = attach(
        "--kubeconfig", "/etc/kube", "--namespace", "models", "--registry", "registry.example/fleet/scoring",
        "--expose", "Ingress", "--address", "{endpoint}.example", "--ingress-class", "nginx", "--tls-secret", "wild",
        "--content-url", "https://fleet.example", "--node-selector", "pool=gpu", "--tolerate", "gpu",
        "--tolerate", "team=ml", "--accelerator", "nvidia", "--pull-secret", "pull",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read(server.asked[0]["kind"], server.asked[0]["attached"])
    assert (found.namespace, found.images, found.expose, found.name) == (
        "models",
        "registry",
        "Ingress",
        "{endpoint}.example",
    )
    assert found.node_selector == {"pool": "gpu"}
    assert [(one.key, one.operator) for one in found.tolerations] == [("gpu", "Exists"), ("team", "Equal")]
    done = attach("--namespace", "models", "--content-url", "https://fleet.example")
    assert done.exit_code == 0, done.output
    found = read(server.asked[1]["kind"], server.asked[1]["attached"])
    assert (found.images, found.kubeconfig, found.expose) == ("present", "", "ClusterIP")


def test_a_container_host_is_asked_for_as_before(server):
    """Its engine, where endpoints listen, and under which name."""
    done = attach("--docker", "unix:///var/run/docker.sock", "--bind", "0.0.0.0", "--address", "lab.example")
    assert done.exit_code == 0, done.output
    found = read(server.asked[0]["kind"], server.asked[0]["attached"])
    assert (found.docker, found.bind, found.name) == ("unix:///var/run/docker.sock", "0.0.0.0", "lab.example")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--namespace"),
        (["--docker", "unix:///x", "--namespace", "models"], "one place"),
        (["--docker", "unix:///x", "--registry", "registry.example/x"], "--registry"),
        (["--namespace", "models", "--bind", "0.0.0.0"], "--bind"),
    ],
)
def test_two_kinds_of_place_at_once_are_refused(server, words, said):
    """Nothing is asked for."""
    done = attach(*words)
    assert done.exit_code != 0
    assert said in str(done.exception) + done.output
    assert server.asked == []
