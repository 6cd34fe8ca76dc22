"""The startup probe of a pod, as a process beside a real scoring server: proved, or why not in one line."""

import json
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

from modules import manifest, samples
from modules.digests import measure_bytes
from modules.errors import OverLimit
from modules.samples import Numeric, Sample
from modules.scoring import prove
from tests.modules.scoring.conftest import ROOT
from tests.parts.pace import stretched

KEY = "0123456789abcdef"
SOON_S = stretched(30)
ASKED = b'{"x": [[1.5, -1.0, 2.0, 0.0]]}'
RIGHT = Sample(name="first", body=ASKED, answer=b'{"y": [[1.5, 0.0, 2.0, 0.0]]}')


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("access") / "access.json"
    file.write_text(json.dumps({"keys": [KEY]}))
    return file


@pytest.fixture(scope="module")
def serving(start, relu, keys):
    """A server that lets in who has the key."""
    return start("--model", relu, tcp=free_port(), EDGEFLEET_ACCESS_FILE=str(keys)).ready()


@pytest.fixture
def module(tmp_path):
    """Write a module's folder with these samples."""

    def write(*asked, **limits):
        content = samples.encode(samples.Samples(asked))
        files = {"model.onnx": b"a graph"} | ({"samples.json": content} if asked else {})
        entries = []
        for name, data in files.items():
            blob = measure_bytes(data)
            entries.append(manifest.File(blob.sha256, blob.length, blob.blocks, path=name))
            (tmp_path / "files").mkdir(exist_ok=True)
            (tmp_path / "files" / name).write_bytes(data)
        proof = manifest.Proof(prove="samples" if asked else "ready-only", limits=manifest.Limits(**limits))
        document = manifest.Manifest(
            team="acme", name="relu", version="3", serve=manifest.OnnxGraph(file="model.onnx"), files=tuple(entries),
            runtimes=(manifest.Runtime(),), proof=proof,
        )  # fmt: skip
        (tmp_path / "manifest.json").write_bytes(manifest.encode(document))
        return tmp_path

    return write


def probe(folder, port, *more, providers=""):
    """Run it; its exit status, and what it said."""
    command = [sys.executable, "-m", "modules.scoring.prove", str(folder), "--port", str(port), *map(str, more)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False,
        env={"EDGEFLEET_PROVIDERS": providers, "PATH": "/usr/bin"},
    )  # fmt: skip
    assert (done.stdout + done.stderr).count("\n") == 1
    return done.returncode, done.stdout + done.stderr


def test_a_server_that_answers_rightly_is_proved(serving, module, keys):
    """Every sample, each time anew: the probe remembers nothing."""
    assert probe(module(RIGHT, RIGHT), serving.port, "--access", keys) == (0, "ready, and 2 samples were right\n")
    wrong = Sample(name="wrong", body=ASKED, answer=RIGHT.answer, status=404)
    code, said = probe(module(RIGHT, wrong), serving.port, "--access", keys)
    assert (code, said.startswith("samples: wrong: status 200 instead of 404")) == (1, True)


def test_the_samples_own_rules_decide(serving, module, keys):
    """Within the tolerance it is right, beyond it wrong, and the line says which sample and what was answered."""
    near = Sample(name="near", body=ASKED, answer=b'{"y": [[1.5004, 0.0, 2.0, 0.0]]}')
    assert probe(module(near), serving.port, "--access", keys)[0] == 0
    far = Sample(name="far", body=ASKED, answer=near.answer, compare=Numeric(absolute=1e-6, relative=1e-6))
    code, said = probe(module(RIGHT, far), serving.port, "--access", keys)
    assert code == 1
    assert "far: 1.5 instead of 1.5004" in said


def test_a_module_without_samples_is_proved_once_it_is_ready(serving, module, keys):
    """As a device does with one that is published as ready-only."""
    assert probe(module(), serving.port, "--access", keys) == (0, "ready; it has no samples\n")


def test_the_limits_of_the_manifest_hold(serving, module, keys):
    """Slower than its manifest allows is not proved, as on a device; within it is."""
    assert probe(module(RIGHT, latency_ms=1e6), serving.port, "--access", keys)[0] == 0
    code, said = probe(module(RIGHT, latency_ms=0.001), serving.port, "--access", keys)
    assert (code, said.startswith("latency: the samples' median took ")) == (1, True)


