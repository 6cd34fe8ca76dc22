"""What each key of a deployment configuration becomes at an endpoint, or which error it is."""

import json

import pytest

from fleet.client.deployments.configuration import Aci, Aks, configured
from fleet.client.deployments.configuration_file import KEYS, read_deployment_configuration
from fleet.client.deployments.endpoint_wish import elsewhere, wished
from fleet.targets.settings import Settings
from modules.errors import Invalid

# A value for each argument that means something, and what the endpoint is asked for by it.
EFFECTS = [
    (Aci, "cpu_cores", 0.5, ("cpu_cores", 0.5)),
    (Aci, "memory_gb", 0.5, ("memory_mb", 512)),
    (Aci, "auth_enabled", True, ("auth", "key")),
    (Aci, "auth_enabled", False, ("auth", "none")),
    (Aci, "tags", {"a": "b"}, ("tags", {"a": "b"})),
    (Aci, "properties", {"a": "b"}, ("properties", {"a": "b"})),
    (Aci, "description", "text", ("description", "text")),
    (Aci, "ssl_cname", "score.example.com", ("host_name", "score.example.com")),
    (Aks, "cpu_cores", 2, ("cpu_cores", 2)),
    (Aks, "cpu_cores_limit", 3, ("cpu_cores", 3)),
    (Aks, "memory_gb", 1, ("memory_mb", 1024)),
    (Aks, "memory_gb_limit", 2, ("memory_mb", 2048)),
    (Aks, "scoring_timeout_ms", 1500, ("answer_s", 1.5)),
    (Aks, "replica_max_concurrent_requests", 3, ("concurrent", 3)),
    (Aks, "max_request_wait_time", 500, ("wait_s", 0.5)),
    (Aks, "auth_enabled", False, ("auth", "none")),
    (Aks, "token_auth_enabled", True, ("auth", "token")),
    (Aks, "tags", {"a": "b"}, ("tags", {"a": "b"})),
    (Aks, "properties", {"a": "b"}, ("properties", {"a": "b"})),
    (Aks, "description", "text", ("description", "text")),
    (Aks, "autoscale_enabled", True, ("autoscale_max", 10)),
    (Aks, "autoscale_enabled", False, ("autoscale_max", 0)),
    (Aks, "autoscale_min_replicas", 2, ("autoscale_min", 2)),
    (Aks, "autoscale_max_replicas", 3, ("autoscale_max", 3)),
    (Aks, "autoscale_refresh_seconds", 1, ("autoscale_refresh_s", 1)),
    (Aks, "autoscale_target_utilization", 55, ("autoscale_target", 55)),
    (Aks, "period_seconds", 11, ("probe_period_s", 11)),
    (Aks, "initial_delay_seconds", 310, ("probe_delay_s", 310)),
    (Aks, "timeout_seconds", 2, ("probe_timeout_s", 2)),
    (Aks, "success_threshold", 2, ("probe_successes", 2)),
    (Aks, "failure_threshold", 4, ("probe_failures", 4)),
    (Aks, "namespace", "mine", ("namespace", "mine")),
]
# What is not there yet.
ERRORS = [
    (Aci, "enable_app_insights", True, "get_logs"),
    (Aci, "collect_model_data", True, "not collected"),
    (Aks, "enable_app_insights", True, "get_logs"),
    (Aks, "collect_model_data", True, "not collected"),
]
# What is asked for beside the settings; tried below, each by itself.
BESIDE = {"num_replicas", "primary_key", "secondary_key", "ssl_enabled", "ssl_cert_pem_file", "ssl_key_pem_file"}
BESIDE |= {"compute_target_name"}
# What has no meaning here at all, which the configuration itself refuses.
NOWHERE = {"location", "dns_name_label", "gpu_cores", "vnet_name", "subnet_name", "blobfuse_enabled"}
NOWHERE |= {"cmk_vault_base_url", "cmk_key_name", "cmk_key_version"}


@pytest.mark.parametrize(("kind", "name", "value", "effect"), EFFECTS)
def test_a_key_has_its_effect(kind, name, value, effect):
    """The endpoint is asked for what the key says, in the endpoint's own units."""
    setting, wanted = effect
    assert wished(configured(kind, {name: value})).settings[setting] == wanted
    assert setting in Settings.__struct_fields__


