"""``rotate-key``: the device makes itself a new key and has it certified, before the old certificate ends."""

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.errors import NeedsOperator
from modules.protocol.commands import Command


async def run(_command: Command, parts: Parts, saying: Saying) -> str:
    """Done with the serial of the new certificate in the note.

    Raises:
        NeedsOperator: this agent cannot renew.
        EdgefleetError: the renewal failed; the old key is in use.
    """
    if parts.renew is None:
        raise NeedsOperator("this agent cannot renew its certificate", element="rotate-key", remedy="update the agent")
    saying.began()
    return f"certificate {await parts.renew()}"
