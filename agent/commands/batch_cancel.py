"""``batch-cancel``: a batch job ends; what it has answered stays where it is."""

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.protocol.commands import Command


async def run(command: Command, parts: Parts, _saying: Saying) -> str:
    """Done once it is written down; its container goes within seconds."""
    return str(parts.batch.cancel(command.batch))
