"""What cannot be served ends the process with one clear line: what, where, and what to do."""

import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper

from modules import manifest
from modules.digests import measure_bytes

SHAPE = (TensorProto.FLOAT, ["N", 4])


def refused(server, code=3):
    """The one line that a process which could not serve ended with."""
    assert server.wait() == code, server.log
    lines = [line for line in server.log.splitlines() if "INFO" not in line]
    assert lines[-1].startswith("edgefleet-scoring: ")
    return lines


def external(location, length=16):
    """A weight of four floats that says it lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def with_weight(graph, location):
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    path = graph(nodes, {"x": SHAPE}, {"y": SHAPE})
    # onnx's own writer refuses such files, so the weight is added to the bytes afterwards.
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", *SHAPE)], [helper.make_tensor_value_info("y", *SHAPE)],
            [external(location)],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "the file is empty", id="when it is empty"),
        pytest.param(b"not a graph at all, but some text", "this is not an ONNX graph", id="when it is text"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", id="when it is a Git LFS pointer"
        ),
        pytest.param(b"PK\x03\x04" + bytes(100), "this is not an ONNX graph", id="when it is a zip"),
        pytest.param(None, "cannot be read: No such file", id="when it is missing"),
    ],
)
def test_not_onnx(start, tmp_path, content, said):
    """A file that is no graph is told apart from a damaged one."""
    path = tmp_path / "graph.onnx"
    if content is not None:
        path.write_bytes(content)
    lines = refused(start("--model", path))
    assert len(lines) == 1
    assert said in lines[0]
    assert str(path) in lines[0]


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated(start, relu, tmp_path, kept):
    """A graph that was cut short is called truncated, wherever it was cut."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(relu.read_bytes()[: int(len(relu.read_bytes()) * kept)])
    assert "the ONNX graph is truncated" in refused(start("--model", path))[0]


@pytest.mark.parametrize("way", ["..", "absolute", "link"])
def test_external_data_escape(start, graph, tmp_path, way):
    """External data outside the graph's folder is refused, by whatever way it is reached."""
    (tmp_path / "outside.bin").write_bytes(np.ones(4, "f4").tobytes())
    location = {"..": f"../../{tmp_path.name}/outside.bin", "absolute": str(tmp_path / "outside.bin"), "link": "l.bin"}[
        way
    ]
    path = with_weight(graph, location)
    if way == "..":
        (path.parents[1] / "outside.bin").write_bytes(np.ones(4, "f4").tobytes())
        path = with_weight(graph, "../outside.bin")
    (path.parent / "l.bin").symlink_to(tmp_path / "outside.bin")
    assert "its external data lies outside its folder" in refused(start("--model", path))[0]


def test_external_data(start, graph):
    """External data beside the graph is read; where it is missing the message says so."""
    path = with_weight(graph, "w.bin")
    assert "a file of its external data is missing" in refused(start("--model", path))[0]
    (path.parent / "w.bin").write_bytes(np.ones(4, "f4").tobytes())
    server = start("--model", path).ready()
    assert server.ask(body={"data": [[1, 2, 3, 4]]}).json == {"y": [[2, 3, 4, 5]]}


def test_custom_operator(start, graph):
    """An operator of a domain that is not available is named."""
    node = helper.make_node("Foo", ["x"], ["y"], domain="com.acme")
    path = graph([node], {"x": SHAPE}, {"y": SHAPE}, domains=(("", 17), ("com.acme", 1)))
    line = refused(start("--model", path))[0]
    assert "it uses an operator that this onnxruntime does not have" in line
    assert "com.acme:Foo" in line


