"""Packages: every argument has its effect or its error, and what cannot be made says why."""

import inspect
import json
import subprocess

import pytest

from fleet.client.sdk import Environment, InferenceConfig, Model, ModelPackage, WebserviceException, functions
from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.functions import BLOB_TRIGGER, HTTP_TRIGGER, SERVICE_BUS_QUEUE_TRIGGER, variables_of
from fleet.client.sdk.package import FAILED, SUCCEEDED
from tests.parts import docker as parts
from tests.parts.mosquitto import free_port
from tests.parts.programs import until

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600)]

SCRIPT = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"
# Each argument of each way to package: what it is checked by here.
CHECKED = {
    "workspace": "every test", "models": "every test", "inference_config": "test_an_image_has_the_name_that_was_given",
    "generate_dockerfile": "test_package_guides.py::test_a_dockerfile",
    "image_name": "test_an_image_has_the_name_that_was_given",
    "image_label": "test_an_image_has_the_name_that_was_given",
    "functions_enabled": "test_what_cannot_be_is_said_at_once", "trigger": "test_what_cannot_be_is_said_at_once",
    "auth_level": "test_what_cannot_be_is_said_at_once", "input_path": "test_a_trigger_is_told_by_variables",
    "output_path": "test_a_trigger_is_told_by_variables", "input_queue_name": "test_a_trigger_is_told_by_variables",
    "output_queue_name": "test_a_trigger_is_told_by_variables", "kwargs": "test_what_cannot_be_is_said_at_once",
}  # fmt: skip


@pytest.fixture
def script(tmp_path):
    (tmp_path / "score.py").write_text(SCRIPT)
    return InferenceConfig("score.py")


@pytest.fixture
def model(ws, pickled):
    return Model.register(ws, pickled, "pickled")


def test_every_argument_is_checked_here():
    """One that is added says which test sees its effect or its error."""
    ways = [Model.package, *(getattr(functions, name) for name in dir(functions) if name.startswith("package"))]

    assert {name for way in ways for name in inspect.signature(way).parameters} == set(CHECKED)
    here = {word.rpartition("::")[2] for word in CHECKED.values()} - {"every test", "test_a_dockerfile"}
    assert here <= set(globals())


def test_a_trigger_is_told_by_variables():
    """Paths, topics and a broker's address, as the program in the image reads them."""
    assert variables_of(HTTP_TRIGGER, {}) == {}
    assert variables_of(BLOB_TRIGGER, {"input_path": None}) == {
        "EDGEFLEET_TRIGGER": "folder",
        "EDGEFLEET_TRIGGER_INPUT": "input/{name}.json",
        "EDGEFLEET_TRIGGER_OUTPUT": "output/{name}_out.json",
    }
    named = {"input_path": "in/{x}.csv", "output_path": "out/{x}.json"}
    assert variables_of(BLOB_TRIGGER, named)["EDGEFLEET_TRIGGER_INPUT"] == "in/{x}.csv"
    assert variables_of(BLOB_TRIGGER, named)["EDGEFLEET_TRIGGER_OUTPUT"] == "out/{x}.json"
    queue = {"input_queue_name": "site/in", "output_queue_name": "site/out", "connection_string": "mqtts://host"}
    found = variables_of(SERVICE_BUS_QUEUE_TRIGGER, queue)
    assert (found["EDGEFLEET_TRIGGER_INPUT"], found["EDGEFLEET_TRIGGER_OUTPUT"]) == ("site/in", "site/out")
    assert found["EDGEFLEET_TRIGGER_BROKER"] == "mqtts://host"
    # A newer version of the package goes on with the session of the one before.
    assert (
        found["EDGEFLEET_TRIGGER_CLIENT"] == variables_of(SERVICE_BUS_QUEUE_TRIGGER, queue)["EDGEFLEET_TRIGGER_CLIENT"]
    )


def test_what_cannot_be_is_said_at_once(ws, model, script):
    """Before anything is fetched or built, with the argument's name and what to write."""

    def refused(element, said, **more):
        with pytest.raises(UserErrorException, match=said) as caught:
            functions.package(ws, [model], script, **more)
        assert caught.value.element == element
        assert caught.value.remedy

    refused("trigger", "no trigger", functions_enabled=True, trigger="timer")
    refused("functions_enabled", "only with", trigger=BLOB_TRIGGER)
    refused("input_pth", "no such argument", functions_enabled=True, trigger=BLOB_TRIGGER, input_pth="in/{name}")
    refused("input_path", "no such argument", functions_enabled=True, trigger=HTTP_TRIGGER, input_path="in/{name}")
    refused("auth_level", "let nobody in", functions_enabled=True, trigger=HTTP_TRIGGER, auth_level="function")
    refused("output_path", "told apart", functions_enabled=True, trigger=BLOB_TRIGGER, output_path="out/x.json")
    queue = {"functions_enabled": True, "trigger": SERVICE_BUS_QUEUE_TRIGGER, "input_queue_name": "a"}
    refused("EDGEFLEET_TRIGGER_OUTPUT", "missing", **queue)
    refused("EDGEFLEET_TRIGGER_OUTPUT", "an input again", output_queue_name="a", **queue)
    refused("EDGEFLEET_TRIGGER_BROKER", "password", output_queue_name="b", connection_string="mqtt://u:p@host", **queue)
    for arguments, element in (
        (([model, model],), "inference_config"),
        ((["pickled:1"], script), "models"),
        (([model], script, False, "Not A Name"), "image_name"),
        (([model], script, False, "name and more"), "image_name"),
        (([model], script, False, "name", "not a label"), "image_label"),
        (([model], InferenceConfig("lost.py")), "InferenceConfig: entryScript"),
    ):
        with pytest.raises(UserErrorException) as caught:
            Model.package(ws, *arguments)
        assert caught.value.element == element


