"""Our scoring server, azureml-inference-server-http and a plain FastAPI server side by side, in one run.

``python -m tests.benchmarks.serving [--rounds N] [--seconds S]`` makes the peers' environments below .cache/ the first
time. All servers of a model stay up and take turns, in another order each round; figures are medians over rounds. On
a busy machine only ratios mean something.
"""

import argparse
import json
import subprocess
import sys
from statistics import median

from tests.benchmarks.serving import servers
from tests.benchmarks.serving.load import generator, rate
from tests.benchmarks.serving.servers import CACHE, ROOT

JSON, RAW = "application/json", "application/octet-stream"
CONNECTIONS = 8
CELLS = {
    ("digits", "json"): (servers.ours, servers.our_script, servers.azureml, servers.fastapi),
    ("cnn", "bin"): (servers.ours, servers.fastapi),
    ("cnn", "json"): (servers.ours, servers.fastapi),
}
TARGETS = {
    "digits_json_c8_vs_azureml": ">= 5", "digits_script_c8_vs_azureml": ">= 3", "digits_json_c8_cpu_ms": "<= FastAPI's",
    "cnn_bin_c8_vs_baseline": ">= 1.6", "cnn_json_c8_vs_baseline": ">= 1.2", "rss_mb": "<= FastAPI's",
    "start_s": "<= FastAPI's",
}  # fmt: skip


def baseline(model, seconds):
    script = ROOT / "tests/benchmarks/serving/baseline.py"
    command = [sys.executable, script, CACHE / f"{model}.onnx", CACHE / f"{model}.bin", str(seconds)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout)


def measure(server, kind, seconds):
    """Requests a second, and milliseconds of CPU for each."""
    before = server.cpu_s()
    path = "/raw" if kind == "bin" and server.name == "fastapi" else "/score"
    body = CACHE / f"{server.model}.{kind}"
    got = rate(server.port, path, body, RAW if kind == "bin" else JSON, connections=CONNECTIONS, seconds=seconds)
    return got, (server.cpu_s() - before) / (got * seconds) * 1e3


def run(rounds, seconds):
    """(model, kind) -> server or ``baseline`` -> its rounds; and server -> (RSS in MB, start in s), on digits."""
    cells, sizes = {}, {}
    for (model, kind), makers in CELLS.items():
        up = []
        try:
            up += [make(model) for make in makers]
            for server in up:
                measure(server, kind, 1)
                if model == "digits":
                    sizes[server.name] = (server.rss_mb(), server.start_s)
            found = cells[model, kind] = {name: [] for name in ["baseline", *(one.name for one in up)]}
            for turn in range(rounds):
                found["baseline"].append((baseline(model, seconds), 0.0))
                for server in up[turn % len(up) :] + up[: turn % len(up)]:
                    found[server.name].append(measure(server, kind, seconds))
        finally:
            for server in up:
                server.stop()
    return cells, sizes


def ratio(found, name, other):
    """The median over rounds of the ratio within a round."""
    return round(median(mine[0] / theirs[0] for mine, theirs in zip(found[name], found[other], strict=True)), 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    line = parser.parse_args()
    servers.models()
    for name in servers.PACKAGES:
        servers.environment(name)
    cells, sizes = run(line.rounds, line.seconds)
    print(f"load: {generator()}, {CONNECTIONS} connections, {line.rounds} rounds of {line.seconds} s\n")
    print("| model, body | server | requests/s | of one thread's | CPU ms/request |\n|---|---|---:|---:|---:|")
    for (model, kind), found in cells.items():
        for name, rounds in found.items():
            rps, cpu = (median(column) for column in zip(*rounds, strict=True))
            print(f"| {model}, {kind} | {name} | {rps:.1f} | {ratio(found, name, 'baseline'):.3f} | {cpu:.3f} |")
    print("\n| server | RSS MB | start s |\n|---|---:|---:|")
    for name, (rss, start) in sizes.items():
        print(f"| {name} | {rss:.0f} | {start:.2f} |")
    digits = cells["digits", "json"]
    figures = {
        "digits_json_c8_vs_azureml": ratio(digits, "edgefleet", "azureml"),
        "digits_script_c8_vs_azureml": ratio(digits, "edgefleet-script", "azureml"),
        "digits_json_c8_cpu_ms": round(median(cpu for _, cpu in digits["edgefleet"]), 4),
        "cnn_bin_c8_vs_baseline": ratio(cells["cnn", "bin"], "edgefleet", "baseline"),
        "cnn_json_c8_vs_baseline": ratio(cells["cnn", "json"], "edgefleet", "baseline"),
        "rss_mb": round(sizes["edgefleet"][0], 1),
        "start_s": round(sizes["edgefleet"][1], 2),
    }
    fastapis = {
        "digits_json_c8_cpu_ms": round(median(cpu for _, cpu in digits["fastapi"]), 4),
        "rss_mb": round(sizes["fastapi"][0], 1),
        "start_s": round(sizes["fastapi"][1], 2),
    }
    targets = TARGETS | {name: f"<= {value}" for name, value in fastapis.items()}
    print(json.dumps({"benchmark": "serving", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
