"""Several models in one module: pipelines, ensembles, loading on demand, images; through a real socket."""

import io

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from modules import canonical
from modules.errors import Invalid
from modules.manifest import Ensemble, ImageInput, ModelSet, OnnxGraph, Pipeline, Step

FLOATS = (TensorProto.FLOAT, ["N", 2])


def graph_file(name):
    return OnnxGraph(file=f"model/{name}.onnx")


@pytest.fixture(scope="module")
def graphs(graph):
    """double: y = 2x; add: total = a + b; negate: y = -x; large: y = x + 1 beside 4 MB of weights."""
    two = numpy_helper.from_array(np.array([2], np.float32), "two")
    weights = numpy_helper.from_array(np.ones(1 << 20, np.float32), "weights")
    largest = [
        helper.make_node("ReduceMax", ["weights"], ["one"], keepdims=0),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    single = ({"x": FLOATS}, {"y": FLOATS})
    return {
        "double": graph([helper.make_node("Mul", ["x", "two"], ["y"])], *single, initializers=[two]),
        "add": graph([helper.make_node("Add", ["a", "b"], ["total"])], {"a": FLOATS, "b": FLOATS}, {"total": FLOATS}),
        "negate": graph([helper.make_node("Neg", ["x"], ["y"])], *single),
        "large": graph(largest, *single, initializers=[weights]),
        "large-too": graph(largest, *single, initializers=[weights]),
    }


CHAIN = Pipeline(
    steps=(
        Step(model="double", inputs={"x": "input.pixels"}),
        Step(model="negate", inputs={"x": "double.y"}),
        Step(model="add", inputs={"a": "negate.y", "b": "input.pixels"}),
    )
)


@pytest.fixture(scope="module")
def server(start, module, graphs):
    names = ("double", "add", "negate")
    models = {name: graph_file(name) for name in names}
    models |= {"chain": CHAIN, "both": Ensemble(models=("double", "negate"), weights=(3, 1))}
    serve = ModelSet(models=models, main="chain")
    return start("--module", module(serve, {name: graphs[name] for name in names})).ready()


def infer(server, model, **inputs):
    listed = [
        {"name": name, "shape": [len(rows), 2], "datatype": "FP32", "data": rows} for name, rows in inputs.items()
    ]
    return server.ask(f"/v2/models/{model}/infer", {"inputs": listed})


def test_pipeline(server):
    """A pipeline gives each step what earlier ones gave, and is the module's answer at /score: x - 2x."""
    assert server.ask(body={"data": [[1, 5], [3, -4]]}).json == {"total": [[-1, -5], [-3, 4]]}
    assert infer(server, "chain", pixels=[[1, 5]]).json["outputs"][0]["data"] == [-1, -5]


def test_ensemble(server):
    """An ensemble gives the weighted average: (3 * 2x - x) / 4."""
    assert infer(server, "both", x=[[4, -8]]).json["outputs"][0]["data"] == [5, -10]


def test_each_model_alone(server):
    """Every model is asked by its own name, listed and described."""
    assert infer(server, "add", a=[[1, 2]], b=[[3, 4]]).json["outputs"][0]["data"] == [4, 6]
    index = server.ask("/v2/repository/index", b"").json
    assert {one["name"] for one in index} == {"double", "add", "negate", "chain", "both"}
    assert {one["version"] for one in index} == {"3"}
    chain = server.ask("/v2/models/chain/versions/3").json
    assert (chain["platform"], [one["name"] for one in chain["inputs"]]) == ("edgefleet_pipeline", ["pixels"])
    assert 'edgefleet_scoring_ready{model="double"} 1' in server.ask("/metrics").body.decode()


def documented_example(server, version):
    operation = server.ask(f"/swagger.json?version={version}").json["paths"]["/score"]["post"]
    if version == "2":
        return operation["parameters"][0]["schema"]["example"]
    return operation["requestBody"]["content"]["application/json"]["example"]


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
@pytest.mark.parametrize("main", ["chain", "both", "double"])
@pytest.mark.parametrize("memory", [0, 9], ids=["all in memory", "on demand"])
def test_documented_example(start, module, graphs, main, version, memory):
    """The document of a pipeline, an ensemble or a graph on demand has an example, and it is answered."""
    names = ("double", "add", "negate")
    models = {name: graph_file(name) for name in names} | {
        "chain": CHAIN,
        "both": Ensemble(models=("double", "negate")),
    }
    serve = ModelSet(models=models, main=main, memory_mb=memory)
    server = start("--module", module(serve, {name: graphs[name] for name in names})).ready()
    example = documented_example(server, version)
    assert list(example) == [{"chain": "pixels", "both": "x", "double": "x"}[main]]
    assert server.ask(body=example).status == 200


def test_pipeline_without_an_example(start, module, graph, graphs):
    """A pipeline through which no zeros go has no example, and says so in its log; everything else works."""
    three = (TensorProto.FLOAT, ["N", 3])
    other = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": three}, {"y": three})
    steps = (Step(model="double", inputs={"x": "input.x"}), Step(model="other", inputs={"x": "double.y"}))
    models = {"double": graph_file("double"), "other": graph_file("other"), "chain": Pipeline(steps=steps)}
    folder = module(ModelSet(models=models, main="chain"), {"double": graphs["double"], "other": other})
    server = start("--module", folder).ready()
    content = server.ask("/swagger.json").json["paths"]["/score"]["post"]["requestBody"]["content"]
    assert "example" not in content["application/json"]
    assert "no example could be made for the pipeline" in server.log


def test_bad_input_of_a_pipeline(server):
    """What the first step does not take is the caller's mistake, with what was expected."""
    reply = server.ask(body={"data": [[1, 2, 3]]})
    assert (reply.status, "expected float32[N, 2], got shape [1, 3]" in reply.json["message"]) == (400, True)


def test_unloaded_member(server):
    """A pipeline whose member was unloaded is not ready, and is again once it has been loaded."""
    assert server.ask("/v2/repository/models/negate/unload", b"").status == 200
    assert server.ask("/v2/models/chain/ready").status == 503
    assert infer(server, "chain", pixels=[[1, 5]]).status == 503
    assert server.ask("/v2/repository/models/negate/load", b"").status == 200
    assert infer(server, "chain", pixels=[[1, 5]]).status == 200


def test_memory_budget(start, module, graphs):
    """Models are loaded when they are asked for; where the budget holds one, the other goes."""
    names = ("large", "large-too")
    serve = ModelSet(models={name: graph_file(name) for name in names}, main="large", memory_mb=9)
    server = start("--module", module(serve, {name: graphs[name] for name in names})).ready()

    def states():
        return [one["state"] for one in server.ask("/v2/repository/index", b"").json]

    assert states() == ["UNAVAILABLE", "UNAVAILABLE"]
    assert server.ask(body={"data": [[1, 2]]}).json == {"y": [[2, 3]]}
    assert states() == ["READY", "UNAVAILABLE"]
    assert infer(server, "large-too", x=[[1, 2]]).json["outputs"][0]["data"] == [2, 3]
    assert states() == ["UNAVAILABLE", "READY"]
    busy = [server.later(f"/v2/models/{names[turn % 2]}/infer", ask()) for turn in range(8)]
    assert {one().status for one in busy} == {200}


def ask():
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def test_budget_too_small(start, module, graphs):
    """A model larger than the whole budget is refused with the reason."""
    serve = ModelSet(models={"large": graph_file("large")}, main="large", memory_mb=1)
    server = start("--module", module(serve, {"large": graphs["large"]})).ready()
    reply = infer(server, "large", x=[[1, 2]])
    assert (reply.status, "raise the module's memory budget" in reply.json["error"]) == (503, True)
    reply = server.ask("/swagger.json")
    assert (reply.status, "raise the module's memory budget" in reply.json["message"]) == (503, True)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        pytest.param([("double", {"q": "input.x"})], "it takes x, got q", id="when a step's input has another name"),
        pytest.param([("double", {"x": "input.x"}), ("negate", {"x": "double.z"})], "double gives no z", id="output"),
    ],
)
def test_pipeline_that_does_not_fit(start, module, graphs, steps, said):
    """A pipeline whose parts do not go together keeps the server from starting, and the log says why."""
    models = {name: graph_file(name) for name in ("double", "negate")}
    models["chain"] = Pipeline(steps=tuple(Step(model=model, inputs=inputs) for model, inputs in steps))
    folder = module(ModelSet(models=models, main="chain"), {name: graphs[name] for name in ("double", "negate")})
    server = start("--module", folder)
    assert server.wait() == 3
    assert said in server.log