def test_newer_opset(start, graph):
    """A graph for a newer onnxruntime is told apart from a broken one."""
    path = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": SHAPE}, {"y": SHAPE}, domains=(("", 99),))
    assert "its opset is too new" in refused(start("--model", path))[0]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EDGEFLEET_PROVIDERS", '["CUDAExecutionProvider"]', "CUDAExecutionProvider: this onnxruntime has only"),
        ("EDGEFLEET_PROVIDERS", '["FastExecutionProvider"]', "FastExecutionProvider is not an execution provider"),
        ("EDGEFLEET_PROVIDERS", "CPU", "EDGEFLEET_PROVIDERS"),
        ("EDGEFLEET_SETTINGS", '{"score_timeout_ms": 0}', "0 is outside 1 to"),
        ("EDGEFLEET_SETTINGS", '{"mounts": "/"}', "'mounts' is not adjustable"),
        ("EDGEFLEET_SETTINGS", '{"log_level": "loud"}', "'loud' is none of debug"),
        ("SCORING_TIMEOUT_MS", "soon", "SCORING_TIMEOUT_MS: Expected"),
    ],
)
def test_bad_environment(start, relu, variable, value, said):
    """When a setting cannot be used, or no allowed provider is here, nothing is served instead."""
    assert said in refused(start("--model", relu, **{variable: value}))[-1]


def test_second_choice_of_provider(start, relu):
    """When the first provider is not in this build the next is used, and the status shows both."""
    server = start(
        "--model", relu, EDGEFLEET_PROVIDERS='[["CUDAExecutionProvider", {"device_id": "0"}], "CPUExecutionProvider"]'
    )
    status = server.ready().ask("/edgefleet/status").json
    assert status["providers_requested"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert status["provider_in_use"] == "CPUExecutionProvider"
    assert "CUDAExecutionProvider was asked for first, but CPUExecutionProvider is in use" in server.log


def test_command_line(start, relu):
    """When nothing or no address is named the exit code is 1, as on Azure Machine Learning."""
    assert "give --module, --model or --script" in refused(start(), code=1)[0]
    assert "give either --unix SOCKET" in refused(start("--model", relu, "--port", 1), code=1)[0]


def module_folder(folder, serve, files, **more):
    """A module's folder as the agent lays it out."""
    entries = []
    for path, content in files.items():
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path).write_bytes(content)
        blob = measure_bytes(content)
        entries.append(manifest.File(blob.sha256, blob.length, blob.blocks, path=path))
    document = manifest.Manifest(
        team="acme", name="thing", version="2.1", serve=serve, files=tuple(entries), runtimes=(manifest.Runtime(),),
        proof=manifest.Proof(prove="ready-only"), **more,
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.encode(document))
    return folder


def test_module(start, relu, tmp_path):
    """A module's folder is served under its name and version, with the settings that its manifest allows."""
    adjustable = {"log_level": manifest.Adjustable(default="debug", choices=("debug", "info"))}
    files = {"model/graph.onnx": relu.read_bytes()}
    folder = module_folder(tmp_path, manifest.OnnxGraph(file="model/graph.onnx"), files, adjustable=adjustable)
    server = start("--module", folder).ready()
    assert server.ask("/edgefleet/status").json["module"] == "acme/thing:2.1"
    assert server.ask("/v2/models/thing/versions/2.1").status == 200
    assert server.ask(body={"data": [[-1, 1, 0, 2]]}).json == {"y": [[0, 1, 0, 2]]}
    server.until(lambda: re.search(r"DEBUG .*POST 200", server.log), "the debug line")
    other = start("--module", folder, EDGEFLEET_SETTINGS=json.dumps({"score_timeout_ms": 5}))
    assert "'score_timeout_ms' is not adjustable" in refused(other)[0]


def test_module_with_script(start, tmp_path):
    """A module with an entry script finds its files through AZUREML_MODEL_DIR."""
    text = b"import os, pathlib\nfolder = os.environ['AZUREML_MODEL_DIR']\n"
    text += b"def run(data):\n    return pathlib.Path(folder, 'a.txt').read_text()\n"
    files = {"source/score.py": text, "model/a.txt": b"hello"}
    folder = module_folder(tmp_path, manifest.EntryScript(script="source/score.py"), files)
    assert start("--module", folder).ready().ask(body=b"x").json == "hello"


def test_broken_module(start, tmp_path):
    """A folder without a manifest, or with one that is none, is refused with its path."""
    assert "manifest.json: cannot be read" in refused(start("--module", tmp_path))[0]
    (tmp_path / "manifest.json").write_text("{}")
    assert "manifest" in refused(start("--module", tmp_path))[0]
