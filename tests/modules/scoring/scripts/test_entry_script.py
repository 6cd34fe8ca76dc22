"""Entry scripts in their worker process, over a real Unix socket: what they get, answer, print, and do wrong."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

MAIN = """
import json, logging, os, sys, time
print("script", __name__, "imported")
def init():
    global count
    count = 0
def run(data):
    global count
    count += 1
    document = json.loads(data)
    what = document.get("do")
    if what == "environment":
        return {"model": os.environ["AZUREML_MODEL_DIR"], "cwd": os.getcwd(), "first": sys.path[0], "pid": os.getpid(),
                "telemetry": os.environ["ORT_DISABLE_TELEMETRY"],
                "ours": [name for name in sys.modules if name.startswith("modules")]}
    if what == "sleep":
        open(document["started"], "w").close()
        time.sleep(document["seconds"])
    if what == "die":
        os.kill(os.getpid(), 11)
    if what == "raise":
        raise ValueError("no such plant")
    if what == "exit":
        sys.exit(9)
    if what == "print":
        print("first line\\nsecond line")
        logging.getLogger("plants").warning("warned")
        print("unfinished", end="")
    if what == "bytes":
        return b"x"
    if what == "numpy":
        import numpy
        return {"array": numpy.arange(3), "scalar": numpy.float32(0.5), "nan": float("nan")}
    return {"count": count, "got": document}
"""


@pytest.fixture(scope="module")
def path(script):
    return script(MAIN)


@pytest.fixture(scope="module")
def server(start, path):
    return start("--script", path, "--model-dir", path.parent, EDGEFLEET_SETTINGS='{"score_timeout_ms": 1500}').ready()


def test_run(server):
    """The body reaches ``run`` as text whatever its content type, and what it returns is the JSON answer."""
    reply = server.ask(body={"a": 1}, headers={"content-type": "application/x-www-form-urlencoded"})
    assert reply.json["got"] == {"a": 1}
    assert reply.headers["content-type"] == "application/json"
    assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0


def test_environment(server, path):
    """The worker runs in the source folder, which is first on sys.path, without telemetry and without our packages."""
    told = server.ask(body={"do": "environment"}).json
    assert told["model"] == told["cwd"] == told["first"] == str(path.parent)
    assert told["telemetry"] == "1"
    assert told["ours"] == []
    variables = (b"ORT_DISABLE_TELEMETRY=1", b"AZUREML_MODEL_DIR=")
    environ = Path(f"/proc/{told['pid']}/environ").read_bytes()
    assert all(variable in environ for variable in variables)


def test_get_and_options(server):
    """The parameters of a GET become the JSON input, and OPTIONS is answered without running the script."""
    before = server.ask("/score?a=1&b=x", method="GET").json
    assert before["got"] == {"a": 1, "b": "x"}
    assert server.ask(method="OPTIONS").status == 200
    assert server.ask(body={}).json["count"] == before["count"] + 1


@pytest.mark.parametrize(
    ("do", "said"), [("raise", "run() failed: ValueError: no such plant"), ("exit", "SystemExit: 9")]
)
def test_run_raises(server, do, said):
    """When ``run`` raises the answer is 500 with the reason and Azure's header, and the script keeps its state."""
    count = server.ask(body={}).json["count"]
    reply = server.ask(body={"do": do})
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert said in reply.json["message"]
    assert "x-ms-run-fn-exec-ms" not in reply.headers
    assert server.ask(body={}).json["count"] == count + 2


def test_not_text(server):
    """A body that is not UTF-8 is the caller's mistake."""
    assert server.ask(body=b"\xff").status == 400


def test_results(server):
    """NumPy's values become JSON, NaN becomes null, and what JSON cannot hold is named."""
    assert server.ask(body={"do": "numpy"}).json == {"array": [0, 1, 2], "scalar": 0.5, "nan": None}
    reply = server.ask(body={"do": "bytes"})
    assert reply.status == 500
    assert "returned a bytes" in reply.json["message"]


