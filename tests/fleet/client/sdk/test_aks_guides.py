"""Azure ML's guide to Kubernetes, in both forms: one service, and an endpoint with several versions.

Their text runs as it is but for its imports and ``enable_app_insights=True``, which is an error here that says so. What
stands behind it is a target of a fleet server: here this machine's engine, which needs no cluster.
"""

import json
from collections import Counter

import numpy as np
import onnx
import pytest

from fleet.client.sdk import AksEndpoint, Model, Webservice
from fleet.client.sdk.exceptions import WebserviceException

pytestmark = [pytest.mark.long, pytest.mark.needs("docker", "mosquitto"), pytest.mark.timeout(500)]

CONTROLLED_ROLLOUT = """
import json

from azureml.core import Environment, Workspace
from azureml.core.compute import AksCompute, ComputeTarget
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import AksEndpoint, Webservice

ws = Workspace.from_config()
model = Model.register(ws, "sklearn_mnist_model.pkl", "sklearn_mnist")
myenv = Environment.from_conda_specification(name="myenv", file_path="myenv.yml")
inference_config = InferenceConfig(entry_script="score.py", source_directory="source_dir", environment=myenv)
# select a created compute
compute = ComputeTarget(ws, 'here')

# define the endpoint and version name
endpoint_name = "mynewendpoint"
version_name = "versiona"
# create the deployment config and define the scoring traffic percentile for the first deployment
endpoint_deployment_config = AksEndpoint.deploy_configuration(cpu_cores = 0.1, memory_gb = 0.2,
                                                              tags = {'sckitlearn':'demo'},
                                                              description = "testing versions",
                                                              version_name = version_name,
                                                              traffic_percentile = 20)
# deploy the model and endpoint
endpoint = Model.deploy(ws, endpoint_name, [model], inference_config, endpoint_deployment_config, compute)
# Wait for he process to complete
endpoint.wait_for_deployment(True)
print("first", endpoint.run(json.dumps({"data": [1]})), endpoint.versions[version_name].traffic_percentile)

# add another model deployment to the same endpoint as above
version_name_add = "versionb"
endpoint.create_version(version_name = version_name_add,
                       inference_config=inference_config,
                       models=[model],
                       tags = {'modelVersion':'b'},
                       description = "my second version",
                       traffic_percentile = 10)
endpoint.wait_for_deployment(True)

# update the version's scoring traffic percentage and if it is a default or control type
endpoint.update_version(version_name=endpoint.versions["versionb"].name,
                       description="my second version update",
                       traffic_percentile=40,
                       is_default=True,
                       is_control_version_type=True)
# Wait for the process to complete before deleting
endpoint.wait_for_deployment(True)
b = endpoint.versions["versionb"]
print("second", b.description, b.traffic_percentile, b.is_default, b.version_type.name, b.tags)
print("first is", endpoint.versions["versiona"].traffic_percentile, endpoint.versions["versiona"].version_type.name)
# delete a version in an endpoint
endpoint.delete_version(version_name="versionb")
endpoint.wait_for_deployment(True)
left = Webservice(ws, endpoint_name)
print("left", [(one.name, one.is_default) for one in left.versions.values()], left.tags, left.compute_type)
endpoint.delete()
"""

FORM_OF_2019 = """
import json

from azureml.core.compute import AksCompute, ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import AksWebservice, Webservice
from azureml.core.workspace import Workspace

ws = Workspace.from_config()
model = Model.register(model_path="sklearn_mnist_model.pkl", model_name="sklearn_mnist", workspace=ws)

# Use the default configuration (can also provide parameters to customize)
prov_config = AksCompute.provisioning_configuration(location = "eastus2")
aks_name = 'here'
# Create the cluster
aks_target = ComputeTarget.create(workspace = ws, name = aks_name, provisioning_configuration = prov_config)
# Wait for the create process to complete
aks_target.wait_for_completion(show_output = True)
aks_target = AksCompute(ws, "here")

with open("made.yml", "w") as f:
    f.write(CondaDependencies.create(pip_packages=["joblib"]).serialize_to_string())
inference_config = InferenceConfig(runtime="python", entry_script="source_dir/score.py", conda_file="made.yml")
# If deploying to a cluster configured for dev/test, ensure that it was created with enough
# cores and memory to handle this deployment configuration.
deployment_config = AksWebservice.deploy_configuration(cpu_cores = 1, memory_gb = 1)
service = Model.deploy(ws, "aksservice", [model], inference_config, deployment_config, aks_target)
service.wait_for_deployment(show_output = True)
print(service.state)
print(len(service.get_logs()) > 0)

primary, secondary = service.get_keys()
print(primary != secondary)
service.regen_key("Primary")
print(service.get_keys()[0] != primary)
print("first", service.run(json.dumps({"data": [1, 2]})))
service.update(token_auth_enabled=True)
service.wait_for_deployment()
token, refresh_by = service.get_token()
print("token", len(token) > 0, service.run(json.dumps({"data": [3]})))
service.delete()
"""


