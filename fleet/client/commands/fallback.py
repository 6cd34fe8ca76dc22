"""``edgefleet fallback``: who answers instead of which devices, kept on the server and put into every order."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.client import arguments, config, fallbacks
from fleet.client.api import Fleet
from fleet.client.commands import fallback_options
from fleet.client.fallbacks import Fallback, Preview
from fleet.client.screen import Json, Screen, when
from modules.errors import Invalid
from modules.names import slot_name, slug

app = typer.Typer(no_args_is_help=True, help="Say who answers instead of devices, until when, and for how much money.")
Module = Annotated[str, typer.Argument(help="team/name: of all its versions.")]
Look = Annotated[bool, typer.Option("--preview", help="Change nothing; show whose orders would change, and how.")]
Group = Annotated[str, typer.Option(help="Which devices by label: site=berlin; without it, all that have no other.")]


@app.command("set")
def put(
    module: Module,
    group: Group = "*",
    endpoint: Annotated[str | None, typer.Option(help="The endpoint of this fleet that answers.")] = None,
    url: Annotated[str | None, typer.Option(help="Instead, an https address that answers.")] = None,
    cases: Annotated[
        str | None,
        typer.Option("--when", help="unplaceable, unhealthy, overloaded, with commas between (the first two); never."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="For --url: where it is, for modules with a data rule.")] = None,
    ca: Annotated[Path | None, typer.Option(help="For --url: PEM file of who may name it.")] = None,
    waiting: Annotated[
        int | None, typer.Option(min=1, help="Overloaded from so many waiting requests on (16).")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(min=0, help="Overloaded when answers take longer.")] = None,
    requests_a_day: Annotated[int | None, typer.Option(min=0, help="Requests of each device a day, by UTC.")] = None,
    money_a_day: Annotated[
        float,
        typer.Option(min=0, help="What the endpoint may cost a day, by its target's prices; 0: no bound."),
    ] = 0.0,
    linger: Annotated[str, typer.Option(help="How much longer it runs then: 90s, 15m, 2h.")] = "15m",
    *,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="The endpoint runs only while a device needs it.")
    ] = False,
    preview: Look = False,
    as_json: Json = False,
) -> None:
    """Say who answers where devices cannot; orders are made anew, and no module is started or proved again."""
    if endpoint and url:
        raise Invalid("two answer", element="--endpoint", remedy="say --endpoint or --url")
    terms = fallback_options.terms(
        when=cases, ca=ca, option="--", region=region, waiting=waiting, latency_ms=latency_ms,
        requests_a_day=requests_a_day,
    )  # fmt: skip
    request: dict[str, Any] = {
        "group": group,
        "fallback": f"endpoint:{slot_name(endpoint)}" if endpoint else url or "",
        "terms": terms,
        "on_demand": on_demand,
        "linger_s": int(arguments.seconds(linger, option="--linger")),
        "money_a_day": money_a_day,
    }
    with Fleet(config.load()) as fleet:
        if preview:
            _preview(fallbacks.preview(fleet, _model(module), request), as_json=as_json)
            return
        done = fallbacks.put(fleet, _model(module), request)
    Screen(as_json=as_json).show(done, lambda it: _show(it, done))


@app.command("list")
def list_fallbacks(*, as_json: Json = False) -> None:
    """List the policies: which devices, who answers, and how that stands."""
    with Fleet(config.load()) as fleet:
        found = fallbacks.every(fleet)
    rows = [
        (one.module, one.group, one.who, ", ".join(one.when) or "never", one.state, one.spent_today, one.why)
        for one in found
    ]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("MODULE", "GROUP", "WHO ANSWERS", "WHEN", "STATE", "COST TODAY", "WHY"),
            rows,
            empty="No policies: edgefleet fallback set",
        ),
    )


@app.command()
def show(module: Module, group: Group = "*", *, as_json: Json = False) -> None:
    """Show one policy: how its endpoint stands and why, and what it has cost."""
    with Fleet(config.load()) as fleet:
        found = fallbacks.one(fleet, _model(module), group)
    Screen(as_json=as_json).show(found, lambda it: _show(it, found))


@app.command()
def requests(module: Module, group: Group = "*", *, as_json: Json = False) -> None:
    """Show how many requests the devices of a policy have sent to the cloud today (UTC), and which the most."""
    with Fleet(config.load()) as fleet:
        found = fallbacks.requests(fleet, _model(module), group)
    at_least = "" if found.whole else "at least "
    bound = f", of {found.a_day * found.slots} ({found.a_day} each)" if found.a_day else ", without a bound"
    fields = [
        ("devices", f"{found.devices}, of which {found.told} have told today"),
        ("requests", f"{at_least}{found.sent}{bound}"),
        *([("nothing left", f"{found.spent} of {found.slots} slots, until 00:00 UTC")] if found.a_day else []),
    ]
    rows = [(one.device, one.slot, one.sent) for one in found.most]

    def show_them(screen: Screen) -> None:
        screen.fields(fields)
        screen.table(("DEVICE", "SLOT", "REQUESTS"), rows, empty="Nobody has sent any today.")

    Screen(as_json=as_json).show(found, show_them)


@app.command()
def remove(module: Module, group: Group = "*", *, preview: Look = False, as_json: Json = False) -> None:
    """Remove a policy; a less specific one holds again."""
    with Fleet(config.load()) as fleet:
        if preview:
            asked = {"group": group, "remove": True}
            _preview(fallbacks.preview(fleet, _model(module), asked), as_json=as_json)
            return
        done = fallbacks.remove(fleet, _model(module), group)
    Screen(as_json=as_json).show(done, lambda it: it.say(f"the policy of {module} for {group} is removed"))


def _preview(found: Preview, *, as_json: bool) -> None:
    rows = [(one.device, one.slot, one.module, one.before, one.after) for one in found.named]

    def show_it(screen: Screen) -> None:
        screen.table(("DEVICE", "SLOT", "MODULE", "ANSWERS NOW", "WOULD ANSWER"), rows, empty="No order would change.")
        for version, why in found.refused.items():
            screen.remark(f"Not for {version}: {why}")
        if found.slots > len(rows):
            screen.remark(f"... of {found.slots} slots on {found.devices} devices.")

    Screen(as_json=as_json).show(found, show_it)


def _show(screen: Screen, one: Fallback) -> None:
    prices = f" ({one.costs.prices})" if one.costs and one.costs.prices else ""
    screen.fields(
        [
            ("module", one.module),
            ("group", one.group),
            ("who answers", one.who),
            ("when", ", ".join(one.when) or "never"),
            *((name, str(value)) for name, value in one.terms.items()),
            *([("runs", f"on demand, and {one.linger_s} s longer")] if one.on_demand else []),
            *([("state", one.state), ("why", one.why)] if one.state else []),
            *([("cost today", one.spent_today + prices)] if one.spent_today else []),
            *([("spent", "nobody is sent there until 00:00 UTC")] if one.spent else []),
            *((f"not for {version}", why) for version, why in one.refused.items()),
            ("changed", f"{when(one.changed)} by {one.by}"),
        ]
    )


def _model(text: str) -> str:
    team, slash, name = text.partition("/")
    if not slash or ":" in name:
        raise Invalid(f"{text[:80]!r} is no model", element="MODULE", remedy="write team/name, without a version")
    return f"{slug(team, what='team')}/{arguments.model_name(name)}"
