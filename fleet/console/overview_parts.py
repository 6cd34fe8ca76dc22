"""What the overview is made of; each part is built anew when what it shows has changed, and not before."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts, rollout_parts

_ROUNDED: Final = 100
# What the way from a thing that needs somebody is called, by its kind: where it leads, and what one finds there.
WAYS: Final = {
    "server-trouble": "Check the server",
    "no-broker": "Check the broker",
    "ends-soon": "See what to renew",
    "rollout-failed": "Open {about}",
    "rollout-stopped": "Open {about}",
    "rollout-paused": "Open {about}",
    "rollout-waits": "Review {about}",
    "degraded": "See why",
    "offline": "Open device",
    "target-trouble": "Open endpoints",
    "join-waits": "Compare keys",
}


def attention(items: list[dict[str, Any]]) -> None:
    """The largest thing on the page: how much needs somebody, then each with a way to it."""
    worst = "bad" if any(one["level"] == "bad" for one in items) else "warn" if items else "good"
    count = len(items)
    said = f"{count} {'thing needs' if count == 1 else 'things need'} you" if items else "Nothing needs you"
    with ui.element("section").classes(f"ef-panel ef-needs ef-{worst}"):
        ui.label(said).classes("ef-needs-title").props('role="heading" aria-level="2"')
        for one in items:
            with ui.element("div").classes("ef-need"):
                ui.icon("error" if one["level"] == "bad" else "warning").classes(f"ef-{one['level']}").props(
                    "aria-hidden=true"
                )
                with ui.element("div").classes("ef-need-words"):
                    ui.label(one["says"][: parts.WORDS])
                    if one["since"]:
                        parts.moment(one["since"]).classes("ef-soft")
                words = way(one)
                link = ui.link(words, one["go"]).classes("ef-lead-to")
                link.props["aria-label"] = words if one["about"] in words else f"{words}: {one['about'][:100]}"


def way(one: dict[str, Any]) -> str:
    """What the link from a thing that needs somebody says; several devices are a list."""
    if one["go"].startswith("/devices?"):
        return f"List {one['kind']} devices"
    return WAYS[one["kind"]].format(about=one["about"][:100])


def devices(counts: dict[str, int]) -> None:
    """How many in which state, each leading to them."""
    with ui.element("div").classes("ef-figures"):
        for name in ("online", "updating", "degraded", "offline"):
            look = parts.look(name) if counts[name] or name == "online" else "calm"
            parts.figure(parts.number(counts[name]), name, kind=look, to=f"/devices?state={name}")
        if counts["waiting"]:
            parts.figure(parts.number(counts["waiting"]), "waiting to join", kind="warn", to="/devices#waiting")
        every = "device in all" if counts["all"] == 1 else "devices in all"
        parts.figure(parts.number(counts["all"]), every, to="/devices")


def rollouts(found: list[dict[str, Any]]) -> None:
    """Each open one as a bar, and below it its waves."""
    for one in found:
        total: dict[str, int] = {}
        for wave in one["counts_by_wave"]:
            for standing, count in wave["counts"].items():
                total[standing] = total.get(standing, 0) + count
        with ui.element("div").classes("ef-live-rollout"):
            with ui.element("div").classes("ef-line"):
                ui.link(f"{one['module']} → {one['slot']}", f"/rollouts/{one['id']}").classes("ef-strong")
                rollout_parts.state(one)
                ui.label(f"wave {one['wave']} of {one['waves']}").classes("ef-soft")
                parts.when("started", one["created"]).classes("ef-soft")
            parts.bar(rollout_parts.share(total))
            if len(one["counts_by_wave"]) > 1:
                with ui.element("div").classes("ef-live-waves"):
                    for wave in one["counts_by_wave"]:
                        with ui.element("div").classes("ef-live-wave"):
                            ui.label(f"Wave {wave['wave']}").classes("ef-soft")
                            parts.bar(rollout_parts.share(wave["counts"]))
            if one["waits_for"]:
                ui.label(one["waits_for"][: parts.WORDS]).classes("ef-soft")
    if not found:
        parts.nothing("No rollout is open.", "edgefleet rollouts start MODULE --slot main")


def modules(found: list[dict[str, Any]]) -> None:
    """Versions by how many devices run them."""
    most = max((one["devices"] + one["on_the_way"] for one in found), default=1)
    for one in found:
        with ui.element("div").classes("ef-share-row"):
            ui.label(one["module"]).classes("ef-strong")
            said = f"{parts.number(one['devices'])} device{'' if one['devices'] == 1 else 's'}"
            said += f" + {parts.number(one['on_the_way'])} on the way" if one["on_the_way"] else ""
            ui.label(said).classes("ef-soft")
            with ui.element("div").classes("ef-bar ef-thin").props("aria-hidden=true"):
                for count, kind in ((one["devices"], "good"), (one["on_the_way"], "calm")):
                    ui.element("div").classes(f"ef-share ef-{kind}").style(f"width:{100 * count / most:.2f}%")
    if not found:
        parts.nothing("No module runs anywhere yet.", "edgefleet models register model.onnx")


def answered(counts: dict[str, Any] | None) -> None:
    """Who answered requests."""
    if counts is None:
        parts.nothing("No gateway has counted requests in the last hour.", "edgefleet telemetry DEVICE")
        return
    by = (("by modules", "module", "good"), ("by the cloud", "cloud", "warn"), ("by nobody", "nobody", "bad"))
    who = "one device" if counts["devices"] == 1 else f"{counts['devices']} devices"
    whole = sum(counts[key] for _, key, _ in by)
    if not whole:
        parts.nothing(f"No application asked for an answer, by the last counts of {who}.")
        return
    share = 100 * counts["cloud"] / whole
    ui.label(f"{share:.1f} %" if 0 < share < _ROUNDED else f"{share:.0f} %").classes("ef-figure-value")
    ui.label("of requests were answered by the cloud").classes("ef-soft")
    parts.bar([(name, int(counts[key]), kind) for name, key, kind in by])
    ui.label(f"By the last counts of {who}").classes("ef-soft")


def events(found: list[dict[str, Any]]) -> None:
    """Signs of harm, the newest first."""
    for one in found:
        with ui.element("div").classes("ef-line"):
            parts.moment(one["at"]).classes("ef-soft")
            ui.label(one["kind"]).classes("ef-strong")
            if one["device"]:
                ui.link(one["device"], f"/devices/{one['device']}")
            ui.label(one["message"][: parts.WORDS]).classes("ef-words")
    if not found:
        parts.nothing("Nobody was refused, and nothing forged was seen.")


def first_steps(steps: dict[str, bool]) -> None:
    """What a new server needs, in order; what is done is ticked."""
    ui.label("Your fleet is empty: these are the first steps").classes("ef-needs-title").props(
        'role="heading" aria-level="2"'
    )
    told = (
        ("Make the fleet's keys", "They sign what devices accept.", "edgefleet keys init keys --team TEAM", "keys"),
        ("Let a device join", "Make a bundle for it: below, or by this command.", "edgefleet devices join", "join"),
        ("On the device", "The device's key never leaves it.", "edgefleet-agent enroll join.json", "device"),
        ("Register a model", "It is signed on your machine.", "edgefleet models register model.onnx", "module"),
        ("Roll it out", "Start with one device.", "edgefleet rollouts start MODULE --slot main", "rollout"),
    )  # fmt: skip
    for title, why, command, key in told:
        done = steps.get(key, False)
        with ui.element("div").classes("ef-step" + (" ef-done" if done else "")):
            ui.icon("check_circle" if done else "radio_button_unchecked").props("aria-hidden=true")
            with ui.element("div").classes("ef-need-words"):
                ui.label(title + (" (done)" if done else "")).classes("ef-strong")
                ui.label(why).classes("ef-soft")
                parts.command(command)
    ui.label("The first device appears here by itself, once it has joined.").classes("ef-soft")
