"""Scripts with ``@rawhttp``: werkzeug's requests in, responses with their own status, headers and streams out."""

import base64
import http.client
import json

import pytest

SCRIPT = """
import json, pathlib, time
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml_inference_server_http.api.aml_request import AMLRequest as Newer
assert Newer is AMLRequest
def init():
    global closed
    closed = 0
def counted(n, seconds=0):
    global closed
    try:
        for number in range(n):
            time.sleep(seconds)
            yield f"part {number};" if number % 2 else f"part {number};".encode()
    finally:
        closed += 1
async def later():
    yield b"a"
    yield "b"
def broken():
    yield b"begun"
    raise ValueError("no more plants")
def told(request):
    return {
        "method": request.method, "path": request.path, "full_path": request.full_path,
        "query": request.query_string.decode(),
        "args": request.args, "list": request.args.getlist("n"), "type": request.content_type, "mime": request.mimetype,
        "length": request.content_length, "form": request.form, "files": {name: file.read().decode() for name, file
        in request.files.items()}, "cookies": request.cookies, "agent": request.user_agent.string,
        "own": request.headers.get("X-OWN"), "json": request.is_json, "host": request.host,
        "auth": request.authorization and request.authorization.username,
    }
ANSWERS = {
    "told": lambda request: AMLResponse(told(request), 200, json_str=True),
    "text": lambda _: AMLResponse("text", 200), "bytes": lambda _: AMLResponse(b"\\x00\\xff", 206),
    "json": lambda _: AMLResponse({"a": 1}, 201, json_str=True), "dict": lambda _: AMLResponse({"a": 1}, 200),
    "none": lambda _: AMLResponse(None, 200), "fail": lambda _: AMLResponse("bad", 503),
    "commas": lambda _: AMLResponse("", 200, {"X-A": "a, b", "Date": "Thu, 01 Jan 1970 00:00:00 GMT", "X-N": 3,
                                              "Set-Cookie": "k=v; expires=Thu, 01 Jan 2099 00:00:00 GMT"}),
    "type": lambda _: AMLResponse(b"<a/>", 200, {"Content-Type": "application/xml"}),
    "cors": lambda _: AMLResponse("", 200, {"Access-Control-Allow-Origin": "http://own.example"}),
    "ids": lambda _: AMLResponse("", 200, {"x-request-id": "stolen", "x-ms-run-fn-exec-ms": "9",
                                           "Content-Length": "7"}),
    "value": lambda _: {"a": 1}, "nothing": lambda _: None,
    "body": lambda request: AMLResponse(request.get_data(), 200),
    "twice": lambda request: AMLResponse(request.get_data(False) + request.get_data(False), 200),
    "body as text": lambda request: request.get_data(as_text=True),
    "stream in": lambda request: request.stream.read(3).decode(),
    "get_json": lambda request: request.get_json(), "forced": lambda request: request.get_json(force=True),
    "silent": lambda request: request.get_json(force=True, silent=True),
    "key": lambda request: request.form["missing"],
    "stream": lambda _: AMLResponse(counted(5), 200), "many": lambda _: AMLResponse(counted(100_000), 200),
    "slow": lambda _: AMLResponse(counted(2, 600), 200), "async": lambda _: AMLResponse(later(), 200),
    "broken": lambda _: AMLResponse(broken(), 200), "closed": lambda _: closed,
    "method": lambda request: AMLResponse(request.method, 200), "print": lambda _: print("printed") or "ok",
}
@rawhttp
def run(request):
    assert isinstance(request, AMLRequest)
    return ANSWERS[request.args.get("w", "method")](request)
"""


@pytest.fixture(scope="module")
def server(start, script):
    settings = {"AML_CORS_ORIGINS": "*", "SCORING_TIMEOUT_MS": "1500"}
    return start("--script", script(SCRIPT), **settings).ready()


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_methods(server, method):
    """Every method of ``/score`` reaches the script, which decides."""
    assert server.ask(method=method).body == method.encode()