def test_log(server):
    """Each printed or logged line reaches the log with the id of its request in front."""
    server.ask(body={"do": "print"}, headers={"x-request-id": "r-17"})
    for line in ("first line", "second line", "WARNING plants: warned", "unfinished"):
        assert f"\n[r-17] {line}\n" in server.log
    assert "script entry_module imported" in server.log


def test_timeout(server, tmp_path):
    """A run over the time-out is killed with 500, health answers meanwhile, and the next request works."""
    pid = server.ask(body={"do": "environment"}).json["pid"]
    busy = server.later(body={"do": "sleep", "seconds": 600, "started": str(tmp_path / "started")})
    server.until((tmp_path / "started").exists, "the start of the run")
    before = time.monotonic()
    assert server.ask("/").status == 200
    assert server.ask("/v2/health/ready").json == {"ready": True}
    assert time.monotonic() - before < 1
    reply = busy()
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "stopped after 1.5 s" in reply.json["message"]
    told = server.ask(body={"do": "environment"})
    assert told.status == 200
    assert told.json["pid"] != pid
    assert not Path(f"/proc/{pid}").exists()


def test_crash(server):
    """A crash in ``run`` is a 500 that names the signal, and the next request finds a new worker."""
    reply = server.ask(body={"do": "die"})
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "SIGSEGV" in reply.json["message"]
    assert "Fatal Python error: Segmentation fault" in server.log
    assert server.ask(body={}).json["count"] == 1


def test_crash_between_requests(server):
    """A worker that dies while idle is replaced before the next request, which does not notice."""
    pid = server.ask(body={"do": "environment"}).json["pid"]
    before = server.log.count("a new worker is running")
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: server.log.count("a new worker is running") > before, "the new worker")
    assert server.ask(body={}).status == 200


def test_status_without_sessions(server):
    """A script without ONNX Runtime has no provider, and the status says why."""
    status = server.ask("/edgefleet/status").json
    assert (status["kind"], status["provider_in_use"], status["onnxruntime"]) == ("entry-script", None, None)
    assert "no ONNX Runtime session" in status["provider_reason"]
    assert server.ask("/swagger.json").json["paths"]["/score"]


def test_session_is_observed(start, script, relu):
    """A session of the script's own is sized from the granted cores, and its provider is reported."""
    text = f"""
import onnxruntime as ort
def init():
    global session
    session = ort.InferenceSession({str(relu)!r})
def run(data):
    return session.get_session_options().intra_op_num_threads
"""
    server = start("--script", script(text)).ready()
    status = server.ask("/edgefleet/status").json
    assert status["provider_in_use"] == "CPUExecutionProvider"
    assert status["onnxruntime"]
    assert server.ask(body=b"").json == max(1, int(status["cores"]))


@pytest.mark.parametrize("init", ["", "1"], ids=["when it is a plain folder", "when it is a package"])
def test_users_package_called_modules(start, script, init):
    """A user's own package may be called ``modules``, ``agent`` or ``tests``."""
    text = "import modules.plants as a, agent.leaf as b, tests.own as c\ndef run(data): return [a.N, b.N, c.N]"
    files = {"modules__plants.py": "N = 1", "agent__leaf.py": "N = 2", "tests__own.py": "N = 3"}
    if init:
        files |= {"modules____init__.py": "", "agent____init__.py": "", "tests____init__.py": ""}
    server = start("--script", script(text, **files)).ready()
    assert server.ask(body=b"").json == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("import no_such_package", "No module named 'no_such_package' (add the package", id="import"),
        pytest.param("from sklearn.externals import joblib", "write `import joblib`", id="old import"),
        pytest.param("def run(data):\n  return (", "score.py:2", id="syntax"),
        pytest.param("\0", "score.py: it cannot be imported: SyntaxError", id="no line to name"),
        pytest.param(
            "def init():\n  raise ValueError('no leaf')\ndef run(data): 0", "score.py:2: init() failed", id="init"
        ),
        pytest.param(
            "import json\ndef init(): json.loads('{')\ndef run(data): 0", "score.py:2: init() failed", id="init, deeper"
        ),
        pytest.param("import sys\ndef init():\n  sys.exit(1)\ndef run(data): 0", "SystemExit: 1", id="init exits"),
        pytest.param("def init(): 0", "there is no function run(data)", id="no run"),
        pytest.param("def run(): 0", "run() must take one parameter", id="no parameter"),
        pytest.param("def run(*a): 0", "run() must take one parameter", id="*args"),
        pytest.param("def run(request_headers): 0", "run() must take one parameter", id="only headers"),
        pytest.param("def run(a, b): 0", "must have defaults", id="two parameters"),
        pytest.param("import os\nos._exit(7)", "ended with exit code 7", id="dies"),
    ],
)
def test_script_that_cannot_be_served(start, script, text, said):
    """A script that cannot be imported or initialised ends the server with 3 and one line that says where and why."""
    server = start("--script", script(text, **{"sklearn____init__.py": ""}))
    assert server.wait() == 3
    line = server.log.splitlines()[-1]
    assert line.startswith("edgefleet-scoring: ")
    assert said in line