def test_an_endpoint_with_versions(theirs, target):
    """The guide's versions: shares, default and control as it sets them."""
    said = theirs(CONTROLLED_ROLLOUT)

    assert "first [10] 20" in said
    assert "second my second version update 40 True control {'modelVersion': 'b'}" in said
    assert "first is 20 treatment" in said
    assert "left [('versiona', True)] {'sckitlearn': 'demo'} AKSENDPOINT" in said


def test_a_service_of_2019(theirs, target):
    """A cluster that is there already, dependencies in a file, keys, and tokens after an update."""
    said = theirs(FORM_OF_2019)

    assert "Healthy\nTrue\nTrue\nTrue\n" in said
    assert "first [10, 20]" in said
    assert "token True [30]" in said


def test_requests_go_where_the_shares_say(ws, target, linear_file, linear):
    """Of a hundred requests each version gets its part; the default has what nobody else was given."""
    first = Model.register(ws, linear_file, "shared")
    onnx.save_model(linear(np.full((3, 2), 7, np.float32)), linear_file)
    second = Model.register(ws, linear_file, "shared")
    config = AksEndpoint.deploy_configuration(
        auth_enabled=False, version_name="a", traffic_percentile=20, cpu_cores=0.5, memory_gb=0.5
    )
    endpoint = Model.deploy(ws, "shares", [first], None, config)
    endpoint.create_version("b", models=[second], traffic_percentile=30, num_replicas=1)
    endpoint.wait_for_deployment()

    def shares():
        asked = (json.dumps(endpoint.run({"data": [[1, 1, 1]]})) for _ in range(100))
        return Counter("b" if "21" in answer else "a" for answer in asked)

    assert isinstance(Webservice(ws, "shares"), AksEndpoint)
    assert shares() == {"a": 70, "b": 30}
    endpoint.update_version("b", is_default=True)
    endpoint.wait_for_deployment()
    assert shares() == {"a": 20, "b": 80}

    before = endpoint.serialize()
    for match, wrong in {
        "a version a already": lambda: endpoint.create_version("a", models=[first]),
        "nothing says what": lambda: endpoint.create_version("c"),
        "110 percent": lambda: endpoint.update_version("a", traffic_percentile=80),
        "no version c": lambda: endpoint.update_version("c", traffic_percentile=1),
        "all versions of an endpoint have the same: cpu_cores is 0.5, not 2": lambda: endpoint.update_version(
            "a", cpu_cores=2
        ),
        "always the default": lambda: endpoint.update_version("b", is_default=False),
        "did you mean traffic_percentile": lambda: endpoint.update_version("a", trafic_percentile=1),
        "use update_version": lambda: endpoint.update(models=[first]),
        "is the endpoint's": lambda: endpoint.update_version("a", auth_enabled=True),
        "not there yet": lambda: endpoint.update_version("a", enable_app_insights=True),
    }.items():
        with pytest.raises(WebserviceException) as refused:
            wrong()
        assert match in f"{refused.value.message} {refused.value.remedy}", refused.value
    assert endpoint.serialize() == before
    endpoint.delete_version("b")
    with pytest.raises(WebserviceException, match="the only version"):
        endpoint.delete_version("a")
    assert endpoint.versions["a"].is_default
    endpoint.update(description="both", auth_enabled=True)
    assert (endpoint.description, endpoint.auth_enabled, list(endpoint.versions)) == ("both", True, ["a"])
    endpoint.delete()
