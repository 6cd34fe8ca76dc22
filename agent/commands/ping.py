"""``ping``: the agent is there, which one it is, and what it takes for the time."""

import time

from agent.commands.answers import Saying
from agent.commands.parts import Parts, counted
from modules import __version__
from modules.protocol.commands import Command


async def run(_command: Command, parts: Parts, _saying: Saying) -> str:
    """The note: version, seconds since the machine started, and the clock."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(parts.clock.now()))
    slots = counted(len(parts.store.slots()), "slot")
    return f"agent {__version__}, the machine has been up {parts.clock.monotonic():.0f} s, clock {at}, {slots}"
