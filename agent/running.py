"""The agent itself, as systemd starts it; and how a part of the program is loaded when it is called for."""

import asyncio
import importlib
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

from agent.left_out import leave_out
from agent.occupied import occupied
from agent.owner import act_as_owner
from agent.settings import Settings
from modules import __version__
from modules.words import log_lines, printable

#: In the state folder: that it is to be wiped, and that it was (agent/commands/wipe.py).
DECOMMISSION: Final = "decommission.json"
DECOMMISSIONED: Final = "decommissioned.json"
_log = logging.getLogger("agent")


def part(name: str, settings: Settings, *, make: bool = False) -> Any:
    """A command's own part, with which the program goes on as the owner of the state folder."""
    # In this order: another user may not be able to read where root's Python lives.
    part = importlib.import_module(f"agent.{name}")
    act_as_owner(Path(settings.state), make=make)
    return part


class _Recent(logging.Handler):
    """The newest lines of the log, for whoever diagnoses this device from afar."""

    def emit(self, record: logging.LogRecord) -> None:
        recent.append((record.created, f"{record.levelname} {record.name} {printable(record.getMessage(), 400)}"))


#: When each was written (Unix seconds), and the line.
recent: Final[deque[tuple[float, str]]] = deque(maxlen=200)


def run(settings: Settings) -> int:
    """Run the agent until it is asked to end; the exit code."""
    log_lines(settings.log_level.upper(), "%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger().addHandler(_Recent())
    leave_out()
    wiring = part("wiring", settings, make=True)
    state = Path(settings.state)
    if any((state / name).exists() for name in (DECOMMISSION, DECOMMISSIONED)):
        wipe = importlib.import_module("agent.commands.wipe")
        if wipe.ordered(settings):
            return int(wipe.run(settings))
    _log.info("edgefleet-agent %s, state in %s", __version__, settings.state)
    ours = occupied(Path(settings.runtime), make=True, otherwise="set a runtime folder of its own for each agent")
    with occupied(state), ours:
        again = asyncio.run(wiring.run(settings))
    if again:
        start_again()
    return 0


def start_again() -> None:
    """Become a new process of the same program, where no service manager starts one."""
    if not os.environ.get("NOTIFY_SOCKET"):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - what was started before
