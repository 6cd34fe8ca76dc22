"""The agent itself, as systemd starts it; and how a part of the program is loaded when it is called for."""

import asyncio
import importlib
import logging
from pathlib import Path
from typing import Any

from agent.occupied import occupied
from agent.owner import act_as_owner
from agent.settings import Settings
from modules import __version__
from modules.words import log_lines

_log = logging.getLogger("agent")


def part(name: str, settings: Settings, *, make: bool = False) -> Any:
    """A command's own part, with which the program goes on as the owner of the state folder."""
    # In this order: another user may not be able to read where root's Python lives.
    part = importlib.import_module(f"agent.{name}")
    act_as_owner(Path(settings.state), make=make)
    return part


def run(settings: Settings) -> int:
    """Run the agent until it is asked to end; the exit code."""
    log_lines(settings.log_level.upper(), "%(asctime)s %(levelname)s %(name)s %(message)s")
    wiring = part("wiring", settings, make=True)
    _log.info("edgefleet-agent %s, state in %s", __version__, settings.state)
    ours = occupied(Path(settings.runtime), make=True, otherwise="set a runtime folder of its own for each agent")
    with occupied(Path(settings.state)), ours:
        asyncio.run(wiring.run(settings))
    return 0
