"""``decommission``: everything of edgefleet on the device is stopped and removed, its identity last.

It cannot be half done: first a file says that the state folder is to be wiped, and then the agent ends. Whoever is
started on that folder from then on, now or after a power cut, wipes it (agent/commands/wipe.py), and gives the last
answer before the identity goes.
"""

from pathlib import Path

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from agent.commands.restart_agent import SENT_WITHIN_S
from agent.commands.wipe import Order, begin
from modules.protocol.commands import Command


async def run(command: Command, parts: Parts, saying: Saying) -> None:
    """Ends the agent; what is started in its place wipes the device.

    Raises:
        OSError: that it is to be wiped cannot be written down, so nothing is removed.
    """
    begin(
        Path(parts.settings.state),
        Order(
            id=command.id,
            device=parts.device,
            part=saying.next_part + 1,
            boot=parts.store.count("boot"),
            epoch=parts.store.epoch,
        ),
    )
    saying.began("the agent ends, and everything of edgefleet is removed here")
    await saying.sent(SENT_WITHIN_S)
    parts.end()
