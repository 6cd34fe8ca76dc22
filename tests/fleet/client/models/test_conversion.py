"""Models of other libraries become ONNX and answer as the originals: estimators are trained here, small and seeded."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from fleet.client.models.conversion import Converted, framework_of, largest_difference
from modules.errors import BadSettings, Invalid, WrongAnswer
from modules.samples import Sample, Samples
from tests.parts.pace import stretched

FLOWERS, KINDS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])
TWO = np.stack([KINDS, KINDS[::-1]], axis=1)
PEOPLE = pd.DataFrame({"age": [20.0, 30, 40, 50] * 5, "city": ["Bern", "Rome", "Bern", "Oslo"] * 5})


def test_a_classifier_answers_labels_and_probabilities(save, convert):
    """The graph's answers are the estimator's, and the module says what it was and how far they are apart."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FLOWERS, NAMES[KINDS])

    manifest, (sample,) = convert(save(model), {"data": FLOWERS[[0, 60, 120]].tolist()})

    answer = json.loads(sample.answer)
    labels, probabilities = answer.values()
    assert labels == NAMES[[0, 1, 2]].tolist()
    np.testing.assert_allclose(probabilities, model.predict_proba(FLOWERS[[0, 60, 120]]), atol=1e-5)
    assert manifest.properties["converted_from"].startswith("scikit-learn ")
    assert 0 < float(manifest.properties["largest_difference"]) < 1e-5
    assert manifest.serve.file == "model/model.onnx"


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "taught"),
    [
        (GradientBoostingRegressor(n_estimators=10, random_state=0), load_diabetes(return_X_y=True)),
        (KMeans(3, n_init=1, random_state=0), (FLOWERS,)),
        (IsolationForest(n_estimators=5, random_state=0), (FLOWERS,)),
        (LinearSVC(), (FLOWERS, KINDS)),
        (make_pipeline(StandardScaler(), LinearSVC()), (FLOWERS, NAMES[KINDS])),
        (RidgeClassifier(), (FLOWERS, KINDS)),
        (Perceptron(), (FLOWERS, KINDS)),
        (SGDClassifier(random_state=0), (FLOWERS, KINDS)),
        (VotingClassifier([("one", LogisticRegression(max_iter=500)), ("two", GaussianNB())]), (FLOWERS, KINDS)),
        (MultiOutputClassifier(LogisticRegression(max_iter=500)), (FLOWERS, TWO)),
        (RandomForestClassifier(5, random_state=0), (FLOWERS, TWO)),
        (HistGradientBoostingClassifier(max_iter=3), (FLOWERS, KINDS)),
        (HistGradientBoostingRegressor(max_iter=3), (FLOWERS, FLOWERS[:, 0])),
    ],
    ids=lambda one: "" if isinstance(one, tuple) else type(getattr(one, "steps", [["", one]])[-1][1]).__name__,
)
def test_estimators_of_every_kind(save, convert, model, taught):
    """Regressors, clusters, classifiers without probabilities and of several outputs: each without a word of help."""
    manifest, samples = convert(save(model.fit(*taught)))

    assert len(samples) == 3
    assert float(manifest.properties["largest_difference"]) < 1e-3


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [
        SVC(), LinearSVC(), RidgeClassifier(), Perceptron(), SGDClassifier(random_state=0), LogisticRegression(),
        HistGradientBoostingClassifier(max_iter=3), make_pipeline(StandardScaler(), SVC()),
    ],
    ids=lambda model: type(getattr(model, "steps", [["", model]])[-1][1]).__name__,
)  # fmt: skip
def test_classifiers_of_two_classes(save, convert, model):
    """So do classifiers of two classes, for which some give one decision and their graphs one for each class."""
    manifest, samples = convert(save(model.fit(FLOWERS, KINDS == 1)))

    assert len(samples) == 3
    assert float(manifest.properties["largest_difference"]) < 1e-3


@pytest.mark.long
def test_a_table_without_a_sample(save, convert):
    """An estimator that was fitted with a table asks for a request with its columns by their names."""
    columns = ColumnTransformer([("n", StandardScaler(), ["age"]), ("t", OneHotEncoder(), ["city"])])
    model = make_pipeline(columns, LogisticRegression()).fit(PEOPLE, [0, 1, 0, 1] * 5)

    with pytest.raises(Invalid, match=r"a key for each, --sample FILE\.json .* for age, city"):
        convert(save(model))


def test_why_a_model_cannot_be_converted_stands_first(save, convert, tmp_path):
    """Of an error that goes on for pages its head is shown, where the reason is."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ValueError: the reason: $(seq -s ', ' 9999)\" >&2\nexit 1\n")
    python.chmod(0o755)

    with pytest.raises(Invalid, match=r"^[^ ]*: ValueError: the reason: 1, 2, 3") as refused:
        convert(save(StandardScaler().fit(FLOWERS)), converter=str(python))

    assert len(refused.value.message) < 1000


@pytest.mark.long
def test_a_table_with_numbers_and_words(save, convert):
    """A sample with a key for each column says what they hold: one input for each."""
    columns = ColumnTransformer([("n", StandardScaler(), ["age"]), ("t", OneHotEncoder(), ["city"])])
    model = make_pipeline(columns, LogisticRegression()).fit(PEOPLE, [0, 1, 0, 1] * 5)

    _, (sample,) = convert(save(model), {"age": [[25.0], [45.0]], "city": [["Bern"], ["Oslo"]]})

    expected = model.predict(pd.DataFrame({"age": [25.0, 45.0], "city": ["Bern", "Oslo"]})).tolist()
    assert next(iter(json.loads(sample.answer).values())) == expected


@pytest.mark.long
def test_documents(save, convert):
    """A text pipeline takes a column of documents."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model.fit(["good film", "bad film", "very good", "so bad"] * 3, [1, 0, 1, 0] * 3)

    _, (sample,) = convert(save(model), {"data": [["good"], ["so bad"]]})

    assert next(iter(json.loads(sample.answer).values())) == [1, 0]


