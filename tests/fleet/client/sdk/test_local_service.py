"""A service of this machine through the SDK: the real scoring image, a real fleet server, one container at a time."""

import json
import urllib.request

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from fleet.client.local import service as services
from fleet.client.sdk import (
    AciWebservice,
    AksWebservice,
    InferenceConfig,
    LocalWebservice,
    Model,
    Webservice,
    WebserviceException,
)
from fleet.client.sdk.exceptions import ComputeTargetException, UserErrorException
from modules.errors import NeedsOperator
from tests.parts import docker as parts
from tests.parts.packed import pack

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(300)]

SCRIPT = """
import json
import os

from azureml.core.model import Model


def init():
    global words
    print("reading", os.getenv("AZUREML_MODEL_DIR"))
    with open(Model.get_model_path("Words"), encoding="utf-8") as file:
        words = file.read()


def run(data):
    return {"words": words, "data": json.loads(data)["data"], "dir": os.getenv("AZUREML_MODEL_DIR")}
"""


@pytest.fixture(scope="module")
def engine():
    with parts.engine():
        client = parts.client()
        yield client
        client.close()


@pytest.fixture(scope="module")
def image(engine, user):
    """The scoring image, in the workspace of the user."""
    return pack(user.home / "workspace", parts.scoring_image(engine))


@pytest.fixture
def words(ws, tmp_path):
    """Registers a text as the next version of the model Words."""

    def register(text="one", name="Words"):
        (tmp_path / "words.txt").write_text(text)
        return Model.register(ws, tmp_path / "words.txt", name)

    return register


@pytest.fixture
def script(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "score.py").write_text(SCRIPT)
    return folder / "score.py"


@pytest.fixture
def deploy(ws, image, script, tmp_path):
    """Deploys to this machine; what is there at the end is removed."""
    config = InferenceConfig(entry_script="score.py", source_directory=str(tmp_path / "source"))

    def start(name, models, inference_config=config, **more):
        return Model.deploy(ws, name, models, inference_config, LocalWebservice.deploy_configuration(), **more)

    yield start
    for service in LocalWebservice.list(ws):
        service.delete()


