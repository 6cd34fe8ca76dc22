"""Models through the SDK against a real fleet server: registered and signed, found, listed, fetched, removed."""

import msgspec
import pytest

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.local.scorers import process_scorer
from fleet.client.sdk import Model, ResourceConfiguration, Run, Workspace, registry
from fleet.client.sdk.exceptions import (
    ModelNotFoundException,
    ModelPathNotFoundException,
    UserErrorException,
    WebserviceException,
)
from fleet.client.sdk.model_version import version_of
from modules.digests import sha256
from modules.errors import NotReady, Untrusted


def test_a_pickle_is_registered_as_it_is_and_signed(ws, pickled, run):
    """Name, tags, properties, framework and version come back as they were given; the team's key has signed."""
    model = Model.register(
        workspace=ws,
        model_path="sklearn_model.pkl",
        model_name="SKlearn_Mnist",
        tags={"area": "digits", "try": 2},
        properties={"accuracy": "0.97"},
        description="handwriting",
        model_framework=Model.Framework.SCIKITLEARN,
        model_framework_version="0.19.1",
        resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
    )

    assert (model.name, model.version, model.id) == ("SKlearn_Mnist", 1, "SKlearn_Mnist:1")
    assert (model.tags, model.properties) == ({"area": "digits", "try": "2"}, {"accuracy": "0.97"})
    assert (model.model_framework, model.model_framework_version) == ("ScikitLearn", "0.19.1")
    assert (model.resource_configuration.cpu, model.resource_configuration.memory_in_gb) == (1, 0.5)
    assert model.signed
    assert run("modules", "verify", "acme/sklearn-mnist:1")["signed"] == "by team acme"


def test_versions_are_counted_and_the_newest_is_meant(ws, pickled):
    """A name alone is its newest version; a version or an id names another."""
    first = Model.register(ws, pickled, "counted")
    pickled.write_bytes(b"another")
    second = Model.register(ws, pickled, "counted", tags={"best": "yes"})

    assert (first.version, second.version) == (1, 2)
    assert Model(ws, "counted").version == 2
    assert Model(ws, "counted", version=1).id == Model(ws, id="counted:1").id == "counted:1"
    assert Model(ws, "counted", tags=["best"]).version == 2
    assert ws.models["counted"].version == 2


def test_files_come_back_under_their_names(ws, pickled, tmp_path):
    """One file, or a folder that keeps its name; what is there stays unless it may be replaced."""
    Model.register(ws, pickled, "back")
    folder = tmp_path / "my_folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a")
    (folder / "sub/b.bin").write_bytes(b"b")
    Model.register(ws, "my_folder", "folder")

    assert Model(ws, "back").download(tmp_path / "one") == str(tmp_path / "one/sklearn_model.pkl")
    assert (tmp_path / "one/sklearn_model.pkl").read_bytes() == pickled.read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").rglob("*")) == ["sklearn_model.pkl"]
    where = Model(ws, "folder").download(target_dir=tmp_path / "two")
    assert where == str(tmp_path / "two/my_folder")
    assert (tmp_path / "two/my_folder/sub/b.bin").read_bytes() == b"b"
    with pytest.raises(WebserviceException, match="there already"):
        Model(ws, "back").download(tmp_path / "one")
    assert Model(ws, "back").download(tmp_path / "one", exist_ok=True) == str(tmp_path / "one/sklearn_model.pkl")


def test_parts_of_a_folder(ws, tmp_path):
    """Of a folder only the named files and folders are taken; one that is not there is an error."""
    for name in ("keep.bin", "sub/also.bin", "not.bin"):
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "parts" / name).write_bytes(b"x")

    Model.register(ws, tmp_path / "parts", "parts", child_paths=["keep.bin", "sub"])
    Model(ws, "parts").download(tmp_path / "got")

    got = {path.relative_to(tmp_path / "got/parts").as_posix() for path in (tmp_path / "got").rglob("*.bin")}
    assert got == {"keep.bin", "sub/also.bin"}
    with pytest.raises(WebserviceException, match="no such file"):
        Model.register(ws, tmp_path / "parts", "parts", child_paths=["lost.bin"])


def test_models_are_listed_by_what_is_known_of_them(ws, pickled):
    """Tags and properties by key, or by key and value; a name; a framework; the newest alone."""
    Model.register(ws, pickled, "listed", tags={"kind": "a"}, model_framework="ScikitLearn")
    Model.register(ws, pickled, "listed", tags={"kind": "b"}, properties={"p": "1"})

    def found(**filters):
        return [model.version for model in Model.list(ws, name="listed", **filters)]

    assert found() == [2, 1]
    assert found(latest=True) == [2]
    assert found(tags=["kind"]) == [2, 1]
    assert found(tags=[["kind", "a"]]) == [1]
    assert found(properties={"p": "1"}) == [2]
    assert found(framework="ScikitLearn") == [1]
    assert found(tags=[["kind", "c"]]) == []


def test_a_deleted_model_is_gone(ws, pickled):
    """From the server and from the user's own copies; the other version stays."""
    Model.register(ws, pickled, "deleted")
    second = Model.register(ws, pickled, "deleted")
    place = ws.packed.module(second.ref)
    assert place.is_dir()

    second.delete()

    assert not place.exists()
    assert Model(ws, "deleted").version == 1


