"""The very scoring image on the publisher's machine: brought in, asked for references, replaced by a newer one."""

import io
from types import SimpleNamespace

import msgspec
import pytest

from fleet.client.images import store as image_store
from fleet.client.local.profile import profile_module
from fleet.client.local.scorers import container_scorer
from fleet.client.models.sample_requests import Request
from fleet.client.publishing.rebase import hold, with_image
from fleet.client.publishing.register import Model, prepare
from fleet.client.workspace import Workspace
from modules import samples as samples_file
from modules.errors import Invalid, NoEngine, NotReady, Unproved, WrongAnswer
from modules.oci import blob_path
from modules.samples import Samples
from tests.parts import docker as parts

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def engine():
    with parts.engine():
        client = parts.client()
        yield client
        client.close()


@pytest.fixture(scope="module")
def image_id(engine):
    """The scoring image of the sources as they are."""
    return parts.scoring_image(engine)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One workspace for this file: compressing an image takes many seconds."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def image(image_id, workspace):
    return image_store.add_from_engine(image_id, workspace, lambda *_: None, name="scoring")


@pytest.fixture(scope="module")
def newer(engine, image_id, workspace):
    """The same image with one label more, in the workspace alone: the engine has lost it."""
    recipe = io.BytesIO(f"FROM {image_id}\nLABEL newer=yes\n".encode())
    newer_id = engine.images.build(fileobj=recipe, rm=True, pull=False)[0].id
    try:
        return image_store.add_from_engine(newer_id, workspace, lambda *_: None, name="newer")
    finally:
        engine.images.remove(newer_id)


def graph(file, **more):
    return Model(path=file, team="acme", name="linear", image="scoring", **more)


@pytest.mark.long
def test_an_image_is_brought_in_once_by_its_own_digest(engine, image_id, image, workspace, tmp_path, silent):
    """From the engine or from a file, the same image has the same digests, and the engine's own id."""
    again = image_store.add_archive(
        parts.saved(engine, image_id, tmp_path / "i.tar"), workspace, silent, name="scoring"
    )

    assert again == image
    assert image.config.sha256 == image_id
    assert image in workspace.images()


@pytest.mark.long
def test_an_image_that_is_there_is_not_read_again(engine, image_id, image, workspace):
    """Nothing of an image that the workspace has whole is read from the engine, under whatever name; else all of it."""
    said = []

    again = image_store.add_from_engine(image_id, workspace, lambda what, *_: said.append(what), name="again")

    assert said == []
    assert msgspec.structs.replace(again, name="scoring") == image
    assert {again, image} <= set(workspace.images())
    blob = blob_path(workspace.blobs, image.layers[-1].sha256)
    blob.rename(blob.with_suffix(".away"))
    assert image_store.add_from_engine(image_id, workspace, lambda what, *_: said.append(what), name="again") == again
    assert set(said) == {"reading the image"}
    assert blob.is_file()


@pytest.mark.long
def test_an_engine_with_ids_of_its_own_is_recognised(engine, image_id, tmp_path):
    """Docker with containerd's store names an image by a manifest that is not ours; it is read once all the same."""
    own = Workspace(tmp_path / "workspace")
    small = engine.images.build(fileobj=io.BytesIO(f"FROM {parts.BASE}\nLABEL small=yes\n".encode()), rm=True)[0]
    shown = SimpleNamespace(attrs=small.attrs | {"Id": "sha256:" + "0" * 64}, save=small.save)
    theirs = SimpleNamespace(images=SimpleNamespace(get=lambda _: shown))
    said = []
    try:
        first = image_store.take(theirs, "small", own, lambda what, *_: said.append(what), "one")
        read = len(said)
        again = image_store.take(theirs, "small", own, lambda what, *_: said.append(what), "two")
    finally:
        engine.images.remove(small.id)

    assert read > 0
    assert len(said) == read
    assert msgspec.structs.replace(again, name="one") == first


@pytest.mark.long
def test_references_come_from_the_image_without_a_network(image, workspace, linear_file, tmp_path, silent):
    """A model registered in its image has a runtime of the image's platform, and nothing is left running."""
    manifest = prepare(graph(linear_file), image, workspace.blobs, tmp_path, silent)

    assert manifest.runtimes[0].image == image
    assert image.unpacked_bytes > sum(layer.length for layer in image.layers)
    assert manifest.runtimes[0].platform.startswith("linux/")
    assert len(samples_file.decode((tmp_path / "files/samples.json").read_bytes()).samples) == 3


@pytest.mark.long
def test_an_image_of_before_is_measured_at_registering(image, workspace, linear_file, tmp_path, silent):
    """What a workspace of before keeps does not say what it unpacks to; the signed manifest says it all the same."""
    before = msgspec.structs.replace(image, unpacked_bytes=msgspec.UNSET)

    assert prepare(graph(linear_file), before, workspace.blobs, tmp_path, silent).runtimes[0].image == image


@pytest.mark.long
def test_the_same_answers_with_and_without_the_image(image, workspace, linear_file, tmp_path, silent):
    """Image and local interpreter agree on a model, so that a trial without Docker means something."""
    bare = msgspec.structs.replace(graph(linear_file), engine="process", image=None)
    for name, model, inside in (("a", graph(linear_file), image), ("b", bare, None)):
        (tmp_path / name).mkdir()
        prepare(model, inside, workspace.blobs, tmp_path / name, silent)

    samples = samples_file.decode((tmp_path / "b/files/samples.json").read_bytes())
    with container_scorer(tmp_path / "a", image, workspace.blobs, step=silent) as scorer:
        hold(samples, scorer, silent)


