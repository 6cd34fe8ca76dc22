"""How the server stands, as the settings page shows it: keys, certificates, broker, what is kept, how it was set."""

from collections.abc import Sequence
from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import refused
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit

# Devices whose certificates end next.
_NEXT: Final = 5
# What the setting keeps, in words; what else there is stands among all settings.
_KEPT: Final = {
    "keep_events_s": "Events; the newest thousand stay",
    "keep_history_s": "What was decided for each slot; the newest ten decisions stay",
    "keep_rollouts_s": "Devices and history of a rollout that has ended",
    "keep_telemetry_s": "Telemetry; the newest of each device stays",
    "keep_commands_s": "Commands that are over",
    "keep_results_s": "Results that devices sent, log lines among them",
    "pending_life_s": "Keys that wait for approval",
}
_NEVER: Final = ("The audit log is kept for ever: each row holds the one before it.",)
_NAMES: Final = {
    "ca": "the fleet's authority",
    "service-ca": "the services' authority",
    "server": "the server's own",
    "broker": "the broker's",
    "service": "the server's, for the broker",
    "revocations": "the list of revoked certificates",
}
_ROLES: Final = (
    parts.Column("role", "Role"),
    parts.Column("state", "Standing", "state"),
    parts.Column("expires", "Ends", "time"),
    parts.Column("sign", "Must sign"),
    parts.Column("held", "Held by"),
    parts.Column("keys", "Keys", "words"),
)
_STATES: Final = {
    "ok": ("ok", "good"),
    "due": ("sign it again", "warn"),
    "expired": ("expired", "bad"),
    "foreign": ("no key of this server", "bad"),
}
_SETTINGS: Final = (
    parts.Column("name", "Setting"),
    parts.Column("value", "Is", "words"),
    parts.Column("default", "Default", "words"),
    parts.Column("set", "Set here"),
)
_KEY: Final = 12


class Keys:
    """Each role of the fleet's trust, and what to do about those that are not well."""

    def __init__(self) -> None:
        self._none = ui.column()
        with self._none:
            parts.nothing("This fleet has no root of trust yet, so nothing can be published.", "edgefleet keys init")
        self._table = parts.table(_ROLES, "role").classes("ef-steady ef-roles").props("hide-pagination")
        self._wrong = Redrawn(_unwell)

    def show(self, found: list[dict[str, Any]]) -> None:
        self._none.set_visibility(not found)
        self._table.set_visibility(bool(found))
        parts.fill(self._table, [_role(one) for one in found])
        self._wrong.show([one for one in found if one["state"] != "ok" or one["staged"]])


def _role(one: dict[str, Any]) -> dict[str, Any]:
    word, look = _STATES[one["state"]]
    here = f"; {len(one['here'])} here" if one["here"] else ""
    return {
        "role": one["role"],
        "state": word,
        "state_look": look,
        # The director signs orders, each of which ends by itself.
        "expires": one["expires"],
        "sign": f"{one['threshold']} of {len(one['keys'])}",
        "held": one["held_by"] + here,
        "keys": " ".join(key[:_KEY] for key in one["keys"]),
    }


def _unwell(found: Sequence[dict[str, Any]]) -> None:
    for one in found:
        name = one["role"]
        if one["state"] == "foreign":
            said = f"The owner names none of this server's keys for {name}, so it cannot sign"
            command = f"edgefleet keys rotate {name}"
        elif one["state"] != "ok" and one["held_by"] == "this server":
            said, command = f"{name} is renewed by the server itself: its log says why it was not", "edgefleet status"
        elif one["state"] != "ok":
            ended = "has expired, and devices accept nothing new" if one["state"] == "expired" else "should be renewed"
            said, command = f"{name} {ended}", f"edgefleet keys renew {name} --key KEY"
        else:
            said, command = f"A new key for {name} waits until the owner names it", f"edgefleet keys rotate {name}"
        with ui.element("div").classes("ef-line"):
            ui.label(said).classes(
                f"ef-state ef-{'bad' if one['state'] in {'expired', 'foreign'} else 'warn'} ef-wraps"
            )
            parts.command(command)


