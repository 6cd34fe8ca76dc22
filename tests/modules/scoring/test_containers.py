"""Graphs that take sequences of tensors, or maps as scikit-learn's DictVectorizer does; through a real socket."""

import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DictionaryType, FloatTensorType, StringTensorType
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modules.manifest import ModelSet, OnnxGraph, Pipeline, Step

ROWS = [{"age": 20.0, "visits": 1.0}, {"age": 30.0}, {"age": 60.0, "visits": 9.0}, {"visits": 8.0}]


def sequence(name, element=TensorProto.FLOAT):
    return helper.make_value_info(name, helper.make_sequence_type_proto(helper.make_tensor_type_proto(element, None)))


def saved(tmp_path_factory, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path = tmp_path_factory.mktemp("graph") / "graph.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def joining(tmp_path_factory):
    """y: the tensors of s one after another."""
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    return saved(tmp_path_factory, [node], [sequence("s")], [y])


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """A classifier of dictionaries; gives its file and the estimator."""
    model = make_pipeline(DictVectorizer(sparse=False), LogisticRegression()).fit(ROWS, [0, 0, 1, 1])
    kind = DictionaryType(StringTensorType([1]), FloatTensorType([1]))
    converted = convert_sklearn(model, initial_types=[("person", kind)], options={id(model): {"zipmap": False}})
    path = tmp_path_factory.mktemp("visits") / "visits.onnx"
    path.write_bytes(converted.SerializeToString())
    return path, model


@pytest.fixture(scope="module")
def people(start, visits):
    """The classifier's server."""
    return start("--model", visits[0]).ready()


@pytest.fixture(scope="module")
def lists(start, joining):
    """The server of the graph that takes a sequence."""
    return start("--model", joining).ready()


def test_dictionaries_as_scikit_learn_takes_them(people, visits):
    """An object is a map; keys that the model does not know count for nothing, as with scikit-learn itself."""
    _, model = visits

    for row in ({"age": 25.0}, {"visits": 9, "age": 61}, {"visits": 8.0, "unknown": 3.0}):
        for body in ({"person": row}, {"data": row}):
            answer = people.ask(body=body).json
            assert answer["label"] == model.predict([row]).tolist()
            assert answer["probabilities"][0] == pytest.approx(model.predict_proba([row])[0], abs=1e-5)


def test_whole_numbers_as_keys(start, tmp_path_factory):
    """Keys of 64 bits come as text, since JSON has no other."""
    kind = onnx.TypeProto()
    kind.map_type.key_type = TensorProto.INT64
    kind.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(
        "CastMap", ["m"], ["y"], domain="ai.onnx.ml", cast_to="TO_FLOAT", map_form="SPARSE", max_map=4
    )
    server = start("--model", saved(tmp_path_factory, [node], [helper.make_value_info("m", kind)], [y])).ready()

    assert server.ask(body={"m": {"2": 1.5, "0": -1}}).json == {"y": [[-1.0, 0.0, 1.5, 0.0]]}
    assert "whole numbers" in server.ask(body={"m": {"two": 1.5}}).json["message"]
    assert "whole numbers" in server.ask(body={"m": {str(1 << 63): 1.5}}).json["message"]


def test_sequences(lists):
    """A list of tensors of any shapes; each is held to the element's type by its place."""
    assert lists.ask(body={"s": [[[1, 2]], [[3.5, None], [5, 6]]]}).json == {"y": [[1, 2], [3.5, None], [5, 6]]}
    assert "s[1]" in lists.ask(body={"s": [[1], ["x"]]}).json["message"]
    assert "unevenly" in lists.ask(body={"s": [[1], [[1], 2]]}).json["message"]


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"age": "old"}, {"age": [1]}, {"age": True}])
def test_what_is_no_map(people, value):
    """Anything else is the client's mistake, and the answer says what was expected."""
    refused = people.ask(body={"person": value})
    assert refused.status == 400
    assert "person" in refused.json["message"]


def test_other_protocols_say_where_to_ask(lists):
    """What tensors alone can carry refuses a sequence, and names the path that takes it; the metadata have its type."""
    name = lists.ask("/v2/repository/index", b"").json[0]["name"]
    given = {"inputs": [{"name": "s", "shape": [1], "datatype": "FP32", "data": [1]}]}

    for refused in (
        lists.ask(f"/v2/models/{name}/infer", given),
        lists.ask(f"/v2/models/{name}/infer", b"abcd", headers={"Inference-Header-Content-Length": "0"}),
        lists.ask(body=b"abcd", headers={"Content-Type": "application/octet-stream"}),
    ):
        assert refused.status == 400
        assert "/score" in refused.body.decode()
    assert lists.ask(f"/v2/models/{name}").json["inputs"][0]["datatype"] == "seq(tensor(float))"


def test_documents_and_their_examples(lists, people):
    """OpenAPI has a list for a sequence and an object for a map, with an example that runs."""
    for server, schema in (
        (lists, {"type": "array", "items": {}}),
        (people, {"type": "object", "additionalProperties": {"type": "number", "format": "float"}}),
    ):
        content = server.ask("/swagger.json").json["paths"]["/score"]["post"]["requestBody"]["content"][
            "application/json"
        ]
        (described,) = content["schema"]["anyOf"][0]["properties"].values()
        assert described == schema
        assert server.ask(body=content["example"]).status == 200


def test_a_sequence_between_two_graphs(start, module, joining, tmp_path_factory):
    """What one graph of a pipeline gives as a sequence the next one takes as it is."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    split = helper.make_node("SplitToSequence", ["x"], ["parts"], axis=1)
    splitting = saved(tmp_path_factory, [split], [x], [sequence("parts")])
    steps = (Step(model="split", inputs={"x": "input.x"}), Step(model="join", inputs={"s": "split.parts"}))
    models = {
        "split": OnnxGraph(file="model/split.onnx"),
        "join": OnnxGraph(file="model/join.onnx"),
        "both": Pipeline(steps=steps),
    }
    folder = module(ModelSet(models=models, main="both"), {"split": splitting, "join": joining})

    server = start("--module", folder).ready()

    assert server.ask(body={"x": [[1, 2], [3, 4]]}).json == {"y": [[1.0], [3.0], [2.0], [4.0]]}
