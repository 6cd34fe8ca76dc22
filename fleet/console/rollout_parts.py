"""What the pages of rollouts are made of: waves as bars, gates as rows, and what somebody may do now."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from nicegui import ui

from fleet.console import parts
from fleet.console.visit import Visit

# Where devices stand, in the order of a bar, by how each is shown.
STANDINGS: Final = {
    "succeeded": "good",
    "working": "calm",
    "failed": "bad",
    "unreturned": "bad",
    "stopped": "bad",
    "recalled": "warn",
    "returning": "warn",
    "returned": "warn",
    "unreached": "warn",
    "superseded": "left",
    "skipped": "left",
    "gone": "left",
    "planned": "left",
}
_LIMITS: Final = {"at_most": "≤ {}", "at_least": "≥ {}", "at_most_times": "≤ {} times before", "is": "is {}"}
# The end of a measure's name says what it is in.
_UNITS: Final = {"_ms": "ms", "_percent": "%", "_mb": "MiB", "_mb_h": "MiB/h", "_c": "°C"}
_VERDICTS: Final = {"failed": "failed", "met": "met", "waits": "wait"}
_OPEN: Final = ("running", "paused", "scheduled")
_ENDED: Final = ("done", "partial", "failed")


class Act(NamedTuple):
    """Something that a person can do with a rollout: what it is called, what it will do, and what is said then."""

    name: str
    title: str
    consequence: str
    done: str
    permission: str = "rollout:write"
    grave: bool = False


_ACTS: Final = (
    Act(
        "approve",
        "Approve",
        "The next wave opens as soon as all that are open are complete.",
        "the next wave is approved",
        "rollout:approve",
    ),
    Act("resume", "Resume", "Devices get their orders again, and waves open as the policy says.", "it goes on"),
    Act(
        "retry",
        "Retry",
        "The devices that failed get the same module again, and the rollout goes on.",
        "devices that failed try again",
    ),
    Act(
        "pause",
        "Pause",
        "No device gets an order from now on. Devices that have begun finish what they have begun.",
        "it is paused",
    ),
    Act(
        "cancel",
        "Cancel",
        "The rollout ends. Devices on their way go back to what they ran before; those that committed keep it.",
        "it is cancelled",
        grave=True,
    ),
    Act(
        "revert",
        "Revert",
        "Every device goes back to exactly what it ran before this rollout.",
        "it is being taken back",
        grave=True,
    ),
)


def possible(visit: Visit, found: Mapping[str, Any]) -> list[Act]:
    """What this person may do with a rollout as it is."""
    if found["forgotten"] is not None:
        return []
    return [one for one in _ACTS if visit.may(one.permission) and _allows(found, one.name)]


def may_skip(visit: Visit, found: Mapping[str, Any], standing: str) -> bool:
    """Whether this person may leave out a device that stands so."""
    over = found["state"] in ("cancelled", "reverting", "reverted")
    counted = ("planned", "working", "succeeded", "failed", "unreached", "stopped")
    return visit.may("rollout:write") and not over and standing in counted


def _allows(found: Mapping[str, Any], act: str) -> bool:
    state, counts = found["state"], found["counts"]
    match act:
        case "pause":
            return state in ("running", "scheduled")
        case "resume":
            return bool(state == "paused")
        case "cancel":
            return state in _OPEN
        case "revert":
            return state in ("running", "paused", "cancelled", *_ENDED)
        case "retry":
            failed = counts.get("failed", 0) + counts.get("stopped", 0)
            return bool(failed) and state in ("running", "paused", *_ENDED)
    if state not in _OPEN or found["wave"] >= found["waves"] or found["approved"] > found["wave"]:
        return False
    return bool(found["plan"][found["wave"]]["threshold"]["approval"])


def waits(found: Mapping[str, Any]) -> bool:
    """Whether it stands still until somebody approves its next wave."""
    return found["state"] == "running" and "approval" in found["waits_for"]


def state(found: Mapping[str, Any]) -> ui.label:
    """The state of a rollout, or that it waits for somebody: for whoever looks that is what it does."""
    if waits(found):
        return ui.label("waits for approval").classes("ef-state ef-warn")
    return parts.state(found["state"])


def share(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Devices by where they stand, as a bar takes them."""
    return [(name, counts[name], kind) for name, kind in STANDINGS.items() if counts.get(name)]


