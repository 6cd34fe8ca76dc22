"""Only whole, valid ONNX models pass, and every other file is told what is wrong with it."""

import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fleet.client.models.check_model import check_onnx, checker_says
from modules.errors import Invalid

LARGE = np.ones((3, 2000), dtype=np.float32)


def external(linear, folder, location="weights.bin"):
    folder.mkdir(exist_ok=True)
    file = folder / "model.onnx"
    onnx.save_model(
        linear(LARGE),
        file,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=16,
        convert_attribute=False,
    )
    if location != "weights.bin":
        model = onnx.load_model(file, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        file.write_bytes(model.SerializeToString())
    return file


def test_a_valid_model_passes_with_its_inputs(linear_file):
    """A graph's inputs are found by name, weights left out."""
    model = check_onnx(linear_file)

    assert model.inputs == ("x",)
    assert model.external == {}


def test_external_data_beside_the_model_is_found(linear, tmp_path):
    """Weights kept in a file beside the graph belong to the model."""
    file = external(linear, tmp_path / "big")

    assert check_onnx(file).external == {"weights.bin": file.parent / "weights.bin"}


@pytest.mark.parametrize("location", ["a\0b", "../weights.bin", "/etc/passwd", "a/../../weights.bin"])
def test_external_data_outside_the_folder_is_refused(linear, tmp_path, location):
    """No model takes a file from elsewhere on the publisher's machine with it."""
    (tmp_path / "weights.bin").write_bytes(LARGE.tobytes())

    with pytest.raises(Invalid, match="outside the model's folder"):
        check_onnx(external(linear, tmp_path / "big", location))


def test_external_data_through_a_link_is_refused(linear, tmp_path):
    """A link beside the model that leads out of its folder is outside too."""
    file = external(linear, tmp_path / "big")
    (tmp_path / "big" / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (tmp_path / "big" / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")

    with pytest.raises(Invalid, match="outside the model's folder"):
        check_onnx(file)


CACHES = {"blobs": "snapshots/0a1b", ".dvc/cache/files/md5/0a": "model", ".git/annex/objects/zz": "model"}


@pytest.mark.parametrize(("cache", "folder"), CACHES.items(), ids=["huggingface", "dvc", "annex"])
def test_weights_behind_the_links_of_a_cache_are_found(linear, tmp_path, cache, folder):
    """Model hubs keep whole files by digest and put links in their place; those are followed."""
    whole = external(linear, tmp_path / "whole")
    (tmp_path / cache).mkdir(parents=True)
    named = tmp_path / folder
    named.mkdir(parents=True)
    for number, name in enumerate(("model.onnx", "weights.bin")):
        (named / name).symlink_to((whole.parent / name).rename(tmp_path / cache / str(number)))

    assert check_onnx(named / "model.onnx").external == {"weights.bin": named / "weights.bin"}


def test_a_link_to_a_whole_model_has_its_weights_beside_it(linear, tmp_path):
    """A model that is named through a link of the user's keeps its weights where they are."""
    file = external(linear, tmp_path / "big")
    link = tmp_path / "today.onnx"
    link.symlink_to(file)

    assert check_onnx(link).external == {"weights.bin": file.parent / "weights.bin"}


def test_missing_external_data_is_named(linear, tmp_path):
    """Weights that were not copied along are missed by name."""
    file = external(linear, tmp_path / "big")
    (tmp_path / "big" / "weights.bin").unlink()

    with pytest.raises(Invalid, match=r"'weights\.bin' is missing"):
        check_onnx(file)


@pytest.mark.parametrize("location", ["w" * 5000, "a/" * 3000 + "w", "circle", "big", "\u202egpj.bin"])
def test_a_place_where_no_file_can_be_is_missed_by_name(linear, tmp_path, location):
    """A name that is too long, links in a circle, a folder: one sentence, of a bearable length."""
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "circle").symlink_to("circle")
    (folder / "big").mkdir()
    file = external(linear, folder)
    model = onnx.load_model(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    file.write_bytes(model.SerializeToString())

    with pytest.raises(Invalid, match="is missing") as raised:
        check_onnx(file)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("said", ["abc", "-5", "1e3", "9" * 5000, "\u0663", "1_0"])
def test_external_data_of_no_length_is_refused(linear, tmp_path, key, said):
    """A place in the data that is no number is named."""
    file = external(linear, tmp_path / "big")
    model = onnx.load_model(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = said if entry.key == key else entry.value
    file.write_bytes(model.SerializeToString())

    with pytest.raises(Invalid, match=f"the {key} of its data is not a number of bytes: '{said[:40]}'"):
        check_onnx(file)


def test_short_external_data_is_refused(linear, tmp_path):
    """Weights that were cut off are noticed before any device is."""
    file = external(linear, tmp_path / "big")
    weights = tmp_path / "big" / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:100])

    with pytest.raises(Invalid, match="shorter than"):
        check_onnx(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps({"a": 1}), "a Python pickle"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"<html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "the file is empty"),
        (b"weights,1,2,3\n", "this is not an ONNX model"),
    ],
    ids=["pickle", "zip", "hdf5", "html", "lfs", "empty", "text"],
)
def test_what_is_no_onnx_is_called_by_its_name(tmp_path, content, says):
    """A file of another kind is told what it is."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content)

    with pytest.raises(Invalid, match=says) as caught:
        check_onnx(file)

    assert caught.value.element == str(file)
    assert caught.value.remedy


@pytest.mark.parametrize("keep", [2, 20, 0.5, -1])
def test_a_truncated_model_is_refused(linear_file, keep):
    """Wherever a copy was cut off, the file does not pass."""
    whole = linear_file.read_bytes()
    linear_file.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])

    with pytest.raises(Invalid, match=r"truncated|no graph"):
        check_onnx(linear_file)


def test_the_checker_of_onnx_can_be_quoted(tmp_path, linear_file):
    """What ONNX's own checker has against a graph is a line; a good graph has none."""
    graph = helper.make_graph(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    file = tmp_path / "bad.onnx"
    file.write_bytes(helper.make_model(graph).SerializeToString())

    assert "NoSuchOperator" in checker_says(file)
    assert checker_says(linear_file) == ""


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    """A mistyped path is an error for the operator, not a traceback."""
    with pytest.raises(Invalid, match="cannot be read"):
        check_onnx(tmp_path / "nothing.onnx")
