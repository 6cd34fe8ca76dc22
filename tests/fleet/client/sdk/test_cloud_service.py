"""Services on a container host through the SDK: a real fleet server brings them about on the real engine."""

import json
from datetime import datetime

import pytest

from fleet.client.sdk import (
    AciWebservice,
    AksWebservice,
    ComputeTarget,
    InferenceConfig,
    Model,
    Webservice,
    WebserviceException,
)
from fleet.client.sdk.exceptions import ComputeTargetException, UserErrorException
from tests.parts.programs import until

pytestmark = [pytest.mark.long, pytest.mark.needs("docker", "mosquitto"), pytest.mark.timeout(400)]

SCRIPT = """
import json

from azureml.core.model import Model


def init():
    global words
    with open(Model.get_model_path("Words"), encoding="utf-8") as file:
        words = file.read()
    print("it has read", words)


def run(data):
    return {"words": words, "data": json.loads(data)["data"]}
"""


@pytest.fixture
def words(ws, tmp_path):
    """Registers a text as the next version of the model Words."""

    def register(text="one", name="Words"):
        (tmp_path / "words.txt").write_text(text)
        return Model.register(ws, tmp_path / "words.txt", name)

    return register


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "score.py").write_text(SCRIPT)
    return InferenceConfig(entry_script="score.py", source_directory=str(folder))


def test_a_container_instance(ws, target, words, config, capsys):
    """Deployed, waited for, asked by key, found by its name, updated with another model, and deleted."""
    wanted = AciWebservice.deploy_configuration(
        cpu_cores=0.5, memory_gb=0.5, auth_enabled=True, tags={"a": "b"}, properties={"c": "d"}, description="words"
    )
    service = Model.deploy(ws, "instance", [words()], config, wanted)
    service.wait_for_deployment(show_output=True)

    assert f"Healthy at {service.scoring_uri}" in capsys.readouterr().out
    assert isinstance(service, AciWebservice)
    assert (service.state, service.auth_enabled, service.token_auth_enabled) == ("Healthy", True, False)
    assert (service.tags, service.properties, service.description) == ({"a": "b"}, {"c": "d"}, "words")
    assert service.run(json.dumps({"data": [1]})) == {"words": "one", "data": [1]}
    assert "it has read one" in service.get_logs()
    (replica,) = target.containers.list(
        filters={"label": ["edgefleet.cloud.endpoint=instance", "edgefleet.cloud.part=replica"]}
    )
    assert (replica.attrs["HostConfig"]["NanoCpus"], replica.attrs["HostConfig"]["Memory"]) == (5 * 10**8, 512 << 20)

    primary, secondary = service.get_keys()
    assert service.regen_key("Primary", "chosen-key-of-somebody") == ("chosen-key-of-somebody", secondary)
    assert primary not in service.get_keys()

    found = Webservice(ws, "instance")
    assert isinstance(found, AciWebservice)
    assert [one.name for one in Webservice.list(ws, "ACI")] == ["instance"]
    found.update(models=[words("two")], inference_config=config, wait=True)
    assert found.run({"data": 2})["words"] == "two"
    found.update(description="changed", wait=True)
    assert (found.description, found.tags, found.auth_enabled) == ("changed", {"a": "b"}, True)
    found.add_tags({"e": "f"})
    found.remove_tags(["a"])
    with pytest.raises(UserErrorException, match="a property never changes"):
        found.add_properties({"c": "other"})
    found.add_properties({"g": "h"})
    assert (found.tags, found.properties) == ({"e": "f"}, {"c": "d", "g": "h"})
    assert [one.name for one in Webservice.list(ws, tags=[["e", "f"]], model_name="Words")] == ["instance"]
    assert Webservice.list(ws, model_id="Words:1") == Webservice.list(ws, properties=["none"]) == []
    assert Webservice.deserialize(ws, found.serialize()).scoring_uri == found.scoring_uri
    assert set(ws.compute_targets) == {"here"}
    with pytest.raises(UserErrorException, match="not found by their image"):
        Webservice.list(ws, image_name="x")

    with pytest.raises(WebserviceException, match="of this name already"):
        Model.deploy(ws, "instance", [words()], config, wanted)
    found.delete()
    until(lambda: not ws_has(ws, "instance"), "it is gone", within_s=60)
    with pytest.raises(WebserviceException, match="no service instance"):
        _ = found.state


