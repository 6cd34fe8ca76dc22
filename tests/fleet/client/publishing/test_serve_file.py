"""Several models, pipelines, ensembles and images, as an engineer declares them, become modules that answer."""

import json

import numpy as np
import onnx
import pytest

from fleet.client.publishing.register import Model, prepare
from fleet.client.publishing.serve_file import read_serve
from modules import samples as samples_file
from modules.errors import Invalid
from modules.manifest import Ensemble, ImageInput, ModelSet, OnnxGraph, Pipeline

CHAIN = """
kind: models
main: chain
models:
  first: {kind: onnx, file: first.onnx}
  second: {kind: onnx, file: deeper/second.onnx}
  chain:
    kind: pipeline
    steps:
      - {model: first, inputs: {x: input.pixels}}
      - {model: second, inputs: {x: input.pixels}}
"""


@pytest.fixture
def folder(tmp_path, linear):
    """Two graphs, one of them in a folder below with its weights in a file beside it, and a file that nobody names."""
    place = tmp_path / "models"
    (place / "deeper").mkdir(parents=True)
    onnx.save_model(linear(), place / "first.onnx")
    model = linear(np.ones((3, 2), np.float32))
    onnx.save_model(
        model, place / "deeper/second.onnx", save_as_external_data=True, location="second.data", size_threshold=0
    )
    (place / "notes.txt").write_text("not for devices")
    return place


@pytest.fixture
def declare(tmp_path):
    def write(text, name="serve.yaml"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


def test_a_pipeline_is_packed_and_proved(folder, declare, tmp_path, workspace, silent):
    """Only what is declared travels, and the samples are what the pipeline itself takes and answers."""
    packed = tmp_path / "packed"
    packed.mkdir()
    model = Model(path=folder, team="acme", name="chain", engine="process", serve=declare(CHAIN))

    manifest = prepare(model, None, workspace.blobs, packed, silent)
    sample = samples_file.decode((packed / "files/samples.json").read_bytes()).samples[0]

    assert isinstance(manifest.serve, ModelSet)
    assert isinstance(manifest.serve.models["chain"], Pipeline)
    assert [one.path for one in manifest.files] == [
        "model/deeper/second.data", "model/deeper/second.onnx", "model/first.onnx", "samples.json",
    ]  # fmt: skip
    (row,) = json.loads(sample.body)["pixels"]
    assert json.loads(sample.answer)["y"][0] == pytest.approx([sum(row)] * 2, rel=1e-5)


def test_an_ensemble_in_json(folder, declare):
    """JSON will do as well, and a graph that two models share travels once."""
    members = {name: {"kind": "onnx", "file": file} for name, file in (("a", "first.onnx"), ("b", "first.onnx"))}
    both = {"kind": "ensemble", "models": ["a", "b"]}
    document = {"kind": "models", "main": "both", "models": {**members, "both": both}}

    declared = read_serve(declare(json.dumps(document), "serve.json"), folder)

    assert declared.serve.models["both"] == Ensemble(models=("a", "b"))
    assert set(declared.sources) == {"model/first.onnx"}


def test_two_graphs_that_would_take_one_place_are_refused(folder, declare):
    """File names that differ only in letters that not every system has never stand for one another."""
    for name in ("ä.onnx", "a.onnx"):
        (folder / name).write_bytes((folder / "first.onnx").read_bytes())
    graphs = {name: {"kind": "onnx", "file": f"{letter}.onnx"} for name, letter in (("one", "ä"), ("two", "a"))}

    with pytest.raises(Invalid, match="would both become"):
        read_serve(declare(json.dumps({"kind": "models", "main": "one", "models": graphs})), folder)


def test_a_graph_that_takes_images(folder, declare):
    """One graph with a declaration of its images, named by its file alone."""
    text = "{kind: onnx, file: first.onnx, image: {width: 3, height: 1, channels: L}}"

    declared = read_serve(declare(text), folder / "first.onnx")

    assert declared.serve == OnnxGraph(file="model/first.onnx", image=ImageInput(width=3, height=1, channels="L"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("kind: models\nmain: x\nmodels: {}", "x is not one of its models", id="no main"),
        pytest.param("{kind: onnx, file: none.onnx}", "none.onnx", id="no file"),
        pytest.param("{kind: onnx, file: ../first.onnx}", "\\.\\.", id="outside"),
        pytest.param("{kind: onnx, file: first.onnx, imaeg: {}}", "imaeg", id="unknown key"),
        pytest.param("kind: [", "does not declare", id="no YAML"),
        pytest.param(CHAIN.replace("x: input.pixels", "z: input.pixels"), "first has no input z", id="no such input"),
        pytest.param(CHAIN.replace("model: first", "model: third"), "third is not a graph", id="no such model"),
    ],
)
def test_a_declaration_that_cannot_be_used(folder, declare, text, said):
    """The error names the key, the file or the input, and nothing is packed."""
    with pytest.raises(Invalid, match=said):
        read_serve(declare(text), folder)
