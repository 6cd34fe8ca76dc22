"""``edgefleet-agent status``: what the device remembers of its slots, and who answers now; also without the agent."""

import asyncio
import sys
from pathlib import Path

import msgspec

from agent import identity as identities
from agent.answering import answering
from agent.certificate_dates import dates, day
from agent.occupied import holder
from agent.settings import Settings
from agent.slots import Slot
from agent.store import REFUSAL, Store
from modules.certificate_life import due_at
from modules.errors import BadSettings


def show(settings: Settings, *, as_json: bool) -> int:
    """Print the slots.

    Raises:
        BadSettings: the device is not enrolled, or its database or certificate is damaged.
    """
    identity = identities.load(settings.identity)
    state = Path(settings.state)
    slots, order, refusal = _remembered(state)
    answers = asyncio.run(answering(slots))
    try:
        life = dates(identities.present(settings.identity).certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise BadSettings(f"the certificate cannot be read: {error}", element=str(settings.identity)) from error
    due = due_at(life.begins, life.ends, identity.device)
    agent = holder(state)
    if as_json:
        document = {
            "device": identity.device,
            "order": order,
            "certificate": {"ends": life.ends, "renewal_due": due},
            "agent": {"runs": agent is not None, "process": agent or None},
            "broker": {"refuses": refusal},
            "answering": answers,
            # The phase and its reason as people are told them, beside what the row has.
            "slots": [{**msgspec.to_builtins(one), "phase": one.standing, "reason": one.reason} for one in slots],
        }
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
        return 0
    runs = "runs" if agent is not None else "does not run: nothing is restarted, updated or reported"
    lines = [f"device {identity.device}, order {order or 'none yet'}; the agent {runs}"]
    lines.append(f"  certificate until {day(life.ends)}, renewal due {day(due)}")
    lines += [f"  {refusal}"] if refusal else []
    for slot in slots:
        lines += _described(slot, answers=answers.get(slot.slot, False))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _remembered(state: Path) -> tuple[tuple[Slot, ...], int, str]:
    """Slots, the newest order, and why the broker refuses the device; none of them before the agent has run."""
    if not (state / "agent.db").exists():
        return (), 0, ""
    store = Store(state, read_only=True)
    try:
        return store.slots(), int(store.number("order")), store.text(REFUSAL)
    finally:
        store.close()


def _described(slot: Slot, *, answers: bool) -> list[str]:
    serving = slot.serving
    if serving is None:
        who = "nothing answers"
    else:
        who = f"{serving.wanted.module} on {serving.provider or serving.wanted.engine}"
        who += " answers" if answers else " should answer and DOES NOT"
    lines = [f"  {slot.slot}: {who}; {slot.wanted.module} is {slot.standing}"]
    return [*lines, f"    {slot.reason.message}"] if slot.reason else lines
