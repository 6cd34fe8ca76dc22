"""What ``docker run`` takes by itself: the same image, hardened as the agent's instances are, and nothing of edgefleet.

``run`` is the whole of ``docker run --rm`` with the image's Python and an empty program. ``first_answer`` starts the
image's scoring server on a module's folder and ends with its first 200.
"""

import asyncio
import http.client
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

from agent.engines.contract import MODULE_MOUNT, SOCKET, SOCKET_MOUNT
from agent.engines.docker_spec import USER
from agent.module_client import BadAnswer, request
from tests.parts.presence import program

_HARDENED = (
    "--network=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=256",
    "--memory=512m",
    "--memory-swap=512m",
    "--tmpfs=/tmp:size=64m,noexec,nosuid,nodev",
)
_WITHIN_S = 60


def run(image: str) -> float:
    """Seconds from the command to its exit, which includes the removal of the container."""
    began = time.perf_counter()
    _docker("run", "--rm", *_HARDENED, "--entrypoint", "python", image, "-c", "pass")
    return time.perf_counter() - began


def first_answer(image: str, module: Path) -> float:
    """Seconds from the command to the first 200 of ``/``."""
    name = f"edgefleet-journey-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="edgefleet-") as place:
        folder = Path(place)
        folder.chmod(0o2770)
        mounts = [f"-v={module}:{MODULE_MOUNT}:ro", f"-v={folder}:{SOCKET_MOUNT}", f"--user={USER}:{os.getgid()}"]
        served = ["--module", MODULE_MOUNT, "--unix", f"{SOCKET_MOUNT}/{SOCKET}"]
        began = time.perf_counter()
        _docker("run", "-d", "--name", name, *_HARDENED, *mounts, image, *served)
        try:
            while not _answers(str(folder / SOCKET)):
                assert time.perf_counter() - began < _WITHIN_S, _docker("logs", name)
                time.sleep(0.005)
            return time.perf_counter() - began
        finally:
            _docker("rm", "--force", name)


def _answers(socket: str) -> bool:
    try:
        return asyncio.run(request(socket, "GET", "/", timeout_s=5, limit=1 << 20)).status == http.client.OK
    except (OSError, BadAnswer):
        return False


def _docker(*arguments: str) -> str:
    executable = program("docker")
    assert executable is not None, "docker's command line is not installed"
    done = subprocess.run(
        [executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stdout[-1000:]}"
    return done.stdout