def ws_has(ws, name):
    with ws.fleet() as fleet:
        return fleet.endpoint(name) is not None


def test_a_service_goes_over_share_by_share(ws, target, words, config, capsys):
    """By percents and a policy; it says each step, and what cannot be is refused; then it may go back."""
    service = Model.deploy(ws, "shared", [words()], config, AciWebservice.deploy_configuration(cpu_cores=0.2))
    service.wait_for_deployment()
    plain = {"gates": [], "soak": "0s"}
    with pytest.raises(WebserviceException, match="nothing says what the new version serves"):
        service.rollout()
    with pytest.raises(WebserviceException, match="waves"):
        service.rollout(inference_config=config, models=[words("two")], percents=[0])

    rollout = service.rollout([words("three")], config, version_name="next", percents=[50, 100], policy=plain)
    rollout.wait_for_completion(show_output=True)
    assert "next has all requests" in capsys.readouterr().out
    assert (rollout.state, rollout.version, rollout.percent) == ("done", "next", 100)
    assert service.run({"data": 1})["words"] == "three"

    rollout.revert()
    until(lambda: rollout.state == "reverted", "it has gone back", within_s=60)
    assert service.run({"data": 1})["words"] == "one"
    with pytest.raises(WebserviceException, match="the rollout is reverted"):
        rollout.wait_for_completion()
    service.delete()
    until(lambda: not ws_has(ws, "shared"), "it is gone", within_s=60)


def test_a_graph_with_tokens(ws, target, linear_file):
    """A registered graph without code, on a target that is named, lets in by a token."""
    model = Model.register(ws, linear_file, "linear-cloud")
    wanted = AksWebservice.deploy_configuration(token_auth_enabled=True, num_replicas=2, scoring_timeout_ms=5000)
    service = Model.deploy(
        ws, "graph", [model], deployment_config=wanted, deployment_target=ComputeTarget(ws, "here"), show_output=True
    )

    assert isinstance(Webservice(ws, "graph"), AksWebservice)
    token, refresh_after = service.get_token()
    assert token
    assert refresh_after > datetime.now()  # noqa: DTZ005 - as scripts compare it
    assert service.token_auth_enabled
    assert service.run({"data": [[1.0, 2.0, 3.0]]})
    with pytest.raises(WebserviceException, match="by a token"):
        service.get_keys()
    service.delete()


def test_a_script_that_fails_is_told_with_its_log(ws, target, words, tmp_path):
    """Nothing is deployed where the script does not start on the publisher's machine."""
    script = tmp_path / "bad.py"
    script.write_text("def init():\n    raise RuntimeError('no such luck')\n\n\ndef run(data):\n    return 1\n")
    wanted = AciWebservice.deploy_configuration()
    with pytest.raises(WebserviceException, match="no such luck"):
        Model.deploy(ws, "bad", [words()], InferenceConfig(entry_script=str(script)), wanted)
    assert not ws_has(ws, "bad")


def test_what_is_not_there_is_named(ws, target, words, config):
    """A target of another name, and what only a cluster can do, are errors that say what there is."""
    with pytest.raises(ComputeTargetException, match="there is here"):
        ComputeTarget(ws, "aks")
    autoscaled = AksWebservice.deploy_configuration(autoscale_enabled=True)
    with pytest.raises(WebserviceException, match="only a Kubernetes cluster"):
        Model.deploy(ws, "scaled", [words()], config, autoscaled)
    with pytest.raises(WebserviceException, match="no service scaled"):
        Webservice(ws, "scaled")