def test_a_failure_of_many_lines(start, script):
    """What ``run`` raises is one line in the answer and in the log, so that every line of the log has its request."""
    server = start("--script", script("def run(data): raise ValueError('one\\n two\\n three')")).ready()
    assert server.ask(body=b"").json["message"] == "run() failed: ValueError: one two three"


def test_missing_script(start, tmp_path):
    """A script that does not exist is refused by name."""
    server = start("--script", tmp_path / "none.py")
    assert server.wait() == 3
    assert "none.py: there is no such Python file" in server.log


def test_headers_reach_run(start, script):
    """``request_headers`` beside the data receives the headers."""
    server = start("--script", script("def run(data, request_headers, extra=1): return request_headers['x-a']")).ready()
    assert server.ask(body=b"", headers={"X-A": "b"}).json == "b"


RAW = """
from {package}.aml_request import AMLRequest, rawhttp
from {package}.aml_response import AMLResponse
def init(): pass
@rawhttp
def run(request):
    assert isinstance(request, AMLRequest)
    if request.method == "OPTIONS":
        response = AMLResponse("", 204)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["X-Request-Id"] = "stolen"
        return response
    if request.method == "GET":
        told = {{"path": request.path, "args": request.args, "n": request.args.getlist("n")}}
        return AMLResponse(told, 200, json_str=True)
    if request.path == "/score" and "status" in request.headers:
        headers = {{"X-Own": request.headers.get("own", "")}}
        return AMLResponse(b"some body", int(request.headers["status"]), headers)
    if request.is_json:
        return {{"json": request.get_json()}}
    if not request.get_data(False):
        return AMLResponse("nothing sent", 500)
    return AMLResponse(request.get_data(False)[::-1], 201, {{"X-Type": request.headers["CONTENT-TYPE"]}})
"""


@pytest.fixture(scope="module", params=["azureml.contrib.services", "azureml_inference_server_http.api"])
def raw(start, script, request):
    return start("--script", script(RAW.format(package=request.param))).ready()


def test_raw_http(raw):
    """With ``@rawhttp`` binary bodies, own status and own headers go in and out, under both import paths."""
    reply = raw.ask(body=b"\x00\x01\xff", headers={"content-type": "image/png"})
    assert (reply.status, reply.body, reply.headers["x-type"]) == (201, b"\xff\x01\x00", "image/png")
    reply = raw.ask("/score?n=1&n=2&m=", method="GET")
    assert reply.json == {"path": "/score", "args": {"n": "1", "m": ""}, "n": ["1", "2"]}
    assert raw.ask(body=b"{}", headers={"content-type": "application/json"}).json == {"json": {}}


