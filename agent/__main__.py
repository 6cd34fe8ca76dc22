"""The command line on the device: ``edgefleet-agent enroll | run | status | doctor | halt | settings | images``."""

import importlib
import sys
from collections.abc import Sequence

from agent import running
from agent.settings import load
from modules import program
from modules.errors import EdgefleetError
from modules.words import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error that is explained, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words == ["run"]:  # without what reads command lines, which would stay in memory: half a megabyte
            return running.run(load(None))
        return int(importlib.import_module("agent.command_line").call(words))
    except EdgefleetError as error:
        print(f"edgefleet-agent: {printable(str(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    program.run("edgefleet-agent", main)
