"""Scripts with Microsoft's ``inference-schema`` decorators: what is cut out, converted, refused, and documented."""

import base64

import pytest

HEAD = """
import numpy as np, datetime
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
def init(): pass
"""
NUMPY = (
    HEAD
    + """
@input_schema("scale", StandardPythonParameterType(2.0))
@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@output_schema(NumpyParameterType(np.array([1.5])))
def run(data, scale=1.0, note="none", request_headers=None):
    if note == "fail":
        raise ValueError("the script's own mistake")
    if note == "own conversion":
        return float(data[0, 0]) / int("x")
    return {"sum": data.sum(axis=1) * scale, "type": str(data.dtype), "note": note, "x": request_headers["x-own"]}
"""
)
STANDARD = (
    HEAD
    + """
nested = StandardPythonParameterType({"image": NumpyParameterType(np.array([1], dtype="int32")),
    "names": StandardPythonParameterType(["a"]), "flag": True})
@input_schema("inputs", nested)
@input_schema("text", StandardPythonParameterType("hello"))
@input_schema("blob", StandardPythonParameterType(b"ab"), optional=True)
@input_schema("when", StandardPythonParameterType(datetime.datetime(2020, 1, 2)), optional=True)
def run(inputs, text, blob=None, when=None, extra=4):
    return {"image": inputs["image"] * 2, "names": inputs["names"], "text": text, "extra": extra,
            "blob": blob and len(blob), "year": when and when.year}
"""
)
PANDAS = """
import joblib, os, pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.compose import make_column_transformer
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
sample = pd.DataFrame({"colour": ["red", "green"], "size": [1.0, 2.0]})
def init():
    global model
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.joblib")
    steps = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough")
    trained = make_pipeline(steps, LogisticRegression()).fit(sample, ["apple", "pear"])
    joblib.dump(trained, path)
    model = joblib.load(path)
@input_schema("data", PandasParameterType(sample))
@output_schema(StandardPythonParameterType(["apple"]))
def run(data):
    return model.predict(data)
"""


@pytest.fixture(scope="module")
def arrays(start, script):
    return start("--script", script(NUMPY)).ready()


@pytest.fixture(scope="module")
def values(start, script):
    return start("--script", script(STANDARD)).ready()


@pytest.fixture(scope="module")
def frames(start, script):
    return start("--script", script(PANDAS)).ready()


def ask(server, document, kind="application/json", **more):
    return server.ask(body=document, headers={"content-type": kind, "x-own": "v"}, **more)


def test_converted(arrays):
    """The named parameters are cut out of the object and converted; ``request_headers`` comes besides."""
    reply = ask(arrays, {"data": [[1, 2], [3, 4]], "scale": 3})
    assert reply.json == {"sum": [9.0, 21.0], "type": "float64", "note": "none", "x": "v"}
    assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0


@pytest.mark.parametrize(
    ("document", "total"),
    [({"data": [[1, 2]]}, [3.0]), ({"data": [[1, 2]], "other": 1}, [3.0]), ({"data": [[0.5, 2]], "scale": 2.0}, [5.0]),
     ({"scale": 2, "data": []}, None)],
)  # fmt: skip
def test_defaults_and_extras(arrays, document, total):
    """Parameters with defaults may be left out, and what nobody asked for is ignored."""
    reply = ask(arrays, document)
    assert reply.json.get("sum") == total


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"])
def test_json_types(arrays, kind):
    """Every content type that says JSON is taken."""
    assert ask(arrays, {"data": [[1, 2]]}, kind).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""])
def test_other_types(arrays, kind):
    """Another content type, or none, is 415 and names the one wanted."""
    reply = ask(arrays, {"data": [[1, 2]]}, kind)
    assert (reply.status, "application/json" in reply.json["message"]) == (415, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"nope", "not JSON"), (b"", "not JSON"), (b"\xff", "not JSON"), (b"[1]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"), (b"{}", "'data'"), (b'{"scale": 1}', "'data'"),
    ],
)  # fmt: skip
def test_bad_requests(arrays, body, said):
    """No JSON, no object, a missing parameter: 400 that says so, and the script does not run."""
    reply = ask(arrays, body, method="POST")
    assert (reply.status, said in reply.json["message"]) == (400, True)
    assert reply.headers["x-ms-run-function-failed"] == "False"
    assert "x-ms-run-fn-exec-ms" not in reply.headers


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"data": "abc"}, "data: "),
        ({"data": [[1, 2, 3]]}, "size 3 on dimension #1"), ({"data": [1, 2]}, "2 dimensions"),
        ({"data": [["a", "b"]]}, "data: "), ({"data": None}, "data: "), ({"data": [[1, 2]], "scale": "x"}, "scale: "),
        ({"data": [[1, 2], [3]]}, "data: "),
    ],
)  # fmt: skip
def test_wrong_types_and_shapes(arrays, document, said):
    """A wrong type or shape is 400 and names the parameter, where theirs is a 500 without a reason."""
    reply = ask(arrays, document)
    assert (reply.status, said in reply.json["message"]) == (400, True), reply.body


