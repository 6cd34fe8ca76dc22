"""Azure ML's deployment configurations: every argument and key is kept within bounds, or answered."""

import json

import pytest

from fleet.client.deployments.configuration import Aci, Aks, Local, configured
from fleet.client.deployments.configuration_file import KEYS, KINDS, read_deployment_configuration
from modules.errors import Invalid

# From the published tables of their documentation: example values for each key.
THEIR_ACI = {
    "computeType": "aci",
    "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1.0},
    "authEnabled": True,
    "sslEnabled": False,
    "appInsightsEnabled": False,
}
THEIR_AKS = {
    "computeType": "aks",
    "autoScaler": {
        "autoscaleEnabled": True,
        "minReplicas": 1,
        "maxReplicas": 3,
        "refreshPeriodInSeconds": 1,
        "targetUtilization": 70,
    },
    "dataCollection": {"storageEnabled": True},
    "authEnabled": True,
    "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1.0},
}
KEY = "0123456789abcdef"
# A value for each argument that has a meaning here.
VALUES = {
    "port": 6789, "cpu_cores": 0.5, "memory_gb": 1, "tags": {"a": 1}, "properties": {"b": "2"}, "description": "words",
    "auth_enabled": True, "ssl_enabled": True, "enable_app_insights": True, "ssl_cert_pem_file": "c.pem",
    "ssl_key_pem_file": "k.pem", "ssl_cname": "score.example.org", "primary_key": KEY, "secondary_key": KEY + "2",
    "collect_model_data": True, "autoscale_enabled": True, "autoscale_min_replicas": 1, "autoscale_max_replicas": 3,
    "autoscale_refresh_seconds": 1, "autoscale_target_utilization": 70, "scoring_timeout_ms": 60000,
    "replica_max_concurrent_requests": 1, "max_request_wait_time": 500, "num_replicas": 2, "period_seconds": 10,
    "initial_delay_seconds": 310, "timeout_seconds": 2, "success_threshold": 1, "failure_threshold": 3,
    "namespace": "models", "token_auth_enabled": False, "compute_target_name": "myaks", "cpu_cores_limit": 1.0,
    "memory_gb_limit": 2.0,
}  # fmt: skip
WITHOUT_MEANING = {
    "location": "eastus", "dns_name_label": "x", "cmk_vault_base_url": "u", "cmk_key_name": "k", "cmk_key_version": "1",
    "vnet_name": "v", "subnet_name": "s", "blobfuse_enabled": True, "gpu_cores": 1,
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Writes a deploymentconfig.json and reads it."""

    def read(document):
        path = tmp_path / "deploymentconfig.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return read_deployment_configuration(path)

    return read


@pytest.mark.parametrize("kind", [Local, Aci, Aks])
def test_every_argument_is_kept_or_answered(kind):
    """None is silently dropped: it is in the configuration, or in an error that says what to write instead."""
    for name in kind.__struct_fields__:
        if name in WITHOUT_MEANING:
            with pytest.raises(Invalid, match="no meaning here") as caught:
                configured(kind, {name: WITHOUT_MEANING[name]})
            assert (caught.value.element, "leave it out" in caught.value.remedy) == (name, True)
            assert getattr(configured(kind, {name: False}), name) is None
            continue
        pair = {"ssl_cert_pem_file", "ssl_key_pem_file", "ssl_enabled"}
        given = {one: VALUES[one] for one in (pair if name in pair else {name})}
        kept = getattr(configured(kind, given), name)
        assert kept == ({"a": "1"} if name == "tags" else VALUES[name])


@pytest.mark.parametrize("compute", KEYS)
def test_every_key_of_the_file_is_an_argument(compute, file):
    """Each key of the documented tables reads as the argument that the tables name beside it."""
    assert set(KEYS[compute].values()) <= set(KINDS[compute].__struct_fields__)
    for key, name in KEYS[compute].items():
        if name in WITHOUT_MEANING or name.startswith("ssl_"):
            continue
        section, dot, inner = key.partition(".")
        document = {"computeType": compute.upper(), section: {inner: VALUES[name]} if dot else VALUES[name]}
        assert getattr(file(document), name) is not None, key


def test_their_own_examples_are_read_as_they_are(file):
    """The two files that their guide prints."""
    assert file(THEIR_ACI) == Aci(
        cpu_cores=0.5, memory_gb=1.0, auth_enabled=True, ssl_enabled=False, enable_app_insights=False
    )
    aks = file(THEIR_AKS)
    assert (aks.autoscale_max_replicas, aks.collect_model_data, aks.cpu_cores) == (3, True, 0.5)
    assert file({"computeType": "LOCAL", "port": 32267}) == Local(port=32267)
    assert file({"computeType": "AKS", "numReplicas": 0, "autoScaler": {"autoscaleEnabled": True}}).num_replicas is None


def test_files_that_it_names_are_beside_it(file, tmp_path):
    """A certificate is found beside the configuration, wherever the script runs."""
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")

    found = file({"computeType": "ACI", "sslEnabled": True, "sslCertificate": "c.pem", "sslKey": "k.pem"})

    assert found.ssl_cert_pem_file == str(tmp_path / "c.pem")


@pytest.mark.parametrize(
    ("document", "where", "remedy"),
    [
        ({"computeType": "ACI", "authEnable": True}, "authEnable", "authEnabled"),
        ({"computeType": "AKS", "autoScaler": {"maxReplica": 3}}, "autoScaler.maxReplica", "autoScaler.maxReplicas"),
        ({"computeType": "LOCAL", "ports": 1}, "ports", "port"),
        ({"computeType": "AKS", "port": 1}, "port", ""),
        ({"computeType": "IOT"}, "computeType", "LOCAL, ACI or AKS"),
        ({"port": 1}, "computeType", "LOCAL, ACI or AKS"),
        ({"computeType": "AKS", "autoScaler": 3}, "autoScaler", "in {}"),
        ({"computeType": "ACI", "location": "eastus"}, "location", "deployment_target"),
        ("[1]", "deploymentconfig.json", "computeType"),
        ("{", "deploymentconfig.json", "computeType"),
    ],
)
def test_a_key_that_nobody_knows_is_answered_with_the_nearest(file, document, where, remedy):
    """With the file, the key, and what to write."""
    with pytest.raises(Invalid) as caught:
        file(document)

    assert caught.value.element.endswith(where)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Local, {"port": 0}),
        (Local, {"port": 65536}),
        (Local, {"port": "6789"}),
        (Aci, {"cpu_cores": 0}),
        (Aci, {"memory_gb": -1}),
        (Aci, {"auth_enabled": "yes"}),
        (Aci, {"primary_key": "short"}),
        (Aks, {"autoscale_target_utilization": 101}),
        (Aks, {"num_replicas": 0}),
        (Aks, {"period_seconds": 0}),
        (Aks, {"namespace": "Not-Ok"}),
        (Aks, {"cpu_cores": float("nan")}),
        (Aks, {"num_replicas": 1.5}),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(kind, given):
    """Before anything is deployed."""
    with pytest.raises(Invalid, match="cannot be used") as caught:
        configured(kind, given)

    assert caught.value.element == next(iter(given))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Aks, {"auth_enabled": True, "token_auth_enabled": True}),
        (Aks, {"autoscale_enabled": True, "num_replicas": 2}),
        (Aks, {"autoscale_min_replicas": 5, "autoscale_max_replicas": 2}),
        (Aks, {"cpu_cores": 2.0, "cpu_cores_limit": 1.0}),
        (Aci, {"ssl_enabled": True}),
        (Aci, {"ssl_cert_pem_file": "c.pem"}),
        (Aci, {"auth_enabled": False, "primary_key": KEY}),
        (Aci, {"primary_key": KEY, "secondary_key": KEY}),
    ],
)
def test_what_cannot_go_together_is_refused(kind, given):
    """None of two contradicting settings wins silently."""
    with pytest.raises(Invalid) as caught:
        configured(kind, given)

    assert caught.value.remedy


def test_keys_are_never_shown():
    """Neither in a configuration that is printed nor in an error about a key."""
    assert KEY not in repr(configured(Aci, {"primary_key": KEY, "cpu_cores": 1}))
    assert "cpu_cores=1" in repr(configured(Aci, {"primary_key": KEY, "cpu_cores": 1}))
    with pytest.raises(Invalid) as caught:
        configured(Aci, {"primary_key": f"{KEY} with a space"})
    assert KEY not in str(caught.value)
