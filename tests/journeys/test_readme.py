"""The README's first ten minutes, taken from the README and run as they stand there."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import docker.errors
import pytest

from tests.parts import docker as docker_parts
from tests.parts.mosquitto import free_port
from tests.parts.pace import stretched
from tests.parts.programs import until
from tests.parts.warm import ROOT

pytestmark = pytest.mark.long

SHOWN_FOLDER = "~/edgefleet-first"
SHOWN_DEVICE = "my-device"
SHOWN_PORTS = {"server": 8443, "broker": 8883, "services": 8884, "gateway": 8700}
IMAGE = "edgefleet-scoring:cpu"
# What a terminal shows when its program is ready; the agent says nothing, and is waited for by a command.
READY = {"broker": "running", "server": "startup complete", "agent": "", "gateway": "listening"}
_BLOCK = re.compile(r"^```sh ?(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMANDS_S = stretched(120)


class Block(NamedTuple):
    """A fenced block: what to run, in which terminal of its own, and whether all of these have been stopped before."""

    text: str
    terminal: str
    stopped: bool


def blocks() -> Iterator[Block]:
    for found in _BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8")):
        info = dict(part.split("=") for part in found["info"].split())
        assert info.keys() <= {"terminal", "when"}, found["info"]
        yield Block(found["text"], info.get("terminal", ""), info.get("when") == "stopped")


class Reader:
    """Somebody who pastes the blocks into terminals: in a folder, under a device name, and at ports of their own."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in SHOWN_PORTS}
        # All that differs from what the README shows.
        self._instead = {
            SHOWN_FOLDER: str(folder),
            SHOWN_DEVICE: f"readme-{secrets.token_hex(4)}",
            f"localhost:{SHOWN_PORTS['server']}": f"localhost:{ports['server']}",
            f"127.0.0.1:{SHOWN_PORTS['gateway']}": f"127.0.0.1:{ports['gateway']}",
            "export EDGEFLEET_AGENT_RUNTIME": f"export EDGEFLEET_AGENT_GATEWAY_ADDRESS=127.0.0.1:{ports['gateway']}\n"
            "export EDGEFLEET_AGENT_RUNTIME",
        }
        self._environment = os.environ | {
            "PATH": f"{_commands(folder / 'bin')}:{os.environ['PATH']}",
            "EDGEFLEET_FLEET_PORT": str(ports["server"]),
            "EDGEFLEET_FLEET_BROKER_PORT": str(ports["broker"]),
            "EDGEFLEET_FLEET_BROKER_SERVICE_PORT": str(ports["services"]),
            "EDGEFLEET_PASSPHRASE": secrets.token_urlsafe(16),
        }
        self._env = folder / "env"
        self._logs = folder / "logs"
        self._logs.mkdir()
        self._terminals: dict[str, subprocess.Popen[bytes]] = {}

    def paste(self, block: Block) -> str:
        """Run a block in the first terminal; what it printed.

        Raises:
            AssertionError: a command of it failed.
        """
        before = f". {self._env}\n" if self._env.exists() else ""
        done = subprocess.run(
            ["bash", "-e", "-c", before + self._text(block)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMANDS_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}\n{self.said()}"
        return done.stdout

    def open_terminal(self, block: Block) -> None:
        """Run a block in a terminal of its own, and wait for what a person would wait for."""
        name, path = block.terminal, self._logs / block.terminal
        *first, last = self._text(block).splitlines()
        with path.open("wb") as log:
            # exec, so that the process id is the program's and not a shell's.
            self._terminals[name] = process = subprocess.Popen(
                ["bash", "-e", "-c", "\n".join((*first, f"exec {last}"))],
                cwd=ROOT,
                # Typed by a person into the first terminal; a server that has it does not start.
                env={name: value for name, value in self._environment.items() if name != "EDGEFLEET_PASSPHRASE"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(
            lambda: READY[name] in path.read_text(errors="replace") or process.poll() is not None,
            f"{name} is ready",
            within_s=60,
            said=self.said,
        )
        assert process.poll() is None, f"{name} ended:\n{self.said()}"

    def stop(self) -> None:
        """End what runs in every terminal, the latest first."""
        while self._terminals:
            _, process = self._terminals.popitem()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"it did not end:\n{self.said()}") from None

    def said(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self._logs.iterdir())

    def _text(self, block: Block) -> str:
        text = block.text
        for shown, mine in self._instead.items():
            text = text.replace(shown, mine)
        return text


def _commands(folder: Path) -> Path:
    """The commands that the distribution installs, for this very interpreter and source."""
    folder.mkdir()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for name, entry in scripts.items():
        module, function = entry.split(":")
        file = folder / name
        file.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from {module} import {function}\nsys.exit({function}())\n"
        )
        file.chmod(0o755)
    return folder


@pytest.fixture
def engine():
    """A container engine that has the scoring image of the sources as they are, so that nothing needs to be built."""
    with docker_parts.engine(), closing(docker_parts.client()) as client:
        docker_parts.scoring_image(client)
        had = IMAGE in {tag for image in client.images.list() for tag in image.tags}
        yield client
        if not had:
            with suppress(docker.errors.ImageNotFound):
                client.images.remove(IMAGE)


@pytest.fixture
def reader(engine):
    # A short path, because sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="efr-") as folder:
        Path(folder).chmod(0o755)
        one = Reader(Path(folder))
        try:
            yield one
        finally:
            one.stop()
            # Whatever failed, no container stays.
            one.paste(Block("! [ -e device/identity/device.json ] || edgefleet-agent halt", "", stopped=True))


@pytest.mark.timeout(400)
def test_the_first_ten_minutes(reader):
    """Whoever pastes the README's commands in order gets a scored answer, a second version, and the first one back."""
    printed = []

    for block in blocks():
        if block.stopped:
            reader.stop()
        if block.terminal:
            reader.open_terminal(block)
        else:
            printed.append(reader.paste(block))

    scored, updated, back, halted = printed[-4:]
    assert scored.startswith('{"label":[7],')
    assert "acme/my-model:2 is committed" in updated
    assert "x-edgefleet-module: acme/my-model:1" in back
    assert '{"label":[7],' in back
    assert halted.startswith("stopped my-model-")
