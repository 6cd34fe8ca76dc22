"""What Azure ML's deployment guides have people write, in both forms, with nothing changed but the imports.

Each text is a program of its own, as a user has it: run by Python in a folder with a model, a script and their
configuration file, against a real fleet server and the real scoring image.
"""

import pytest

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(500)]

FORM_OF_2020 = """
import json

from azureml.core import Environment, Workspace
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import LocalWebservice, Webservice
from azureml.exceptions import WebserviceException

ws = Workspace.from_config()
model = Model.register(workspace=ws, model_path="sklearn_mnist_model.pkl", model_name="sklearn_mnist",
                       tags={"area": "mnist"}, description="Mnist handwriting recognition")
print(model.name, model.id, model.version, sep="\\t")

service_name = "local-service"
try:
    Webservice(ws, service_name).delete()
except WebserviceException:
    print("nothing to delete")

myenv = Environment.from_conda_specification(name="myenv", file_path="myenv.yml")
inference_config = InferenceConfig(entry_script="score.py", source_directory="source_dir", environment=myenv)
deployment_config = LocalWebservice.deploy_configuration(port=PORT)
service = Model.deploy(ws, service_name, [model], inference_config, deployment_config)
service.wait_for_deployment(show_output=True)
print(service.state, service.port)
print("first", service.run(input_data=json.dumps({"data": [1, 2]})))

new_model = Model.register(ws, "sklearn_mnist_model.pkl", "sklearn_mnist")
again = Webservice(name=service_name, workspace=ws)
again.update(models=[new_model])
again.wait_for_deployment(True)
print("updated", Model(ws, "sklearn_mnist").version == model.version + 1)

with open("source_dir/score.py") as file:
    text = file.read()
with open("source_dir/score.py", "w") as file:
    file.write(text.replace("model * value", "-model * value"))
again.reload()
again.wait_for_deployment()
print("reloaded", again.run(json.dumps({"data": [1, 2]})))
print(len(again.get_logs()) > 0)
again.delete()
"""

FORM_OF_2019 = """
import json

from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import LocalWebservice
from azureml.core.workspace import Workspace

ws = Workspace.from_config(path="config.json")
model = Model.register(model_path="sklearn_mnist_model.pkl", model_name="sklearn_mnist", tags={"data": "mnist"},
                       description="Mnist", workspace=ws)

myenv = CondaDependencies()
myenv.add_pip_package("joblib")
with open("made.yml", "w") as f:
    f.write(myenv.serialize_to_string())

inference_config = InferenceConfig(runtime="python", entry_script="source_dir/score.py", conda_file="made.yml")
deployment_config = LocalWebservice.deploy_configuration(port=PORT)
service = Model.deploy(ws, "myservice", [model], inference_config, deployment_config)
service.wait_for_deployment(show_output=True)
print(service.state)
print("first", service.run(bytes(json.dumps({"data": [3]}), encoding="utf8")))
print(Model.list(ws, tags=["data"])[0].name)
print(Model(ws, "sklearn_mnist").download(target_dir="got", exist_ok=True))
service.delete()
"""

WITHOUT_CODE = """
from azureml.core import Model, Workspace
from azureml.core.resource_configuration import ResourceConfiguration
from azureml.core.webservice import LocalWebservice
from azureml.exceptions import ComputeTargetException

ws = Workspace.get(name="myworkspace", subscription_id="0-0", resource_group="myresourcegroup")
model = Model.register(workspace=ws,
                       model_name="mnist-sample",
                       model_path="mnist-model.onnx",
                       model_framework=Model.Framework.ONNX,
                       model_framework_version="1.3",
                       resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
                       description="Onnx MNIST model")
try:
    Model.deploy(ws, "onnx-mnist-service", [model])
except ComputeTargetException as error:
    print("cloud:", error.message)
service = Model.deploy(ws, "onnx-mnist-service", [model], deployment_config=LocalWebservice.deploy_configuration())
service.wait_for_deployment()
print("first", service.run({"x": [[0, 1, 0]]}))
service.delete()
"""


@pytest.mark.long
def test_the_form_of_2020(theirs):
    """An environment from conda's file, a local service, an update, an edit, and its end."""
    said = theirs(FORM_OF_2020)

    assert "nothing to delete" in said
    assert "first [10, 20]" in said
    assert "updated True" in said
    assert "reloaded [-10, -20]" in said


def test_the_form_of_2019(theirs, tmp_path):
    """Dependencies written to a file, ``runtime`` and ``conda_file``, and the model's file back."""
    said = theirs(FORM_OF_2019)

    assert "first [30]" in said
    assert "sklearn_mnist\n" in said
    assert (tmp_path / "got/sklearn_mnist_model.pkl").read_bytes() == (
        tmp_path / "sklearn_mnist_model.pkl"
    ).read_bytes()


@pytest.mark.long
def test_a_graph_without_code(theirs):
    """Registered with its framework and resources; there is no cloud, which is said, and this machine serves it."""
    said = theirs(WITHOUT_CODE)

    assert "cloud: nothing says where it is to run; there is no target" in said
    assert 'first {"y": [[2.0, 3.0]]}' in said.replace("'", '"')
