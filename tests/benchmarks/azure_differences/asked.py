"""The requests that both servers are asked, in groups that the scripts name."""

import json
from urllib.parse import quote

JSON = ("Content-Type", "application/json")
TEXT = ("Content-Type", "text/plain")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PARTS = ("Content-Type", "multipart/form-data; boundary=b")
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name="f"; '
    b'filename="f.txt"\r\nContent-Type: text/plain\r\n\r\nin the file\r\n--b--\r\n'
)
LONG = "x" * 101
IDS = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id", "TraceId")


def ask(method="POST", target="/score", headers=(JSON,), body=b'{"data": [[1, 2]]}'):
    return method, target, list(headers), body


def header(name, value):
    return ask(headers=[JSON, (name, value)])


def each(name):
    """The case of this name in a script's ``CASES``."""
    return ask(target=f"/score?w={quote(name)}", body=json.dumps(name).encode())


def _posted(**values):
    return ask(body=json.dumps(values).encode())


GROUPS = {
    "one": {"post": ask()},
    "methods": {
        **{method: ask(method) for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE")},
        "GET": ask("GET", body=None), "HEAD": ask("HEAD", body=None), "GET with body": ask("GET"),
        "OPTIONS without body": ask("OPTIONS", body=None),
    },
    "bodies": {
        "empty": ask(body=b""), "none": ask(headers=(), body=None), "text": ask(headers=[TEXT], body=b"words"),
        "untyped": ask(headers=()), "form": ask(headers=[FORM], body=b"a=1&b=%C3%A4&a=2"),
        "multipart": ask(headers=[PARTS], body=MULTIPART), "not utf-8": ask(body=b"\xff\xfe\x00"),
        "utf-16": ask(body='{"data": [[1, 2]]}'.encode("utf-16")), "bom": ask(body=b'\xef\xbb\xbf{"data": [[1, 2]]}'),
        "latin-1": ask(headers=[("Content-Type", "application/json; charset=latin-1")], body=b'{"data": "\xe4"}'),
        "charset": ask(headers=[("Content-Type", "application/json; charset=utf-8")]), "broken": ask(body=b'{"data": '),
        "json api": ask(headers=[("Content-Type", "application/vnd.api+json")]),
        "upper type": ask(headers=[("Content-Type", "Application/JSON")]), "string": ask(body=b'"words"'),
        "null": ask(body=b"null"), "list": ask(body=b"[[1, 2]]"), "NaN": ask(body=b'{"data": [[NaN, Infinity]]}'),
        "deep": ask(body=b"[" * 20_000), "digits": ask(body=b'{"data": ' + b"1" * 5000 + b"}"),
        "twice": ask(body=b'{"data": 1, "data": [[3, 4]]}'), "zeros": ask(body=b'{"data": "a\\u0000b"}\x00'),
        "surrogate": ask(body=b'{"data": "\\ud800"}'), "big": ask(body=b'{"data": "' + b"x" * 3_000_000 + b'"}'),
        "chunked": ask(headers=[JSON, ("Transfer-Encoding", "chunked")]),
        "gzip": ask(headers=[JSON, ("Content-Encoding", "gzip")]),
        "image": ask(headers=[("Content-Type", "image/png")]),
    },
    "queries": {
        name: ask("GET", f"/score?{query}", (), None) for name, query in {
            "empty": "", "values": "a=1&b=[1,2]&c=a&d=null&e=true&f=1.50", "repeated": "a=1&a=b&c=x", "blank": "a=&b",
            "encoded": "a=%C3%A4%20b+c&%62=1", "bad escape": "a=%zz&b=%ff", "semicolon": "a=1;b=2", "quoted": 'a="x"',
            "plus": "a=1%2B1", "nan": "a=NaN", "object": 'a={"b":1}', "data": "data=[[1,2]]", "deep": "a=" + "[" * 1500,
            "case": "Data=1&data=[[5,6]]", "equals": "a=b=c", "long": "a=" + "x" * 3000, "array": "a[]=1&a[]=2",
        }.items()
    } | {"post": ask(target="/score?a=1&data=2"), "longer": ask("GET", "/score?a=" + "x" * 6000, (), None)},
    "ids": {
        **{f"{name} {kind}": header(name, value) for name in IDS for kind, value in (("given", "abc"), ("empty", ""),
           ("long", LONG), ("100", "y" * 100), ("spaces", "a  b, c"), ("umlaut", "\xe4"))},
        "two": ask(headers=[JSON, ("x-request-id", "a"), ("x-request-id", "b")]),
        "all": ask(headers=[JSON, ("x-request-id", "a"), ("x-ms-request-id", "b"), ("x-ms-client-request-id", "c")]),
        "both clients": ask(headers=[JSON, ("x-ms-request-id", "b"), ("x-ms-client-request-id", "c")]),
        "upper": header("X-REQUEST-ID", "abc"), "long at health": ask("GET", "/", [("x-request-id", LONG)], None),
        "long at swagger": ask("GET", "/swagger.json", [("x-ms-request-id", LONG)], None),
        "on a mistake": ask(headers=[JSON, ("x-request-id", "abc")], body=b"\xff"),
        "at health": ask("GET", "/", [("x-request-id", "abc")], None),
    },
    "paths": {
        **{f"{method} {path}": ask(method, path, (), None) for method in ("GET", "HEAD", "OPTIONS", "POST") for path in
           ("/", "/swagger.json", "/none")},
        **{path: ask(target=path) for path in ("/score/", "//score", "/SCORE", "/%73core", "/score%2F", "/./score",
           "/score;v=1", "/score?", "/api/score", "/score#part", "/score/x")},
        "absolute": ask(target="http://127.0.0.1/score"), "empty query": ask("GET", "/?", (), None),
    },
    "swagger": {
        version or "default": ask("GET", f"/swagger.json{version}", (), None)
        for version in ("", "?version=2", "?version=3", "?version=3.1", "?version=2.0", "?version=3.0", "?version=4",
                        "?version=3.1.0", "?version=2.0.0", "?version=03", "?version=3.0.3",
                        "?version=", "?version=2&version=3")
    },
    "headers": {
        "own": ask(headers=[JSON, ("X-Own", "a"), ("x-lower", "b"), ("UPPER-CASE", "c")]),
        "repeated": ask(headers=[JSON, ("X-Own", "a"), ("X-Own", "b"), ("Accept", "a/b"), ("Accept", "c/d")]),
        "underscore": ask(headers=[JSON, ("X_Own", "a"), ("X-Under", "b"), ("X_Under", "forged")]),
        "umlaut": header("X-Own", "\xe4\xf6"), "spaces": header("X-Own", "  a  b  "), "blank": header("X-Own", ""),
        "cookies": ask(headers=[JSON, ("Cookie", "a=1; b=2")]), "host": header("Host", "models.example:8080"),
        "forwarded": ask(headers=[JSON, ("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Proto", "https")]),
        "authorization": header("Authorization", "Basic YTpi"), "expect": header("Expect", "100-continue"),
        "many": ask(headers=[JSON, *((f"X-{number}", "v") for number in range(90))]),
        "most": ask(headers=[JSON, *((f"X-{number}", "v") for number in range(120))]),
        "large": header("X-Own", "v" * 8000), "larger": header("X-Own", "v" * 9000),
    },
    "raw": {
        "json": ask(target="/score?a=1&a=2&b=%C3%A4"), "form": ask(headers=[FORM], body=b"a=1&b=%C3%A4&a=2"),
        "multipart": ask(headers=[PARTS], body=MULTIPART), "bytes": ask(headers=(), body=bytes(range(256))),
        "empty": ask(headers=(), body=None), "broken": ask(body=b"{"), "text": ask(headers=[TEXT], body=b'{"a": 1}'),
        "latin-1": ask(headers=[("Content-Type", "text/plain; charset=latin-1")], body=b"\xe4"),
        "cookies": ask(headers=[("Cookie", "a=1; b=2")]),
        "chunked": ask(headers=[JSON, ("Transfer-Encoding", "chunked")]),
        "agent": ask(headers=[("User-Agent", "plants/1.0"), ("Accept", "text/html, application/json;q=0.5"),
                              ("Accept-Language", "de, en"), ("If-None-Match", '"abc"'), ("Range", "bytes=0-9")]),
        "basic": header("Authorization", "Basic YTpi"), "bearer": header("Authorization", "Bearer abc"),
        "host": header("Host", "models.example:8080"), "GET": ask("GET", "/score?q=1", (), None),
    },
    "origins": {
        f"{method} {path} {origin}": ask(method, path, [("Origin", f"http://{origin}.example"), *more], None)
        for method, more in (("GET", ()), ("OPTIONS", [("Access-Control-Request-Method", "POST"),
                             ("Access-Control-Request-Headers", "content-type")])) for path in ("/", "/score")
        for origin in ("a", "b", "evil")
    } | {"without": ask()},
    "schema": {
        "right": _posted(data=[[1, 2]]), "extra": _posted(data=[[1, 2]], more=1), "none": _posted(),
        "wrong type": _posted(data="words"), "wrong shape": _posted(data=[[1, 2, 3]]),
        "ragged": _posted(data=[[1], [2, 3]]),
        "null": _posted(data=None), "list": _posted(data=[1, 2]), "empty": _posted(data=[]),
        "float": _posted(data=[[1.5, 2]]),
        "scale": _posted(data=[[1, 2]], scale=2.5), "bad scale": _posted(data=[[1, 2]], scale="x"),
        "GlobalParameters": _posted(data=[[1, 2]], GlobalParameters={"scale": 2}),
        "frame": _posted(data=[{"a": 1, "b": "x"}]),
        "columns": _posted(data={"columns": ["a", "b"], "data": [[1, "x"]]}),
        "other columns": _posted(data=[{"a": 1, "c": "x"}]), "date": _posted(data="2020-01-02"),
        "number": _posted(data=5),
        "boolean": _posted(data=True), "nested": _posted(data={"rows": [[1, 2]], "name": "n"}),
        "half nested": _posted(data={"rows": [[1, 2]]}), "headers forged": _posted(data=[[1, 2]], request_headers="x"),
        "inputs": _posted(Inputs={"data": [[1, 2]]}), "big number": _posted(data=[[1e400, 2]]),
    },
}  # fmt: skip
