"""What scripts raise and return, however odd: the worker stays, the answer and the log say why."""

import pytest

SCRIPT = """
import asyncio
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse

class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")
class Odd(BaseException):
    pass
class HTTPException(Exception):
    status_code = 404
    def __str__(self): raise RuntimeError("no words either")
class Stream:
    pass

count = 0

@rawhttp
def run(request):
    global count
    count += 1
    what = request.args.get("w")
    if what == "mute": raise Mute
    if what == "odd": raise Odd("strange")
    if what == "interrupt": raise KeyboardInterrupt
    if what == "cancelled": raise asyncio.CancelledError
    if what == "http": raise HTTPException
    if what == "missing": return request.args["plant"]
    if what == "form": return request.form["plant"]
    if what == "bytes": return AMLResponse([b"ab", b"cd"], 201)
    if what == "words": return AMLResponse(["ab", "cd"], 201)
    if what == "empty": return AMLResponse([], 201)
    if what == "broken":
        def parts():
            yield "first"
            raise Mute
        return AMLResponse(parts(), 200)
    return count
"""


@pytest.fixture(scope="module")
def server(start, script):
    return start("--script", script(SCRIPT)).ready()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("mute", "Mute: it has no message, since its __str__ raised RuntimeError"),
        ("odd", "Odd: strange"), ("interrupt", "KeyboardInterrupt"), ("cancelled", "CancelledError"),
        ("http", "HTTPException: it has no message"),
    ],
)  # fmt: skip
def test_what_is_raised(server, what, said):
    """An exception of any kind, one without words too, is a 500 with its name, and the same worker goes on."""
    before = server.ask(body=b"").json
    reply = server.ask(f"/score?w={what}", b"")
    assert (reply.status, said in reply.json["message"]) == (500, True), reply.body
    assert server.ask(body=b"").json == before + 2
    assert "worker" not in reply.json["message"]


@pytest.mark.parametrize(("what", "line"), [("missing", 'request.args["plant"]'), ("form", 'request.form["plant"]')])
def test_a_value_that_the_request_lacks(server, what, line):
    """A value that a script looks for in vain is 400 and named, and the log says in which line."""
    reply = server.ask(f"/score?w={what}", b"")
    assert (reply.status, reply.json["message"]) == (400, "a value is missing in the request: 'plant'")
    number = next(place for place, text in enumerate(SCRIPT.splitlines(), 1) if line in text)
    server.until(lambda: f"score.py:{number}: run() ended with 400" in server.log, "the line in the log")


def test_lists_in_responses(server):
    """A list of bytes is one body; lists of anything else are JSON."""
    reply = server.ask("/score?w=bytes", b"")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (201, b"abcd", "text/html; charset=utf-8")
    assert server.ask("/score?w=words", b"").json == ["ab", "cd"]
    assert server.ask("/score?w=empty", b"").json == []


def test_a_stream_that_breaks_off(server):
    """A stream that ends in an exception is cut, so that it does not look complete; the log says why."""
    client = server.connect()
    client.request("POST", "/score?w=broken", b"")
    reply = client.getresponse()
    with pytest.raises(Exception, match="IncompleteRead"):
        reply.read()
    client.close()
    server.until(lambda: "the stream of run() ended early: Mute" in server.log, "the reason in the log")
    assert server.ask(body=b"").status == 200
