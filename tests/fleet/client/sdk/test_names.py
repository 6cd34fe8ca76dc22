"""Every name of Azure ML's SDK that scripts use is there, with its arguments; what has no effect says what to do.

The list is that of their workflow: a name that is missing here, or that the SDK loses, is a script that does not run.
"""

import importlib
import inspect

import pytest

from fleet.client import sdk
from fleet.client.deployments.configuration import Aci, Aks, AksVersions, Local
from fleet.client.sdk.exceptions import AzureMLException, UserErrorException, WebserviceException
from fleet.client.sdk.profile import requests_of
from fleet.client.workspace import SCORING_IMAGE
from fleet.client.workspace import Workspace as Packed

# Class, method, its arguments. A method without arguments here may be a property.
METHODS = {
    ("Workspace", "from_config"): ("path",),
    ("Workspace", "get"): ("name", "subscription_id", "resource_group"),
    ("Workspace", "get_details"): (),
    ("Workspace", "write_config"): ("path", "file_name"),
    **{("Workspace", name): () for name in ("models", "environments", "webservices", "compute_targets", "images")},
    ("Model", "__init__"): (
        *("workspace", "name", "id", "tags", "properties", "version", "run_id", "model_framework"),
    ),
    ("Model", "register"): (
        *("workspace", "model_path", "model_name", "tags", "properties", "description", "datasets", "model_framework"),
        *("model_framework_version", "child_paths", "sample_input_dataset", "sample_output_dataset"),
        "resource_configuration",
    ),
    ("Model", "list"): ("workspace", "name", "tags", "properties", "run_id", "latest"),
    ("Model", "download"): ("target_dir", "exist_ok"),
    ("Model", "delete"): (),
    ("Model", "deploy"): (
        *("workspace", "name", "models", "inference_config", "deployment_config", "deployment_target", "overwrite"),
    ),
    ("Model", "package"): (
        *("workspace", "models", "inference_config", "generate_dockerfile", "image_name", "image_label"),
    ),
    ("Model", "profile"): (
        *("workspace", "profile_name", "models", "inference_config", "input_data", "input_dataset", "cpu"),
        *("memory_in_gb", "description"),
    ),
    ("Model", "get_model_path"): ("model_name", "version"),
    **{("Model", name): () for name in ("add_tags", "remove_tags", "add_properties", "update", "serialize")},
    ("Model", "deserialize"): ("workspace", "model_payload"),
    ("ModelProfile", "wait_for_profiling"): ("show_output",),
    ("ModelProfile", "wait_for_completion"): ("show_output",),
    **{("ModelProfile", name): () for name in ("get_results", "get_details", "serialize")},
    ("ModelPackage", "wait_for_creation"): ("show_output",),
    ("ModelPackage", "save"): ("output_directory",),
    **{("ModelPackage", name): () for name in ("pull", "location", "get_container_registry", "get_logs")},
    ("Environment", "from_conda_specification"): ("name", "file_path"),
    ("Environment", "get"): ("workspace", "name"),
    ("Environment", "list"): ("workspace",),
    ("Environment", "register"): ("workspace",),
    ("Environment", "save_to_directory"): ("path",),
    ("Environment", "build_local"): ("workspace", "useDocker"),
    ("CondaDependencies", "create"): ("conda_packages", "pip_packages"),
    ("CondaDependencies", "add_pip_package"): ("pip_package",),
    ("CondaDependencies", "add_conda_package"): ("conda_package",),
    ("CondaDependencies", "serialize_to_string"): (),
    ("InferenceConfig", "__init__"): (
        *("entry_script", "runtime", "conda_file", "extra_docker_file_steps", "source_directory", "enable_gpu"),
        *("description", "base_image", "base_image_registry", "cuda_version", "environment"),
    ),
    ("ResourceConfiguration", "__init__"): ("cpu", "memory_in_gb"),
    ("Webservice", "__init__"): ("workspace", "name"),
    ("Webservice", "list"): ("workspace",),
    ("Webservice", "deserialize"): ("workspace", "webservice_payload"),
    ("Webservice", "update_deployment_state"): (),
    **{
        (kind, name): arguments
        for kind in ("LocalWebservice", "AciWebservice", "AksWebservice", "AksEndpoint")
        for name, arguments in {
            "deploy_configuration": (),
            "wait_for_deployment": ("show_output",),
            "get_logs": ("num_lines",),
            "run": ("input_data",),
            "get_keys": (), "regen_key": (), "get_token": (), "delete": (), "serialize": (),
            "add_tags": (), "remove_tags": (), "add_properties": (), "update": ("models", "inference_config"),
            "state": (), "scoring_uri": (), "swagger_uri": (), "auth_enabled": (), "token_auth_enabled": (),
            "tags": (), "properties": (), "models": (), "compute_type": (),
        }.items()
    },
    ("LocalWebservice", "reload"): ("wait",),
    ("AksEndpoint", "versions"): (),
    **{
        ("AksEndpoint", name): (
            *("version_name", "models", "inference_config", "traffic_percentile", "is_default"),
            "is_control_version_type",
        )
        for name in ("create_version", "update_version")
    },
    ("AksEndpoint", "delete_version"): ("version_name",),
    ("ComputeTarget", "__init__"): ("workspace", "name"),
    ("ComputeTarget", "create"): ("workspace", "name", "provisioning_configuration"),
    ("ComputeTarget", "attach"): ("workspace", "name", "attach_configuration"),
    ("ComputeTarget", "wait_for_completion"): ("show_output",),
    **{("AksCompute", name): () for name in ("provisioning_configuration", "attach_configuration", "ClusterPurpose")},
    ("Run", "get_context"): ("allow_offline",),
    ("Run", "register_model"): ("model_name", "model_path", "tags", "properties"),
}  # fmt: skip
CONFIGURATIONS = {
    Local: ("port",),
    Aci: (
        *("cpu_cores", "memory_gb", "tags", "properties", "description", "location", "auth_enabled", "ssl_enabled"),
        *("enable_app_insights", "ssl_cert_pem_file", "ssl_key_pem_file", "ssl_cname", "dns_name_label", "primary_key"),
        *("secondary_key", "collect_model_data", "cmk_vault_base_url", "cmk_key_name", "cmk_key_version", "vnet_name"),
        "subnet_name",
    ),
    Aks: (
        *("autoscale_enabled", "autoscale_min_replicas", "autoscale_max_replicas", "autoscale_refresh_seconds"),
        *("autoscale_target_utilization", "collect_model_data", "auth_enabled", "cpu_cores", "memory_gb"),
        *("enable_app_insights", "scoring_timeout_ms", "replica_max_concurrent_requests", "max_request_wait_time"),
        *("num_replicas", "primary_key", "secondary_key", "tags", "properties", "description", "gpu_cores"),
        *("period_seconds", "initial_delay_seconds", "timeout_seconds", "success_threshold", "failure_threshold"),
        *("namespace", "token_auth_enabled", "compute_target_name", "cpu_cores_limit", "memory_gb_limit"),
    ),
    AksVersions: ("version_name", "traffic_percentile"),
}
# Modules that scripts import from, after azureml.core has become fleet.client.sdk, and what they take from each.
MODULES = {
    "": ("Workspace", "Model", "Environment", "Webservice", "ComputeTarget", "Experiment", "Run", "ContainerRegistry"),
    "model": ("Model", "InferenceConfig", "ModelPackage", "ModelProfile"),
    "webservice": ("Webservice", "LocalWebservice", "AciWebservice", "AksWebservice", "AksEndpoint"),
    "environment": ("Environment",),
    "conda_dependencies": ("CondaDependencies",),
    "compute": ("ComputeTarget", "AksCompute"),
    "resource_configuration": ("ResourceConfiguration",),
    "profile": ("ModelProfile",),
    "workspace": ("Workspace",),
    "run": ("Run",),
    "functions": ("package", "HTTP_TRIGGER", "BLOB_TRIGGER", "SERVICE_BUS_QUEUE_TRIGGER"),
    "exceptions": ("WebserviceException", "ComputeTargetException", "UserErrorException", "ModelNotFoundException"),
}


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=[".".join(one) for one in METHODS])
def test_a_method_is_there_with_its_arguments(kind, name):
    """Each takes what their scripts give it by name."""
    found = inspect.getattr_static(getattr(sdk, kind), name)
    if isinstance(found, property | str | bool | type):
        assert METHODS[kind, name] == ()
        return
    taken = inspect.signature(getattr(found, "__func__", found)).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    assert set(METHODS[kind, name]) - set(taken) == set() or (open_ended and name == "update")


