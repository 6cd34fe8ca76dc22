"""``edgefleet serve-local`` as a process."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx

from tests.parts.pace import stretched
from tests.parts.warm import ROOT


@contextmanager
def served(path, tmp_path, *more, ends=None):
    """The command as a process; gives a client, what it has printed so far, and the process.

    It is asked to end at last, unless the test does so itself and names the exit code that it ``ends`` with.
    """
    log = tmp_path / "log"
    command = [sys.executable, "-m", "fleet.client", "serve-local", str(path), "--port", "0", "--json", *more]
    environment = os.environ | {"EDGEFLEET_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1].strip() != b"}":
            line = process.stdout.readline()
            assert line, log.read_text()
            lines.append(line)
        with httpx.Client(base_url=json.loads(b"".join(lines))["address"], timeout=stretched(10)) as http:
            yield http, log.read_text, process
        if ends is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == (ends or 0), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()
