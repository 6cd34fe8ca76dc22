"""Memory that a large request took is given back: it does not stay for the life of the server."""

import re
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ROWS = 100_000
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


def resident_mib(server, field="VmRSS"):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) >> 10


def test_after_an_outlier(start, graph):
    """One request a hundred thousand times the usual leaves the server with what it had, once the next has come."""
    weights = [np.full((64, 64), 1 / 64, np.float32)] * 4
    nodes, value = [], "x"
    for place in range(len(weights)):
        nodes.append(helper.make_node("MatMul", [value, f"w{place}"], [f"v{place}"]))
        value = f"v{place}"
    nodes.append(helper.make_node("Relu", [value], ["y"]))
    kind = (TensorProto.FLOAT, ["N", 64])
    constants = [numpy_helper.from_array(one, f"w{place}") for place, one in enumerate(weights)]
    server = start("--model", graph(nodes, {"x": kind}, {"y": kind}, initializers=constants)).ready()

    def ask(rows):
        reply = server.ask(body=np.ones((rows, 64), np.float32).tobytes(), headers=RAW)
        assert (reply.status, len(reply.body)) == (200, rows * 256)

    ask(1)
    before = resident_mib(server)
    ask(ROWS)
    # Of what it took at its worst; how much of that the allocator holds right afterwards differs from time to time.
    grown = resident_mib(server, "VmHWM")
    ask(1)
    server.until(lambda: resident_mib(server) < before + (grown - before) // 4 + 8, "giving memory back")
    assert grown > before + 60
