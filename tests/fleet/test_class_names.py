"""Names of classes, out of what people leave beside or in a model; what is not a list of names is none."""

import onnx
import pytest

from fleet.graphs import class_names
from fleet.graphs.onnx_file import read
from modules.class_files import LIMIT
from modules.manifest import File
from tests.fleet.test_graphs import helper, saved, tensor


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("labels.txt", "cat\ndog\n\n", ["cat", "dog"]),
        ("labels.txt", "cat\r\n a dog \r\n", ["cat", "a dog"]),
        ("labels.json", '["cat", "dog"]', ["cat", "dog"]),
        ("labels.json", '{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ("labels.json", '{"0": "cat", "2": "dog"}', []),
        ("labels.json", '{"0": ["cat"]}', []),
        ("labels.json", "[" * 100_000, []),
        ("m/config.json", '{"id2label": {"0": "cat"}, "other": 1}', ["cat"]),
        ("config.json", '{"other": 1}', []),
        ("labels.txt", "a\x1b[31m\u202eb\n", ["a\ufffd[31m\ufffdb"]),
        ("labels.txt", "x" * 5000, ["x" * class_names.LONGEST]),
        ("labels.txt", "x\n" * (class_names.MOST + 1), []),
        ("labels.txt", "", []),
    ],
)
def test_a_file_of_names(path, text, names):
    assert class_names.of_file(path, text.encode()) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'person', 1: \"dog's\"}", ["person", "dog's"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ("cat,dog", ["cat", "dog"]),
        ("cat\ndog\n", ["cat", "dog"]),
        ("{0: __import__('os').system('x')}", []),
        ("a sentence", []),
        ("", []),
    ],
)
def test_an_entry_of_metadata(text, names):
    """As exporters write it; nothing of it is evaluated."""
    assert class_names.of_metadata(text) == names


def test_of_a_modules_files_the_one_with_the_usual_name_counts():
    def file(path, length=10):
        return File(path=path, sha256="sha256:" + "0" * 64, length=length, blocks="")

    some = (file("a/model.onnx"), file("config.json"), file("a/Labels.txt"))
    assert class_names.file_of(some).path == "a/Labels.txt"
    assert class_names.file_of((file("labels.txt", LIMIT + 1),)) is None
    assert class_names.file_of((file("other.txt"),)) is None


def test_a_graph_brings_them_in_its_metadata(tmp_path):
    """What exporters of detectors and classifiers leave there; of several entries the first that names something."""

    file = saved(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [tensor("x")], [tensor("y")])
    assert read(file).classes == ()
    model = onnx.load(file)
    for key, value in (("stride", "32"), ("names", "one word"), ("classes", "{0: 'cat', 1: 'dog'}")):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, file)
    assert read(file).classes == ("cat", "dog")
    assert read(file).count == 1