@pytest.mark.parametrize(("kind", "name", "value", "instead"), ERRORS)
def test_a_key_without_an_effect_is_an_error_that_says_what_to_write(kind, name, value, instead):
    """It names the key, and the way without it."""
    with pytest.raises(Invalid) as refused:
        wished(configured(kind, {name: value}))
    assert name in refused.value.element
    assert instead in refused.value.remedy


@pytest.mark.parametrize("kind", [Aci, Aks])
def test_no_key_is_forgotten(kind):
    """Each argument has its effect, its error, or stands beside the settings."""
    known = {name for one, name, *_ in (*EFFECTS, *ERRORS) if one is kind}
    assert set(kind.__struct_fields__) - known - BESIDE - NOWHERE == set()


def test_keys_are_asked_for_as_azure_ml_does():
    """Nobody said anything: none for ACI, keys for AKS; of a change, nothing."""
    assert wished(Aci()).settings == {"auth": "none"}
    assert wished(Aks()).settings == {"auth": "key"}
    assert wished(Aci(), change=True).settings == wished(Aks(), change=True).settings == {}
    assert wished(Aci(primary_key="k" * 20)).settings == {"auth": "key"}


def test_any_bound_alone_lets_the_cluster_scale():
    """As with Azure ML; not where the number is fixed, and of a change only what was said."""
    assert wished(Aks(autoscale_target_utilization=50)).settings["autoscale_max"] == 10
    assert wished(Aks(autoscale_min_replicas=12)).settings["autoscale_max"] == 12
    assert "autoscale_max" not in wished(Aks(autoscale_target_utilization=50), change=True).settings
    assert wished(Aks(num_replicas=2), change=True).settings["autoscale_max"] == 0
    off = Aks(autoscale_enabled=False, autoscale_min_replicas=3)
    for fixed in (Aks(num_replicas=2, autoscale_max_replicas=3), off):
        with pytest.raises(Invalid, match="no effect"):
            wished(fixed)


def test_replicas_and_keys_stand_beside_the_settings():
    """As they were given."""
    wish = wished(Aks(num_replicas=3, primary_key="k" * 20, secondary_key="l" * 20))
    assert (wish.replicas, wish.primary_key, wish.secondary_key) == (3, "k" * 20, "l" * 20)


def test_tls_is_the_text_of_both_files(tmp_path):
    """The certificate is a setting, its key a secret; a file that is not there is named; TLS can be taken away."""
    for name in ("a.pem", "a.key"):
        (tmp_path / name).write_text(name)
    files = {"ssl_cert_pem_file": str(tmp_path / "a.pem"), "ssl_key_pem_file": str(tmp_path / "a.key")}
    wish = wished(configured(Aci, files | {"ssl_enabled": True}))
    assert (wish.settings["certificate"], wish.certificate_key) == ("a.pem", "a.key")
    assert "a.key" not in str(wish.settings)
    (tmp_path / "a.key").unlink()
    with pytest.raises(Invalid, match="cannot be read"):
        wished(configured(Aci, files | {"ssl_enabled": True}))
    assert wished(Aci(ssl_enabled=False), change=True).settings == {"certificate": ""}


@pytest.mark.parametrize("kind", ["aci", "aks"])
def test_each_key_of_the_file_reaches_the_endpoint_or_its_error(kind, tmp_path):
    """The file's keys are those of the arguments above, so each of them has been tried."""
    names = set(KEYS[kind].values())
    of = Aci if kind == "aci" else Aks
    assert names - set(of.__struct_fields__) == set()


def test_a_file_for_this_machine_is_none_for_an_endpoint(tmp_path):
    """LOCAL is refused, with what to use; ACI is taken."""
    file = tmp_path / "deploymentconfig.json"
    file.write_text(json.dumps({"computeType": "LOCAL", "port": 6789}))
    with pytest.raises(Invalid, match="on this machine"):
        elsewhere(read_deployment_configuration(file))
    file.write_text(json.dumps({"computeType": "ACI", "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1}}))
    made = elsewhere(read_deployment_configuration(file))
    assert wished(made).settings == {"cpu_cores": 0.5, "memory_mb": 1024, "auth": "none"}
