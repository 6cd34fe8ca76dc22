"""Processes that a script starts: they find the script and our packages, and end with the worker."""

import os
import signal
from pathlib import Path

import pytest

PARALLEL = """
import json, multiprocessing
from joblib import Parallel, delayed
from azureml.core.model import Model
from azureml_inference_server_http.api.aml_request import rawhttp
from modules import own

class Scale:
    def __init__(self, by): self.by = by

def scaled(number, scale):
    return own.twice(number) * scale.by

def run(data):
    asked = json.loads(data)
    pairs = [(number, Scale(3)) for number in asked["numbers"]]
    if asked["how"] == "joblib":
        return Parallel(n_jobs=2)(delayed(scaled)(*pair) for pair in pairs)
    with multiprocessing.get_context(asked["how"]).Pool(2) as pool:
        return pool.starmap(scaled, pairs)
"""

SLOW = """
import json, subprocess, sys, time
def run(data):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(data, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
"""

HIDING = """
import azureml.ai
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml.contrib.other import OTHER
from azureml.core import Model

@rawhttp
def run(request):
    return AMLResponse([azureml.ai.NAME, OTHER, Model.__name__], 201)
"""


# Coverage's handler of SIGTERM may leave a process of a pool waiting for a lock that it holds itself.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


@pytest.mark.parametrize("how", ["joblib", "spawn", "forkserver", "fork"])
def test_functions_of_the_script(start, script, how):
    """Functions and classes of the script run in joblib's workers and in multiprocessing's, however these start."""
    path = script(PARALLEL, **{"modules__own.py": "def twice(number): return 2 * number"})
    server = start("--script", path, **UNMEASURED).ready()
    assert server.ask(body={"numbers": [1, 2, 3, 4], "how": how}).json == [6, 12, 18, 24]
    # Killed, it would leave joblib's workers waiting for minutes.
    server.stop()


def test_a_package_that_hides_ours(start, script):
    """A package of the script's environment that brings azureml/__init__.py stands beside our azureml, not before."""
    parts = {"azureml__ai.py": "NAME = 'theirs'", "azureml__contrib__other.py": "OTHER = 'too'"}
    path = script(HIDING, **parts)
    (path.parent / "azureml/__init__.py").write_text("")
    reply = start("--script", path).ready().ask(body=b"")
    assert (reply.status, reply.json) == (201, ["theirs", "too", "Model"])


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def started(server, tmp_path):
    """Ask a script that starts a process; the file names that process once it has."""
    named = tmp_path / "child"
    client = server.connect()
    client.request("POST", "/score", str(named).encode())
    server.until(lambda: named.exists() and named.read_text(), "starting a child")
    return client, int(named.read_text())


@pytest.mark.parametrize("why", ["too slow", "killed", "stopped"])
def test_they_end_with_the_script(start, script, tmp_path, why):
    """What a script has started ends with it: when it took too long, when it was killed, when the server stops."""
    limit = (
        {"EDGEFLEET_SETTINGS": '{"score_timeout_ms": 1500}'}
        if why == "too slow"
        else {"EDGEFLEET_LIMITS": '{"drain_s": 0}'}
    )
    server = start("--script", script(SLOW), **limit).ready()
    client, child = started(server, tmp_path)
    worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    assert not ended(child)
    if why == "killed":
        os.kill(worker, signal.SIGKILL)
    if why == "stopped":
        server.process.terminate()
    server.until(lambda: ended(child) and ended(worker), "the end of the child")
    client.close()


def test_a_worker_does_not_outlive_a_killed_server(start, script, tmp_path):
    """It ends at once, in the middle of a run: nobody is there any more who would end it later."""
    server = start("--script", script(SLOW)).ready()
    client, child = started(server, tmp_path)
    worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    server.process.kill()
    try:
        server.until(lambda: ended(worker), "the end of the worker")
    finally:
        os.kill(child, signal.SIGKILL)
        client.close()
