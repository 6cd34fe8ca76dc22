"""onnxruntime, which sends telemetry by default, is never imported without the variable that forbids it."""

import os
import subprocess
import sys

from tests.modules.scoring.conftest import ROOT
from tests.parts.pace import stretched

CHECK = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


def test_server():
    """Importing the server sets the variable before onnxruntime is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", CHECK, "modules.scoring.__main__"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=stretched(60), check=True
    )
    assert done.stdout == "1\n"


def test_against_the_environment():
    """A variable that allows telemetry is overruled."""
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    command = [sys.executable, "-c", CHECK, "modules.scoring.graphs.onnx"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=stretched(60), check=True
    )
    assert done.stdout == "1\n"


def test_worker(start, script):
    """An entry script's worker has the variable before the script's first line, whatever the server was given."""
    text = "import os\nvalue = os.environ['ORT_DISABLE_TELEMETRY']\ndef run(data): return value"
    assert start("--script", script(text), ORT_DISABLE_TELEMETRY="0").ready().ask(body=b"").json == "1"
