"""What goes into a module, what stays out, and whether it is still the same."""

import pytest

from fleet.client.publishing import pack
from modules import class_files
from modules.errors import Invalid
from modules.manifest import Manifest, OnnxGraph, Proof, Runtime


@pytest.fixture
def folder(tmp_path):
    """A model's folder as an editor, git and Python leave it."""
    root = tmp_path / "model"
    for path in ("weights.pkl", "labels/en.json", ".git/config", "__pycache__/a.pyc", ".hidden"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


@pytest.fixture
def packed(folder, tmp_path, silent):
    """The same folder packed, with its manifest."""
    place = tmp_path / "packed"
    pack.copy_in(pack.model_sources(folder), place, silent)
    files = pack.measure_files(place, silent)
    serve = OnnxGraph(file="model/weights.pkl")
    manifest = Manifest(
        team="acme", name="m", version="1", serve=serve, files=files, runtimes=(Runtime(),),
        proof=Proof(prove="ready-only"),
    )  # fmt: skip
    return manifest, place


def test_plain_files_go_in_and_left_overs_stay_out(folder):
    """Version control, caches and hidden files are no part of a model."""
    assert list(pack.model_sources(folder)) == ["model/weights.pkl", "model/labels/en.json"]


def test_a_single_file_keeps_its_name(folder):
    """A registered file is found under its own name."""
    assert list(pack.model_sources(folder / "weights.pkl")) == ["model/weights.pkl"]


def test_a_folder_of_a_graph_brings_the_names_of_its_classes(tmp_path):
    """One file, by its usual name, for people who look at answers; none where the graph itself was named."""
    assert pack.class_sources(tmp_path) == {}
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "classes.txt").symlink_to(tmp_path / "notes.txt")
    assert pack.class_sources(tmp_path) == {"model/config.json": tmp_path / "config.json"}
    (tmp_path / "labels.txt").write_text("cat")
    assert pack.class_sources(tmp_path) == {"model/labels.txt": tmp_path / "labels.txt"}
    assert pack.class_sources(tmp_path / "labels.txt") == {}
    (tmp_path / "labels.txt").write_bytes(b"x" * (class_files.LIMIT + 1))
    assert list(pack.class_sources(tmp_path)) == ["model/config.json"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_are_refused(folder, tmp_path, what):
    """A module holds plain files, so that nothing of another place is packed by a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("s")
    (folder / "link").symlink_to(tmp_path / "elsewhere" / ("secret" if what == "file" else ""))

    with pytest.raises(Invalid, match="plain files"):
        pack.model_sources(folder)


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "ümlaut"])
def test_names_that_mean_different_files_elsewhere_are_refused(folder, name):
    """A file's path is the same on every device."""
    (folder / name).write_text("x")

    with pytest.raises(Invalid, match="not a valid path inside a module"):
        pack.model_sources(folder)


def test_a_missing_or_empty_model_is_named(tmp_path):
    """Nothing to pack is an error with the path in it."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(Invalid) as caught:
            pack.model_sources(path)

        assert caught.value.element == str(path)


def test_unchanged_files_are_accepted(packed, silent):
    """What was packed is what the manifest says."""
    pack.check_files(*packed, silent)


def test_every_change_is_named(packed, silent):
    """A changed, a missing and an additional file are all seen before anything is signed."""
    manifest, place = packed
    (place / "files/model/weights.pkl").write_bytes(b"other")
    (place / "files/model/labels/en.json").unlink()
    (place / "files/extra").write_bytes(b"")

    with pytest.raises(Invalid) as caught:
        pack.check_files(manifest, place, silent)

    for problem in ("weights.pkl has changed", "en.json is missing", "extra is not in the manifest"):
        assert problem in caught.value.message
