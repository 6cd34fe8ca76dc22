"""The API server as a way to what pods listen at: what it passes on, what it keeps, and where it does not get."""

import http.server
import json
import threading

import pytest

RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
MAY = [*RULES, {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]}]


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(418)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def echo():
    """A program that says what it was asked; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def pod(cluster, client, deployment, echo):
    """One that runs; the program is its own at port 8080. Its name."""
    client.apply(deployment(replicas=1))
    cluster.settle()
    name = client.core.list_namespaced_pod("default").items[0].metadata.name
    cluster.proxying.listens["default", name, 8080] = echo
    return name


def asked(client, pod, port=8080, path="deep/er"):
    """Status and document of one request through the API server."""
    at = f"/api/v1/namespaces/default/pods/{pod}:{port}/proxy/{path}"
    passed = client.api.param_serialize("GET", at, header_params={"X-Mine": "1"}, auth_settings=["BearerToken"])
    answer = client.api.call_api(*passed).response
    return answer.status, json.loads(answer.data)


def test_a_request_goes_to_the_program_without_the_bearers_token(cluster, connect, pod):
    """Path and fields arrive, and the program's own status comes back; what let the client in stays there."""
    status, told = asked(connect(cluster.account("ours", MAY)), pod)
    assert (status, told["path"], told["headers"]["x-mine"]) == (418, "/deep/er", "1")
    assert "authorization" not in told["headers"]


def test_it_has_a_right_of_its_own(cluster, connect, pod):
    """pods does not give pods/proxy."""
    status, told = asked(connect(cluster.account("ours", RULES)), pod)
    assert status == 403
    assert 'cannot get resource "pods/proxy" in API group ""' in told["message"]


def test_where_nothing_listens_is_said(client, pod):
    """Another port is refused, and a pod that is not there is missing."""
    status, told = asked(client, pod, port=8081)
    assert (status, told["kind"], told["reason"]) == (503, "Status", "ServiceUnavailable")
    assert told["message"].endswith(":8081: connect: connection refused")
    assert asked(client, "nobody")[0] == 404


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({}, 418),
        ({"ports": [{"port": 8080}]}, 418),
        ({"ports": [{"port": 9}]}, 503),
        ({"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}, 503),
        (None, 503),
    ],
)
def test_network_policies_hold_for_it(client, pod, rule, status):
    """The API server is no pod: only a rule for everybody lets it in."""
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
    spec |= {"ingress": [rule]} if rule is not None else {}
    client.create({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "it"},
                   "spec": spec})  # fmt: skip
    assert asked(client, pod)[0] == status