def test_request(server):
    """The request has path, query, headers and cookies as werkzeug gives them."""
    headers = {"x-own": "v", "Cookie": "k=v", "User-Agent": "me", "Host": "plants.example",
               "Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}  # fmt: skip
    told = server.ask("/score?w=told&n=1&n=2&u=%C3%BC", method="GET", headers=headers).json
    assert (told["path"], told["query"]) == ("/score", "w=told&n=1&n=2&u=%C3%BC")
    assert told["full_path"] == "/score?w=told&n=1&n=2&u=%C3%BC"
    assert (told["args"], told["list"]) == ({"w": "told", "n": "1", "u": "\u00fc"}, ["1", "2"])
    assert (told["cookies"], told["agent"], told["own"], told["host"]) == ({"k": "v"}, "me", "v", "plants.example")
    assert told["auth"] == "me"


def test_form(server):
    """Fields of a form are in ``form``."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    told = server.ask("/score?w=told", b"a=1&b=%C3%BC", headers=kind).json
    assert (told["form"], told["length"], told["json"]) == ({"a": "1", "b": "\u00fc"}, 12, False)


def test_files(server):
    """Files of a multipart form are in ``files``, its fields in ``form``, however long."""
    parts = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"l" * 600_000 + b"\r\n"
    parts += b'--x\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\n\r\npixels\r\n--x--\r\n'
    told = server.ask("/score?w=told", parts, headers={"content-type": "multipart/form-data; boundary=x"}).json
    assert told["files"] == {"image": "pixels"}
    assert len(told["form"]["a"]) == 600_000


@pytest.mark.parametrize(
    ("what", "body", "kind", "status", "expected"),
    [
        ("body", b"\x00\xff", "image/png", 200, b"\x00\xff"), ("twice", b"ab", "text/plain", 200, b"abab"),
        ("body as text", "\u00fc".encode(), "text/plain", 200, '"\u00fc"'.encode()),
        ("stream in", b"abcdef", "application/octet-stream", 200, b'"abc"'),
        ("get_json", b'{"a": 1}', "application/json", 200, b'{"a":1}'),
        ("forced", b"[1]", "text/plain", 200, b"[1]"), ("silent", b"nope", "text/plain", 200, b"{}"),
        ("get_json", b"nope", "application/json", 400, b"message"), ("get_json", b"{}", "text/plain", 415, b"message"),
        ("key", b"a=1", "application/x-www-form-urlencoded", 400, b"message"),
    ],
)  # fmt: skip
def test_bodies(server, what, body, kind, status, expected):
    """The body can be read in each of werkzeug's ways, and its own refusals are the caller's mistakes."""
    reply = server.ask(f"/score?w={what.replace(' ', '+')}", body, headers={"content-type": kind})
    assert (reply.status, expected in reply.body) == (status, True), reply.body


@pytest.mark.parametrize(
    ("what", "status", "kind", "body"),
    [
        ("text", 200, "text/html; charset=utf-8", b"text"), ("bytes", 206, "text/html; charset=utf-8", b"\x00\xff"),
        ("json", 201, "application/json", b'{"a":1}'), ("dict", 200, "application/json", b'{"a":1}'),
        ("none", 200, "application/json", b"{}"), ("type", 200, "application/xml", b"<a/>"),
        ("value", 200, "application/json", b'{"a":1}'), ("nothing", 200, "application/json", b"{}"),
    ],
)  # fmt: skip
def test_answers(server, what, status, kind, body):
    """Status, type and body are those of the ``AMLResponse``; other values are JSON."""
    reply = server.ask(f"/score?w={what}", method="GET")
    assert (reply.status, reply.headers["content-type"], reply.body) == (status, kind, body)
    assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0


def test_commas(server):
    """A header with commas becomes several, except where the comma belongs to the value."""
    pairs = server.ask("/score?w=commas", method="GET").pairs
    assert [value for name, value in pairs if name.lower() == "x-a"] == ["a", "b"]
    assert [value for name, value in pairs if name.lower() == "set-cookie"] == [
        "k=v; expires=Thu, 01 Jan 2099 00:00:00 GMT"
    ]
    assert ("x-n", "3") in [(name.lower(), value) for name, value in pairs]


def test_failure(server):
    """An answer of 500 and above is marked as a failed run, with its own status and body."""
    reply = server.ask("/score?w=fail", method="GET")
    assert (reply.status, reply.body, reply.headers["x-ms-run-function-failed"]) == (503, b"bad", "True")


def test_what_a_script_cannot_set(server):
    """A script cannot overwrite the request's id, the times, or the length of the body."""
    reply = server.ask("/score?w=ids", method="GET", headers={"x-request-id": "mine"})
    assert reply.headers["x-request-id"] == "mine"
    assert [value for name, value in reply.pairs if name.lower() == "content-length"] == ["0"]
    assert [value for name, value in reply.pairs if name.lower() == "x-ms-run-fn-exec-ms"] != ["9"]


@pytest.mark.parametrize(("what", "allowed"), [("text", "*"), ("cors", "http://own.example")])
def test_cors(server, what, allowed):
    """With ``*`` every page may read the answers; a script's own header wins."""
    reply = server.ask(f"/score?w={what}", method="GET", headers={"Origin": "http://any.example"})
    found = [value for name, value in reply.pairs if name.lower() == "access-control-allow-origin"]
    assert found == [allowed]


def test_stream(server):
    """A generator is sent as it goes, in chunks, and the connection can be used again."""
    connection = server.connect()
    for _ in range(2):
        connection.request("GET", "/score?w=stream")
        response = connection.getresponse()
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.headers["content-length"] is None
        assert response.read() == b"part 0;part 1;part 2;part 3;part 4;"
    connection.close()


def test_asynchronous_stream(server):
    """An asynchronous generator is sent as it goes, too."""
    assert server.ask("/score?w=async", method="GET").body == b"ab"


def test_broken_stream(server):
    """A stream that breaks off does not look complete, the log says why, and the worker goes on."""
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        server.ask("/score?w=broken", method="GET")
    server.until(lambda: "no more plants" in server.log, "the reason in the log")
    assert server.ask("/score?w=text", method="GET").body == b"text"


def test_stream_without_a_reader(start, script):
    """When the client goes away the generator is closed, and its worker takes the next request."""
    # Without a time-out that could end a hanging stream by ending its worker.
    server = start("--script", script(SCRIPT)).ready()
    connection = server.connect()
    connection.request("GET", "/score?w=many")
    response = connection.getresponse()
    response.read(100)
    response.close()
    connection.close()
    server.until(lambda: server.ask("/score?w=closed", method="GET").json == 1, "closing of the generator")


def test_stream_that_hangs(server):
    """A part that takes longer than the time-out ends the answer and replaces the worker."""
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        server.ask("/score?w=slow", method="GET")
    assert server.ask("/score?w=text", method="GET").body == b"text"
    assert "took longer than 1.5 s" in server.log


def test_prints(server):
    """What is printed carries the id of its request."""
    server.ask("/score?w=print", method="GET", headers={"x-request-id": "p-1"})
    assert "\n[p-1] printed\n" in server.log


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
def test_swagger(server, version):
    """A script that takes raw requests is documented as taking anything."""
    document = json.dumps(server.ask(f"/swagger.json?version={version}").json)
    assert '"ServiceInput": {"type": "object", "example": {}}' in document
