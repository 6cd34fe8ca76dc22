"""What Azure Machine Learning's server answers for a plain ``run(data)``: paths, headers, results, mistakes."""

import json

import pytest

SCRIPT = """
import datetime, decimal, enum, json, numpy, pandas, uuid
class Own:
    def __init__(self, given): self.given = given
    def toJSON(self): return self.given
class Colour(enum.Enum):
    RED = "red"
class Abort(Exception):
    pass
class HTTPException(Exception):
    def __init__(self, status_code, detail): self.status_code, self.detail = status_code, detail
RESULTS = {
    "none": lambda: None, "true": lambda: True, "number": lambda: 3, "float": lambda: 0.1,
    "text": lambda: "h\\u00e9llo",
    "json text": lambda: json.dumps({"a": 1}), "tuple": lambda: ("a", 201), "number keys": lambda: {1: 2},
    "empty list": lambda: [], "nested": lambda: {"a": [{"b": None}]},
    "big": lambda: 2**80, "umlaut": lambda: {"\\u00fc": 1},
    "nan": lambda: [float("nan"), float("inf"), 1.0], "array": lambda: numpy.arange(4).reshape(2, 2),
    "array in dict": lambda: {"result": numpy.array([0.5], dtype="float32")}, "scalar": lambda: numpy.int64(7),
    "bool scalar": lambda: numpy.bool_(True), "half": lambda: numpy.float16(0.5), "strings": lambda: numpy.array(["a"]),
    "column order": lambda: numpy.asfortranarray(numpy.arange(4).reshape(2, 2)),
    "series": lambda: pandas.Series([1, 2]), "frame": lambda: pandas.DataFrame({"a": [1], "b": ["x"]}),
    "date": lambda: datetime.datetime(2020, 1, 2), "set": lambda: {1}, "enum": lambda: Colour.RED,
    "own": lambda: Own({"j": 1}), "own text": lambda: Own('{"j": 1}'), "own in list": lambda: [Own("plain")],
    "surrogate": lambda: "\\ud800",
    "bytes": lambda: b"x", "generator": lambda: (x for x in "ab"), "object": lambda: object(),
    "raise": lambda: fail(ValueError("no such plant")), "exit": lambda: fail(SystemExit(9)),
    "keyboard": lambda: fail(Abort("gone")), "404": lambda: fail(HTTPException(404, "no such plant")),
    "503": lambda: fail(HTTPException(503, "later")), "werkzeug": lambda: abort(409), "assert": lambda: check(),
}
def fail(error): raise error
def check(): assert 1 == 2, "not the same"
def abort(code):
    from werkzeug.exceptions import abort
    abort(code, "taken")
def flask():
    from werkzeug.wrappers import Response
    answer = Response("made", 202, {"X-Q": "1, 2"})
    answer.set_cookie("k", "v")
    answer.set_cookie("l", "m")
    return answer
RESULTS["response"] = flask
def init():
    global runs
    runs = 0
def run(data, request_headers, limit=5):
    global runs
    runs += 1
    try:
        asked = json.loads(data)
    except ValueError:
        return {"data": data, "runs": runs, "limit": limit}
    if isinstance(asked, dict) and "w" in asked:
        return RESULTS[asked["w"]]()
    if asked == "headers":
        return {"all": request_headers, "any case": [request_headers["x-own"], request_headers.get("X-OWN"),
                "X-own" in request_headers, request_headers.get("none", 1)]}
    return {"data": data, "runs": runs, "limit": limit}
"""


@pytest.fixture(scope="module")
def server(start, script):
    return start(
        "--script", script(SCRIPT), SERVICE_NAME="plants", SERVICE_VERSION="7", SERVICE_PATH_PREFIX="api/v1/",
        AML_CORS_ORIGINS="http://a.example, http://b.example",
    ).ready()  # fmt: skip


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("none", {}), ("true", True), ("number", 3), ("float", 0.1), ("text", "h\u00e9llo"), ("json text", '{"a": 1}'),
        ("tuple", ["a", 201]), ("number keys", {"1": 2}), ("empty list", []), ("nested", {"a": [{"b": None}]}),
        ("big", 2**80), ("umlaut", {"\u00fc": 1}), ("surrogate", "\ud800"),
    ],
)  # fmt: skip
def test_results(server, what, expected):
    """What ``run`` returns is the JSON answer, as their server writes it."""
    reply = server.ask(body={"w": what})
    assert (reply.status, reply.json) == (200, expected)
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("nan", [None, None, 1.0]), ("array", [[0, 1], [2, 3]]), ("array in dict", {"result": [0.5]}), ("scalar", 7),
        ("bool scalar", True), ("half", 0.5), ("strings", ["a"]), ("column order", [[0, 1], [2, 3]]),
        ("series", [1, 2]), ("frame", [{"a": 1, "b": "x"}]), ("date", "2020-01-02T00:00:00"), ("set", [1]),
        ("enum", "red"), ("own", {"j": 1}), ("own text", {"j": 1}), ("own in list", ["plain"]),
    ],
)  # fmt: skip
def test_results_that_theirs_refuses(server, what, expected):
    """NumPy's and pandas' values, dates, sets and ``toJSON()`` become JSON instead of a 500; NaN becomes null."""
    reply = server.ask(body={"w": what})
    assert (reply.status, reply.json) == (200, expected)
    assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("bytes", "return AMLResponse(body, 200) for bytes"), ("generator", "return AMLResponse(generator, 200)"),
        ("object", "returned a object"), ("raise", "ValueError: no such plant"), ("exit", "SystemExit: 9"),
        ("keyboard", "Abort: gone"), ("assert", "AssertionError: not the same"),
    ],
)  # fmt: skip
def test_failures(server, what, said):
    """What JSON cannot hold, and whatever ``run`` raises, is a marked 500 that says why, and the script goes on."""
    reply = server.ask(body={"w": what})
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert said in reply.json["message"]
    assert "x-ms-run-fn-exec-ms" not in reply.headers
    assert server.ask(body=b"x").status == 200


