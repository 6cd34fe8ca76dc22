"""Rows as agents before version 2 of the database kept them: read once, at the update.

One document for everything, with the fallback among what was ordered, and *degraded* as a phase of its own.
"""

from typing import Any

import msgspec

from agent.slots import Slot


def read(data: bytes) -> Slot:
    """The row of version 1 as one of version 2.

    Raises:
        msgspec.ValidationError: it is neither.
    """
    return convert(msgspec.json.decode(data, type=dict[str, Any]))


def convert(old: dict[str, Any]) -> Slot:
    """As :func:`read`, from what the document holds."""
    parts = ("phase", "times", "since", "attempts", "not_before", "progress")
    target: dict[str, Any] = {name: old[name] for name in parts if name in old}
    upkeep: dict[str, Any] = {name: old[name] for name in ("restarts", "restart_after") if name in old}
    if target.get("phase") == "degraded":
        target["phase"] = "committed"
    if old.get("reason") and target.get("phase") == "committed":
        upkeep["trouble"] = old["reason"]
    else:
        target["reason"] = old.get("reason")
    candidate = {"candidate": _placed(old["candidate"])} if old.get("candidate") else {}
    row = {
        "slot": old["slot"],
        "target": {**target, **_ordered(old["wanted"]), **candidate},
        "upkeep": upkeep,
        **{name: _placed(old[name]) for name in ("current", "previous") if old.get(name)},
    }
    return msgspec.convert(row, type=Slot)


def _placed(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, **_ordered(old["wanted"])}


def _ordered(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "wanted": {name: value for name, value in wanted.items() if name != "fallback"},
        "routing": {"fallback": wanted.get("fallback")},
    }
