"""Thousands of requests that were damaged at random, the same ones every time: refused with a reason, and no defect."""

import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

CLIENTS, REQUESTS = 4, 400
# An answer that takes longer belongs to a request that has not ended: there is none.
PATIENCE_S = 0.1
PIECES = (
    b"\0", b"\r\n", b"\xff", b"-1", b"9" * 30, b"NaN", b"1e999", b"[", b"{", b'"', b"null", b"%00", b"..", b"[]",
    b"true", b"\xed\xa0\x80", b'"\\ud800"', b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n",
    b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n",
)  # fmt: skip
VALUES = (
    0,
    -1,
    1.5,
    1e400,
    10**30,
    True,
    None,
    "a",
    "",
    [],
    {},
    [[]],
    [1, 2],
    {"a": 1},
    "\ud800",
    [None],
    "64",
    [["x"]],
)
KEYS = ("parameters", "name", "x", "data", "id", "outputs", "datatype", "shape", "ready")

SCHEMA = """
import numpy as np
from inference_schema.schema_decorators import input_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
@input_schema("data", NumpyParameterType(np.zeros((1, 4))))
@input_schema("more", StandardPythonParameterType({"a": 1, "b": ["x"]}))
def run(data, more={"a": 1, "b": ["x"]}):
    return {"sum": data.sum(axis=1), "more": more}
"""
RAW = """
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
@rawhttp
def run(request):
    found = {"method": request.method, "args": dict(request.args), "form": dict(request.form), "path": request.path,
             "length": len(request.get_data(False)), "headers": len(dict(request.headers))}
    return AMLResponse(found, 200, json_str=True)
"""


def request(method, path, body=b"", *headers):
    head = [f"{method} {path} HTTP/1.1", "Host: a", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def encoded(document):
    return json.dumps(document).encode("utf-8", "surrogatepass")


def documents(name):
    """Requests as clients send them: path, JSON, bytes behind it."""
    rows = {"data": [[0, 1, 2, 3]]}
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    return (
        ("/score", rows, b""),
        (f"/v2/models/{name}/infer", {"id": "a", "inputs": [{**tensor, "data": [0, 1, 2, 3]}]}, b""),
        (f"/v2/models/{name}/infer", {"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}]}, bytes(16)),
        ("/v2/repository/index", {"ready": True}, b""),
    )


def other_values(chance, value):
    """The document with some of its values exchanged, taken away or added."""
    if chance.random() < 0.12:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        found = {key: other_values(chance, one) for key, one in value.items() if chance.random() < 0.95}
        return found | ({chance.choice(KEYS): chance.choice(VALUES)} if chance.random() < 0.1 else {})
    if isinstance(value, list):
        found = [other_values(chance, one) for one in value]
        return [*found, chance.choice(VALUES)] if chance.random() < 0.1 else found
    return value


def other_bytes(chance, data):
    """The bytes with some of them changed, taken away, put in, or repeated elsewhere."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                found[at:at] = chance.choice(PIECES)
            case 2:
                del found[at : at + chance.randrange(1, 20)]
            case _:
                found[at:at] = found[chance.randrange(len(found) + 1) :][:60]
    return bytes(found)


def damaged(chance, name):
    """One to three requests in a row."""
    found = b""
    for _ in range(chance.choice((1, 1, 2, 3))):
        path, document, rest = chance.choice(documents(name))
        by_value = chance.random() < 0.6
        head = encoded(other_values(chance, document) if by_value else document)
        length = len(head) if chance.random() < 0.9 else chance.randrange(len(head) + 20)
        headers = [f"Inference-Header-Content-Length: {length}"] if rest else ["Content-Type: application/json"]
        whole = request(chance.choice(("POST", "POST", "POST", "PUT")), path, head + rest, *headers)
        found += whole if by_value else other_bytes(chance, whole)
    return found


def ask(server, seed, name):
    """A client that asks one damaged thing after another; what it was answered, by status."""
    chance, statuses = random.Random(seed), {}
    for _ in range(REQUESTS):
        data = damaged(chance, name)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(server.socket))
            client.settimeout(PATIENCE_S)
            try:
                client.sendall(data)
                if chance.random() < 0.1:
                    continue
                answer = client.recv(1 << 16)
            except (TimeoutError, ConnectionError):
                continue
        if answer:
            status = int(answer[9:12])
            statuses[status] = statuses.get(status, 0) + 1
            # Whoever is refused is told why.
            assert status < 400 or b'{"message":"' in answer or b'{"error":"' in answer, (data, answer)
            assert status != 500, (data, answer)
    return statuses


@pytest.mark.parametrize("kind", ["graph", "schema", "raw"])
def test_damaged_requests(start, script, relu, kind):
    """Nothing that comes in makes the server fail, fall silent, or say less than what is wrong; then it scores on."""
    source = {"schema": SCHEMA, "raw": RAW}.get(kind)
    server = start(*(("--script", script(source)) if source else ("--model", relu))).ready()
    name = server.ask("/v2/repository/index", b"").json[0]["name"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        answered = list(clients.map(lambda seed: ask(server, seed, name), range(CLIENTS)))

    assert sum(one.get(200, 0) for one in answered) > 10, answered
    assert sum(one.get(400, 0) for one in answered) > 100, answered
    path, document, _ = documents(name)[0]
    assert server.ask(path, document, headers={"Content-Type": "application/json"}).status == 200
    assert server.stop() == 0
    for sign in ("Traceback", "a defect", "never awaited", "never retrieved"):
        assert sign not in server.log, server.log
