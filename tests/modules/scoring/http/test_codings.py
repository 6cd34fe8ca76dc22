"""Bodies that are sent compressed: who decodes them, and what the others say."""

import gzip
import json

import pytest

GZIP = {"Content-Encoding": "gzip"}
BODY = gzip.compress(json.dumps({"data": [[1, 2, 3, 4]]}).encode())
RAW = """
import gzip
from azureml.contrib.services.aml_request import rawhttp
@rawhttp
def run(request):
    return {"coding": request.headers["Content-Encoding"], "body": gzip.decompress(request.get_data()).decode()}
"""


@pytest.mark.parametrize("path", ["/score", "/v2/models/graph/infer"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP, gzip"])
def test_a_graph(start, relu, path, coding):
    """A compressed body for a graph is 415 with what to do, not a word about JSON or UTF-8."""
    server = start("--model", relu).ready()
    reply = server.ask(path, BODY, headers={"Content-Encoding": coding})
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "identity")
    assert f"Content-Encoding {coding}: send it without" in reply.json["message"]
    assert server.ask(body={"data": [[1, 2, 3, 4]]}, headers={"Content-Encoding": "identity"}).status == 200
    assert server.ask("/", headers=GZIP).status == 200


def test_scripts(start, script):
    """A script of whole requests gets them as they came; one of text says that it takes no compressed ones."""
    reply = start("--script", script(RAW)).ready().ask(body=BODY, headers=GZIP)
    assert reply.json == {"coding": "gzip", "body": gzip.decompress(BODY).decode()}
    plain = start("--script", script("def run(data):\n    return data\n")).ready()
    for headers in (GZIP, {}):
        refused = plain.ask(body=BODY, headers=headers)
        assert (refused.status, "without Content-Encoding" in refused.json["message"]) == (415, True)
    assert plain.ask("/v2", b"x", headers=GZIP).status == 415
