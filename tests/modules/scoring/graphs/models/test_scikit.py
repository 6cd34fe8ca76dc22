"""scikit-learn pipelines that take words, made into graphs: strings in, classes out as text, as rows and as maps."""

import warnings

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

MESSAGES = {
    "billing": [
        "the invoice is wrong", "please refund my payment", "charged twice for one order", "where is my invoice",
        "the payment failed", "refund the second charge", "my card was charged", "price on the invoice is too high",
    ],
    "device": [
        "the camera does not start", "sensor shows no values", "screen stays black", "the device is hot",
        "camera picture is blurred", "no values from the sensor", "restart the device", "the screen is broken",
    ],
    "greeting": ["hello there", "good morning", "hello and thanks", "many thanks", "good day to you", "thanks a lot"],
}  # fmt: skip
NEW = {"refund my invoice": "billing", "the sensor is hot": "device", "good morning and thanks": "greeting"}
# What skl2onnx calls the class, with probabilities as rows and as maps.
LABEL = {False: "label", True: "output_label"}
# Colour, material and weight in kg; whether it sinks.
THINGS = [
    ("red", "steel", 2.0, True), ("blue", "steel", 0.5, True), ("green", "steel", 9.0, True),
    ("red", "wood", 2.5, False), ("blue", "wood", 0.4, False), ("green", "wood", 8.0, False),
    ("red", "cork", 0.1, False), ("blue", "cork", 1.0, False),
]  # fmt: skip


def exported(pipeline, kinds, path, *, maps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about what their next versions will do
        graph = to_onnx(pipeline, initial_types=kinds, options={id(pipeline[-1]): {"zipmap": maps}}, target_opset=17)
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.fixture(scope="module")
def classifier():
    """Which of three kinds a message is of; answers in the name of the kind."""
    texts = [text for listed in MESSAGES.values() for text in listed]
    kinds = [kind for kind, listed in MESSAGES.items() for _ in listed]
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=30)).fit(texts, kinds)


@pytest.fixture(scope="module", params=[False, True], ids=["rows", "maps"])
def messages(request, start, classifier, tmp_path_factory):
    """Its graph served, with probabilities as rows or as a sequence of maps, and which of the two."""
    path = tmp_path_factory.mktemp("scikit") / "messages.onnx"
    kinds = [("text", StringTensorType([None, 1]))]
    return start("--model", exported(classifier, kinds, path, maps=request.param)).ready(), request.param


@pytest.fixture(scope="module")
def sinks():
    """From two columns of words and one of numbers, whether a thing sinks."""
    words = ColumnTransformer([
        ("words", OneHotEncoder(handle_unknown="ignore"), ["colour", "material"]),
        ("numbers", StandardScaler(), ["weight"]),
    ])  # fmt: skip
    frame = pytest.importorskip("pandas").DataFrame(
        [thing[:3] for thing in THINGS], columns=["colour", "material", "weight"]
    )
    return make_pipeline(words, LogisticRegression(C=100)).fit(frame, [thing[3] for thing in THINGS]), frame


@pytest.fixture(scope="module")
def things(start, sinks, tmp_path_factory):
    path = tmp_path_factory.mktemp("scikit") / "things.onnx"
    kinds = [
        ("colour", StringTensorType([None, 1])), ("material", StringTensorType([None, 1])),
        ("weight", FloatTensorType([None, 1])),
    ]  # fmt: skip
    return start("--model", exported(sinks[0], kinds, path, maps=False)).ready()


def test_messages_it_never_saw(messages, classifier):
    """Text is put under the kind that scikit-learn itself gives, with its probabilities, in rows or by name."""
    server, maps = messages
    answer = server.ask(body={"data": [[text] for text in NEW]})
    assert answer.status == 200, answer.body
    assert answer.json[LABEL[maps]] == list(NEW.values()) == list(classifier.predict(list(NEW)))
    found = answer.json["output_probability" if maps else "probabilities"]
    expected = classifier.predict_proba(list(NEW))
    if maps:
        assert [set(one) for one in found] == [set(MESSAGES)] * len(NEW)
        found = [[one[kind] for kind in classifier.classes_] for one in found]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_letters_beyond_ascii(messages, classifier):
    """Text in other alphabets, and none at all, is text as well."""
    server, maps = messages
    texts = ["größe der Rechnung 请 invoice", "", "🙂 camera"]
    answer = server.ask(body={"text": [[text] for text in texts]})
    assert answer.json[LABEL[maps]] == list(classifier.predict(texts))


def test_an_image_without_locales(start, classifier, tmp_path):
    """Text is put into small letters on an image that lacks the locale that every such graph asks for."""
    path = exported(classifier, [("text", StringTensorType([None, 1]))], tmp_path / "messages.onnx", maps=False)
    server = start("--model", path, LOCPATH=str(tmp_path)).ready()
    assert "C.UTF-8 stands in for en_US.UTF-8" in server.log
    assert server.ask(body={"data": [["REFUND MY INVOICE"]]}).json["label"] == ["billing"]


def test_numbers_are_no_text(messages):
    """A number where text is expected is refused."""
    server, _ = messages
    reply = server.ask(body={"data": [[4711]]})
    assert reply.status == 400
    assert "expected string[?, 1]" in reply.json["message"]


def test_the_protocols_bytes(messages):
    """The Open Inference Protocol takes the text as BYTES and names the kind in BYTES; a map is text of JSON."""
    server, maps = messages
    text = b"refund my invoice"
    given = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text.decode()]}
    reply = server.ask("/v2/models/messages/infer", {"inputs": [given]})
    assert reply.status == 200, reply.body
    label, probabilities = reply.json["outputs"]
    assert (label["datatype"], label["data"]) == ("BYTES", ["billing"])
    assert probabilities["datatype"] == ("BYTES" if maps else "FP32")
    assert probabilities["shape"] == ([1] if maps else [1, 3])


def test_several_columns(things, sinks):
    """A table's columns are inputs of their own, words and numbers; what is unknown is ignored as it was trained to."""
    pipeline, frame = sinks
    rows = [*frame.values.tolist(), ["violet", "cork", 0.2]]
    body = {name: [[row[place]] for row in rows] for place, name in enumerate(frame.columns)}
    answer = things.ask(body=body)
    assert answer.status == 200, answer.body
    labels = answer.json["label"]
    assert [bool(one) for one in labels] == [thing[3] for thing in THINGS] + [False]
    np.testing.assert_allclose(answer.json["probabilities"][:-1], pipeline.predict_proba(frame), atol=1e-5)


def test_columns_of_different_length(things):
    """Columns that do not have as many rows as each other are refused, and the server goes on."""
    body = {"colour": [["red"], ["blue"]], "material": [["steel"]], "weight": [[1.0]]}
    assert things.ask(body=body).status == 400
    assert things.ask(body=body | {"colour": [["red"]]}).status == 200


def test_the_example_runs(messages, things):
    """The example in the OpenAPI document of each graph runs."""
    for server in (messages[0], things):
        operation = server.ask("/swagger.json?version=3.1").json["paths"]["/score"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        assert server.ask(body=example).status == 200