@pytest.mark.parametrize(
    ("what", "status", "said"), [("404", 404, "no such plant"), ("werkzeug", 409, "taken"), ("503", 503, "later")]
)
def test_http_exceptions(server, what, status, said):
    """An HTTP exception raised in ``run`` is the answer it asks for, where theirs is a plain 500."""
    reply = server.ask(body={"w": what})
    assert (reply.status, reply.json) == (status, {"message": said})
    assert reply.headers["x-ms-run-function-failed"] == str(status >= 500)


def test_response_object(server):
    """A Flask-like response passes through unchanged, each cookie of its own."""
    reply = server.ask(body={"w": "response"})
    assert (reply.status, reply.body, reply.headers["x-q"]) == (202, b"made", "1, 2")
    assert [value for name, value in reply.pairs if name.lower() == "set-cookie"] == ["k=v; Path=/", "l=m; Path=/"]


@pytest.mark.parametrize(
    "kind",
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_body_is_text(server, kind):
    """The body reaches ``run`` as text whatever its type; theirs makes forms empty."""
    reply = server.ask(body=b"a=b", headers={"content-type": kind} if kind else {})
    assert reply.json["data"] == "a=b"


def test_empty_body(server):
    """A request without a body is the empty text."""
    assert server.ask(body=b"", method="POST").json["data"] == ""


def test_body_that_is_no_text(server):
    """A body that is not UTF-8 is refused with 400."""
    reply = server.ask(body=b"\xff\xfe")
    assert (reply.status, "not UTF-8" in reply.json["message"]) == (400, True)


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("a=1&b=x", {"a": 1, "b": "x"}), ("a=1&a=2&b=", {"a": [1, 2], "b": ""}), ("a=%5B1,2%5D", {"a": [1, 2]}),
        ("", {}), ("a=true&b=null&c=%C3%BC", {"a": True, "b": None, "c": "\u00fc"}),
    ],
)  # fmt: skip
def test_get(server, query, data):
    """The query of a GET becomes the JSON input: values that read as JSON, repeated ones as a list."""
    assert json.loads(server.ask(f"/score?{query}", method="GET").json["data"]) == data


def test_options(server):
    """OPTIONS is 200 without running the script."""
    before = server.ask(body=b"x").json["runs"]
    assert server.ask(method="OPTIONS").status == 200
    assert server.ask(body=b"x").json["runs"] == before + 1


def test_extra_parameters(server):
    """Extra parameters with defaults are allowed and keep their defaults."""
    assert server.ask(body=b"x").json["limit"] == 5


