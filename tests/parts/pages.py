"""A page of the docs as somebody works through it: its shell blocks, by heading, pasted into one terminal."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.parts.pace import stretched
from tests.parts.warm import ROOT

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMANDS_S = stretched(120)


def sections(page: str) -> dict[str, list[str]]:
    """The shell blocks of a page below each heading of the second level, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    return {heading: _BLOCK.findall(body) for heading, body in zip(parts[::2], parts[1::2], strict=True)}


class Terminal:
    """One terminal in a folder, with the commands that the distribution installs and these variables."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        commands = _commands(folder.parent / "bin")
        self.environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"} | dict(environment)

    def paste(self, text: str, *, fails: bool = False, instead: Mapping[str, str] | None = None) -> str:
        """Run a block, with these words of the page replaced; what it printed.

        Raises:
            AssertionError: a command of it failed, or, with ``fails``, none did.
        """
        for shown, mine in (instead or {}).items():
            text = text.replace(shown, mine)
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMANDS_S,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def _commands(folder: Path) -> Path:
    """The commands that the distribution installs, for this very interpreter and source."""
    folder.mkdir(exist_ok=True)
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
