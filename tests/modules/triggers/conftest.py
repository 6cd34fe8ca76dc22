"""The trigger's own program with a real scoring server behind it, serving a script."""

import sys

import pytest

from tests.parts.mosquitto import free_port
from tests.parts.programs import Program

# Doubles numbers. "wrong" is the client's fault, "fails" is ours, "ends" takes the whole server with it.
SCRIPT = """
import json
import os
import signal

from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse


def init():
    with open(os.environ["COUNTS"], "a") as file:
        file.write("init\\n")


@rawhttp
def run(request):
    text = request.get_data().decode()
    with open(os.environ["COUNTS"], "a") as file:
        file.write(text + "\\n")
    if "wrong" in text:
        return AMLResponse("not like this", 400)
    if "fails" in text:
        raise RuntimeError("no luck")
    if "ends" in text:
        os.kill(os.getppid(), signal.SIGKILL)
    return AMLResponse(json.dumps([2 * one for one in json.loads(text)]), 200)
"""


@pytest.fixture
def counts(tmp_path):
    """What the script was given, a line each, without its starts."""
    file = tmp_path / "counts"
    file.touch()
    return lambda: [line for line in file.read_text().splitlines() if line != "init"]


@pytest.fixture
def trigger(tmp_path, counts):
    """Starts the program with these variables, beside what every one of them needs; ended with the test."""
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    made = []

    def start(**variables):
        environment = {
            "EDGEFLEET_TRIGGER_DATA": str(tmp_path / "data"), "EDGEFLEET_TRIGGER_PORT": str(free_port()),
            "EDGEFLEET_TRIGGER_SETTLE_S": "0.3", "COUNTS": str(tmp_path / "counts"), **variables,
        }  # fmt: skip
        command = [sys.executable, "-m", "modules.triggers", "--script", str(script)]
        program = Program(
            f"trigger-{len(made)}", command, tmp_path / f"trigger-{len(made)}.log", environment=environment
        )
        made.append(program)
        return program

    yield start
    for program in made:
        if program.runs:
            program.stop()