@pytest.mark.parametrize(
    ("more", "main", "said"),
    [
        ({}, "other", "there is no such model"),
        ({"p": Pipeline(steps=())}, "g", "there is no model in it"),
        ({"p": Pipeline(steps=(Step(model="q", inputs={}),))}, "g", "q is not a graph"),
        ({"p": Pipeline(steps=(Step(model="g", inputs={"x": "later.y"}),))}, "g", "'later.y' is neither"),
        ({"p": Pipeline(steps=(Step(model="g", inputs={}),) * 2)}, "g", "stands in it twice"),
        ({"e": Ensemble(models=("g",), weights=(1, 2))}, "g", "one weight for each"),
        ({"A/B": graph_file("g")}, "g", "serve.models.A/B"),
        ({"i": OnnxGraph(file="model/g.onnx", image=ImageInput(width=1, height=1, mean=(0, 0)))}, "g", "image.mean"),
    ],
)
def test_manifest_that_makes_no_sense(module, relu, more, main, said):
    """What a set of models says of itself is checked before it is signed."""
    with pytest.raises(Invalid, match=said):
        module(ModelSet(models={"g": graph_file("g"), **more}, main=main), {"g": relu})


def picture(width=4, height=2, mode="RGB", form="PNG"):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    written = io.BytesIO()
    image.convert(mode).save(written, form, quality=95)
    return written.getvalue()


