"""A simulated fleet as processes of their own: enrolled over HTTPS, connected to the real broker, ended by SIGINT."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import canonical
from modules.protocol.enrollment import JoinBundle
from tests.parts.pace import stretched

ROOT = Path(__file__).parents[2]
ENDS_WITHIN_S = stretched(60)


class Simulator:
    """A running simulator; ``summary`` is there once it has ended."""

    def __init__(self, state: Path, process: subprocess.Popen[str]) -> None:
        self.state, self.process = state, process
        self.summary: dict[str, Any] = {}

    @property
    def ready(self) -> Path:
        return self.state / "ready"

    def record(self) -> list[dict[str, Any]]:
        """What devices did, as it was written: only the end is sure to have all of it."""
        return [json.loads(line) for line in (self.state / "record").read_text().splitlines()]


def enroll(state: Path, join: JoinBundle, devices: int, *more: str) -> dict[str, Any]:
    """Enrol so many devices; what it says of it."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "join.json").write_bytes(canonical.encode(join))
    done = subprocess.run(
        [*_command("enroll", state, devices, *more), "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def simulator(state: Path, devices: int, *more: str, within_s: float = 60.0) -> Iterator[Simulator]:
    """Run them, wait until all are connected and heard, end them as Ctrl-C does."""
    (state / "ready").unlink(missing_ok=True)
    files = ("--ready-file", str(state / "ready"), "--record", str(state / "record"))
    command = [*_command("run", state, devices, *more), "--json", *files]
    log_path = state / "simulator.log"
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        running = Simulator(state, process)
        try:
            ends = time.monotonic() + stretched(within_s)
            while not running.ready.exists():
                assert process.poll() is None, f"the simulator ended: {log_path.read_text()}"
                assert time.monotonic() < ends, f"the simulator is not ready: {log_path.read_text()[-3000:]}"
                time.sleep(0.05)
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            try:
                said, _ = process.communicate(timeout=ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, log_path.read_text()[-3000:]
        running.summary = json.loads(said.splitlines()[-1])


def _command(verb: str, state: Path, devices: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "agent.simulate", verb, str(state), "--devices", str(devices), *more]
