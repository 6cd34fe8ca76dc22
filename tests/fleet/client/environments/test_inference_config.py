"""Azure ML's inferenceconfig.json, as users have it: each key has its effect or a clear error."""

import json

import pytest

from fleet.client.environments.environment import Environment
from fleet.client.environments.inference_config import read_inference_config
from fleet.client.images.base_image import Registry
from modules.errors import Invalid

CONDA = "name: theirs\ndependencies:\n- python=3.11\n- pandas\n- pip:\n  - azureml-defaults\n"


@pytest.fixture
def read(tmp_path, home):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "score.py").write_text("")
    (tmp_path / "score.py").write_text("")
    (tmp_path / "env.yml").write_text(CONDA)
    (tmp_path / "steps").write_text("RUN true\n")

    def run(**keys):
        file = tmp_path / "inferenceconfig.json"
        file.write_text(json.dumps({"entryScript": "score.py"} | keys))
        return read_inference_config(file, name="digits")

    return run


def test_the_usual_file(read, tmp_path):
    """Script, source folder and conda file, with the keys that nobody filled in."""
    found = read(
        sourceDirectory="source", runtime="python", condaFile="env.yml", extraDockerfileSteps=None, enableGpu=False,
        cudaVersion=None, baseImage=None, baseImageRegistry=None,
    )  # fmt: skip

    assert str(found.entry_script) == "score.py"
    assert found.source_dir == tmp_path / "source"
    assert found.environment.name == "digits"
    assert found.environment.requirements.packages == ("pandas", "inference-schema")


def test_a_script_alone(read, tmp_path):
    """Without a source folder the script is found beside the file, and without more there is no environment."""
    found = read()

    assert (found.entry_script, found.source_dir, found.environment) == (tmp_path / "score.py", None, None)


def test_a_conda_file_in_the_source_folder(read, tmp_path):
    """Paths are sought below the source folder first."""
    (tmp_path / "source" / "own.yml").write_text("dependencies: [scipy]")

    assert read(sourceDirectory="source", condaFile="own.yml").environment.requirements.packages == ("scipy",)


def test_a_base_image_and_its_registry(read):
    """Image, registry and Docker steps reach the environment; the password is not shown."""
    found = read(
        baseImage="team/base:3",
        baseImageRegistry={"address": "images.example", "username": "robot", "password": "s3cr3t"},
        extraDockerfileSteps="steps",
    ).environment

    assert (found.base_image, found.steps) == ("team/base:3", "RUN true\n")
    assert found.registry == Registry(address="images.example", username="robot", password="s3cr3t")
    assert "s3cr3t" not in repr(found)


def test_an_environment_by_name(read):
    """A name means one that is kept on this machine."""
    Environment(name="kept-one", base_image="mine:1").keep()

    assert read(environment="kept-one").environment.base_image == "mine:1"
    with pytest.raises(Invalid, match="no environment of this name"):
        read(environment="another")


def test_an_environment_in_the_file(read):
    """Their inline definition: conda dependencies, variables; that their own base image is replaced is said."""
    found = read(
        environment={
            "name": "inline", "version": "2", "assetId": None,
            "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
            "python": {
                "userManagedDependencies": False, "interpreterPath": "python", "baseCondaEnvironment": None,
                "condaDependencies": {"dependencies": ["python=3.11", {"pip": ["azureml-core", "joblib"]}]},
            },
            "docker": {
                "enabled": False, "baseImage": "mcr.microsoft.com/azureml/base:intelmpi2018.3-ubuntu16.04",
                "baseDockerfile": None, "sharedVolumes": True, "shmSize": None, "arguments": [],
                "baseImageRegistry": {"address": None, "username": None, "password": None},
            },
            "spark": {}, "inferencingStackVersion": None,
        }
    ).environment  # fmt: skip

    assert found.requirements.packages == ("joblib",)
    assert found.requirements.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert found.base_image == ""
    assert "usual one stands in its place" in str(found.requirements.entries[0])


def test_a_folder_that_they_saved(read, tmp_path):
    """What their save_to_directory wrote is read where it lies."""
    folder = tmp_path / "saved"
    folder.mkdir()
    definition = {"name": "saved", "python": {"condaDependenciesFile": "conda_dependencies.yml"}}
    (folder / "azureml_environment.json").write_text(json.dumps(definition))
    (folder / "conda_dependencies.yml").write_text(CONDA)

    assert read(environment="saved").environment.requirements.packages == ("pandas", "inference-schema")


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"runtime": "spark-py"}, "runtime"),
        ({"enableGpu": True}, "enableGpu"),
        ({"cudaVersion": "9.1"}, "cudaVersion"),
        ({"baseImageRegistry": {"address": "x"}}, "baseImageRegistry"),
        ({"baseImage": "x", "baseImageRegistry": {"host": "x"}}, "baseImageRegistry"),
        ({"condaFile": "missing.yml"}, "condaFile"),
        ({"extraDockerfileSteps": "missing"}, "extraDockerfileSteps"),
        ({"sourceDirectory": "missing"}, "sourceDirectory"),
        ({"entryScript": "missing.py"}, "entryScript"),
        ({"condaFile": "env.yml", "environment": {}}, None),
        ({"condaFile": "env.yml", "environment": {"name": "x"}}, "condaFile"),
        ({"environment": {"spark": {"packages": [1]}}}, "environment.spark"),
        ({"environment": {"docker": {"baseDockerfile": "FROM x"}}}, "environment.docker.baseDockerfile"),
        ({"environment": {"python": {"interpreterPath": "/opt/python"}}}, "environment.python.interpreterPath"),
        ({"environment": {"python": {"other": 1}}}, "environment.python.other"),
        ({"entryscript": "x"}, ""),
    ],
)
def test_each_key_has_an_effect_or_an_error(read, keys, names):
    """A key that cannot be honoured is named, with what to do; none is passed over."""
    if names is None:
        read(**keys)
        return

    with pytest.raises(Invalid) as refused:
        read(**keys)

    assert names in refused.value.element
    assert refused.value.remedy
