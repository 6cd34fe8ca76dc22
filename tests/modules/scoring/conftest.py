"""A scoring server in a process of its own, spoken to through its Unix socket, and small graphs to serve."""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from modules import manifest
from modules.digests import measure_bytes
from tests.parts import warm
from tests.parts.pace import stretched

ROOT = Path(__file__).parents[3]
START_S = stretched(60)


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.pairs = response.getheaders()
        self.headers = {name.lower(): value for name, value in self.pairs}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("module", timeout=60)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Server:
    """``python -m modules.scoring``, by way of the command ``through``; ``log`` grows as it writes."""

    def __init__(self, folder, arguments, environment, port, through=()):
        self.socket = folder / "s.sock"
        self.port = port
        listen = ["--host", "127.0.0.1", "--port", str(port)] if port else ["--unix", str(self.socket)]
        self.log_path = folder / "log.txt"
        with self.log_path.open("wb") as log:
            command = [*through, sys.executable, "-m", "modules.scoring", *map(str, arguments), *listen]
            self.process = warm.start(command, {**os.environ, **environment}, log, log)

    @property
    def log(self):
        return self.log_path.read_text()

    def connect(self):
        tcp = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60) if self.port else None
        return tcp or _UnixConnection(self.socket)

    def ask(self, path="/score", body=None, *, method=None, headers=None):
        connection = self.connect()
        try:
            body = json.dumps(body).encode() if isinstance(body, dict | list) else body
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def later(self, *arguments, **more):
        """Ask in a thread; returns a function that waits for the reply."""
        replies = []
        thread = threading.Thread(target=lambda: replies.append(self.ask(*arguments, **more)))
        thread.start()

        def reply():
            thread.join(60)
            return replies[0]

        return reply

    def until(self, condition, what):
        end = time.monotonic() + START_S
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen:\n{self.log}"
            time.sleep(0.02)

    def ready(self):
        def answers():
            assert self.process.poll() is None, self.log
            try:
                return self.ask("/").status == 200
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        self.until(answers, "readiness")
        return self

    def wait(self):
        return self.process.wait(START_S)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start servers; whatever still runs at the end of the test file is stopped."""
    servers = []

    def starting(*arguments, folder=None, tcp=None, through=(), **environment):
        servers.append(Server(folder or tmp_path_factory.mktemp("server"), arguments, environment, tcp, through))
        return servers[-1]

    yield starting
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(START_S)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Write an entry script into a source folder of its own, with other files beside it."""

    def write(text, **others):
        source = tmp_path_factory.mktemp("module") / "source"
        for path, content in {
            "score.py": text,
            **{name.replace("__", "/"): text for name, text in others.items()},
        }.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(content)
        return source / "score.py"

    return write


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Write a graph of the given nodes, inputs and outputs (name -> (ONNX type, shape))."""

    def write(nodes, inputs, outputs, *, initializers=(), domains=(("", 17),), more=()):
        values = [
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
            for side in (inputs, outputs)
        ]
        values[1] += more
        model = helper.make_model(
            helper.make_graph(nodes, "g", *values, list(initializers)),
            opset_imports=[helper.make_opsetid(*one) for one in domains],
            ir_version=8,
        )
        path = tmp_path_factory.mktemp("graph") / "graph.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture(scope="module")
def relu(graph):
    """A graph of one node: y = max(x, 0), float32 [N, 4]."""
    shape = (TensorProto.FLOAT, ["N", 4])
    return graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})


@pytest.fixture(scope="module")
def cat_or_dog(graph):
    """A classifier's answer: p, a map from label to number for each of x, float32 [N, 2]."""
    zipmap = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])
    value = helper.make_tensor_value_info("p", TensorProto.FLOAT, None)
    mapped = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    value.type.CopyFrom(helper.make_sequence_type_proto(mapped))
    domains = (("", 17), ("ai.onnx.ml", 1))
    return graph([zipmap], {"x": (TensorProto.FLOAT, ["N", 2])}, {}, domains=domains, more=[value])


@pytest.fixture(scope="module")
def counting(graph):
    """A graph that counts to ``times``, and so takes as long as is asked for."""
    inside = {"n": TensorProto.INT64, "go": TensorProto.BOOL, "v": TensorProto.FLOAT}
    after = {"on": TensorProto.BOOL, "w": TensorProto.FLOAT}
    sides = [[helper.make_tensor_value_info(*one, []) for one in side.items()] for side in (inside, after)]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["v"], ["w"])]
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], body=helper.make_graph(nodes, "body", *sides))
    inputs = {"times": (TensorProto.INT64, []), "x": (TensorProto.FLOAT, [])}
    return graph([loop], inputs, {"y": (TensorProto.FLOAT, [])})


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """Write a module's folder as the agent lays it out."""

    def write(serve, graphs):
        folder, entries = tmp_path_factory.mktemp("module"), []
        for name, path in graphs.items():
            content = path.read_bytes()
            (folder / "files/model").mkdir(parents=True, exist_ok=True)
            (folder / f"files/model/{name}.onnx").write_bytes(content)
            blob = measure_bytes(content)
            entries.append(manifest.File(blob.sha256, blob.length, blob.blocks, path=f"model/{name}.onnx"))
        document = manifest.Manifest(
            team="acme", name="several", version="3", serve=serve, files=tuple(entries),
            runtimes=(manifest.Runtime(),), proof=manifest.Proof(prove="ready-only"),
        )  # fmt: skip
        (folder / "manifest.json").write_bytes(manifest.encode(document))
        return folder

    return write