@pytest.mark.parametrize("kind", CONFIGURATIONS, ids=lambda it: it.__name__)
def test_a_configuration_has_their_arguments(kind):
    """In their order, but for those that came later."""
    wanted = CONFIGURATIONS[kind]
    assert [one for one in kind.__struct_fields__ if one in wanted] == list(wanted)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_what_scripts_import_from_it(module):
    """Under the place that it has once the import is changed."""
    found = importlib.import_module(f"fleet.client.sdk{'.' if module else ''}{module}")
    assert [name for name in MODULES[module] if not hasattr(found, name)] == []


def test_frameworks_have_their_names():
    """As ``Model.Framework`` has them."""
    assert {"ONNX", "TENSORFLOW", "SCIKITLEARN", "CUSTOM"} <= set(vars(sdk.Model.Framework))


@pytest.mark.long
def test_what_has_no_effect_says_what_to_do(ws, linear_file):
    """A registered version never changes; application insights and collected data are not there; nor a data set."""
    model = sdk.Model.register(ws, linear_file, "linear", tags={"a": "b"})
    for change in (model.add_tags, model.remove_tags, model.add_properties, model.update):
        with pytest.raises(WebserviceException, match="never changes") as refused:
            change({"c": "d"})
        assert "Model.register" in refused.value.remedy
    for name in ("enable_app_insights", "collect_model_data"):
        config = sdk.AksWebservice.deploy_configuration(**{name: True})
        with pytest.raises(AzureMLException, match="not there yet") as refused:
            sdk.Model.deploy(ws, "insights", [model], None, config)
        assert name in refused.value.element
    with pytest.raises(UserErrorException, match="no request") as refused:
        requests_of(object())
    assert "no datasets" in refused.value.remedy