@pytest.mark.long
def test_a_new_image_that_answers_differently_is_found_out(image, workspace, linear_file, tmp_path, silent):
    """A rebase asks every sample before it makes a version."""
    manifest = prepare(graph(linear_file), image, workspace.blobs, tmp_path, silent)
    samples = samples_file.decode((tmp_path / "files" / manifest.proof.samples).read_bytes())
    wrong = Samples(tuple(msgspec.structs.replace(one, answer=b'{"y":[[0,0]]}') for one in samples.samples))

    with (
        container_scorer(tmp_path, image, workspace.blobs, step=silent) as scorer,
        pytest.raises(WrongAnswer, match="answers differently"),
    ):
        hold(wrong, scorer, silent)


@pytest.mark.long
def test_a_rebase_changes_the_image_and_nothing_else(image, newer, workspace, linear_file, tmp_path, silent):
    """Only the runtime of that platform and accelerator gets the new image; unchanged layers stay the same blobs."""
    manifest = prepare(graph(linear_file), image, workspace.blobs, tmp_path, silent)
    platform = manifest.runtimes[0].platform

    changed = with_image(manifest, newer, platform, "cpu")

    assert changed.runtimes[0].image == newer
    assert newer.layers == image.layers
    assert with_image(changed, image, platform, "cpu") == manifest
    with pytest.raises(Invalid, match="this image already"):
        with_image(manifest, image, platform, "cpu")
    with pytest.raises(Invalid, match="no runtime for"):
        with_image(manifest, newer, platform, "cuda")


@pytest.mark.long
def test_a_script_that_fails_in_its_image_shows_the_log(image, workspace, tmp_path, silent):
    """What the container printed last is in the error, and the container is gone."""
    (tmp_path / "score.py").write_text(
        "def init():\n    raise RuntimeError('no weights here')\n\n\ndef run(x):\n    ...\n"
    )
    (tmp_path / "weights.bin").write_bytes(b"w")
    model = graph(tmp_path / "weights.bin", entry_script=tmp_path / "score.py", prove="ready-only")
    (tmp_path / "packed").mkdir()

    with pytest.raises(NotReady, match="no weights here"):
        prepare(model, image, workspace.blobs, tmp_path / "packed", silent)


@pytest.mark.long
def test_an_image_that_docker_lost_is_loaded_from_the_workspace(
    engine, newer, workspace, linear_file, tmp_path, silent
):
    """The workspace has the image itself, so the engine may be a new one."""
    try:
        prepare(graph(linear_file), newer, workspace.blobs, tmp_path, silent)

        assert engine.images.get(newer.config.sha256).labels["newer"] == "yes"
    finally:
        engine.images.remove(newer.config.sha256, force=True)


@pytest.mark.long
def test_an_image_that_nobody_has_is_said(engine, workspace, silent):
    """Nothing is pulled behind the user's back."""
    with pytest.raises(Invalid, match="neither a file nor an image"):
        image_store.add_from_engine("no-such-image:1", workspace, silent, name="x")


@pytest.mark.long
def test_without_docker_the_way_out_is_named(workspace, silent, monkeypatch, free_port):
    """No engine: start it."""
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")

    with pytest.raises(NoEngine) as caught:
        image_store.add_from_engine("x", workspace, silent, name="x")

    assert "start it" in caught.value.remedy


@pytest.mark.long
def test_a_module_is_measured_in_its_own_container(engine, image, workspace, linear_file, tmp_path, silent):
    """Numbers for every limit, a recommendation that was tried, a refused request told, and nothing left running."""
    prepare(graph(linear_file, prove="ready-only"), image, workspace.blobs, tmp_path, silent)

    def measure(body, *cores):
        request = Request(name="one", body=body)
        return profile_module(tmp_path, image, workspace.blobs, [request], seconds=0.3, cores=cores, step=silent)

    found = measure(b'{"x": [[1, 2, 3]]}', 1.0, 0.5)
    with pytest.raises(Unproved, match="the model answers 400"):
        measure(b'{"z": 1}', 1.0)

    assert parts.containers_upon(engine, tmp_path) == []
    assert [run.cpu for run in found.runs[:2]] == [1.0, 0.5]
    assert all(run.mean_ms > 0 and run.per_second > 0 and run.peak_mb > 5 for run in found.runs if not run.problem)
    assert found.cpu in (1.0, 0.5)
    assert found.memory_gb <= 0.5


@pytest.mark.long
def test_what_a_model_needs_is_what_its_container_took(image, workspace, linear_file, tmp_path, silent):
    """A script that holds much memory gets a need above the usual one, so that its limit on a device is no trap."""
    (tmp_path / "score.py").write_text(
        "def init():\n    global held\n    held = bytearray(b'x') * (300 << 20)\n\ndef run(x):\n    return len(held)\n"
    )
    (tmp_path / "one.json").write_text("{}")
    (tmp_path / "packed").mkdir()
    model = graph(linear_file, entry_script=tmp_path / "score.py", samples=(tmp_path / "one.json",))

    needs = prepare(model, image, workspace.blobs, tmp_path / "packed", silent).needs

    assert 450 <= needs.memory_mb <= 800
