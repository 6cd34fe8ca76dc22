"""A model on the publisher's machine becomes a packed module whose answers were computed by the real scoring server."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fleet.client.local.scorers import process_scorer
from fleet.client.models.sample_requests import script_request
from fleet.client.publishing.register import Model, memory_mb, prepare
from modules import manifest as manifests
from modules import samples as samples_file
from modules.errors import BadSettings, Invalid, NotReady, Unproved, WrongAnswer
from modules.manifest import EntryScript, OnnxGraph
from modules.scoring.settings import fitting

ADD = "def init():\n    pass\n\n\ndef run(data):\n    import json\n    return {'sum': sum(json.loads(data)['data'])}\n"


@pytest.fixture
def pack(tmp_path, workspace, silent):
    """Prepares a model in a folder of its own and returns the manifest and the folder."""
    count = iter(range(100))

    def run(model):
        folder = tmp_path / f"packed-{next(count)}"
        folder.mkdir()
        return prepare(model, None, workspace.blobs, folder, silent), folder

    return run


def graph(file, **more):
    return Model(path=file, team="acme", name="linear", engine="process", **more)


def script(tmp_path, code=ADD, **more):
    (tmp_path / "src").mkdir(exist_ok=True)
    (tmp_path / "src" / "score.py").write_text(code)
    (tmp_path / "weights.pkl").write_bytes(b"\x80\x04N.")
    return Model(
        path=tmp_path / "weights.pkl", team="acme", name="adder", engine="process", entry_script=Path("score.py"),
        source_dir=tmp_path / "src", **more,
    )  # fmt: skip


def sample(tmp_path, document, name="one.json"):
    file = tmp_path / name
    file.write_text(json.dumps(document))
    return (file,)


def read_samples(folder):
    return samples_file.decode((folder / "files/samples.json").read_bytes()).samples


def test_a_bare_graph_gets_random_samples_with_the_servers_answers(pack, linear_file):
    """Without any sample given, seeded inputs are answered by the scoring server itself."""
    manifest, folder = pack(graph(linear_file))

    first = read_samples(folder)[0]
    (x,) = json.loads(first.body)["x"]
    expected = [x[1] * 2 + x[2] * 4, x[0] + x[1] * 3 + x[2] * 5]

    assert manifest.serve == OnnxGraph(file="model/linear.onnx")
    assert [entry.path for entry in manifest.files] == ["model/linear.onnx", "samples.json"]
    assert json.loads(first.answer)["y"][0] == pytest.approx(expected, rel=1e-5)


def test_a_folder_brings_the_names_of_its_classes(pack, linear_file):
    """Beside the graph, as a file that nothing serves."""
    (linear_file.parent / "labels.txt").write_text("cat\ndog\n")
    manifest, _ = pack(graph(linear_file.parent))
    assert [entry.path for entry in manifest.files] == ["model/labels.txt", "model/linear.onnx", "samples.json"]
    assert manifest.opaque_files == ()


def served(linear, change):
    """A graph that ONNX's own exporters would not write, and that the scoring server serves all the same."""
    model = linear()
    change(model.graph)
    return model.SerializeToString()


def _minus_one(graph):
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1


def _unsorted(graph):
    graph.node[0].output[0] = "z"
    graph.node.insert(0, helper.make_node("Relu", ["z"], ["y"]))


@pytest.mark.parametrize(
    "change",
    [_minus_one, lambda graph: graph.output[0].ClearField("type"), _unsorted],
    ids=["axis-written-as-minus-one", "output-without-a-type", "unsorted-nodes"],
)
def test_what_the_server_serves_can_be_registered(pack, linear, tmp_path, change):
    """Registering is no stricter than serving: whether a graph is good is for the scoring server to say."""
    file = tmp_path / "odd.onnx"
    file.write_bytes(served(linear, change))

    _, folder = pack(graph(file))

    assert len(json.loads(read_samples(folder)[0].body)["x"][0]) == 3


