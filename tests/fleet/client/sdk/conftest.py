"""An engineer whose fleet server is the one that scripts find, and the files that guides have people write."""

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fleet.client.environments.environment_image import TAG_PREFIX
from fleet.client.sdk import Workspace
from fleet.client.sdk.package_making import NAME as PACKAGE
from tests.parts import docker as parts
from tests.parts.pace import stretched
from tests.parts.packed import pack
from tests.parts.presence import engine_socket
from tests.parts.programs import until
from tests.parts.warm import ROOT

# Wheels are kept between runs.
WHEELS = ROOT / ".cache/wheels"
SCORE = """
import json
import os

import joblib


def init():
    global model
    model_path = os.path.join(os.getenv("AZUREML_MODEL_DIR"), "sklearn_mnist_model.pkl")
    model = joblib.load(model_path)


def run(raw_data):
    data = json.loads(raw_data)["data"]
    return [model * value for value in data]
"""
MAKE_MODEL = "import joblib; joblib.dump(%d, 'sklearn_mnist_model.pkl')"
CONDA = f"""
name: project_environment
dependencies:
  - python={sys.version_info.major}.{sys.version_info.minor}
  - pip:
    - azureml-defaults
    - joblib
"""


@pytest.fixture
def logged_in(user, tmp_path, monkeypatch):
    """Logged in, with the team's key named in the environment, in an empty folder."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGEFLEET_TEAM", "acme")
    monkeypatch.setenv("EDGEFLEET_KEYS", str(user.keys))
    monkeypatch.chdir(tmp_path)
    return user


@pytest.fixture
def ws(logged_in, tmp_path):
    """The workspace of Azure ML's own configuration file."""
    (tmp_path / "config.json").write_text(
        json.dumps({"subscription_id": "0-1", "resource_group": "group", "workspace_name": "theirs"})
    )
    return Workspace.from_config()


@pytest.fixture
def pickled(tmp_path):
    """A file that only a script opens."""
    file = tmp_path / "sklearn_model.pkl"
    file.write_bytes(b"\x80\x04K*.")
    return file


@pytest.fixture(scope="module")
def image(user):
    """The scoring image, in the engine and in the workspace of the user."""
    with parts.engine():
        engine = parts.client()
        yield pack(user.home / "workspace", parts.scoring_image(engine))
        for one in engine.images.list():
            for tag in one.tags:
                if tag.startswith((f"{TAG_PREFIX}my", f"{PACKAGE}:", "my-own-name:")):
                    engine.images.remove(tag, force=True)
        engine.close()


@pytest.fixture(scope="module")
def target(server, user):
    """This machine's engine, attached by an admin, with the scoring image in the user's workspace."""
    with parts.engine():
        engine = parts.client()
        image = parts.gateway_image(engine)
        pack(user.home / "workspace", parts.scoring_image(engine))
        with server.client() as http:
            attached = {"docker": f"unix://{engine_socket()}", "gateway_image": image}
            answer = http.put("/api/v1/targets/here", json={"kind": "container", "attached": attached})
            assert answer.status_code == 200, answer.text
            yield engine
            for one in http.get("/api/v1/endpoints").json():
                http.delete(f"/api/v1/endpoints/{one['name']}")
            until(lambda: not http.get("/api/v1/endpoints").json(), "endpoints are gone", within_s=60)
        engine.close()


@pytest.fixture
def theirs(ws, image, tmp_path, linear, free_port, monkeypatch):
    """Runs a text of theirs after its imports were changed, in a folder with their files; returns what it prints."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("EDGEFLEET_WHEELS", str(WHEELS))
    subprocess.run([sys.executable, "-c", MAKE_MODEL % 10], check=True, cwd=tmp_path)
    onnx.save_model(linear(), tmp_path / "mnist-model.onnx")
    (tmp_path / "source_dir").mkdir()
    (tmp_path / "source_dir/score.py").write_text(SCORE)
    (tmp_path / "myenv.yml").write_text(CONDA)

    def run(text):
        changed = re.sub(
            r"^from azureml\.(core|exceptions|contrib)",
            lambda found: "from fleet.client.sdk" + {"core": "", "contrib": ""}.get(found[1], f".{found[1]}"),
            text.replace("PORT", str(free_port())),
            flags=re.MULTILINE,
        )
        assert sum(a != b for a, b in zip(text.splitlines(), changed.splitlines(), strict=True)) <= 6
        file = Path(tmp_path, "deploy.py")
        file.write_text(changed)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run(
            [sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=stretched(450), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