def test_a_pickle_is_opened_only_when_it_is_trusted(tmp_path, convert):
    """Nothing in a pickle runs before somebody says that it may; the error says how."""
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (marker,))

    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(Trap()))

    with pytest.raises(Invalid, match="runs as a program") as refused:
        convert(file, trusted=False)

    assert "--trusted-pickle" in refused.value.remedy
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x04]\x94.", "not an estimator"),
        (b"\x80\x04\x8c\x07nowhere\x8c\x01x\x93.", "nowhere"),
        (b"zz", "cannot be loaded"),
    ],
    ids=["list", "module", "damaged"],
)
@pytest.mark.long
def test_what_is_no_estimator(tmp_path, convert, content, says):
    """What a pickle lacks is said in a sentence, not in a traceback."""
    file = tmp_path / "model.pkl"
    file.write_bytes(content)

    with pytest.raises(Invalid, match=says):
        convert(file)


@pytest.mark.long
def test_an_estimator_that_cannot_say_what_it_takes(save, convert):
    """A sample is asked for where only it can tell."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a good", "a bad"], [1, 0])

    with pytest.raises(Invalid, match="--sample"):
        convert(save(model))


def test_an_interpreter_without_the_converter(save, convert, tmp_path):
    """What is missing is named with the extra that brings it."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=stretched(60))

    with pytest.raises(BadSettings, match="not installed") as refused:
        convert(save(StandardScaler().fit(FLOWERS)), converter=str(bare / "bin/python"))

    assert "edgefleet[sklearn]" in refused.value.remedy


def test_a_conversion_without_samples_is_none(save, convert):
    """A converted model is always compared, so it cannot be registered unproved."""
    with pytest.raises(Invalid, match="compared with its original"):
        convert(save(StandardScaler().fit(FLOWERS)), prove="ready-only")


@pytest.mark.long
def test_an_estimator_that_loses_by_32_bits(save, convert):
    """A graph that answers otherwise than its original is not registered; the error shows both answers."""
    model = StandardScaler().fit([[1e8], [1e8 + 1]])

    with pytest.raises(WrongAnswer, match="does not answer as the original"):
        convert(save(model), {"data": [[1e8 + 1]]})


@pytest.mark.parametrize(
    ("answer", "original", "says"),
    [
        ({"y": [1.0, 2.0]}, {"y": [[1.0], [2.1]]}, "2.0 instead of 2.1"),
        ({"y": ["a"]}, {"y": ["b"]}, "'a' instead of 'b'"),
        ({"y": [1.0]}, {"y": [1.0, 2.0]}, "1 values instead of 2"),
        ({"x": [1.0]}, {"y": [1.0]}, "no output y"),
        ({"y": [1.0]}, {"y": [float("nan")]}, "1.0 instead of None"),
    ],
    ids=["number", "label", "length", "name", "no number"],
)
def test_what_a_difference_is(answer, original, says):
    """Numbers beyond 32-bit rounding, other labels, lengths and names are differences."""
    samples = Samples((Sample(name="one", body=b"", answer=json.dumps(answer).encode()),))

    with pytest.raises(WrongAnswer, match=says):
        largest_difference(samples, [original], Converted(file=Path("x.onnx"), made_by="t", library="l"))


def test_the_largest_of_all_differences_is_told():
    """Shapes aside, the largest difference of all outputs and samples."""
    samples = Samples((Sample(name="one", body=b"", answer=b'{"a": [[1.0, 2.0, null]], "b": [3]}'),))
    converted = Converted(file=Path("x.onnx"), made_by="t", library="l")

    assert largest_difference(samples, [{"a": [1.0, 2.001, float("nan")]}], converted) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "begin", "framework"),
    [
        ("m.onnx", b"\x08\x07", "onnx"),
        ("m.pkl", b"\x80\x04", "sklearn"),
        ("m.joblib", b"x", "sklearn"),
        ("m.txt", b"tree\nversion=v4\n", "lightgbm"),
        ("m.json", b'{"learner":{', "xgboost"),
        ("m.json", b'{"other":{', "onnx"),
        ("m.ubj", b"{", "xgboost"),
    ],
)
def test_a_file_says_what_saved_it(tmp_path, name, begin, framework):
    """The framework is told from the file, where nobody says it."""
    (tmp_path / name).write_bytes(begin)

    assert framework_of(tmp_path / name) == framework


def test_a_folder_says_what_saved_it(tmp_path):
    """A SavedModel is a folder with its own file in it."""
    assert framework_of(tmp_path) == "onnx"
    (tmp_path / "saved_model.pb").touch()
    assert framework_of(tmp_path) == "tensorflow"