def test_raw_http_decides_about_options(raw):
    """With ``@rawhttp`` OPTIONS reaches the script; it cannot overwrite the request id."""
    reply = raw.ask(method="OPTIONS", headers={"x-request-id": "mine"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, "*")
    assert reply.headers["x-request-id"] == "mine"


def test_raw_http_failure(raw):
    """An answer of 500 by the script itself is marked as a failed run."""
    reply = raw.ask(body=b"", method="POST")
    assert (reply.status, reply.body) == (500, b"nothing sent")
    assert reply.headers["x-ms-run-function-failed"] == "True"


def test_sigterm_finishes_what_is_in_flight(start, path, tmp_path):
    """After SIGTERM a running request is answered, no new one is accepted, and the exit code is 0."""
    server = start("--script", path).ready()
    pid = server.ask(body={"do": "environment"}).json["pid"]
    busy = server.later(body={"do": "sleep", "seconds": 0.5, "started": str(tmp_path / "started")})
    server.until((tmp_path / "started").exists, "the start of the run")
    assert server.stop() == 0
    assert busy().json["got"]["do"] == "sleep"
    assert not server.socket.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_killed_server_leaves_no_worker(start, path):
    """The worker does not outlive a server that was killed without warning."""
    server = start("--script", path).ready()
    pid = server.ask(body={"do": "environment"}).json["pid"]
    server.process.kill()
    server.wait()
    server.until(lambda: not alive(pid), "the end of the worker")


def alive(pid):
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_restart_that_fails(start, script, tmp_path):
    """While a script cannot start again readiness says no and scoring 503; it serves once it can."""
    broken = tmp_path / "broken"
    text = f"""
import os
def init():
    if os.path.exists({str(broken)!r}): raise ValueError("broken")
def run(data):
    os._exit(1)
"""
    server = start("--script", script(text), EDGEFLEET_SETTINGS='{"score_timeout_ms": 300}').ready()
    broken.touch()
    assert server.ask(body=b"").status == 500
    server.until(lambda: "does not start again" in server.log, "the failed start")
    assert server.ask("/").status == 503
    assert server.ask("/v2/health/live").status == 200
    reply = server.ask(body=b"")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    broken.unlink()
    server.until(lambda: server.ask("/").status == 200, "readiness")
    assert server.log.count("does not start again") == 1


def test_over_tcp(start, path, free_port):
    """The same server listens on TCP, where a cloud target needs it."""
    server = start("--script", path, tcp=free_port()).ready()
    assert json.loads(server.ask(body={"a": 1}).body)["got"] == {"a": 1}
    assert server.stop() == 0


@pytest.mark.parametrize("headers", [{"status": "42"}, {"status": "1000"}], ids=["too low", "too high"])
def test_impossible_answers(raw, headers):
    """When a script answers what HTTP does not have, the answer is a 500 that says so."""
    reply = raw.ask(body=b"x", headers=headers)
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "HTTP does not have" in reply.json["message"]


def test_no_header_can_be_smuggled(start, script):
    """A line break in a script's header does not begin another header."""
    text = """
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
@rawhttp
def run(request):
    return AMLResponse(b"", 200, {"X-Own": "a\\r\\nX-Other: b"})
"""
    reply = start("--script", script(text)).ready().ask(body=b"x")
    assert reply.status == 500
    assert "x-other" not in reply.headers


def test_answer_without_a_body(raw):
    """With a status that has no body none is sent, so that the next answer on the connection is not garbled."""
    reply = raw.ask(body=b"x", headers={"status": "204"})
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers


def test_while_loading(start, script, tmp_path):
    """While ``init`` runs the server is alive and not ready, and SIGTERM ends it at once with 0."""
    started = str(tmp_path / "started")
    text = f"import time\ndef init():\n    open({started!r}, 'w').close()\n    time.sleep(600)\ndef run(data): 0"
    server = start("--script", script(text))
    server.until((tmp_path / "started").exists, "the start of init()")
    assert server.ask("/").status == 503
    assert server.ask("/v2/health/live").status == 200
    assert server.ask("/v2/health/ready").status == 503
    assert server.ask("/edgefleet/status").json["ready"] is False
    assert server.ask(body=b"").status == 503
    assert server.stop() == 0