@pytest.mark.parametrize(("note", "said"), [("fail", "the script's own mistake"), ("own conversion", "ValueError")])
def test_own_mistakes_stay_500(arrays, note, said):
    """What the script itself raises is no mistake of the caller."""
    reply = ask(arrays, {"data": [[1, 2]], "note": note})
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert said in reply.json["message"]


def test_get_with_schema(arrays):
    """The query of a GET is the object."""
    reply = arrays.ask("/score?data=%5B%5B1,2%5D%5D&scale=2", method="GET", headers={"x-own": "q"})
    assert (reply.json["sum"], reply.json["x"]) == ([6.0], "q")
    assert arrays.ask("/score?scale=2", method="GET").status == 400


def test_nested(values):
    """Nested parameter types convert what is inside; optional ones may be left out."""
    document = {"inputs": {"image": [1, 2], "names": ["x"], "flag": False}, "text": "t"}
    told = ask(values, document).json
    assert told == {"image": [2, 4], "names": ["x"], "text": "t", "extra": 4, "blob": None, "year": None}


def test_optional(values):
    """Optional ones that are given are converted: bytes from base64, a date from its text."""
    document = {"inputs": {"image": [1], "names": []}, "text": "t", "extra": 9, "when": "2021-02-03",
                "blob": base64.b64encode(b"abc").decode()}  # fmt: skip
    told = ask(values, document).json
    assert (told["blob"], told["year"], told["extra"]) == (3, 2021, 9)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"inputs": {"image": "x", "names": []}, "text": "t"}, "inputs.image: "),
        ({"inputs": [], "text": "t"}, "inputs: "), ({"inputs": {}, "text": 5}, "text: "), ({"inputs": {}}, "'text'"),
    ],
)  # fmt: skip
def test_nested_mistakes(values, document, said):
    """A mistake inside is named by its path."""
    reply = ask(values, document)
    assert (reply.status, said in reply.json["message"]) == (400, True), reply.body


@pytest.mark.parametrize("data", [[{"colour": "red", "size": 1}], [{"size": 1.0, "colour": "red"}]])
def test_frames(frames, data):
    """A scikit-learn pipeline with strings gets its data frame, whatever the order of the columns."""
    assert ask(frames, {"data": data}).json == ["apple"]
    assert ask(frames, {"data": [*data, {"colour": "green", "size": 2}]}).json == ["apple", "pear"]


@pytest.mark.parametrize("data", [[{"colour": "red"}], "x", [{"colour": "red", "size": "large"}]])
def test_wrong_frames(frames, data):
    """Missing columns and wrong types are 400."""
    reply = ask(frames, {"data": data})
    assert (reply.status, reply.json["message"].startswith("data: ")) == (400, True), reply.body


def definitions(server, version):
    document = server.ask(f"/swagger.json?version={version}").json
    return document["definitions"] if version == "2" else document["components"]["schemas"]


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
def test_documented(arrays, version):
    """The document has the types, the examples and what is required, without the headers that no caller gives."""
    found = definitions(arrays, version)
    request = found["ServiceInput"]
    rows = {"type": "array", "items": {"type": "array", "items": {"type": "number", "format": "double"}}}
    assert request["properties"]["data"] == {**rows, "format": "numpy.ndarray"}
    assert request["example"] == {"data": [[1.0, 2.0]], "scale": 2.0}
    assert request["required"] == ["data"]
    assert "request_headers" not in request["properties"]
    assert found["ServiceOutput"]["example"] == [1.5]


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
def test_documented_frames(frames, version):
    """Data frames are documented by their columns."""
    request = definitions(frames, version)["ServiceInput"]
    assert request["properties"]["data"]["items"]["properties"]["colour"] == {"type": "string"}
    assert request["example"]["data"][0] == {"colour": "red", "size": 1.0}


def test_nested_document(values):
    """Nested parameters are documented by their parts, and every parameter without a default is required."""
    request = definitions(values, "3")["ServiceInput"]
    assert request["properties"]["inputs"]["properties"]["image"]["items"]["type"] == "integer"
    assert request["required"] == ["inputs", "text"]
    assert "extra" not in request["example"]


@pytest.mark.parametrize("which", ["arrays", "values", "frames"])
def test_example_runs(which, request):
    """The documented example is answered as it stands, so that registration can take it as a sample."""
    server = request.getfixturevalue(which)
    assert ask(server, definitions(server, "3")["ServiceInput"]["example"]).status == 200
