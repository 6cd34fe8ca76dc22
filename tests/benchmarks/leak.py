"""Whether the scoring server keeps what it need not: rough clients for minutes, and its memory meanwhile.

``python -m tests.benchmarks.leak [--minutes M]`` starts a server with a graph and one with an entry script, sends both
the clients of ``tests/parts/rough_clients.py`` (a thousand connections, slow, large, broken and vanishing ones), round
after round, and samples the resident set of each server with its workers. ``rss_flat_ratio`` is the median of the last
fifth of the time over that of the second fifth. The last line of the output is one JSON object.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import onnx
from onnx import TensorProto, helper

from tests.benchmarks.process_memory import family_rss
from tests.parts.programs import Program
from tests.parts.rough_clients import GOOD, GRAPH_CASES, LIMITS, RoughClients, many_files

SAMPLE_S = 0.25
FIFTHS = 5
TARGETS = {"rss_flat_ratio": "<= 1.05", "crashes": "<= 0"}
SCRIPT = """
import json
import numpy as np
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
def init():
    print("initialised")
@rawhttp
def run(request):
    body = request.get_data()
    if request.content_type == "application/octet-stream":
        return AMLResponse(body, 200, {"Content-Type": "application/octet-stream"})
    try:
        rows = np.array(json.loads(body)["data"], np.float32)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return AMLResponse({"message": f"no rows: {error!r:.200}"}, 400, json_str=True)
    if rows.shape[1:] != (4,):
        raise ValueError(f"rows of {rows.shape}")
    print(len(rows), "rows")
    return {"y": np.maximum(rows, 0)}
"""
SCRIPT_CASES = [
    (GOOD, 200, ""),
    (b"{", 400, "no rows"),
    (b'{"data": [[1, 2]]}', 500, "rows of (1, 2)"),
    (b'{"data": [[1, 2, 3, NaN]]}', 200, ""),
    (b'{"data": [["a", 2, 3, 4]]}', 400, "no rows"),
    (b'{"other": 1}', 400, "no rows"),
    (b"\xff\xfe", 400, "no rows"),
    (b"[" * 5000, 400, "no rows"),
    (b"", 400, "no rows"),
]


class Measured:
    """One server under its clients; ``samples`` are its resident sets in MB, one every ``SAMPLE_S``."""

    def __init__(self, name, folder, arguments, cases, *, patient=False):
        self.name = name
        self._socket = folder / f"{name}.sock"
        self._log = folder / f"{name}.log"
        command = [sys.executable, "-m", "modules.scoring", *arguments, "--unix", self._socket]
        self._program = Program(name, command, self._log, environment={"EDGEFLEET_LIMITS": LIMITS})
        self._clients = RoughClients(self._socket, cases, patient=patient)
        self._began = 0.0
        self.samples = []
        self.rounds = 0

    def start(self):
        self._program.start(self._ready)
        self._began = family_rss(self._program.pid)

    def kill(self):
        self._program.kill()

    async def run(self, ends):
        sampling = asyncio.create_task(self._sample())
        while time.monotonic() < ends and self._program.runs:
            await self._clients.round()
            self.rounds += 1
        sampling.cancel()

    def figures(self):
        """Memory in MB. A crash is a worker that was replaced, or the server's own end."""
        fifth = max(1, len(self.samples) // FIFTHS)
        answers = self._clients.answers
        log = self._log.read_text(errors="replace")
        return {
            "rss_start_mb": round(self._began, 1),
            "rss_second_fifth_mb": round(median(self.samples[fifth : 2 * fifth]), 1),
            "rss_last_fifth_mb": round(median(self.samples[-fifth:]), 1),
            "rss_flat_ratio": round(median(self.samples[-fifth:]) / median(self.samples[fifth : 2 * fifth]), 3),
            "rss_peak_mb": round(max(self.samples), 1),
            "rounds": self.rounds,
            "requests": answers.total(),
            "refused": answers.total() - answers[200],
            "busy": answers[429],
            "crashes": log.count("starting a new worker") + (not self._program.runs),
        }

    async def _sample(self):
        while True:
            self.samples.append(family_rss(self._program.pid))
            await asyncio.sleep(SAMPLE_S)

    def _ready(self):
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect(str(self._socket))
            except OSError:
                return False
            one.sendall(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
            return one.recv(100).startswith(b"HTTP/1.1 200")


def relu(path):
    """A graph of one node: y = max(x, 0), float32 [N, 4]."""
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])] for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *sides)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


async def measure(servers, minutes):
    ends = time.monotonic() + 60 * minutes
    async with asyncio.TaskGroup() as group:
        for one in servers:
            group.create_task(one.run(ends))


def main():
    """Measure and print; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    line = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgefleet-leak-") as name, many_files():
        folder = Path(name)
        (folder / "source").mkdir()
        (folder / "source/score.py").write_text(SCRIPT)
        servers = [
            Measured("graph", folder, ["--model", relu(folder / "relu.onnx")], GRAPH_CASES),
            Measured("script", folder, ["--script", folder / "source/score.py"], SCRIPT_CASES, patient=True),
        ]
        try:
            for one in servers:
                one.start()
            asyncio.run(measure(servers, line.minutes))
            found = {one.name: one.figures() for one in servers}
        finally:
            for one in servers:
                one.kill()
    names = list(found["graph"])
    print("| server | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for server, figures in found.items():
        print(f"| {server} | " + " | ".join(f"{figures[name]:g}" for name in names) + " |")
    figures = {f"{server}_{name}": value for server, of_one in found.items() for name, value in of_one.items()}
    targets = {f"{server}_{name}": target for server in found for name, target in TARGETS.items()}
    print(json.dumps({"benchmark": "leak", "figures": figures, "targets": targets}))
    return int(any(one["rss_flat_ratio"] > 1.05 or one["crashes"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
