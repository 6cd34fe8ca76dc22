"""``restart-agent``: the agent ends in order and is started again. What serves goes on without it.

The last answer is the next agent's: it finds this command without one (agent/commands/desk.py).
"""

from typing import Final

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.protocol.commands import Command

#: So long the broker may take for what is to be said before.
SENT_WITHIN_S: Final = 5.0


async def run(_command: Command, parts: Parts, saying: Saying) -> None:
    """Ends the agent."""
    saying.began("the agent ends, and is started again")
    await saying.sent(SENT_WITHIN_S)
    parts.end()