def test_the_servers_own_format_can_be_registered(pack, linear_file, tmp_path):
    """A graph in ONNX Runtime's format, which nobody else reads, gets its samples as any other."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "linear.ort")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(linear_file, options, providers=["CPUExecutionProvider"])

    manifest, folder = pack(graph(tmp_path / "linear.ort"))

    assert manifest.serve == OnnxGraph(file="model/linear.ort")
    assert len(read_samples(folder)) == 3


@pytest.mark.parametrize(
    "name", [".hidden.onnx", f"{'x' * 240}.onnx", "modèle für.onnx", "模型.onnx", "a:b.onnx", "größe ±1.onnx"]
)
def test_a_graphs_file_may_have_any_name(pack, linear_file, name):
    """A file name that not every system has is written in letters that every system has."""
    manifest, _ = pack(graph(linear_file.rename(linear_file.with_name(name))))

    assert manifest.serve.file.isascii()
    assert manifest.serve.file.endswith(".onnx")


def test_random_samples_have_sizes_for_which_the_graph_runs(pack, tmp_path):
    """A graph that takes no image of one pixel gets larger ones, as in the server's own example."""
    nodes = [helper.make_node("Conv", ["x", "k"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    kernel = numpy_helper.from_array(np.ones((1, 1, 5, 5), np.float32), "k")
    model = helper.make_model(
        helper.make_graph(nodes, "conv", inputs, outputs, [kernel]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    (tmp_path / "conv.onnx").write_bytes(model.SerializeToString())

    _, folder = pack(graph(tmp_path / "conv.onnx"))

    pixels = np.array(json.loads(read_samples(folder)[0].body)["x"])
    assert pixels.shape[2] >= 5
    assert 0 < pixels.std() < 1


def written(tmp_path, nodes, x, y, constants=()):
    """A graph of these nodes, from x to y, each its type and shape."""
    sides = [[helper.make_tensor_value_info(name, *side)] for name, side in (("x", x), ("y", y))]
    model = helper.make_model(
        helper.make_graph(nodes, "made", *sides, list(constants)), opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )  # fmt: skip
    (tmp_path / "made.onnx").write_bytes(model.SerializeToString())
    return graph(tmp_path / "made.onnx")


@pytest.mark.long
@pytest.mark.parametrize(("side", "count"), [(32, 3), (416, 1)])
def test_samples_are_no_larger_than_devices_read(pack, tmp_path, side, count):
    """A graph of large pictures gets fewer requests, of shorter numbers, so that devices can read them."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)]
    picture = (TensorProto.FLOAT, [1, 3, side, side])

    _, folder = pack(written(tmp_path, nodes, picture, (TensorProto.FLOAT, [1, 3])))

    assert (folder / "files/samples.json").stat().st_size <= samples_file.LIMIT
    assert len(read_samples(folder)) == count
    assert 0.4 < np.mean(json.loads(read_samples(folder)[0].body)["x"]) < 0.6


def test_samples_of_ones_own_that_no_device_reads_are_refused(pack, linear_file, tmp_path):
    """Requests and answers that are together more than devices read are refused here, not on each device."""
    large = sample(tmp_path, {"body": {"x": [[1 / 3] * 3] * 190_000}})

    with pytest.raises(Invalid, match="devices read up to 16"):
        pack(graph(linear_file, samples=large))


def test_whole_numbers_that_the_graph_refuses_stay_as_in_the_example(pack, tmp_path):
    """A table of one row is asked for that row."""
    table = numpy_helper.from_array(np.float32([5]), "table")
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]

    _, folder = pack(written(tmp_path, nodes, (TensorProto.INT64, ["N"]), (TensorProto.FLOAT, ["N"]), [table]))

    assert {one.body for one in read_samples(folder)} == {b'{"x":[0]}'}


@pytest.mark.parametrize("megabytes", [0, 5, 20])
def test_a_device_grants_memory_for_its_samples(megabytes):
    """What is granted lets the scoring server take its own samples."""
    used = 200 << 20
    granted = memory_mb(used, megabytes << 20)

    assert granted >= 300
    assert fitting(granted << 20).max_text >= megabytes << 20


def test_a_graph_that_contradicts_itself_is_explained(pack, linear, tmp_path):
    """Where the server cannot load a graph, ONNX's own checker is quoted, and nobody is sent to an entry script."""
    (tmp_path / "bad.onnx").write_bytes(served(linear, lambda one: setattr(one.node[0], "op_type", "NoSuchOperator")))

    with pytest.raises(NotReady, match=r"ONNX's checker says: .*NoSuchOperator") as caught:
        pack(graph(tmp_path / "bad.onnx"))

    assert "export it" in caught.value.remedy


def test_packing_twice_gives_the_same_bytes(pack, linear_file):
    """The same model gives the same manifest, so that the same content has the same digest."""
    first, second = pack(graph(linear_file))[0], pack(graph(linear_file))[0]

    assert manifests.encode(first) == manifests.encode(second)


def test_a_given_sample_is_used_and_its_expectation_held(pack, linear_file, tmp_path):
    """A user's request travels with the answer that user and server agree on."""
    samples = sample(tmp_path, {"body": {"x": [[1, 2, 3]]}, "expect": {"y": [[16, 22]]}})

    _, folder = pack(graph(linear_file, samples=samples))

    assert [one.name for one in read_samples(folder)] == ["one"]


def test_a_wrong_expectation_fails_the_registration(pack, linear_file, tmp_path):
    """A model that does not answer what its user expects is not registered; the difference is shown."""
    samples = sample(tmp_path, {"body": {"x": [[1, 2, 3]]}, "expect": {"y": [[16, 99]]}})

    with pytest.raises(WrongAnswer, match=r"22.0 instead of 99"):
        pack(graph(linear_file, samples=samples))


def test_a_request_that_the_model_refuses_fails_the_registration(pack, linear_file, tmp_path):
    """A sample that the scoring server answers with an error is no proof of anything."""
    with pytest.raises(Unproved, match="the model answers 4"):
        pack(graph(linear_file, samples=sample(tmp_path, {"x": [[1, 2]]})))


def test_a_sample_with_an_unknown_key_is_refused(pack, linear_file, tmp_path):
    """A misspelt expectation is not silently ignored."""
    with pytest.raises(Invalid, match="exepct"):
        pack(graph(linear_file, samples=sample(tmp_path, {"body": {}, "exepct": 1})))


def test_a_ready_only_model_has_no_samples(pack, linear_file):
    """Going without proof is said in the manifest."""
    manifest, _ = pack(graph(linear_file, prove="ready-only"))

    assert manifest.proof.prove == "ready-only"
    assert [entry.path for entry in manifest.files] == ["model/linear.onnx"]


def test_an_entry_script_is_packed_with_its_source_and_model(pack, tmp_path, monkeypatch):
    """Script, helpers and model files travel together, and only the script opens what is no code; no byte code does,
    neither of before nor of the run that gives the reference answers."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tmp_path / "src" / "__pycache__").mkdir(parents=True)
    (tmp_path / "src" / "__pycache__" / "score.pyc").write_bytes(b"x")

    manifest, folder = pack(script(tmp_path, samples=sample(tmp_path, {"data": [1, 2, 3]})))

    assert manifest.serve == EntryScript(script="source/score.py")
    assert [entry.path for entry in manifest.files] == ["model/weights.pkl", "samples.json", "source/score.py"]
    assert manifest.opaque_files == ("model/weights.pkl",)
    assert json.loads(read_samples(folder)[0].answer) == {"sum": 6}


def test_an_entry_script_without_any_sample_is_refused(pack, tmp_path):
    """Nobody goes without proof by accident."""
    with pytest.raises(Invalid, match="no sample"):
        pack(script(tmp_path))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_package\n" + ADD, "no_such_package"),
        (ADD.replace("    pass", "    raise RuntimeError('weights are missing')"), "weights are missing"),
        ("def init():\n    pass\n", "run"),
    ],
    ids=["import", "init", "no-run"],
)
def test_a_script_that_cannot_start_shows_the_servers_own_words(pack, tmp_path, code, says):
    """Why a script does not start is read off the scoring server's last lines."""
    with pytest.raises(NotReady, match=says):
        pack(script(tmp_path, code, samples=sample(tmp_path, {"data": [1]})))


@pytest.mark.parametrize(
    "body",
    ["request.get_json()", "request.method", "{'length': len(request.get_data())}"],
)
def test_a_script_that_takes_its_body_for_a_request_is_told(pack, tmp_path, body):
    """A run() that was written for a request, and gets the body, hears of @rawhttp."""
    code = f"def init():\n    pass\n\n\ndef run(request):\n    return {body}\n"

    with pytest.raises(Unproved, match="has no attribute") as refused:
        pack(script(tmp_path, code, samples=sample(tmp_path, {"data": [1]})))

    assert "@rawhttp" in refused.value.remedy


def test_a_script_that_answers_by_chance_is_refused(pack, tmp_path):
    """An answer that nobody could repeat proves nothing on a device."""
    code = "import random\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    return random.random()\n"

    with pytest.raises(Unproved, match="answers the same request differently"):
        pack(script(tmp_path, code, samples=sample(tmp_path, {"data": [1]})))


def test_a_script_outside_its_source_folder_is_refused(pack, tmp_path):
    """An entry script is named by its path below the source folder."""
    (tmp_path / "other.py").write_text(ADD)
    model = msgspec.structs.replace(script(tmp_path), entry_script=Path("../other.py"))

    with pytest.raises(Invalid, match="no such entry script"):
        pack(model)


def test_a_folder_without_a_clear_graph_is_refused(pack, linear_file, tmp_path):
    """Two graphs and no script: the user must choose."""
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.onnx", "b.onnx"):
        (folder / name).write_bytes(linear_file.read_bytes())

    with pytest.raises(Invalid, match="2 ONNX files"):
        pack(graph(folder))


def test_a_sample_that_the_server_declares_can_be_asked(pack, linear_file):
    """The example in the server's OpenAPI document is a request that it answers."""
    _, folder = pack(graph(linear_file, prove="ready-only"))

    with process_scorer(folder) as scorer:
        request = script_request(scorer.http)
        answer = scorer.http.post(request.path, content=request.body, headers={"Content-Type": request.content_type})

    assert json.loads(request.body).keys() == {"x"}
    assert answer.status_code == 200


def test_an_interpreter_that_does_not_exist_is_named(pack, linear_file, tmp_path):
    """A mistyped --interpreter is an error with its path."""
    with pytest.raises(BadSettings) as caught:
        pack(graph(linear_file, interpreter=str(tmp_path / "python9")))

    assert caught.value.element == str(tmp_path / "python9")