def test_request_headers(server):
    """``request_headers`` has the usual names and is found whatever the case; repeated ones are joined."""
    told = server.ask(body=b'"headers"', headers={"x-own": "v", "Content-Type": "text/plain"}).json
    assert told["all"]["X-Own"] == "v"
    assert told["all"]["Content-Type"] == "text/plain"
    assert told["any case"] == ["v", "v", True, 1]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods(server, method):
    """Other methods on ``/score`` are 405, as a JSON message that comes with the methods there are."""
    reply = server.ask(method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, OPTIONS")
    assert method == "HEAD" or method in reply.json["message"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/nothing", "/score/more", "/Score", "/score/", "/api/v1/score"])
def test_other_paths(server, path):
    """Other paths are 404, as a JSON message with the request's id."""
    reply = server.ask(path, method="GET")
    assert reply.status == 404
    assert reply.json["message"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(("method", "body"), [("GET", b"Healthy"), ("HEAD", b"")])
def test_health(server, method, body):
    """``/`` says Healthy as plain text."""
    reply = server.ask("/", method=method)
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"].startswith("text/")
    assert reply.headers["content-length"] == "7"


@pytest.mark.parametrize(("path", "method", "status"), [("/", "POST", 405), ("/", "OPTIONS", 200),
                         ("/swagger.json", "POST", 405), ("/swagger.json", "OPTIONS", 200)])  # fmt: skip
def test_methods_of_pages(server, path, method, status):
    """The other pages are for reading, and OPTIONS says so."""
    reply = server.ask(path, method=method)
    assert (reply.status, reply.headers["allow"]) == (status, "GET, HEAD, OPTIONS")


IDS = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id", "traceid")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"x-ms-client-request-id": None, "traceid": None}),
        ({"x-request-id": "R"}, {"x-request-id": "R", "x-ms-request-id": "R", "x-ms-client-request-id": None}),
        ({"x-ms-request-id": "M"}, {"x-ms-request-id": "M", "x-ms-client-request-id": "M"}),
        ({"x-ms-client-request-id": "C"}, {"x-ms-request-id": "C", "x-ms-client-request-id": "C"}),
        ({"x-ms-request-id": "M", "x-ms-client-request-id": "C"},
         {"x-ms-request-id": "M", "x-ms-client-request-id": "C"}),
        ({"x-request-id": ""}, {"x-ms-client-request-id": None}),
        ({"TraceId": "T"}, {"traceid": "T"}),
        ({"x-request-id": "r" * 100}, {"x-request-id": "r" * 100}),
    ],
)  # fmt: skip
def test_ids(server, given, expected):
    """The ids of a request come back as their server gives them back; an empty one is dropped, a missing one made."""
    reply = server.ask(body=b"x", headers=given)
    assert {name: reply.headers.get(name) for name in expected} == expected
    assert len(reply.headers["x-request-id"]) >= (36 if not given.get("x-request-id") else 1)
    if not {"x-ms-request-id", "x-ms-client-request-id"} & given.keys():
        assert reply.headers["x-ms-request-id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/score", "/", "/swagger.json", "/nothing"])
@pytest.mark.parametrize("name", ["x-request-id", "x-ms-client-request-id"])
def test_long_ids(server, path, name):
    """An id over 100 characters is 431 on every path, and does not come back."""
    reply = server.ask(path, method="GET", headers={name: "r" * 101})
    assert reply.status == 431
    assert name in reply.json["message"]
    assert all("r" * 101 not in value for value in reply.headers.values())


def test_headers_of_an_answer(server):
    """An answer says what served it, how long it ran, and that it did not fail; connections stay open."""
    reply = server.ask(body=b"x")
    assert reply.headers["x-ms-server-version"].startswith("edgefleet/")
    assert reply.headers["x-ms-run-function-failed"] == "False"
    assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0
    assert reply.headers.get("connection", "keep-alive") == "keep-alive"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://a.example", "http://a.example"), ("http://b.example", "http://b.example"), ("http://c.example", None),
     (None, None)],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/score", "/"])
def test_cors(server, path, origin, allowed):
    """A page of a named origin may read the answers, one of another may not; caches keep them apart."""
    reply = server.ask(path, method="GET", headers={"Origin": origin} if origin else {})
    assert reply.headers.get("access-control-allow-origin") == allowed
    assert reply.headers["vary"] == "Origin"


def test_cors_preflight(server):
    """A page may ask first: the methods and the headers that it wants are allowed."""
    asks = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-own"}  # fmt: skip
    reply = server.ask(method="OPTIONS", headers=asks)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "http://a.example")
    assert reply.headers["access-control-allow-headers"] == "x-own"
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_cors_of_mistakes(server):
    """A page can read why it was refused, too."""
    reply = server.ask(body=b"\xff", headers={"Origin": "http://a.example"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (400, "http://a.example")


@pytest.mark.parametrize(
    ("query", "field", "version"),
    [("", "swagger", "2.0"), ("?version=2", "swagger", "2.0"), ("?version=3", "openapi", "3.0.3"),
     ("?version=3.1", "openapi", "3.1.0")],
)  # fmt: skip
def test_swagger(server, query, field, version):
    """The document has the service's name, version and path prefix, and the names that generated clients know."""
    document = server.ask(f"/swagger.json{query}").json
    assert document[field] == version
    assert (document["info"]["title"], document["info"]["version"]) == ("plants", "7")
    assert document["paths"]["/api/v1/score"]["post"]["operationId"] == "RunMLService"
    definitions = document["definitions"] if field == "swagger" else document["components"]["schemas"]
    assert set(definitions) == {"ServiceInput", "ServiceOutput", "ErrorResponse"}


def test_swagger_of_no_version(server):
    """A version that there is not is 404 and names those there are."""
    reply = server.ask("/swagger.json?version=9")
    assert (reply.status, "2, 3, 3.1" in reply.json["message"]) == (404, True)
