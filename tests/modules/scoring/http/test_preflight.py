"""Browsers ask first, and without a key, whether a page may send a request: who is answered, and by whom."""

import json

import pytest

KEY = "0123456789abcdef"
PAGE = "http://page.example"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
SCRIPT = """
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
count = 0
@rawhttp
def run(request):
    global count
    count += 1
    return AMLResponse(str(count), 203, {"X-Method": request.method})
"""


@pytest.fixture(scope="module")
def guarded(start, script, tmp_path_factory, free_port):
    """A script with raw requests behind keys, whose answers one page may read."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(json.dumps({"keys": [KEY]}))
    more = {"EDGEFLEET_ACCESS_FILE": str(keys), "AML_CORS_ORIGINS": PAGE}
    return start("--script", script(SCRIPT), tcp=free_port(), **more).ready()


def bearer(key=KEY):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/score", "/", "/swagger.json", "/score?a=1", "/v2", "/v2/models/score"])
def test_preflight(guarded, path):
    """A browser's question needs no key, is answered with what it may send, and the script is not run."""
    before = int(guarded.ask(headers=bearer()).body)
    reply = guarded.ask(path, method="OPTIONS", headers=ASKS)
    assert (reply.status, reply.body, reply.headers["access-control-allow-origin"]) == (200, b"", PAGE)
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert (reply.headers["access-control-allow-headers"], reply.headers["vary"]) == ("authorization", "Origin")
    assert int(guarded.ask(headers=bearer()).body) == before + 1


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/score", {**ASKS, "Origin": "http://other.example"}),
        ("/score", {"Origin": PAGE}),
        ("/score", {"Access-Control-Request-Method": "POST"}),
        ("/score", {}),
        ("/metrics", ASKS),
    ],
    ids=["another page", "no question", "no page", "plain", "metrics"],
)
def test_what_needs_a_key(guarded, path, headers):
    """Any other OPTIONS needs the key, and with it reaches the script."""
    refused = guarded.ask(path, method="OPTIONS", headers=headers)
    assert (refused.status, "send a key" in refused.json["message"]) == (401, True)
    if path == "/score":
        reply = guarded.ask(path, method="OPTIONS", headers=headers | bearer())
        assert (reply.status, reply.headers["x-method"]) == (203, "OPTIONS")


def test_the_request_itself(guarded):
    """After the question the request needs its key, and the page can read the answer, and a refusal too."""
    reply = guarded.ask(body=b"x", headers=bearer() | {"Origin": PAGE})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (203, PAGE)
    for refused in (
        guarded.ask(body=b"x", headers=bearer("f" * 16) | {"Origin": PAGE}),
        guarded.ask(method="POST", headers=bearer() | {"Origin": PAGE, "Content-Length": str(1 << 40)}),
    ):
        assert refused.status in {401, 413}
        assert refused.headers["access-control-allow-origin"] == PAGE
    other = guarded.ask(body=b"x", headers=bearer() | {"Origin": "http://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_without_keys_the_script_decides(start, script):
    """Where no key is asked for, a script that takes raw requests answers these questions itself, as it always did."""
    server = start("--script", script(SCRIPT), AML_CORS_ORIGINS="*").ready()
    reply = server.ask(method="OPTIONS", headers=ASKS)
    assert (reply.status, reply.headers["x-method"]) == (203, "OPTIONS")
    assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origins", [None, PAGE])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/score", "GET, POST, OPTIONS"), ("/v2", "GET, HEAD, OPTIONS"), ("/v2/models/graph/infer", "POST, OPTIONS"),
        ("/v2/repository/models/graph/load", "POST, OPTIONS"), ("/v2/health/ready", "GET, HEAD, OPTIONS"),
    ],
)  # fmt: skip
def test_a_graph_answers_the_question(start, relu, path, allowed, origins):
    """A graph's paths say what may be sent to them; without named origins no page may read more."""
    server = start("--model", relu, **({"AML_CORS_ORIGINS": origins} if origins else {})).ready()
    reply = server.ask(path, method="OPTIONS", headers=ASKS)
    assert (reply.status, reply.body, reply.headers["allow"]) == (200, b"", allowed)
    assert reply.headers.get("access-control-allow-origin") == origins


def test_answers_below_v2_can_be_read(start, relu):
    """The page that may read ``/score`` may read the protocol's answers and refusals."""
    server = start("--model", relu, AML_CORS_ORIGINS=PAGE).ready()
    for path, body in (("/v2/models/graph", None), ("/v2/models/graph/infer", b"{")):
        assert server.ask(path, body, headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE
