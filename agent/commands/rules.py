"""Which commands a device follows: the reasons against a genuine one, without I/O.

The signature has been verified before. A broker can keep a command, say it again, and say it elsewhere; so what counts
is the device that it names, its topic, its times, and whether it may have been followed already.
"""

from datetime import UTC, datetime

from modules.names import DeviceId
from modules.order_rules import LONGEST_LEAP, Objection
from modules.protocol.commands import Command


def objections(
    command: Command, *, own: DeviceId, topic: tuple[str, str], now: datetime, floor: int
) -> tuple[Objection, ...]:
    """Every reason against a command that this device does not know yet; none means that it is followed.

    Args:
        command: as :func:`modules.protocol.commands.check` takes it.
        own: this device's id.
        topic: the name and the id in the topic at which it came.
        now: the time that the device believes, as for orders (``modules.order_rules.believed_time``).
        floor: commands issued at this second (Unix) or before are not known any more, so this may be one of them.
    """
    found = []
    if command.device != own:
        found.append(
            Objection("other-device", "device", f"the command is for {command.device}, and this is {own}", "ask anew")
        )
    if (command.name, command.id) != topic:
        found.append(
            Objection(
                "other-topic",
                "topic",
                f"it came as {'/'.join(topic)[:140]} and says that it is {command.name}/{command.id}",
                "find out who publishes it",
            )
        )
    if _time(command.expires) <= now:
        found.append(
            Objection("expired", "expires", f"it expired at {_time(command.expires):%Y-%m-%d %H:%M} UTC", "ask anew")
        )
    if _time(command.issued) > now + LONGEST_LEAP:
        found.append(
            Objection(
                "not-yet-issued",
                "issued",
                f"it is from {_time(command.issued):%Y-%m-%d %H:%M} UTC, and here it is {now:%Y-%m-%d %H:%M}",
                "set the clocks of server and device",
            )
        )
    if command.issued <= floor:
        found.append(
            Objection(
                "stale", "issued", "it is older than what this device remembers, and may have been followed", "ask anew"
            )
        )
    return tuple(found)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
