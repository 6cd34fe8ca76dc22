"""``restart-module``: the committed module of a slot is started again, by the loop, as any other start of it."""

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.names import Slug
from modules.protocol.commands import Command


async def run(command: Command, parts: Parts, saying: Saying) -> str:
    """Done once the module is ready again.

    Raises:
        EdgefleetError: it is not; the loop goes on trying, as after any end of a module.
    """
    slot = Slug(command.slot or "")
    saying.began()
    await parts.loop.restart(slot)
    parts.loop.wake()
    row = parts.store.slot(slot)
    current = row.current if row else None
    return f"{current.wanted.module} is ready again as {current.instance}" if current else "it was removed meanwhile"
