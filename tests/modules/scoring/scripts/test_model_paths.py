"""Where a script finds its models: ``AZUREML_MODEL_DIR`` and ``Model.get_model_path``, for one and for several."""

import os

import pytest

SCRIPT = """
import os
from azureml.core.model import Model
from azureml.core import Model as Same
assert Same is Model
def run(data, request_headers):
    name, _, version = data.partition(":")
    if name == "directory":
        return sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"]))
    if name == "open":
        return open(os.path.join(os.environ["AZUREML_MODEL_DIR"], version)).read()
    if name == "construct":
        return Model(None, "oak")
    if not version:
        return Model.get_model_path(model_name=name)
    return Model.get_model_path(name, version=int(version) if version.isdigit() else eval(version))
"""


def fill(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"content of {path}")
    return root


def asking(server):
    def ask(name):
        reply = server.ask(body=name.encode())
        return (reply.json, reply.status) if reply.status == 200 else (reply.json["message"], reply.status)

    return ask


@pytest.fixture(scope="module")
def several(start, script, tmp_path_factory):
    """Several models, as ``$AZUREML_MODEL_DIR/NAME/VERSION/file``."""
    root = tmp_path_factory.mktemp("several")
    fill(root, "oak/1/model.pkl", "oak/2/model.pkl", "oak/10/model.pkl", "elm/3/weights.bin", "elm/3/vocabulary.txt")
    server = start("--script", script(SCRIPT), "--model-dir", root).ready()
    return asking(server), root


@pytest.fixture(scope="module")
def one(start, script, tmp_path_factory):
    """One model: its files stand in the folder themselves."""
    root = fill(tmp_path_factory.mktemp("one"), "model.pkl")
    return asking(start("--script", script(SCRIPT), "--model-dir", root).ready()), root


@pytest.mark.parametrize(
    ("name", "path"),
    [("oak", "oak/10/model.pkl"), ("oak:2", "oak/2/model.pkl"), ("elm", "elm/3"), ("elm:3", "elm/3")],
)
def test_several(several, name, path):
    """The highest version or the one asked for; its only file, or the folder where it has several."""
    ask, root = several
    assert ask(name) == (str(root / path), 200)


@pytest.mark.parametrize("name", ["ash", "oak:7", "Oak"])
def test_unknown(several, name):
    """A model that is not there is named, with those that are."""
    text, status = several[0](name)
    assert status == 500
    assert name.partition(":")[0] in text
    assert "there is elm, oak" in text


@pytest.mark.parametrize("version", ["''", "'.'", "'../elm/3'", "'latest'", "True", "1.5e300", "b'2'", "'\\0'"])
def test_a_version_that_is_none(several, version):
    """What is no number is no version, and no path to another model."""
    text, status = several[0](f"oak:{version}")
    assert (status, "ModelNotFoundException" in text, "is not a model's version" in text) == (500, True, True), text


@pytest.mark.parametrize("name", ["oak\0", "oak" * 2000])
def test_a_name_that_no_file_has(several, name):
    """It is a model that is not found, whatever the system says of such a path."""
    text, status = several[0](name)
    assert (status, "is not a model's name" in text, len(text) < 400) == (500, True, True), text


def test_directory(several):
    """``AZUREML_MODEL_DIR`` is the folder with a folder for each model, with the original file names."""
    ask, _ = several
    assert ask("directory") == (["elm", "oak"], 200)
    assert ask("open:oak/1/model.pkl") == ("content of oak/1/model.pkl", 200)


@pytest.fixture(scope="module")
def versioned(start, script, tmp_path_factory):
    """One model whose folder says its name and version, as Azure ML lays it out: ``$AZUREML_MODEL_DIR`` is oak/3."""
    root = fill(tmp_path_factory.mktemp("versioned"), "oak/3/model.pkl")
    server = start("--script", script(SCRIPT), "--model-dir", root / "oak/3").ready()
    return asking(server), root / "oak/3/model.pkl"


@pytest.mark.parametrize("name", ["elm", "oak:2", "elm:3", "model"])
def test_another_name_or_version(versioned, name):
    """A name or a version that the only model does not have is not found, and the message says what there is."""
    ask, path = versioned
    assert ask("oak") == ask("oak:3") == ask("model.pkl") == (str(path), 200)
    text, status = ask(name)
    assert (status, "ModelNotFoundException" in text, "there is oak version 3" in text) == (500, True, True), text


def test_a_version_that_nothing_says(one):
    """Where a folder says neither name nor version, one that is asked for is not found rather than guessed."""
    ask, _ = one
    text, status = ask("whatever:7")
    assert (status, "whatever version 7" in text, "NAME/VERSION/file" in text) == (500, True, True)


def test_a_source_folder_is_no_model(start, script):
    """Without a folder for models the script's own files are nobody's model."""
    ask = asking(start("--script", script(SCRIPT)).ready())
    text, status = ask("oak")
    assert (status, "there is no model oak" in text) == (500, True)


def test_one(one):
    """A single model in a folder that says no name is found under whatever name it was registered."""
    ask, root = one
    assert ask("whatever") == (str(root / "model.pkl"), 200)
    assert ask("model.pkl") == (str(root / "model.pkl"), 200)
    assert ask("open:model.pkl") == ("content of model.pkl", 200)


def test_no_workspace(one):
    """What needs a workspace says what to use instead."""
    text, status = one[0]("construct")
    assert (status, "AZUREML_MODEL_DIR" in text) == (500, True)


def test_application_root(start, script, tmp_path):
    """``$AML_APP_ROOT/azureml-models`` comes first, and the source folder last."""
    fill(tmp_path, "azureml-models/oak/1/model.pkl")
    (tmp_path / "empty").mkdir()
    path = script(SCRIPT, local__file="x")
    ask = asking(start("--script", path, "--model-dir", tmp_path / "empty", AML_APP_ROOT=str(tmp_path)).ready())
    assert ask("oak") == (str(tmp_path / "azureml-models/oak/1/model.pkl"), 200)
    text, status = ask("local")
    assert (os.path.normpath(text), status) == ("local", 200)


@pytest.mark.parametrize("name", ["", ".", "./", "None"])
def test_no_name(start, script, tmp_path_factory, name):
    """An empty name, as of a setting that is missing, is no model: not the folder of them all."""
    code = SCRIPT.replace(
        "Model.get_model_path(model_name=name)", "Model.get_model_path({'None': None}.get(name, name))"
    )
    root = fill(tmp_path_factory.mktemp("models"), "oak/1/model.pkl", "elm/1/model.pkl")
    ask = asking(start("--script", script(code), "--model-dir", root).ready())
    said, status = ask(name)
    assert (status, "is not a model's name" in said) == (500, True)


def test_files_named_by_numbers(start, script, tmp_path_factory):
    """Files whose names are numbers are no versions: the model is their folder."""
    root = fill(tmp_path_factory.mktemp("models"), "oak/1", "oak/2")
    ask = asking(start("--script", script(SCRIPT), "--model-dir", root).ready())
    assert ask("oak") == (str(root / "oak"), 200)
