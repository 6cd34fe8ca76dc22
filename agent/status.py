"""``edgefleet-agent status``: what the device remembers of its slots, whether the agent runs or not."""

import sys
from pathlib import Path

import msgspec

from agent import identity as identities
from agent.settings import Settings
from agent.store import Store


def show(settings: Settings, *, as_json: bool) -> int:
    """Print the slots.

    Raises:
        BadSettings: the device is not enrolled.
    """
    identity = identities.load(settings.identity)
    store = Store(Path(settings.state))
    slots, order = store.slots(), int(store.number("order"))
    store.close()
    if as_json:
        document = {"device": identity.device, "order": order, "slots": slots}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
        return 0
    lines = [f"device {identity.device}, order {order or 'none yet'}"]
    for slot in slots:
        serving = slot.serving
        who = f"{serving.wanted.module} on {serving.provider or serving.wanted.engine}" if serving else "nothing"
        lines.append(f"  {slot.slot}: {who} answers; {slot.wanted.module} is {slot.phase}")
        if slot.reason:
            lines.append(f"    {slot.reason.message}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