def test_a_script_is_tried_as_on_a_device(engine, ws, deploy, words, capsys):
    """It finds its model by name and in AZUREML_MODEL_DIR, answers at the loopback address, and is confined."""
    model = words()

    service = deploy("tried", [model])
    service.wait_for_deployment(show_output=True)

    assert service.state == "running"
    assert f"running at {service.scoring_uri}" in capsys.readouterr().out
    assert service.run(json.dumps({"data": [1, 2]})) == {
        "words": "one",
        "data": [1, 2],
        "dir": f"/var/azureml-app/azureml-models/Words/{model.version}",
    }
    assert "reading /var/azureml-app/azureml-models/Words" in service.get_logs()
    with urllib.request.urlopen(service.swagger_uri, timeout=10) as answer:
        assert "/score" in json.loads(answer.read())["paths"]
    (held,) = engine.containers.list(filters={"label": "edgefleet.service=tried"})
    host = held.attrs["HostConfig"]
    assert host["PortBindings"]["5001/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(service.port)}]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["PidsLimit"]) == (True, ["ALL"], 128)
    assert host["Memory"] == 4096 << 20
    assert all(not mount["RW"] for mount in held.attrs["Mounts"] if mount["Type"] == "bind")


@pytest.mark.long
def test_it_is_found_again_changed_and_removed(ws, deploy, words):
    """By its name in another script; with another model; and gone, with its files, when it is deleted."""
    deploy("kept", [words("one")]).wait_for_deployment()

    found = Webservice(ws, "kept")
    assert isinstance(found, LocalWebservice)
    assert list(ws.webservices) == ["kept"]
    port = found.port
    found.update(models=[words("two")], wait=True)
    assert (found.port, found.run({"data": 0})["words"]) == (port, "two")

    place = ws.home / "services"
    assert [path.name for path in place.rglob("words.txt")] == ["words.txt"]
    found.delete()
    assert list(place.rglob("words.txt")) == []
    with pytest.raises(WebserviceException, match="no service kept"):
        Webservice(ws, "kept")
    with pytest.raises(WebserviceException, match="no service kept"):
        _ = found.state


@pytest.mark.long
def test_an_edited_script_is_loaded_again(deploy, words, script):
    """As in an editor: a failure with the end of the log, a correction, reload, and it answers."""
    script.write_text(SCRIPT.replace("global words", "global words\n    raise RuntimeError('not yet')"))
    service = deploy("edited", [words()])
    with pytest.raises(WebserviceException, match="not yet") as caught:
        service.wait_for_deployment()
    assert "reload()" in caught.value.remedy
    assert service.state == "failed"

    script.write_text(SCRIPT.replace('"words": words', '"words": words.upper()'))
    (script.parent / "beside.py").write_text("")
    service.reload(wait=True)

    assert service.run({"data": 1})["words"] == "ONE"


def test_a_failing_run_is_an_exception(deploy, words):
    """With the status and the words of the service."""
    service = deploy("failing", [words()])
    service.wait_for_deployment()

    with pytest.raises(WebserviceException, match="it answers 500"):
        service.run("no json")


def test_several_models_have_a_folder_each(ws, deploy, words, script):
    """``AZUREML_MODEL_DIR/NAME/VERSION/file``, under the names as they were given."""
    first, second = words("one"), words("two", name="Other_Words")
    script.write_text(
        "import os\nimport pathlib\n\n\ndef init():\n    pass\n\n\ndef run(data):\n"
        "    root = pathlib.Path(os.environ['AZUREML_MODEL_DIR'])\n"
        "    return sorted(path.relative_to(root).as_posix() for path in root.rglob('*.txt'))\n"
    )

    service = deploy("several", [first, second])
    service.wait_for_deployment()

    assert service.run("{}") == [f"Other_Words/{second.version}/words.txt", f"Words/{first.version}/words.txt"]


@pytest.mark.long
def test_a_graph_needs_no_script(ws, deploy, linear_file, run):
    """Registered as ONNX it is proved in the image, signed, served here without code, and fit for devices."""
    model = Model.register(ws, linear_file, "linear", sample_input_dataset={"x": [[1.0, 2.0, 3.0]]})

    service = deploy("no-code", [model], None)
    service.wait_for_deployment()

    assert service.run({"x": [[1, 0, 0]]}) == {"y": [[0.0, 1.0]]}
    manifest = run("models", "show", f"acme/linear:{model.version}")["manifest"]
    assert (manifest["proof"]["prove"], manifest["runtimes"][0]["image"]["name"]) == ("samples", "scoring:cpu")
    with pytest.raises(WebserviceException, match="no script"):
        service.reload()


@pytest.mark.long
def test_a_pickle_without_code_is_opened_only_by_who_trusts_it(ws, deploy, tmp_path, monkeypatch):
    """Framework ScikitLearn is kept as its file, converted when it is served, and never opened unasked."""
    joblib.dump(LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]), tmp_path / "sk.pkl")
    model = Model.register(ws, tmp_path / "sk.pkl", "sk", model_framework=Model.Framework.SCIKITLEARN)
    with pytest.raises(WebserviceException, match="trust"):
        deploy("sk", [model], None)
    monkeypatch.setenv("EDGEFLEET_TRUSTED_PICKLE", "yes")

    service = deploy("sk", [model], None)
    service.wait_for_deployment()

    (inside,) = [one for one in service.run({"X": [[0.0], [3.0]]}).values() if one == [0, 1]]
    assert inside == [0, 1]


