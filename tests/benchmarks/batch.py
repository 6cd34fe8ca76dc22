"""``make bench NAME=batch``: records a second of a batch run, beside a bare loop over ONNX Runtime in one process.

The same JSON lines each time, whole processes from their start to the last answer on the disk. The bare loop reads a
line, calls the session and writes the answer: no journal, no server, nothing set aside. ``digits`` is a graph of
microseconds, so what is measured is everything around it; ``wide`` takes milliseconds a record. On a busy machine only
ratios mean something. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.parts import digits
from tests.parts.warm import ROOT

WIDTH, LAYERS = 1024, 4
RECORDS = {"digits": 20_000, "wide": 1_500}
WORKERS = (1, 2)
MINI_BATCH = "32"
BARE = """
import json, sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
names = [one.name for one in session.get_outputs()]
with open(sys.argv[2]) as lines, open(sys.argv[3], "w") as out:
    for line in lines:
        found = session.run(None, {name: np.asarray(json.loads(line)["data"], np.float32)})
        answer = {one: value.tolist() for one, value in zip(names, found)}
        out.write(json.dumps({"input": sys.argv[2], "answer": answer}) + "\\n")
"""


def wide(path: Path) -> Path:
    """A graph of a few large products of matrices."""
    chance = np.random.default_rng(1)
    nodes, weights, taken = [], [], "x"
    for layer in range(LAYERS):
        weight = (chance.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [taken, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]),
        ]
        taken = f"r{layer}"
    nodes.append(helper.make_node("ReduceSum", [taken], ["y"], keepdims=0))
    graph = helper.make_graph(
        nodes, "wide", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def inputs(folder: Path, model: str, count: int) -> Path:
    """A folder with one file of so many JSON lines."""
    chance = np.random.default_rng(2)
    if model == "digits":
        records = [question.body for question in digits.QUESTIONS]
    else:
        rows = chance.standard_normal((8, WIDTH)).astype(np.float32).round(3)
        records = [json.dumps({"data": [row.tolist()]}).encode() for row in rows]
    folder.mkdir()
    with (folder / "records.jsonl").open("wb") as out:
        out.writelines(records[number % len(records)] + b"\n" for number in range(count))
    return folder


def bare(graph: Path, records: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", BARE, str(graph), str(records / "records.jsonl"), str(out / "answers.jsonl")]


def batch(graph: Path, records: Path, out: Path, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "modules.scoring.batch", "--model", str(graph), "--inputs", str(records)),
        *("--outputs", str(out), "--state", str(out / ".state"), "--workers", str(workers), "--mini-batch", MINI_BATCH),
    ]


def rate(command: list[str], out: Path, count: int) -> tuple[float, float]:
    """Records a second of one process, and milliseconds of CPU a record, its children included."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    took, after = time.perf_counter() - started, os.times()
    assert done.returncode == 0, done.stderr
    with (out / "answers.jsonl").open("rb") as lines:
        assert sum(1 for _ in lines) == count, "some record has no answer"
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return count / took, cpu / count * 1e3


def measure(folder: Path, rounds: int, scale: float) -> dict[str, float]:
    """Medians over rounds; within a round the ways take turns."""
    graphs = {"digits": digits.GRAPH, "wide": wide(folder / "wide.onnx")}
    figures: dict[str, float] = {}
    for model, graph in graphs.items():
        count = max(1, int(RECORDS[model] * scale))
        records = inputs(folder / model, model, count)
        found: dict[str, list[tuple[float, float]]] = {}
        for turn in range(rounds):
            for way in ("bare", *(f"workers_{number}" for number in WORKERS)):
                out = folder / f"{model}-{way}-{turn}"
                out.mkdir()
                made = bare(graph, records, out) if way == "bare" else batch(graph, records, out, int(way[-1]))
                found.setdefault(way, []).append(rate(made, out, count))
        for way, each in found.items():
            figures[f"{model}_{way}_per_s"] = round(median(one for one, _ in each), 1)
            figures[f"{model}_{way}_cpu_ms"] = round(median(cpu for _, cpu in each), 3)
        for number in WORKERS:
            pairs = zip(found[f"workers_{number}"], found["bare"], strict=True)
            figures[f"{model}_workers_{number}_vs_bare"] = round(median(a[0] / b[0] for a, b in pairs), 3)
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the records (%(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="efb-") as folder:
        figures = measure(Path(folder), asked.rounds, asked.scale)
    for name, value in figures.items():
        print(f"  {name:28} {value:>10}")
    print(json.dumps({"benchmark": "batch", "figures": figures, "targets": {}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