def test_what_is_not_there_is_said_as_scripts_catch_it(ws, pickled):
    """A missing model is a WebserviceException, as theirs, and names what there is."""
    Model.register(ws, pickled, "there")

    with pytest.raises(WebserviceException):
        Model(ws, "nowhere")
    with pytest.raises(ModelNotFoundException, match="no version 7 of there, there is 1"):
        Model(ws, "there", version=7)
    with pytest.raises(ModelNotFoundException, match="with these tags"):
        Model(ws, "there", tags=["none"])
    with pytest.raises(ModelPathNotFoundException):
        Model.register(ws, "no/such/file", "lost")
    with pytest.raises(UserErrorException, match="not a framework"):
        Model.register(ws, pickled, "lost", model_framework="Keras2")
    with pytest.raises(UserErrorException, match="no effect here"):
        Model.register(ws, pickled, "lost", datasets=[("training", object())])
    with pytest.raises(UserErrorException, match="are the SDK's"):
        Model.register(ws, pickled, "lost", properties={"sdk.name": "x"})


def test_without_a_key_it_is_a_draft_and_says_so(ws, logged_in, pickled, monkeypatch, capsys):
    """Nothing is signed behind anybody's back, and the command that signs is named."""
    monkeypatch.delenv("EDGEFLEET_KEYS")

    model = Model.register(Workspace.from_config(), pickled, "unsigned")

    assert not model.signed
    assert "edgefleet modules sign acme/unsigned:1" in capsys.readouterr().err


def test_the_team_must_be_clear(ws, pickled, monkeypatch):
    """With several teams and none named, the error says how to name one."""
    monkeypatch.delenv("EDGEFLEET_TEAM")

    with pytest.raises(WebserviceException, match="acme, other") as caught:
        Model.register(Workspace.from_config(), pickled, "whose")

    assert "EDGEFLEET_TEAM" in caught.value.remedy


def test_a_run_registers_what_it_made(ws, tmp_path, monkeypatch):
    """From ``outputs``, with the run's id as a tag, by which it is found."""
    monkeypatch.setenv("AZUREML_RUN_ID", "run-7")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/model.pkl").write_bytes(b"m")

    current = Run.get_context()
    current.log("accuracy", 0.9)
    model = current.register_model("trained", "outputs/model.pkl", tags={"area": "x"})
    unnamed = current.register_model(description="best of all")

    assert model.tags == {"area": "x", "run_id": "run-7"}
    assert [one.name for one in Model.list(ws, run_id="run-7")] == ["run-7", "trained"]
    assert unnamed.name == "run-7"
    assert current.get_metrics() == {"accuracy": 0.9}


def test_a_path_of_a_model_on_this_machine(ws, pickled, tmp_path):
    """Fetched once, below azureml-models; the file itself, or the folder."""
    Model.register(ws, pickled, "where")

    path = Model.get_model_path("where")

    assert path == "azureml-models/where/1/sklearn_model.pkl"
    pickled.write_bytes(b"changed since")
    assert Model.get_model_path("where", version=1) == path


def test_a_file_alone_becomes_no_model_that_works(ws, pickled, run):
    """Its script says that it is not the one, and no container engine has an image to run it in."""
    Model.register(ws, pickled, "alone")

    manifest = run("models", "show", "acme/alone:1")["manifest"]

    assert manifest["runtimes"][0]["image"] is None
    assert manifest["serve"]["script"] == "source/only_files.py"
    assert manifest["proof"]["prove"] == "ready-only"
    with (
        pytest.raises(NotReady, match="registered as files alone"),
        process_scorer(ws.packed.module(Model(ws, "alone").ref)),
    ):
        pass


class Hostile(Fleet):
    """A server that has another manifest than the team signed, and says so consistently."""

    def manifest(self, ref):
        return super().manifest(ref).replace(b'"description":""', b'"description":"x"')

    def module(self, ref):
        return msgspec.structs.replace(super().module(ref), digest=sha256(self.manifest(ref)))


def test_what_the_team_did_not_sign_is_not_laid_out(ws, pickled, tmp_path):
    """A signed model's bytes must be those of the signature, however sure the server is of others."""
    model = Model.register(ws, pickled, "swapped")

    with Hostile(config.load()) as fleet, pytest.raises(Untrusted, match="the team signed"):
        registry.as_packed(ws, fleet, model.ref, tmp_path / "got", lambda *_: None)
    with Fleet(config.load()) as fleet:
        (tmp_path / "again").mkdir()
        registry.as_packed(ws, fleet, model.ref, tmp_path / "again", lambda *_: None)
    assert (tmp_path / "again/files/model/sklearn_model.pkl").read_bytes() == pickled.read_bytes()


@pytest.mark.parametrize("name", ["../../etc", "a/b", "Another", "", "x" * 200])
def test_a_name_that_is_not_the_models_names_no_folder(ws, pickled, name):
    """What a server claims as the name as it was given counts only where it is the module's."""
    known = Model.register(ws, pickled, "honest")
    with Fleet(config.load()) as fleet:
        module = fleet.module(known.ref)
    claimed = msgspec.structs.replace(module.manifest, properties={registry.NAME: name})

    assert version_of(msgspec.structs.replace(module, manifest=claimed)).name == "honest"