@pytest.mark.parametrize(
    ("files", "uses"),
    [
        ({"memory.current": 9000 << 20, "memory.stat": f"anon 1\ninactive_file {1000 << 20}"}, 8000),
        ({"memory/memory.usage_in_bytes": 9000 << 20, "memory/memory.stat": f"total_inactive_file {3000 << 20}"}, 6000),
        ({}, 0),
    ],
    ids=["cgroup 2", "cgroup 1", "none"],
)
def test_what_a_container_uses_is_read_as_an_engine_counts_it(tmp_path, files, uses, monkeypatch):
    """Without files that are only kept in memory, and without the probe; more than the limit is said."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(str(text))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert prove._memory_mb(tmp_path) == pytest.approx(max(0, uses - own), abs=50)
    monkeypatch.setattr(prove, "CGROUP", tmp_path)
    prove._check_limits(manifest.Limits(memory_mb=9000), [])
    if uses:
        with pytest.raises(OverLimit, match="MiB of 1 allowed"):
            prove._check_limits(manifest.Limits(memory_mb=1), [])


def test_who_has_no_key_is_told_so(serving, module, tmp_path):
    """A pod whose access file is another one, or none."""
    code, said = probe(module(RIGHT), serving.port)
    assert (code, "401" in said) == (1, True)
    code, said = probe(module(RIGHT), serving.port, "--access", tmp_path / "none")
    assert (code, "the keys cannot be read" in said) == (1, True)


def test_the_provider_that_was_asked_for_is_in_use(serving, module, keys):
    """A driver that is missing makes ONNX Runtime fall back silently; the probe does not."""
    assert probe(module(RIGHT), serving.port, "--access", keys, providers='["CPUExecutionProvider"]')[0] == 0
    code, said = probe(
        module(RIGHT), serving.port, "--access", keys, providers='[["CUDAExecutionProvider", {"device_id": "0"}]]'
    )
    assert code == 1
    assert "CPUExecutionProvider is in use instead of CUDAExecutionProvider" in said


def test_a_server_that_is_not_there_yet_is_not_proved(module):
    """The first probes come before it listens."""
    code, said = probe(module(RIGHT), free_port())
    assert (code, "does not answer" in said) == (1, True)


def test_a_server_that_is_loading_is_not_proved(start, script, module, tmp_path):
    """It listens before its script is ready."""
    gate = tmp_path / "go"
    code = f"import pathlib, time\ndef init():\n  while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
    server = start("--script", script(code + "def run(data): return {'y': [[1.5, 0.0, 2.0, 0.0]]}\n"), tcp=free_port())
    server.until(lambda: probe(module(RIGHT), server.port)[1].count("loading"), "listening")
    gate.touch()
    server.ready()
    assert probe(module(RIGHT), server.port)[0] == 0


@pytest.mark.parametrize("drips", [b"", b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_server_that_does_not_answer_is_left_in_time(module, drips):
    """Silent, dripping a head, or a body: the probe ends by itself, before Kubernetes ends it without a word."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with listening.accept()[0] as one:
                one.recv(4096)
                one.sendall(drips)
                while drips and not over.wait(0.05):
                    try:
                        one.sendall(b"a")
                    except OSError:
                        return
                over.wait(SOON_S)

        thread = threading.Thread(target=serve)
        thread.start()
        begun = time.monotonic()
        code, said = probe(module(RIGHT), listening.getsockname()[1], "--within", "1")
        over.set()
        thread.join(SOON_S)
    assert code == 1
    assert "within 1 s" in said or "timed out" in said
    assert time.monotonic() - begun < SOON_S / 2


def test_a_module_that_is_not_there_is_said(serving, keys, tmp_path):
    """The volume is not mounted."""
    code, said = probe(tmp_path / "nowhere", serving.port, "--access", keys)
    assert (code, "mount its volume" in said) == (1, True)


def test_it_imports_little():
    """It starts every few seconds beside a server that is loading: no NumPy, no ONNX Runtime, no event loop."""
    heavy = "('numpy', 'onnxruntime', 'asyncio', 'aiohttp', 'PIL', 'cryptography')"
    code = f"import sys, modules.scoring.prove; print([one for one in {heavy} if one in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
