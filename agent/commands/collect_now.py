"""``collect-now``: facts, report and telemetry are said at once, whether or not anything has changed."""

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from modules.protocol.commands import Command


async def run(_command: Command, parts: Parts, _saying: Saying) -> str:
    """Done once facts and report were handed to the broker, or are kept until it is there; telemetry follows."""
    await parts.host.look()
    parts.outbox.forget_facts()
    parts.outbox.forget_report()
    await parts.outbox.report(parts.store.slots())
    await parts.outbox.facts(parts.host.facts)
    parts.telemetry.collect_now()
    return "facts and report were said, telemetry is on its way"
