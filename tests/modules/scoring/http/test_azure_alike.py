"""What entry scripts find in Azure ML's server and here, where tests/benchmarks/azure_differences found it amiss."""

import http.client
import json

import pytest

PLAIN = """
import dataclasses, enum, json, logging, os, sys, uuid
from azureml_inference_server_http.api.aml_response import AMLResponse
class Colour(enum.Enum):
    RED = "red"
@dataclasses.dataclass
class Data:
    a: int = 1
def deep(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value
log = logging.getLogger("plants")
CASES = {
    "failed": lambda: AMLResponse("x", 200, run_function_failed=True), "none": lambda: AMLResponse(None, 404),
    "enum": lambda: Colour.RED, "dataclass": lambda: Data(), "uuid": lambda: uuid.UUID(int=1),
    "deep": lambda: deep(300),
    "settled": lambda: [os.environ["AML_APP_ROOT"], os.environ["AZUREML_ENTRY_SCRIPT"], sys.argv],
    "reconfigure": lambda: sys.stdout.reconfigure(line_buffering=True), "log": lambda: log.debug("so fine"),
}
def init():
    logging.basicConfig(level=logging.DEBUG, format="OWN %(message)s")
def run(*, data, request_headers):
    asked = json.loads(data)
    return CASES[asked]() if isinstance(asked, str) and asked in CASES else {"data": data, "headers": request_headers}
"""


@pytest.fixture(scope="module")
def server(start, script):
    return start("--script", script(PLAIN)).ready()


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("enum", "red"), ("dataclass", {"a": 1}), ("uuid", "00000000-0000-0000-0000-000000000001"), ("reconfigure", {}),
    ],
)  # fmt: skip
def test_values(server, case, answer):
    """Enums, dataclasses and UUIDs are JSON; a script may set up its standard output."""
    assert server.ask(body=json.dumps(case)).json == answer


def test_deep_result(server):
    """A result nested 300 deep is answered."""
    assert server.ask(body='"deep"').body == b"[" * 300 + b"1" + b"]" * 300


def test_responses(server):
    """``run_function_failed`` of an AMLResponse is told whatever its status; one of None is an empty object."""
    assert server.ask(body='"failed"').headers["x-ms-run-function-failed"] == "True"
    none = server.ask(body='"none"')
    assert (none.status, none.body, none.headers["content-type"]) == (404, b"{}", "application/json")


def test_what_scripts_know_of_the_server(server):
    """A script finds its own place in the variables of Azure ML's server, and no arguments that are not its own."""
    root, entry, arguments = server.ask(body='"settled"').json
    assert (entry, arguments) == (f"{root}/score.py", [entry])


def test_own_logging(server):
    """``logging.basicConfig`` of a script counts, with the request's id before its own format."""
    reply = server.ask(body='"log"')
    assert f"[{reply.headers['x-request-id']}] OWN so fine" in server.log


def test_forged_header(server):
    """A header with an underscore cannot pass for one with a hyphen: it is left out."""
    told = server.ask(body='"told"', headers={"X_Own": "forged", "X-Other": "1"}).json["headers"]
    assert [name for name in told if "Own" in name] == []
    assert told["X-Other"] == "1"


def test_odd_queries(server):
    """Bytes of a query that are no UTF-8 stay escaped, and what nests too deep for JSON is text."""
    assert json.loads(server.ask("/score?a=%ff&b=%zz").json["data"]) == {"a": "%FF", "b": "%zz"}
    assert json.loads(server.ask("/score?a=" + "[" * 1500).json["data"]) == {"a": "[" * 1500}


def test_logging_file(start, script):
    """``logging.json`` beside the script configures logging, by the names of Azure ML's server too."""
    text = 'import logging\ndef run(data): logging.getLogger("p").debug("quiet"); return logging.root.level'
    form = {"a": {"class": "azureml_inference_server_http.log_config.AMLLogFormatter", "format": "FILE %(message)s"}}
    handler = {"h": {"class": "logging.StreamHandler", "formatter": "a", "stream": "ext://sys.stdout"}}
    root = {"level": "DEBUG", "handlers": ["h"]}
    path = script(text)
    (path.parent / "logging.json").write_text(
        json.dumps({"version": 1, "formatters": form, "handlers": handler, "root": root})
    )
    server = start("--script", path).ready()
    reply = server.ask(body=b"")
    assert (reply.json, f"[{reply.headers['x-request-id']}] FILE quiet" in server.log) == (10, True)
    (path.parent / "logging.json").write_text("{")
    broken = start("--script", path)
    assert (broken.wait(), "logging.json cannot be used" in broken.log) == (3, True)


def test_driver(start, script):
    """Behind a script that Azure ML's tools generate, the script that it names as its driver_module is asked."""
    text = "import real\ndriver_module = real\ninit = real.init\ndef run(data): return 'the driver'"
    path = script(text)
    (path.parent / "real.py").write_text("def init(): pass\ndef run(data): return 'the script'")
    assert start("--script", path).ready().ask(body=b"").json == "the script"


def test_hidden_mark(start, script):
    """A decorator above @rawhttp that hides it changes nothing: run() gets the request."""
    text = """
from azureml.contrib.services.aml_request import rawhttp
def logged(function):
    return lambda request: function(request)
@logged
@rawhttp
def run(request): return request.method
"""
    assert start("--script", script(text)).ready().ask(body=b"").json == "POST"


def test_output_schema_alone(start, script):
    """With @output_schema alone run() gets its parameter cut out of the JSON object, as with an @input_schema."""
    text = """
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import output_schema
@output_schema(StandardPythonParameterType(1))
def run(data): return data
"""
    server = start("--script", script(text)).ready()
    asked = {"Content-Type": "application/json"}
    assert server.ask(body={"data": [1]}, headers=asked).json == [1]
    assert server.ask(body={"other": 1}, headers=asked).status == 400
    assert server.ask(body=b"[" * 100_000, headers=asked).status == 400
    assert server.ask(body={"data": 2}, headers=asked).json == 2


def test_real_server_beside(start, script, tmp_path):
    """Where Azure ML's own server stands in the environment too, scripts get our classes by both names."""
    real = tmp_path / "azureml_inference_server_http"
    (real / "api").mkdir(parents=True)
    for name in ("__init__.py", "api/__init__.py", "api/aml_request.py"):
        (real / name).write_text("")
    text = """
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
@rawhttp
def run(request): return isinstance(request, AMLRequest)
"""
    server = start("--script", script(text), PYTHONPATH=str(tmp_path)).ready()
    assert server.ask(body=b"").json is True


def test_flask(start, script, tmp_path):
    """A script that imports Flask finds its request, and can use what needs one; @rawhttp gives the same request."""
    text = """
from flask import g, jsonify, request
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
@rawhttp
def run(given):
    g.own = request.args["a"]
    return jsonify(own=g.own, same=given is request._get_current_object(), ours=isinstance(given, AMLRequest))
"""
    reply = start("--script", script(text)).ready().ask("/score?a=1", b"x")
    assert (reply.status, reply.json) == (200, {"own": "1", "same": True, "ours": True})


def test_numbers_in_a_stream(start, script):
    """A part that is neither text nor bytes ends a stream early; 304 says nothing about a body."""
    text = """
from azureml.contrib.services.aml_response import AMLResponse
def run(data): return AMLResponse("", 304) if data else AMLResponse(iter([5]), 200)
"""
    server = start("--script", script(text)).ready()
    assert "content-type" not in server.ask(body=b"x").headers
    with pytest.raises((http.client.HTTPException, OSError)):
        server.ask(body=b"")
    assert "a part of a stream must be text or bytes, not int" in server.log