@pytest.mark.long
def test_an_image_has_the_name_that_was_given(ws, image, model, script):
    """And by default one by its content; what was made before is not made again; what is gone is told."""
    named = Model.package(ws, [model], script, image_name="my-own-name", image_label="one")
    named.wait_for_creation()
    usual, again = (Model.package(ws, [model], script) for _ in range(2))
    usual.wait_for_creation()
    again.wait_for_creation()

    assert (named.creation_state, named.location) == (SUCCEEDED, "my-own-name:one")
    assert usual.location == again.location
    assert usual.location.startswith("edgefleet-package:")
    assert "is there already" in again.get_logs()
    assert again.get_logs(decode=False, offset=3) == again.get_logs().encode()[3:]
    assert json.loads(json.dumps(named.serialize())) == {
        "packageId": named.package_id, "workspaceName": ws.name, "creationState": SUCCEEDED,
        "location": "my-own-name:one", "generateDockerfile": False, "imageId": named.serialize()["imageId"],
        "models": [model.id], "environment": None,
    }  # fmt: skip
    assert named.package_id != usual.package_id
    with pytest.raises(UserErrorException, match="no files"):
        named.save("anywhere")
    client = parts.client()
    client.images.remove(named.serialize()["imageId"], force=True)
    client.close()
    with pytest.raises(WebserviceException, match="no more"):
        named.pull()


def test_what_cannot_be_made_says_why(ws, image, model, shop, tmp_path):
    """In ``wait_for_creation``, with the end of the log; and nothing is left behind."""
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "env.yml").write_text("dependencies:\n  - pip:\n    - nobody-has-this==1.0\n")
    environment = Environment.from_conda_specification("my-none", tmp_path / "env.yml")

    package = Model.package(ws, [model], InferenceConfig("score.py", environment=environment))

    with pytest.raises(WebserviceException, match="nobody-has-this"):
        package.wait_for_creation()
    assert (package.creation_state, package.location) == (FAILED, None)
    assert not package._folder.exists()
    with pytest.raises(WebserviceException, match="nobody-has-this"):
        package.pull()


@pytest.mark.long
def test_files_never_take_the_place_of_others(ws, image, model, script, tmp_path):
    """A folder with something else is left alone; an earlier package in it is replaced whole."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    package = Model.package(ws, [model], script, generate_dockerfile=True, image_name="my-own-name", image_label="two")
    assert isinstance(package, ModelPackage)
    with pytest.raises(UserErrorException, match="something else"):
        package.save(tmp_path / "full")
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["mine.txt"]

    package.save(tmp_path / "new")
    (tmp_path / "new/azureml-app/old.txt").write_text("old")
    package.save(tmp_path / "new")
    assert not (tmp_path / "new/azureml-app/old.txt").exists()
    assert "docker build --tag my-own-name:two ." in (tmp_path / "new/README.txt").read_text()
    assert "ARG BASE=python:3.11-slim\n" in (tmp_path / "new/Dockerfile").read_text()
    with pytest.raises(UserErrorException, match="no image"):
        package.pull()


def test_a_graph_by_the_command(ws, image, run, linear_file):
    """Without a script, in the image that it was proved in, from a shell."""
    model = Model.register(ws, linear_file, "linear", sample_input_dataset={"x": [[1.0, 2.0, 3.0]]})

    made = run("package", "-m", model.id, "--in", "my-own-name", "--il", "graph")

    assert (made["location"], made["creationState"], made["models"]) == ("my-own-name:graph", SUCCEEDED, [model.id])
    port = free_port()
    words = ["docker", "run", "-d", "--read-only", "--tmpfs", "/tmp", "-p", f"127.0.0.1:{port}:5001", made["location"]]
    container = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        ask = ["curl", "-sf", "-H", "Content-Type: application/json", "-d", '{"x": [[1, 0, 0]]}']

        def answer():
            done = subprocess.run([*ask, f"http://127.0.0.1:{port}/score"], capture_output=True, check=False)
            return done.stdout

        assert json.loads(until(answer, "it answers", within_s=60)) == {"y": [[0.0, 1.0]]}
    finally:
        subprocess.run(["docker", "rm", "-f", container], check=True, capture_output=True)


@pytest.mark.long
def test_files_by_the_command(image, model, run, tmp_path):
    """From inferenceconfig.json, with a trigger; and what does not go together is told by its option."""
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "ic.json").write_text(json.dumps({"entryScript": "score.py"}))
    folder = tmp_path / "files"

    words = ("package", "-m", model.id, "--ic", tmp_path / "ic.json", "--trigger", "folder")
    made = run(*words, "--from", "in/{x}.json", "--to", "out/{x}.json", "--output-path", folder)

    assert (made["location"], made["generateDockerfile"]) == (str(folder), True)
    assert 'ENV EDGEFLEET_TRIGGER_INPUT="in/{x}.json"' in (folder / "Dockerfile").read_text()
    assert "data/poison/" in (folder / "README.txt").read_text()
    for more, element in (
        (("--broker", "mqtt://host"), "--broker"),
        (("--es", "score.py"), "--inference-config-file"),
        (("--generate-dockerfile",), "--generate-dockerfile"),
        (("--trigger", "timer"), "--trigger"),
    ):
        assert run(*words, *more, code=1)["error"]["element"] == element
    assert run("package", "-m", model.id, "--sd", ".", code=1)["error"]["element"] == "--entry-script"
