"""Graphs of modules and uploads: for whom, and which."""

import onnx
import pytest
from onnx import TensorProto, helper

from tests.doubles.publisher import checked

pytestmark = pytest.mark.needs("mosquitto")


def graph(operator="Relu"):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    made = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(made).SerializeToString()


def test_a_module_s_graph_is_told_and_its_nodes_to_who_reads_its_files(fleet):
    """A viewer sees what goes in and out; the nodes are part of the file."""
    server, client, owner = fleet
    ref = owner.upload("seen", {"model.onnx": graph(), "other.onnx": graph("Abs")}).ref
    viewer = checked(client.post("/api/v1/tokens", json={"name": "sees", "roles": [{"role": "viewer"}]})).json()
    place = f"/api/v1/modules/acme/seen/{ref.version}/graph"
    with server.client(viewer["token"]) as watcher:
        told = checked(watcher.get(place)).json()
        assert watcher.get(f"{place}/nodes").status_code == 403
    assert told["paths"] == ["model.onnx", "other.onnx"]
    assert told["graph"]["inputs"] == [{"name": "x", "type": "float32", "shape": ["N", 3]}]
    assert told["graph"]["operators"] == {"Relu": 1}
    other = checked(client.get(f"{place}/nodes", params={"path": "other.onnx"})).json()
    assert [one["operator"] for one in other["nodes"]] == ["Abs"]
    assert client.get(place, params={"path": "samples.json"}).status_code == 404


def test_an_upload_s_graph_names_the_upload_that_its_weights_are_in(fleet):
    _, client, _ = fleet
    model = onnx.load_model_from_string(graph())
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    brought = client.post("/api/v1/uploads/acme", params={"name": "m.onnx"}, content=model.SerializeToString()).json()
    place = f"/api/v1/uploads/acme/{brought['digest']}"
    assert checked(client.get(place)).json()["external"] == {"weights.bin": ""}
    weights = client.post("/api/v1/uploads/acme", params={"name": "weights.bin"}, content=b"w" * 16).json()
    assert checked(client.get(place)).json()["external"] == {"weights.bin": weights["digest"]}
    assert [one["operator"] for one in checked(client.get(f"{place}/nodes")).json()["nodes"]] == ["Relu"]
    odd = checked(client.get(f"/api/v1/uploads/acme/{weights['digest']}")).json()["graph"]
    assert "not an ONNX graph" in odd["problem"]


def test_what_a_module_tells_apart_is_told_to_who_sees_it(fleet):
    """A file beside the graph before the graph's own metadata; nobody needs rights for files to read the names."""
    server, client, owner = fleet
    model = onnx.load_model_from_string(graph())
    model.metadata_props.add(key="names", value="{0: 'one', 1: 'two', 2: 'three'}")
    inside = owner.upload("inside", {"model.onnx": model.SerializeToString()}).ref
    files = {"model.onnx": model.SerializeToString(), "labels.txt": b"red\ngreen\nblue\n"}
    beside = owner.upload("beside", files).ref
    silent = owner.upload("silent", {"model.onnx": graph(), "labels.json": b"{}"}).ref
    viewer = checked(client.post("/api/v1/tokens", json={"name": "names", "roles": [{"role": "viewer"}]})).json()
    with server.client(viewer["token"]) as watcher:

        def told(ref):
            return checked(watcher.get(f"/api/v1/modules/acme/{ref.name}/{ref.version}/classes")).json()

        assert told(inside) == {"source": "model.onnx", "names": ["one", "two", "three"]}
        assert told(beside) == {"source": "labels.txt", "names": ["red", "green", "blue"]}
        assert told(silent) == {"source": "", "names": []}