def worst_first(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Devices of a rollout: what went wrong, then what is under way, then the others; each by id, as they come."""
    ranks = ("bad", "warn", "calm", "left", "good")
    return sorted(found, key=lambda one: ranks.index(STANDINGS.get(one["standing"], "calm")))


def passed(found: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Waves of a rollout in a list: those that are complete, the one that is open, those to come."""
    state, wave, waves = found["state"], found["wave"], found["waves"]
    if state in ("done", "partial"):
        return [(_waves("complete", waves), waves, "good" if state == "done" else "warn")]
    kind = {"failed": "bad", "running": "calm"}.get(state, "warn")
    back = state in ("reverting", "reverted")
    before = (
        (_waves("taken back", wave), wave, kind) if back else (_waves("complete", wave - 1), max(wave - 1, 0), "good")
    )
    opened = (_waves("open" if state in _OPEN else state, 1), 0 if back else min(wave, 1), kind)
    return [before, opened, (_waves("not opened", waves - wave), waves - wave, "left")]


def _waves(words: str, count: int) -> str:
    return f"{'wave' if count == 1 else 'waves'} {words}"


def ending(found: Mapping[str, Any]) -> dict[str, str]:
    """What happened last, and before that why it went wrong, where it did: what its page says first."""
    said = [one["what"] for one in found["history"]]
    went = found["state"] in ("failed", "reverting", "reverted", "cancelled")
    wrong = ("failed: ", "reverting: ", "cancelled: ")
    cause = next((what for what in reversed(said) if what.startswith(wrong)), "") if went else ""
    last = said[-1] if said and said[-1] != cause else ""
    return {"cause": cause, "last": last if went or found["state"] in ("done", "partial") else ""}


def draw_waves(found: Mapping[str, Any]) -> None:
    """Each wave as wide as it has devices, with where they stand; what is asked of it stands below."""
    with ui.element("div").classes("ef-waves"):
        for one in found["plan"]:
            counts, number = one["counts"], one["wave"]
            devices = sum(counts.values())
            opened = number <= found["wave"]
            with ui.element("div").classes("ef-wave" + (" ef-open" if opened else "")) as place:
                place.style(f"flex-grow:{max(devices, 1)}")
                with ui.element("div").classes("ef-line"):
                    ui.label(f"Wave {number}").classes("ef-strong")
                    ui.label(_devices(devices))
                    ui.label(_openness(opened, found["state"], counts)).classes("ef-soft")
                parts.bar(share(counts))
                ui.label(_asked(one)).classes("ef-soft")


def _openness(opened: bool, state: str, counts: Mapping[str, int]) -> str:  # noqa: FBT001 - what the name asks
    if state not in _OPEN:
        return "" if opened else "never opened"
    if not opened:
        return "not open yet"
    under_way = any(counts.get(one) for one in ("planned", "working", "recalled", "returning"))
    return "complete" if counts.get("succeeded") and not under_way else "open"


def _devices(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


def _asked(wave: Mapping[str, Any]) -> str:
    asked = wave["threshold"]
    said = [wave["rule"][: parts.WORDS], f"{asked['success_percent']:g} % must succeed"]
    if asked["soak_s"]:
        said.append(f"watched for {asked['soak_s']} s")
    if asked["approval"]:
        said.append("after another person's approval" if asked.get("four_eyes") else "after an approval")
    return " · ".join(said)


GATES: Final = (
    parts.Column("wave", "Wave"),
    parts.Column("gate", "Gate"),
    parts.Column("verdict", "Verdict", "state"),
    parts.Column("value", "Worst value"),
    parts.Column("rests", "Measured"),
    parts.Column("device", "Device", "link"),
)


def gate_rows(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each gate sees, as rows of the table."""
    return [_gate(number, one) for number, one in enumerate(gates)]


def _gate(number: int, one: Mapping[str, Any]) -> dict[str, Any]:
    worst = one["worst"] or {}
    said = [
        f"{one[name]} {word}" for name, word in (("failed", "failed"), ("met", "met"), ("waits", "wait")) if one[name]
    ]
    unit = next((f" {unit}" for end, unit in _UNITS.items() if one["measure"].endswith(end)), "")
    value, before = (
        f"{figure(it)}{unit}" if (it := worst.get(name)) is not None else "" for name in ("value", "before")
    )
    allowed = figure(one["allowed"]) + ("" if one["limit"] == "at_most_times" else unit)
    rests = worst.get("rests_on")
    device = worst.get("device", "")
    return {
        "id": number,
        "wave": one["wave"],
        "gate": f"{one['measure']} {_LIMITS[one['limit']].format(allowed)}",
        "verdict": ", ".join(said) or "nobody measured yet",
        "verdict_look": "bad" if one["failed"] else "warn" if one["waits"] else "good" if one["met"] else "calm",
        "value": value + (f" ({before} before)" if before else ""),
        "rests": f"{parts.number(rests)} times, {parts.number(one['minimum'])} needed" if rests is not None else "",
        "device": device,
        "device_to": f"/devices/{device}",
    }


def figure(value: float | str | None) -> str:
    """Four digits are enough to compare."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, int | float) else value[: parts.WORDS]
