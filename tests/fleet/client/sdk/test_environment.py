"""Environments and inference configurations as scripts describe them, read by what the commands read them with."""

import json

import pytest

from fleet.client.environments.environment import Environment as Kept
from fleet.client.sdk.conda_dependencies import CondaDependencies
from fleet.client.sdk.environment import Environment
from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.inference_config import InferenceConfig
from modules.errors import Invalid

CONDA = """
name: project_environment
dependencies:
  - python=3.11
  - scikit-learn=1.4
  - pip:
    - azureml-defaults
    - joblib==1.4.2
"""


@pytest.fixture
def conda(tmp_path):
    file = tmp_path / "myenv.yml"
    file.write_text(CONDA)
    return file


@pytest.fixture
def score(tmp_path):
    file = tmp_path / "source/score.py"
    file.parent.mkdir()
    file.write_text("def init(): ...\ndef run(data): ...\n")
    return file


def test_dependencies_are_made_in_a_script_and_written(tmp_path):
    """The form of 2019: packages by name, then a file, which reads as what it was made of."""
    made = CondaDependencies.create(conda_packages=["numpy", "scikit-learn=1.4"], pip_packages=["joblib"])
    made.add_pip_package("inference-schema[numpy-support]")
    made.add_conda_package("pandas")
    made.remove_conda_package("numpy")
    made.set_python_version("3.11")

    (tmp_path / "myenv.yml").write_text(made.serialize_to_string())
    again = CondaDependencies(tmp_path / "myenv.yml")

    assert list(again.conda_packages) == ["python=3.11", "scikit-learn=1.4", "pandas"]
    assert list(again.pip_packages) == ["azureml-defaults", "joblib", "inference-schema[numpy-support]"]
    assert made.save_to_file(tmp_path / "saved", "their.yml") == "their.yml"
    assert (tmp_path / "saved/their.yml").read_text() == made.serialize_to_string()


def test_a_conda_file_is_an_environment(conda, home):
    """What a script describes and what the command reads from the same file are one."""
    environment = Environment.from_conda_specification(name="mine", file_path=str(conda))

    kept = environment.kept()

    assert kept.requirements == Kept.from_conda_specification("mine", conda).requirements
    assert "scikit-learn==1.4.*" in kept.requirements.packages
    assert "azureml-defaults" not in kept.requirements.packages


def test_an_environment_is_changed_before_it_is_used(home):
    """Its parts under their names: packages, base image and registry, variables, steps."""
    environment = Environment("mine")
    environment.docker.enabled = True
    environment.inferencing_stack_version = "latest"
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["joblib==1.4.2"])
    environment.docker.base_image = "team/base:3"
    environment.docker.base_image_registry.address = "images.example"
    environment.docker.base_image_registry.username = "robot"
    environment.docker.base_image_registry.password = "secret"
    environment.environment_variables = {"MODE": "fast", "N": 2}
    environment.docker.base_dockerfile = "RUN true\n"

    kept = environment.kept()

    assert kept.requirements.packages == ("joblib==1.4.2", "inference-schema")
    assert (kept.base_image, kept.registry.address, kept.registry.password) == (
        "team/base:3",
        "images.example",
        "secret",
    )
    assert kept.requirements.variables == {"MODE": "fast", "N": "2"}
    assert kept.steps == "RUN true\n"
    environment.docker.base_image = "mcr.microsoft.com/azureml/base:1"
    assert environment.kept().base_image == ""


def test_registered_saved_and_loaded_it_is_the_same(conda, home, tmp_path):
    """By its name on this machine, or in a folder; a copy has a name of its own."""
    environment = Environment.from_conda_specification("mine", conda)
    environment.environment_variables = {"MODE": "fast"}
    environment.register(workspace=None)
    environment.save_to_directory(tmp_path / "saved")

    for again in (Environment.get(None, "mine", version="1"), Environment.load_from_directory(tmp_path / "saved")):
        assert again.kept() == environment.kept()
    assert list(Environment.list()) == ["mine"]
    assert environment.clone("other").kept().name == "other"
    assert Environment.get(None, name="AzureML-Minimal").kept().requirements.packages == ("inference-schema",)
    with pytest.raises(UserErrorException, match="there are: mine"):
        Environment.get(None, "AzureML-sklearn-0.24")


def test_what_their_sdk_saved_is_loaded(tmp_path, home):
    """``azureml_environment.json``, with the packages inside."""
    (tmp_path / "azureml_environment.json").write_text(
        json.dumps({"name": "theirs", "python": {"condaDependencies": {"dependencies": ["numpy=1.26"]}}})
    )

    assert Environment.load_from_directory(tmp_path).kept().requirements.packages == ("numpy==1.26.*",)
    with pytest.raises(UserErrorException, match="no environment was saved here"):
        Environment.load_from_directory(tmp_path / "nothing")


def test_requirements_of_pip(tmp_path, home):
    """The lines of the file, and its options."""
    file = tmp_path / "requirements.txt"
    file.write_text("joblib==1.4.2  # for the model\n--extra-index-url https://index.example/simple\n")

    kept = Environment.from_pip_requirements("mine", file).kept()

    assert kept.requirements.packages == ("joblib==1.4.2",)
    assert kept.requirements.options == ("--extra-index-url https://index.example/simple",)


def test_another_python_than_the_file_says(conda, home, monkeypatch):
    """Files of theirs ask for Pythons that are long gone: one variable builds them for another."""
    conda.write_text(CONDA.replace("python=3.11", "python=3.6.2"))
    monkeypatch.setenv("EDGEFLEET_PYTHON", "3.11")

    assert Environment.from_conda_specification("old", conda).kept().requirements.accepts("3.11")


def test_both_forms_of_an_inference_configuration_mean_the_same(conda, score, home, tmp_path, monkeypatch):
    """2019 names files, 2020 an environment; the script is found below the source folder."""
    monkeypatch.chdir(tmp_path)
    of_2019 = InferenceConfig(
        runtime="python", entry_script="score.py", conda_file="myenv.yml", source_directory="source"
    ).resolved("svc")
    environment = Environment.from_conda_specification("svc", conda)
    of_2020 = InferenceConfig(entry_script="score.py", source_directory="source", environment=environment).resolved("x")

    assert of_2019.entry_script == of_2020.entry_script
    assert of_2019.source_dir == of_2020.source_dir
    assert of_2019.environment.requirements == of_2020.environment.requirements
    assert InferenceConfig("source/score.py").resolved("x").environment is None


def test_what_cannot_be_had_is_said(score, conda, home, tmp_path, monkeypatch):
    """By the argument, with what to do."""
    monkeypatch.chdir(tmp_path)
    environment = Environment("x")
    environment.docker.gpu_support = True

    for config, words in (
        (InferenceConfig("lost.py"), "is in none of"),
        (InferenceConfig("source/score.py", runtime="spark-py"), "scripts run in Python"),
        (InferenceConfig("source/score.py", enable_gpu=True), "no image for GPUs"),
        (InferenceConfig("source/score.py", conda_file="myenv.yml", environment=Environment("x")), "keep one"),
        (InferenceConfig("source/score.py", environment=environment), "no image for GPUs"),
    ):
        with pytest.raises((Invalid, UserErrorException), match=words):
            config.resolved("svc")
    with pytest.raises(UserErrorException, match="is not an environment"):
        InferenceConfig("score.py", environment="myenv")
    with pytest.raises(UserErrorException, match="cannot be read"):
        CondaDependencies("no/such.yml")
