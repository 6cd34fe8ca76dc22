"""``batch-start``: a batch job is taken, or refused at once where it can never run here; it runs when nobody asks."""

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.protocol.commands import Command


async def run(command: Command, parts: Parts, _saying: Saying) -> str:
    """Done once the job is written down.

    Raises:
        EdgefleetError: this device does not take it.
    """
    await parts.batch.take(command.batch)
    return "taken: it runs while this device is idle"
