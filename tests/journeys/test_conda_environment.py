"""A script that needs scikit-learn and pandas, from a conda file written for Azure ML to a device's answers."""

import sys
from contextlib import closing
from pathlib import Path

import joblib
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fleet.client.environments.environment_image import TAG_PREFIX
from tests.parts import docker as docker_parts

pytestmark = pytest.mark.long

SLOT = "visits"
WHEELS = Path(__file__).parents[2] / ".cache/wheels"
CONDA = f"""
name: project_environment
channels:
  - conda-forge
dependencies:
  - python={sys.version_info.major}.{sys.version_info.minor}
  - scikit-learn={sklearn.__version__}
  - pandas>=2
  - mkl
  - pip:
    - azureml-defaults
    - inference-schema[pandas-support]
    - joblib
"""
SCRIPT = """
import os

import joblib
import pandas as pd
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.schema_decorators import input_schema


def init():
    global model
    model = joblib.load(os.path.join(os.getenv("AZUREML_MODEL_DIR"), "visits.pkl"))


sample = pd.DataFrame({"age": [25.0, 48.0], "city": ["Bern", "Oslo"]})


@input_schema("data", PandasParameterType(sample))
def run(data):
    return {"visits": model.predict(data).tolist(), "pandas": pd.__file__}
"""


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """Their three files: a pickled pipeline, an entry script, a conda file."""
    folder = tmp_path_factory.mktemp("visits")
    people = pd.DataFrame({"age": [20.0, 30, 40, 50] * 5, "city": ["Bern", "Rome", "Bern", "Oslo"] * 5})
    columns = ColumnTransformer([("n", StandardScaler(), ["age"]), ("t", OneHotEncoder(), ["city"])])
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(people, [0, 1, 0, 1] * 5), folder / "visits.pkl")
    (folder / "source").mkdir()
    (folder / "source/score.py").write_text(SCRIPT)
    (folder / "env.yml").write_text(CONDA)
    (folder / "inferenceconfig.json").write_text(
        '{"entryScript": "score.py", "sourceDirectory": "source", "runtime": "python", "condaFile": "env.yml"}'
    )
    return folder


@pytest.fixture(scope="module")
def registered(system, visits):
    """What the command says; the wheels are kept between runs."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    (system.folder / "client/wheels").symlink_to(WHEELS, target_is_directory=True)
    command = ("models", "register", visits / "visits.pkl", "--name", "visits", "--team", "acme", "--probation", "1s")
    yield system.cli(*command, "--ic", visits / "inferenceconfig.json")
    with closing(docker_parts.client()) as engine:
        engine.images.remove(f"{TAG_PREFIX}visits", force=True)


def test_what_became_of_the_conda_file(registered):
    """The command lists what each entry became, and the module is proved by the sample that the script declares."""
    became = {one["entry"]: one["became"] for one in registered["environment"]}

    assert became["pandas>=2"] == "pandas>=2"
    assert (became["mkl"], became["azureml-defaults"]) == ("", "")
    assert registered["proved_by"] == "samples"


def test_only_the_environment_is_new_to_who_has_the_scoring_image(system, registered):
    """The image shares all but its last layer with the one that every graph runs in."""
    environment, scoring = system.workspace.image("visits"), system.workspace.image("scoring:cpu")

    assert environment.layers[: len(scoring.layers)] == scoring.layers
    assert len(environment.layers) == len(scoring.layers) + 1


def test_a_device_answers_with_the_scripts_own_packages(system, registered, shared_device):
    """Signed, ordered and committed, the script's pandas and scikit-learn answer on the device, strings included."""
    made = shared_device("dev-visits")
    rollout = system.ended(
        system.start_rollout(system.sign(registered["ref"]), made.name, slot=SLOT), within_s=120, said=made.said
    )
    assert (rollout["state"], rollout["devices"][0]["phase"]) == ("done", "committed"), rollout

    body = b'{"data": [{"age": 22.0, "city": "Bern"}, {"age": 51.0, "city": "Oslo"}]}'
    answer = made.score(SLOT, body, "application/json").document

    assert answer["visits"] == [0, 1]
    assert answer["pandas"].startswith("/opt/environment/")