def images(start, module, graph, declared, shape):
    values = (TensorProto.FLOAT, ["N", *shape])
    path = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": values}, {"y": values})
    return start("--module", module(OnnxGraph(file="model/g.onnx", image=declared), {"g": path}))


def test_images(start, module, graph):
    """A PNG and a JPEG become the input as the manifest declares: size, layout, scale, mean and deviation."""
    declared = ImageInput(width=2, height=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
    server = images(start, module, graph, declared, (3, 2, 2)).ready()
    png = np.array(server.ask(body=picture(2, 2), headers={"Content-Type": "image/png"}).json["y"])
    np.testing.assert_allclose(png[0], [[[1, -1]] * 2, [[-2, -2]] * 2, [[-1, 1]] * 2], atol=1e-6)
    jpeg = np.array(server.ask(body=picture(200, 100, form="JPEG"), headers={"Content-Type": "image/jpeg"}).json["y"])
    np.testing.assert_array_equal(np.sign(jpeg[:, 0]), np.sign(png[:, 0]))
    assert server.ask(body={"data": [[0] * 12]}).status == 200


def test_images_of_other_kinds(start, module, graph):
    """Channels last, blue first, cropped; and grey."""
    declared = ImageInput(width=2, height=2, layout="NHWC", channels="BGR", resize="crop", scale=1)
    server = images(start, module, graph, declared, (2, 2, 3)).ready()
    (found,) = server.ask(body=picture(), headers={"Content-Type": "image/png"}).json["y"]
    assert [np.argmax(pixel) for pixel in found[0]] == [2, 0]
    grey = images(start, module, graph, ImageInput(width=3, height=3, channels="L", resize="pad"), (1, 3, 3)).ready()
    reply = grey.ask(body=picture(mode="RGBA"), headers={"Content-Type": "image/png"})
    assert np.array(reply.json["y"]).shape == (1, 1, 3, 3)


def test_grey_of_16_bits(start, module, graph):
    """Grey of 16 bits is scaled to what 8 bits would be, dark shades too, and not cut."""
    written = io.BytesIO()
    Image.fromarray(np.array([[0, 257], [257 * 128, 65_535]], np.uint16)).save(written, "PNG")
    declared = ImageInput(width=2, height=2, channels="L", scale=1, mean=(0,), std=(1,))
    server = images(start, module, graph, declared, (1, 2, 2)).ready()
    reply = server.ask(body=written.getvalue(), headers={"Content-Type": "image/png"})
    assert reply.json["y"] == [[[[0, 1], [128, 255]]]]


@pytest.mark.parametrize("body", [b"", b"GIF89a", picture()[:40]])
def test_no_image(start, module, graph, body):
    """What is no image, or half of one, is 400 with what was expected."""
    server = images(start, module, graph, ImageInput(width=2, height=2), (3, 2, 2)).ready()
    reply = server.ask(body=body, headers={"Content-Type": "image/png"}, method="POST")
    assert (reply.status, "expected a JPEG or PNG image" in reply.json["message"]) == (400, True)
    assert "0x" not in reply.json["message"]


def test_image_bomb(start, module, graph):
    """An image that would unpack to far more pixels than sense is refused by its header."""
    written = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(written, "PNG")
    server = images(start, module, graph, ImageInput(width=2, height=2), (3, 2, 2)).ready()
    reply = server.ask(body=written.getvalue(), headers={"Content-Type": "image/png"})
    assert (reply.status, "pixels" in reply.json["message"]) == (400, True)


def test_images_undeclared(start, relu, module, graph):
    """A model that declares nothing takes no image, and a declaration that does not go with the graph is refused."""
    reply = start("--model", relu).ready().ask(body=picture(), headers={"Content-Type": "image/png"})
    assert (reply.status, "declares no preprocessing" in reply.json["message"]) == (400, True)
    server = images(start, module, graph, ImageInput(width=9, height=9), (3, 2, 2))
    assert server.wait() == 3
    assert "images of [1, 3, 9, 9] are declared" in server.log


def test_old_manifests_keep_their_bytes():
    """A graph that declares no image is written as it always was."""
    assert canonical.encode(OnnxGraph(file="a.onnx")) == b'{"kind":"onnx","file":"a.onnx"}'


def test_ensemble_of_other_lengths(start, module, graph):
    """Members that answer with other shapes have no average: the request fails with both, rather than be stretched."""
    kept = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["y"], to=TensorProto.FLOAT),
    ]
    first = [
        helper.make_node("Slice", ["x", "zero", "one"], ["y"]),
    ]
    numbers = [numpy_helper.from_array(np.array([value]), name) for value, name in ((0, "zero"), (1, "one"))]
    sides = ({"x": FLOATS}, {"y": (TensorProto.FLOAT, ["K", 2])})
    files = {"all": graph(kept, *sides), "one": graph(first, *sides, initializers=numbers)}
    models = {name: graph_file(name) for name in files} | {"both": Ensemble(models=("all", "one"))}
    server = start("--module", module(ModelSet(models=models, main="both"), files)).ready()
    assert server.ask(body={"x": [[0, 3]]}).json == {"y": [[0, 2]]}
    reply = server.ask(body={"x": [[3, 3]]})
    assert (reply.status, reply.json) == (
        500, {"message": "y: the models answered with other shapes: all [2, 2], one [1, 2]"},
    )  # fmt: skip


def test_pipeline_of_any_shape(start, module, graph):
    """An input of which nobody knows the number of dimensions takes any in a pipeline, too."""
    value = (TensorProto.FLOAT, None)
    file = graph([helper.make_node("Neg", ["x"], ["y"])], {"x": value}, {"y": value})
    models = {"negate": graph_file("negate"), "chain": Pipeline(steps=(Step(model="negate", inputs={"x": "input.a"}),))}
    server = start("--module", module(ModelSet(models=models, main="chain"), {"negate": file})).ready()
    assert server.ask(body={"a": [[1, 2]]}).json == {"y": [[-1, -2]]}