@pytest.mark.long
@pytest.mark.needs("docker")
def test_the_image_that_proves_a_model_is_built_where_there_is_none(ws, linear_file, user):
    packed = Packed(user.home / "workspace")
    assert not packed.images()
    sdk.Model.register(ws, linear_file, "unproved")
    assert [one.name for one in packed.images()] == [SCORING_IMAGE]


@pytest.mark.needs("docker")
def test_a_model_is_told_and_found_again(ws, linear_file, image):
    """What ``serialize`` gives leads back to the very version; models are found by tag, and by name."""
    first = sdk.Model.register(ws, linear_file, "told", tags={"area": "x"}, properties={"p": "q"})
    second = sdk.Model.register(ws, linear_file, "told", tags={"area": "y"})
    again = sdk.Model.deserialize(ws, first.serialize())
    assert (again.id, again.tags, again.properties) == (first.id, {"area": "x"}, {"p": "q"})
    assert [one.id for one in sdk.Model.list(ws, "told", tags=[["area", "y"]])] == [second.id]
    assert [one.id for one in sdk.Model.list(ws, "told", latest=True)] == [second.id]
    assert ws.models["told"].id == second.id
    assert ws.compute_targets == {}
    with pytest.raises(UserErrorException, match="no model's"):
        sdk.Model.deserialize(ws, {})
