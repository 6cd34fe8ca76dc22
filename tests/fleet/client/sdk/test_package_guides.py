"""What Azure ML's guides to packages and to Functions have people write, with nothing changed but the imports.

What each text leaves is used as a stranger uses it, with Docker alone: built from the folder without a network, run at
a port, a file dropped into a folder, a message sent to a real broker.
"""

import json
import os
import subprocess
import urllib.request
from contextlib import contextmanager

import pytest

from tests.parts.mosquitto import free_port
from tests.parts.pace import stretched
from tests.parts.programs import until
from tests.parts.site_broker import Site

pytestmark = [pytest.mark.long, pytest.mark.needs("docker"), pytest.mark.timeout(900)]

IMAGE_OF_2020 = """
from azureml.core import Environment, Workspace
from azureml.core.model import InferenceConfig, Model

ws = Workspace.from_config()
model = Model.register(ws, model_path="sklearn_mnist_model.pkl", model_name="sklearn_mnist")
myenv = Environment.from_conda_specification(name="myenv", file_path="myenv.yml")
inference_config = InferenceConfig(entry_script="score.py", source_directory="source_dir", environment=myenv)

package = Model.package(ws, [model], inference_config)
package.wait_for_creation(show_output=True)
package.pull()
print("state", package.creation_state, package.location)
"""

DOCKERFILE_OF_2019 = """
from azureml.core.model import InferenceConfig, Model
from azureml.core.workspace import Workspace

ws = Workspace.from_config()
model = Model.register(model_path="sklearn_mnist_model.pkl", model_name="sklearn_mnist", workspace=ws)
inference_config = InferenceConfig(runtime="python", entry_script="source_dir/score.py", conda_file="myenv.yml")

package = Model.package(ws, [model], inference_config, generate_dockerfile=True)
package.wait_for_creation(show_output=True)
# Download the package.
package.save("./imagefiles")
# Get the Azure container registry that the model/Dockerfile uses.
acr=package.get_container_registry()
print("Address:", acr.address)
print("Username:", acr.username)
print("Password:", acr.password)
"""

FUNCTION = """
from azureml.core import Environment, Workspace
from azureml.core.model import InferenceConfig, Model

ws = Workspace.from_config()
model = Model.register(ws, "sklearn_mnist_model.pkl", "sklearn_mnist")
myenv = Environment.from_conda_specification(name="myenv", file_path="myenv.yml")
inference_config = InferenceConfig(entry_script="score.py", source_directory="source_dir", environment=myenv)
"""
HTTP_OF_2020 = (
    FUNCTION
    + """
from azureml.contrib.functions import package
from azureml.contrib.functions import HTTP_TRIGGER
model_package = package(ws, [model], inference_config, functions_enabled=True, trigger=HTTP_TRIGGER)
model_package.wait_for_creation(show_output=True)
# Display the package location/ACR path
print("state Succeeded", model_package.location)
"""
)
BLOB_OF_2020 = (
    FUNCTION
    + """
from azureml.contrib.functions import package
from azureml.contrib.functions import BLOB_TRIGGER
blob = package(ws, [model], inference_config, functions_enabled=True, trigger=BLOB_TRIGGER, \
input_path="input/{blobname}.json", output_path="output/{blobname}_out.json")
blob.wait_for_creation(show_output=True)
# Display the package location/ACR path
print("state Succeeded", blob.location)
"""
)
QUEUE = (
    FUNCTION
    + """
from azureml.contrib.functions import package_service_bus_queue
package = package_service_bus_queue(ws, [model], inference_config, generate_dockerfile=True,
                                    input_queue_name="site/in", output_queue_name="site/out")
package.wait_for_creation(show_output=True)
package.save("queue")
"""
)
DATA = json.dumps({"data": [1, 2]})


def docker(*words):
    done = subprocess.run(
        ["docker", *map(str, words)], capture_output=True, text=True, timeout=stretched(400), check=False,
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout.strip()


@contextmanager
def running(*words):
    """A container started with Docker's own command; removed at the end."""
    made = docker("run", "-d", *words)
    try:
        yield made
    finally:
        docker("rm", "-f", made)


def said(container):
    return subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False).stderr


