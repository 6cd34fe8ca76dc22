"""Secrets of modules on a cluster: a Secret that never changes, new pods for a new value, no pods without."""

import base64
import json

import msgspec
import pytest

from fleet.targets.secret_files import MOUNT
from modules.manifest import SecretFile
from tests.doubles.kubernetes import kinds
from tests.doubles.wishes import version, wanted


def wish(value="first", **more):
    declared = (SecretFile(name="token"), SecretFile(name="feed", required=False))
    secrets = {name: one.encode() for name, one in ({"token": value} if value else {}).items()}
    one = version(ref="acme/reader:1", replicas=2, secrets=declared)
    return wanted(msgspec.structs.replace(one, secrets=secrets), name="reader", **more)


def test_pods_have_them_as_files_and_nothing_else_does(place):
    """The scoring container alone mounts the Secret, which cannot be changed; no variable, name or label has it."""
    place.settle(wish())
    (secret,) = place.of("Secret", "secrets")
    assert {name: base64.b64decode(data) for name, data in secret["data"].items()} == {"token": b"first"}
    assert secret["immutable"]
    (deployment,) = place.of("Deployment", "replica")
    spec = deployment["spec"]["template"]["spec"]
    (volume,) = (one for one in spec["volumes"] if "secret" in one and one["name"] == "secrets")
    assert volume["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}
    mounts = {
        container["name"]: [one for one in container["volumeMounts"] if one["name"] == "secrets"]
        for container in (*spec["initContainers"], *spec["containers"])
    }
    assert mounts == {"content": [], "scoring": [{"name": "secrets", "mountPath": MOUNT, "readOnly": True}]}
    rest = [place.of(kind) for kind in ("Deployment", "Pod", "Service", "NetworkPolicy")]
    assert "first" not in json.dumps(rest)
    assert base64.b64encode(b"first").decode() not in json.dumps(rest)


@pytest.mark.long
def test_a_new_value_rolls_the_pods(place):
    """Other pods beside the old ones, which go with their Secret once the gateways ask the new ones."""
    place.settle(wish())
    old, (before,) = place.names("Deployment", "replica"), place.names("Secret", "secrets")
    place.target.bring(wish("second"))
    assert old < place.names("Deployment", "replica")
    assert before in place.names("Secret", "secrets")
    place.settle(wish("second"))
    assert not old & place.names("Deployment", "replica")
    (secret,) = place.of("Secret", "secrets")
    assert base64.b64decode(secret["data"]["token"]) == b"second"


def test_without_a_required_one_nothing_is_started(place):
    """The endpoint says which is not set and what to type; where one serves already, it goes on."""
    stands = place.target.bring(wish(""))
    assert stands.state == "failed"
    assert "secret token: version v1 requires a secret that is not set" in stands.why
    assert "edgefleet secrets set token --endpoint reader" in stands.why
    assert place.of("Deployment", "replica") == []
    assert place.settle(wish()).state == "ready"


@pytest.mark.parametrize("change", [{"data": {}, "immutable": True}, {}])
@pytest.mark.long
def test_a_secret_of_somebody_else_in_its_place_goes(place, change):
    """It is taken away and made anew, and the pods stay."""
    place.settle(wish())
    (secret,) = place.of("Secret", "secrets")
    name, pods = secret["metadata"]["name"], place.names("Pod", "replica")
    place.cluster.api.delete(kinds.of("Secret"), "models", name)
    clean = {key: secret["metadata"][key] for key in ("name", "namespace", "labels")}
    place.cluster.make(
        {key: secret[key] for key in ("apiVersion", "kind", "type", "data")} | {"metadata": clean} | change
    )
    place.settle(wish())
    (again,) = place.of("Secret", "secrets")
    assert (again["data"], again["immutable"]) == (secret["data"], True)
    assert place.names("Pod", "replica") == pods
