"""What scripts raise and return, however odd: the worker stays, the answer and the log say why."""

import pytest

SCRIPT = r"""
import asyncio, datetime, io, sys
import numpy as np
from werkzeug.exceptions import NotFound, abort
from werkzeug.wrappers import Response
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse

class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")
class Odd(BaseException):
    pass
class HTTPException(Exception):
    status_code = 404
    def __str__(self): raise RuntimeError("no words either")
class Ending(Exception):
    def __str__(self): raise SystemExit(3)
class Numbered(Exception):
    def __str__(self): return 5
class Long(Exception):
    def __str__(self): return "long " * 10_000_000
class Gone(NotFound):
    @property
    def description(self): raise SystemExit(3)
class Strange(SyntaxError):
    def __init__(self): self.msg, self.text, self.lineno, self.offset, self.filename = "strange", 5, "a", object(), 7
class Mark:
    def __repr__(self): raise SystemExit(3)
async def later():
    yield b"ab"
    yield "cd"

BODIES = {
    "array": lambda: np.arange(3), "number": lambda: np.float32(0.5), "set": lambda: {1}, "range": lambda: range(2),
    "date": lambda: datetime.date(2020, 1, 2), "view": lambda: memoryview(b"ab"), "map": lambda: map(str, [1, 2]),
    "later": lambda: later(), "buffer": lambda: io.BytesIO(b"ab"), "object": object, "complex": lambda: 1j,
    "class": lambda: int,
}
ERRORS = sys.stderr
count = 0

@rawhttp
def run(request):
    global count
    count += 1
    sys.stderr = ERRORS
    what = request.args.get("w")
    if what == "mute": raise Mute
    if what == "odd": raise Odd("strange")
    if what == "interrupt": raise KeyboardInterrupt
    if what == "cancelled": raise asyncio.CancelledError
    if what == "http": raise HTTPException
    if what == "ending": raise Ending
    if what == "numbered": raise Numbered
    if what == "long": raise Long
    if what == "gone": raise Gone
    if what == "strange": raise Strange
    if what == "mark": raise KeyError(Mark())
    if what == "file": raise OSError("caf\udce9.txt cannot be read")
    if what == "closed":
        sys.stderr = io.StringIO()
        sys.stderr.close()
        raise ValueError("nobody reads it")
    if what == "own": abort(Response("mine", 418))
    if what == "print": print("caf\udce9.txt")
    if what in BODIES: return AMLResponse(BODIES[what](), 200)
    if what == "missing": return request.args["plant"]
    if what == "form": return request.form["plant"]
    if what == "status": return AMLResponse("told", 202.0)
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
        ("ending", "Ending: it has no message, since its __str__ raised SystemExit"),
        ("numbered", "Numbered: it has no message, since its __str__ raised TypeError"),
        ("gone", "Gone: it has no message"), ("strange", "Strange: strange"), ("mark", "KeyError: it has no message"),
        ("file", "OSError: caf?.txt cannot be read"), ("closed", "ValueError: nobody reads it"),
        ("object", "JSON cannot hold"), ("complex", "JSON cannot hold"), ("class", "JSON cannot hold"),
    ],
)  # fmt: skip
def test_what_is_raised(server, what, said):
    """An exception of any kind, one without words too, is a 500 with its name, and the same worker goes on."""
    before = server.ask(body=b"").json
    reply = server.ask(f"/score?w={what}", b"")
    assert (reply.status, said in reply.json["message"]) == (500, True), reply.body
    assert server.ask(body=b"").json == before + 2
    assert "worker" not in reply.json["message"]


def test_an_error_of_any_length(server):
    """What an error says may be of any length: the answer and the log have its begin and its end."""
    reply = server.ask("/score?w=long", b"")
    assert reply.status == 500
    assert len(reply.body) < 3000
    assert " characters ...] " in reply.json["message"]
    assert len(server.log) < 1 << 20


def test_a_status_that_was_computed(server):
    """Any kind of number is a status: of NumPy, for instance, or of a division."""
    assert server.ask("/score?w=status", b"").status == 202


def test_a_response_that_is_raised(server):
    """What ``abort(response)`` ends with is that response."""
    reply = server.ask("/score?w=own", b"")
    assert (reply.status, reply.body) == (418, b"mine")


def test_what_is_printed_ends_no_request(server):
    """A name of a file that is no text is printed as it can be."""
    assert server.ask("/score?w=print", b"").status == 200
    server.until(lambda: r"caf\udce9.txt" in server.log, "the line in the log")


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("array", b"[0,1,2]"), ("number", b"0.5"), ("set", b"[1]"), ("range", b"[0,1]"), ("date", b'"2020-01-02"'),
        ("view", b"ab"), ("map", b"12"), ("later", b"abcd"), ("buffer", b"ab"),
    ],
)  # fmt: skip
def test_what_a_response_is_made_of(server, what, body):
    """Values are written as JSON, bytes and what gives them one by one as they are."""
    reply = server.ask(f"/score?w={what}", b"")
    assert (reply.status, reply.body) == (200, body)


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