def ask(port, path, data=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data and data.encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def serves(port, container):
    """Waits until it answers, as people wait who reload a page."""

    def healthy():
        try:
            return ask(port, "/") == "Healthy"
        except OSError:
            return False

    until(healthy, "it is healthy", within_s=60, said=lambda: said(container))
    assert json.loads(ask(port, "/score", DATA)) == [10, 20]
    assert "/score" in json.loads(ask(port, "/swagger.json"))["paths"]


def location(text):
    (line,) = [one for one in text.splitlines() if one.startswith("state Succeeded")]
    return line.split()[-1]


def test_an_image(theirs):
    """Built, named, and served at port 5001 by Docker alone, whoever runs it, read-only and without rights."""
    printed = theirs(IMAGE_OF_2020)

    image, port = location(printed), free_port()
    assert f"Status: Image is up to date for {image}" in printed
    hard = ("--read-only", "--cap-drop", "ALL", "--user", "12345:12345", "--tmpfs", "/tmp")
    with running("-p", f"127.0.0.1:{port}:5001", *hard, image) as container:
        serves(port, container)
    with running("-p", f"127.0.0.1:{port}:5001", image) as container:
        serves(port, container)


def test_a_dockerfile(theirs, tmp_path):
    """The folder is built far away: with no network, and by somebody whose files nobody else may read."""
    before = os.umask(0o077)
    try:
        printed = theirs(DOCKERFILE_OF_2019)
    finally:
        os.umask(before)

    assert "Address: None\nUsername: None\nPassword: None" in printed
    folder = tmp_path / "imagefiles"
    assert {"Dockerfile", "README.txt", "azureml-app", "model_config_map.json"} <= {
        one.name for one in folder.iterdir()
    }
    known = json.loads((folder / "model_config_map.json").read_text())["models"]["sklearn_mnist"]
    assert (folder / f"azureml-app/azureml-models/sklearn_mnist/{known['version']}/sklearn_mnist_model.pkl").is_file()
    moved = folder.rename(tmp_path / "elsewhere")
    docker("build", "--network", "none", "--tag", "my-own-name:1", moved)
    port = free_port()
    with running("-p", f"127.0.0.1:{port}:5001", "my-own-name:1") as container:
        serves(port, container)


def test_a_function_by_http(theirs):
    """Answers at the same port."""
    image, port = location(theirs(HTTP_OF_2020)), free_port()

    with running("-p", f"127.0.0.1:{port}:5001", image) as container:
        serves(port, container)


def test_a_function_by_blob(theirs, tmp_path):
    """A file dropped into a folder has its answer beside it; killed in the middle, it goes on where it was."""
    image, data = location(theirs(BLOB_OF_2020)), tmp_path / "data"
    (data / "input").mkdir(parents=True)
    (data / "input/first.json").write_text(DATA)
    words = ("--user", f"{os.getuid()}:{os.getgid()}", "-v", f"{data}:/data", image)
    with running(*words) as container:
        first = data / "output/first_out.json"
        until(first.is_file, "it is answered", within_s=60, said=lambda: said(container))
        assert json.loads(first.read_text()) == [10, 20]
        (data / "input/no.json").write_text('{"other": 1}')
        until((data / "poison/input/no.json").is_file, "it is aside", within_s=60, said=lambda: said(container))
        docker("kill", container)
        first.unlink()
        (data / "input/second.json").write_text(DATA)
        docker("start", container)
        second = data / "output/second_out.json"
        until(second.is_file, "it goes on", within_s=60, said=lambda: said(container))
        assert not first.exists()


@pytest.mark.needs("mosquitto")
def test_a_function_by_queue(theirs, tmp_path):
    """The folder is built without a network, and what is sent to one topic is answered at the other."""
    theirs(QUEUE)
    docker("build", "--network", "none", "--tag", "my-own-name:queue", tmp_path / "queue")
    site = Site(tmp_path / "site")
    site.start()
    try:
        site.meet()
        told = {
            "EDGEFLEET_TRIGGER_BROKER": f"mqtts://me@localhost:{site.port}", "EDGEFLEET_TRIGGER_CA": "/site/ca.pem",
            "EDGEFLEET_TRIGGER_PASSWORD_FILE": "/site/password", "EDGEFLEET_TRIGGER_PORT": str(free_port()),
        }  # fmt: skip
        options = [word for name, value in told.items() for word in ("-e", f"{name}={value}")]
        mounted = [word for name in ("ca.pem", "password") for word in ("-v", f"{site.folder}/{name}:/site/{name}:ro")]
        with running("--network", "host", *options, *mounted, "my-own-name:queue") as container:
            until(lambda: "answering what comes at" in said(container), "it is ready", within_s=60)
            site.send(DATA, topic="site/in", mark=b"7")
            wanted = ("site/out", [10, 20], b"7")
            until(lambda: wanted in site.got, "it is answered", within_s=60, said=lambda: said(container))
    finally:
        site.end()
