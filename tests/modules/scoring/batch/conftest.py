"""Runs as processes of their own, and what they left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.modules.scoring.conftest import ROOT
from tests.parts.pace import stretched


class Batch:
    """``python -m modules.scoring.batch`` over one folder, as often as it takes."""

    def __init__(self, folder: Path, temporary: str) -> None:
        self._temporary = temporary
        self.inputs, self.outputs, self.state = folder / "in", folder / "out", folder / "state"
        self.inputs.mkdir()

    def write(self, **files):
        """Inputs by name, a dot as two underscores."""
        for name, content in files.items():
            path = self.inputs / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    def start(self, *arguments, through=(), **environment):
        folders = {"--inputs": self.inputs, "--outputs": self.outputs, "--state": self.state}
        command = [*through, sys.executable, "-m", "modules.scoring.batch", *map(str, arguments)]
        command += [str(word) for pair in folders.items() for word in pair]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=os.environ | {"TMPDIR": self._temporary} | environment)  # fmt: skip

    def run(self, *arguments, code=0, **environment):
        """To its end; returns what it said of itself last, and its log."""
        process = self.start(*arguments, **environment)
        try:
            out, log = process.communicate(timeout=stretched(90))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise AssertionError(f"it does not end: {process.communicate()}") from None
        assert process.returncode == code, log.decode()
        return json.loads(out.splitlines()[-1]) if out else None, log.decode()

    def answers(self):
        return self._lines("answers.jsonl")

    def aside(self):
        return self._lines("set-aside.jsonl")

    def _lines(self, name):
        path = self.outputs / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def batch(tmp_path):
    # A folder of its own, with a short name for the sockets in it: a run that is killed leaves them.
    with tempfile.TemporaryDirectory(prefix="efb-") as temporary:
        yield Batch(tmp_path, temporary)