def certificates(found: dict[str, Any]) -> None:
    """When the fleet's own end, how devices' stand, and whose end next."""
    for one in sorted(found["fleet"], key=lambda each: float(each["ends"])):
        with ui.element("div").classes("ef-ends"):
            ui.label(_NAMES.get(one["name"], one["name"])).classes("ef-strong")
            parts.when("ends", one["ends"])
            if one["soon"]:
                ui.label("ends soon").classes("ef-state ef-warn")
    counts = found["buckets"]
    if not sum(counts.values()):
        ui.label("No device has a certificate yet.").classes("ef-soft")
        return
    ui.label("Certificates of devices, by when they end").classes("ef-soft")
    parts.bar(
        [
            ("ended", counts["ended"], "bad"),
            ("within 7 days", counts["7d"], "warn"),
            ("within 30 days", counts["30d"], "calm"),
            ("in more than 30 days", counts["90d"] + counts["later"], "good"),
        ]
    )
    ui.label(
        "Each device renews its own after two thirds of its life. One that ends soon is of a device that was offline."
    ).classes("ef-soft")
    near = counts["ended"] + counts["7d"] + counts["30d"]
    for one in found["devices"][: min(near, _NEXT)]:
        with ui.element("div").classes("ef-ends"):
            ui.link(one["device"], f"/devices/{one['device']}")
            parts.when("ends", one["ends"])


class Broker:
    """What the server sees of its broker, looked at when the page opens and when somebody asks."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._seen = Redrawn(_seen)
        with ui.row().classes("ef-line ef-level"):
            self._again = ui.button("Look again", icon="refresh", on_click=self.look).props("flat no-caps")
            parts.command("edgefleet server broker")
        ui.label("So far as a stranger sees it. What it enforces against devices of the fleet is tried with probes:")
        parts.command("edgefleet-fleet broker-probes FOLDER && edgefleet broker check FOLDER")

    async def look(self) -> None:
        """Connecting takes some seconds where nobody answers."""
        self._again.props("loading")
        try:
            self._seen.show(await self._visit.get("broker", unattended=True))
        except Said as said:
            refused(said)
        finally:
            self._again.props(remove="loading")


def _seen(found: list[dict[str, Any]]) -> None:
    words = {True: ("yes", "good"), False: ("no", "bad"), None: ("not seen", "calm")}
    for one in found:
        word, look = words[one["ok"]]
        with ui.element("div").classes("ef-looked"):
            ui.label(word).classes(f"ef-state ef-{look}")
            ui.label(one["name"]).classes("ef-strong")
            with ui.element("div").classes("ef-words"):
                ui.label(one["says"][: parts.WORDS])
                if one["ends"]:
                    parts.when("its certificate ends", one["ends"]).classes("ef-soft")


def kept(found: list[dict[str, Any]]) -> None:
    """How long what is kept, and which variable says so."""
    by = {one["name"]: one for one in found}
    for name, what in _KEPT.items():
        with ui.element("div").classes("ef-kept"):
            ui.label(what)
            ui.label(parts.lasting(by[name]["value"])).classes("ef-strong")
            ui.label(by[name]["variable"]).classes("ef-mono ef-soft")
    for words in _NEVER:
        ui.label(words).classes("ef-soft")
    ui.label("Change these where the server is started; they hold from its next start on.").classes("ef-soft")


class Settings:
    """Every setting, found by a part of its name."""

    def __init__(self) -> None:
        with ui.expansion("All settings").classes("ef-wide-field"):
            search = ui.input("Find a setting").props("dense outlined clearable")
            self._table = parts.table(_SETTINGS, "name").classes("ef-steady")
            search.bind_value_to(self._table, "filter", forward=lambda text: text or "")
            parts.command("edgefleet server settings")

    def show(self, found: list[dict[str, Any]]) -> None:
        parts.fill(self._table, [_setting(one) for one in found])


def _setting(one: dict[str, Any]) -> dict[str, Any]:
    words = {name: "not set" if one[name] in (None, "") else str(one[name])[:200] for name in ("value", "default")}
    return words | {"name": one["variable"], "set": "yes" if one["changed"] else ""}


def warned(told: dict[str, Any]) -> None:
    """The server's own words of how it is."""
    with ui.row().classes("ef-line"):
        ui.label(f"edgefleet {told['version']}")
        parts.state("ok" if told["status"] == "ok" else "failed")
        ui.label(f"broker: {told['broker']}").classes("ef-soft")
    warnings = told["warnings"]
    for one in warnings if isinstance(warnings, list) else [f"{name}: {count}" for name, count in warnings.items()]:
        ui.label(str(one)[: parts.WORDS]).classes("ef-state ef-warn ef-wraps")
    for one in told["notes"]:
        ui.label(str(one)[: parts.WORDS]).classes("ef-state ef-warn ef-wraps")
    if told["mishaps"]:
        said = ", ".join(f"{name}: {count}" for name, count in sorted(told["mishaps"].items()))
        ui.label(f"Failed alone since the start, while all else went on: {said}").classes("ef-soft")