def test_a_model_from_another_machine_is_fetched(ws, deploy, words):
    """Where the user's own copy is gone, or was changed, the server's files are taken, checked by digest."""
    model = words("one")
    own = ws.packed.module(model.ref)
    (own / "files/model/words.txt").write_text("changed")
    with pytest.raises(WebserviceException, match=r"words.txt has changed"):
        deploy("elsewhere", [model])
    ws.packed.forget_module(model.ref)

    service = deploy("elsewhere", [model])
    service.wait_for_deployment()

    assert service.run({"data": 1})["words"] == "one"


@pytest.mark.long
def test_a_name_that_is_taken_is_not_lost(ws, deploy, words):
    """Only ``overwrite`` replaces a service; what cannot be made leaves the one that was there."""
    service = deploy("taken", [words("one")])
    service.wait_for_deployment()

    with pytest.raises(WebserviceException, match="a service of this name already"):
        deploy("taken", [words("two")])
    with pytest.raises(WebserviceException, match="no such entry script"):
        deploy("taken", [words("two")], InferenceConfig("lost.py", source_directory="source"), overwrite=True)
    assert service.run({"data": 1})["words"] == "one"
    deploy("taken", [words("two")], overwrite=True).wait_for_deployment()
    assert LocalWebservice(ws, "taken").run({"data": 1})["words"] == "two"


def test_what_cannot_be_is_said_before_anything_starts(ws, deploy, words, script):
    """Names, ports, models without a script: with what to write instead."""
    model = words()
    busy = services.free_port()
    with pytest.raises(WebserviceException, match="service name"):
        deploy("Not A Name", [model])
    with pytest.raises(UserErrorException, match="nothing says how they are served"):
        deploy("no-script", [model, model], None)
    with pytest.raises(WebserviceException, match="only a script can open this model"):
        deploy("no-script", [model], None)
    with pytest.raises(UserErrorException, match="cannot be used"):
        LocalWebservice.deploy_configuration(port=70000)
    with pytest.raises(UserErrorException, match="these are no models"):
        deploy("no-model", ["Words"])
    with services.socket.socket() as taken:
        taken.bind((services.ADDRESS, busy))
        taken.listen()
        with pytest.raises(WebserviceException, match="the port cannot be used"):
            Model.deploy(
                ws, "busy", [model], InferenceConfig("source/score.py"), LocalWebservice.deploy_configuration(busy)
            )
    assert LocalWebservice.list(ws) == []


def test_a_cloud_needs_a_target(ws, words):
    """Where none is attached, every configuration that is not of this machine says so, and how to attach one."""
    model = words()
    for config in (AciWebservice.deploy_configuration(cpu_cores=1), AksWebservice.deploy_configuration(), None):
        with pytest.raises(ComputeTargetException, match="edgefleet targets attach"):
            Model.deploy(ws, "cloud", [model], InferenceConfig("score.py"), config)


@pytest.mark.long
def test_it_reaches_nobody(deploy, words, script):
    """Neither the network beyond this machine nor names: a script that asks fails here, as on a device."""
    script.write_text(
        "import socket\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    found = []\n"
        "    for address in (('192.0.2.1', 80), ('example.org', 80)):\n"
        "        try:\n            socket.create_connection(address, 2).close()\n"
        "            found.append('reached')\n        except OSError as error:\n"
        "            found.append(type(error).__name__)\n    return found\n"
    )

    service = deploy("alone", [words()])
    service.wait_for_deployment()

    assert "reached" not in service.run("{}")


def test_a_network_that_leads_out_is_not_used(engine, monkeypatch):
    """Somebody's own network of that name is refused, with the command that makes way."""
    name = "edgefleet-services-of-a-test"
    monkeypatch.setattr(services, "_NETWORK", name)
    made = engine.networks.create(name, driver="bridge")
    try:
        with pytest.raises(NeedsOperator, match="would reach others") as caught:
            services._network(engine)
    finally:
        made.remove()
    assert f"docker network rm {name}" in caught.value.remedy
