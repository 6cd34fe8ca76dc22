"""Python environments with packages that do not belong into ours, made once below ``.cache``."""

import fcntl
import subprocess
import sys
from pathlib import Path

from tests.parts.pace import stretched

CACHE = Path(__file__).parents[2] / ".cache/environments"
TENSORFLOW = ("tensorflow-cpu==2.21.0", "tf2onnx==1.17.0")


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with these packages; other ones than the last time make it anew.

    Raises:
        RuntimeError: pip cannot get them, with its words.
    """
    folder = CACHE / name
    python, made_of = folder / "bin/python", folder / "packages.txt"
    wanted = "\n".join(packages)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        # Two test processes may want the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made_of.is_file() or made_of.read_text() != wanted:
            _make(folder, packages)
            made_of.write_text(wanted)
    return python


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    sys.stderr.write(f"making the environment {folder.name}\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=stretched(120))
    command = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages]
    got = subprocess.run(command, capture_output=True, text=True, timeout=stretched(900), check=False)
    if got.returncode:
        raise RuntimeError(f"pip cannot get {', '.join(packages)}: {got.stderr[-2000:]}")
