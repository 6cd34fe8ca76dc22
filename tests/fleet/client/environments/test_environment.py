"""Environments by the names that Azure ML's users know: read, kept, written, and built without Docker."""

import subprocess

import pytest

from fleet.client.environments.docker_steps import check_steps
from fleet.client.environments.environment import PASSWORD, Environment
from fleet.client.environments.options import Chosen
from fleet.client.images.base_image import Registry
from modules.errors import Invalid

CONDA = "name: forecast\ndependencies:\n- python=3.11\n- pip:\n  - alpha\n"


@pytest.fixture
def conda_file(tmp_path):
    file = tmp_path / "env.yml"
    file.write_text(CONDA)
    return file


@pytest.fixture
def environment(home, conda_file):
    return Environment.from_conda_specification("", conda_file)


def test_a_conda_file_names_its_environment(environment, conda_file):
    """The name in the file is used, unless another is given."""
    assert environment.name == "forecast"
    assert Environment.from_conda_specification("mine", conda_file).name == "mine"


def test_what_is_kept_is_got_again(environment):
    """Environment.get gives what was kept, the original file included."""
    environment.keep()

    assert Environment.get("forecast") == environment
    assert Environment.list_kept() == [environment]


def test_one_that_is_not_kept(environment):
    """The error says which there are."""
    environment.keep()

    with pytest.raises(Invalid, match="there are: forecast"):
        Environment.get("weather")


@pytest.mark.parametrize("name", ["", "../other", ".hidden"])
def test_a_name_stays_in_its_folder(home, name):
    """No name reads or writes elsewhere."""
    with pytest.raises(Invalid, match="not a name for an environment"):
        Environment(name=name).keep()


def test_written_to_a_folder_for_another_machine(environment, tmp_path):
    """The folder holds the environment and the user's own file; it is not overwritten unasked."""
    folder = tmp_path / "out"
    environment.save_to_directory(folder)

    assert Environment.load_from_directory(folder) == environment
    assert (folder / "conda_dependencies.yml").read_text() == CONDA
    with pytest.raises(Invalid, match="already"):
        environment.save_to_directory(folder)
    environment.save_to_directory(folder, overwrite=True)


def test_a_registrys_password_is_written_nowhere(home, tmp_path, monkeypatch):
    """Address and user name are kept; the password is neither on disk nor printed, and comes back from outside."""
    secret = Registry(address="images.example", username="robot", password="pass-phrase-5")
    environment = Environment(name="private", base_image="team/base:1", registry=secret)
    folder = environment.keep()

    assert "pass-phrase-5" not in "".join(file.read_text() for file in folder.rglob("*") if file.is_file())
    assert "pass-phrase-5" not in repr(environment)
    assert Environment.get("private").registry == Registry(address="images.example", username="robot")
    monkeypatch.setenv(PASSWORD, "pass-phrase-5")
    assert Environment.get("private").registry == secret


def test_another_python_than_the_file_says(environment):
    """``--python`` wins, and the list says so."""
    changed = environment.with_python("3.12")

    assert changed.requirements.accepts("3.12")
    assert not changed.requirements.accepts("3.11")
    assert str(changed.requirements.entries[0]) == "--python -> python==3.12.* (the image's Python)"
    assert changed.requirements.packages == ("alpha",)


def test_a_virtual_environment_without_docker(environment, tiny_package):
    """build_local without Docker makes an environment whose Python has the packages, and makes it once."""
    python = environment.build_local(use_docker=False, progress=lambda _: None)
    told = []

    done = subprocess.run(
        [python, "-c", "import alpha, numpy; print(alpha.version)"], capture_output=True, text=True, check=False
    )

    assert done.stdout == "1.0\n", done.stderr
    assert environment.build_local(use_docker=False, progress=told.append) == python
    assert told == []


def test_a_python_that_this_machine_has_not_got(environment):
    """Without Docker the environment must take this Python; the error says both and what to do."""
    with pytest.raises(Invalid, match=r"asks for Python ==2\.7\.\*") as refused:
        environment.with_python("2.7").build_local(use_docker=False)

    assert "--python" in refused.value.remedy


def test_only_an_image_has_docker_steps(environment):
    """A virtual environment cannot run them, and does not pass over them."""
    with pytest.raises(Invalid, match="only an image"):
        Environment(name="x", steps="RUN true\n").build_local(use_docker=False)


@pytest.mark.parametrize(
    "steps", ["", "# a remark\n", "RUN apt-get update \\\n && apt-get install x\nENV A=1\nlabel a=b\n"]
)
def test_steps_that_may_stand_in_an_image(steps):
    """RUN, ENV, ARG, LABEL and SHELL, in any case, over several lines."""
    assert check_steps(steps, where="steps").strip() == steps.strip()


@pytest.mark.parametrize(
    "word", ["COPY a b", "ADD a b", "FROM x", "USER root", "ENTRYPOINT x", "CMD x", "EXPOSE 1", "!"]
)
def test_steps_that_may_not(word):
    """What would need a file of this machine or change what runs is refused by its line."""
    with pytest.raises(Invalid, match="cannot stand") as refused:
        check_steps(f"RUN true\n{word}\n", where="steps.txt")

    assert refused.value.element == "steps.txt, line 2"
    assert refused.value.remedy


def test_options_name_one_environment(conda_file, tmp_path):
    """Two sources are an error, none is no environment, and a base image alone is one."""
    with pytest.raises(Invalid, match="one place only"):
        Chosen(conda_file=conda_file, requirements=tmp_path / "r.txt").environment("x")

    assert Chosen().environment("x") is None
    assert Chosen(base_image="mine:1").environment("x") == Environment(name="x", base_image="mine:1")


def test_options_change_what_a_file_says(conda_file, tmp_path):
    """Base image, registry, steps and Python of the command line stand above the file."""
    (tmp_path / "steps").write_text("RUN true\n")
    registry = Registry(address="images.example", username="me", password="p")

    found = Chosen(
        conda_file=conda_file, base_image="mine:1", registry=registry, docker_steps=tmp_path / "steps", python="3.12"
    ).environment("other")

    assert (found.name, found.base_image, found.registry, found.steps) == ("other", "mine:1", registry, "RUN true\n")
    assert found.requirements.python == "==3.12.*"
