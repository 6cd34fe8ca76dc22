"""A rollout's policy as a form: the usual case in fields, whatever else as JSON. What it means, the API says."""

import json
import re
from typing import Any, Final

from nicegui import ui

MEANS: Final = {
    "standard": "One device, a tenth, a half, all; goes back if more than 2 % fail",
    "careful": "One device, a twentieth, a quarter after an approval, all; goes back if any fails",
    "all-at-once": "Everybody in one wave; stops at the first failure",
}
_ON_FAILURE: Final = {
    "": "as the preset says",
    "pause": "stop, and take nothing back",
    "revert-wave": "take the wave that failed back",
    "revert": "take all of it back",
}
# What a gate can ask for, with the limits that each measure takes.
_COMPARED: Final = ("at_most", "at_most_times")
LIMITS: Final[dict[str, tuple[str, ...]]] = {
    "p50_ms": _COMPARED,
    "p95_ms": _COMPARED,
    "error_percent": _COMPARED,
    "nan_percent": _COMPARED,
    "empty_percent": _COMPARED,
    "sample_percent": ("at_least",),
    "drift": ("at_most",),
    "memory_mb": _COMPARED,
    "memory_growth_mb_h": ("at_most",),
    "temperature_c": ("at_most",),
    "restarts": ("at_most",),
    "provider": ("is",),
}
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")


class Unreadable(Exception):
    """What somebody wrote is nothing that could be sent; it says what, and how to write it."""


def waves_of(text: str) -> list[dict[str, Any]]:
    """Waves as they are written: ``1, 10%, x2, ring=canary``; parts of one selector are joined by ``and``.

    Raises:
        Unreadable: one is none of these.
    """
    return [_wave(" ".join(one.split())) for one in text.split(",") if one.strip()]


def _wave(text: str) -> dict[str, Any]:
    if text.isdecimal():
        return {"count": int(text)}
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].strip()):
        return {"percent": float(text[:-1])}
    if text.startswith("x") and _NUMBER.fullmatch(text[1:]):
        return {"growth": float(text[1:])}
    if "=" not in text:
        raise Unreadable(f"{text[:60]!r} is no wave: write 5, 10%, x2 or ring=canary, with commas between them")
    return {"label": ",".join(text.split(" and "))}


class Gates:
    """Rows of gates; each is a measure, a limit, its value, and on how much it must rest."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._place = ui.element("div").classes("ef-rows")
        ui.button("Add a gate", icon="add", on_click=self._add).props("flat no-caps dense")

    def _add(self) -> None:
        row: dict[str, Any] = {}
        with self._place, ui.element("div").classes("ef-line") as line:
            row["measure"] = ui.select(list(LIMITS), value="error_percent", label="Measure")
            row["limit"] = ui.select(list(LIMITS["error_percent"]), value="at_most", label="Limit")
            row["value"] = ui.input("Value").classes("ef-short")
            row["minimum"] = ui.number("Rests on at least", value=1, min=1, precision=0).classes("ef-short")
            for field in row.values():
                field.props("outlined dense")
            row["missing"] = ui.checkbox("No obstacle while it is not known")
            ui.button(icon="delete", on_click=lambda: self._remove(row, line)).props(
                'flat dense aria-label="Remove gate"'
            )

            def limited() -> None:
                allowed = list(LIMITS[row["measure"].value])
                row["limit"].set_options(allowed, value=allowed[0])

            row["measure"].on_value_change(limited)
        self._rows.append(row)

    def _remove(self, row: dict[str, Any], line: ui.element) -> None:
        self._rows.remove(row)
        line.delete()

    def written(self) -> list[dict[str, Any]]:
        """The gates as the API takes them.

        Raises:
            Unreadable: a limit is no number.
        """
        return [_gate({name: field.value for name, field in row.items()}) for row in self._rows]


def _gate(given: dict[str, Any]) -> dict[str, Any]:
    text = (given["value"] or "").strip()
    if given["limit"] != "is" and not re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise Unreadable(f"the gate on {given['measure']} needs a number as its value")
    found = {"measure": given["measure"], given["limit"]: text if given["limit"] == "is" else float(text)}
    if given["minimum"]:
        found["minimum"] = int(given["minimum"])
    return found | ({"missing": "pass"} if given["missing"] else {})


class PolicyForm:
    """The fields, made where this is."""

    def __init__(self) -> None:
        with ui.element("div").classes("ef-fields"):
            self._preset = ui.select(list(MEANS), value="standard", label="Preset")
            self._waves = ui.input("Waves, if others than the preset's", placeholder="such as 1, 10%, 50%, 100%")
            self._soak = ui.input("Watch each complete wave for", placeholder="such as 10m")
            self._failure = ui.number("Percent that may fail", min=0, max=100, placeholder="such as 2")
            self._on_failure = ui.select(_ON_FAILURE, value="", label="If it fails")
            self._deadline = ui.input("Each device has at most", placeholder="such as 1d")
            for field in (self._preset, self._waves, self._soak, self._failure, self._on_failure, self._deadline):
                field.props("outlined dense stack-label")
        means = ui.label(MEANS["standard"]).classes("ef-soft")
        self._preset.on_value_change(lambda: means.set_text(MEANS.get(self._preset.value, "")))
        self._approval = ui.checkbox("Each wave waits for an approval")
        ui.label("Gates: what a device must measure before it counts as done").classes("ef-strong")
        self._gates = Gates()
        with ui.expansion("More of the policy, as JSON").classes("ef-whole"):
            ui.label("Any field of docs/rollouts.md; it goes before what stands above.").classes("ef-soft")
            self._more = ui.textarea("Fields of the policy", placeholder='{"concurrency": 20, "late_joiners": true}')
            self._more.props("outlined autogrow").classes("ef-wide-field ef-mono")

    def written(self) -> dict[str, Any]:
        """The policy as the API takes it.

        Raises:
            Unreadable: a field is nothing that could be sent.
        """
        found: dict[str, Any] = {"preset": self._preset.value}
        if waves := waves_of(self._waves.value or ""):
            found["waves"] = waves
        for name, field in (("soak", self._soak), ("deadline", self._deadline), ("on_failure", self._on_failure)):
            if text := (field.value or "").strip():
                found[name] = text
        if self._failure.value is not None:
            found["failure_percent"] = float(self._failure.value)
        if self._approval.value:
            found["approval"] = True
        if listed := self._gates.written():
            found["gates"] = listed
        return found | _object(self._more.value or "")


def _object(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the rest is not JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Unreadable('the rest has to be one JSON object: {"concurrency": 20}')
    return found
