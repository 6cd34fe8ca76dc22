"""What scripts are told of an endpoint and what they change of it, against a real server whose target never answers."""

import json
import sqlite3

import pytest

from fleet.client.sdk import AciWebservice, AksEndpoint, AksWebservice, Model, Webservice, WebserviceException
from fleet.client.sdk.service_finding import Wanted


@pytest.fixture(scope="module")
def target(server):
    """A container host that is away, as the server's own row of it."""
    with sqlite3.connect(server.data.database) as database:
        row = ("lab", "container", json.dumps({"docker": "unix:///nonexistent.sock"}), 0.0)
        database.execute("INSERT INTO targets (name, kind, attached, created) VALUES (?, ?, ?, ?)", row)
    return "lab"


@pytest.fixture
def model(ws, run, draft, user):
    """Makes a signed version of a graph that needs no script."""

    def make(name="digits"):
        run("modules", "sign", draft(name), "--keys", user.keys)
        return Model(ws, name)

    return make


def test_an_endpoint_with_versions(ws, target, model):
    """Shares are what somebody set; of three the control alone is it, and inherits; what one changes leaves others."""
    first = AksEndpoint.deploy_configuration(version_name="a", traffic_percentile=20, tags={"of": "a"})
    made = Model.deploy(ws, "shares", [model()], None, first, target)
    assert isinstance(Webservice(ws, "shares"), AksEndpoint)
    made.create_version("b", models=[model()], traffic_percentile=10, is_control_version_type=True)
    made.create_version("c", models=[model()], traffic_percentile=30)
    made.update_version("a", is_control_version_type=True)
    seen = {
        name: (one.traffic_percentile, one.version_type.name, one.is_default) for name, one in made.versions.items()
    }
    assert seen == {"a": (20, "control", True), "b": (10, "treatment", False), "c": (30, "treatment", False)}
    made.update(description="all of them", num_replicas=None)
    assert {name: one.traffic_percentile for name, one in made.versions.items()} == {"a": 20, "b": 10, "c": 30}
    made.delete_version("a")
    left = {name: (one.traffic_percentile, one.is_default) for name, one in made.versions.items()}
    assert left == {"b": (10, False), "c": (30, True)}
    assert made.description == "all of them"


def test_a_service_whose_target_is_away(ws, target, model, capsys):
    """It says why, whoever waits; its keys are changed by either name; what somebody else changed stays."""
    wanted = AksWebservice.deploy_configuration(num_replicas=2, tags={"a": "b"})
    service = Model.deploy(ws, "away", [model()], None, wanted, target)
    with pytest.raises(WebserviceException, match="the engine does not answer"):
        service.wait_for_deployment()
    primary, _ = service.get_keys()
    assert service.regen_key("key2", "k" * 20) == (primary, "k" * 20)
    assert service.regen_key("Primary", "l" * 20) == ("l" * 20, "k" * 20)

    with ws.fleet() as fleet:
        fleet.change_endpoint("away", {"settings": {"description": "theirs"}})
    service.update(tags={"c": "d"})
    assert (service.tags, service.description, service.compute_type) == ({"c": "d"}, "theirs", "AKS")
    assert [type(one) for one in Webservice.list(ws, "AKS", model_id="digits:999")] == []

    for place, word in (("elsewhere", "does not move"), (target, "of this name already")):
        with pytest.raises(WebserviceException, match=word):
            Model.deploy(ws, "away", [model()], None, wanted, place, overwrite=place != target)
    over = Model.deploy(ws, "away", [model()], None, AciWebservice.deploy_configuration(), target, overwrite=True)
    assert isinstance(over, AciWebservice)


def test_both_filters_hold():
    """Of a model's name and its id neither alone is enough."""

    class Service:
        compute_type = "ACI"
        models = (type("Known", (), {"name": "digits", "id": "digits:1"})(),)

    assert Wanted(model_name="digits", model_id="digits:1").among([Service()])
    assert not Wanted(model_name="digits", model_id="digits:2").among([Service()])
