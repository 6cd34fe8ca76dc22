"""``edgefleet auto-rollouts``: newly signed versions of a model start their rollouts by themselves."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fleet.client import arguments, config
from fleet.client.answers import AutoRollout
from fleet.client.api import Fleet
from fleet.client.commands import policy_options
from fleet.client.screen import Json, Screen
from modules.names import slot_name

app = typer.Typer(
    no_args_is_help=True, help="Have newly signed versions of a model start their rollouts by themselves."
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for the rule.")],
    model: Annotated[
        str, typer.Argument(help="team/name; each version of it that is signed from now on is looked at.")
    ],
    *,
    slot: Annotated[str | None, typer.Option(help="The slot on the device.")] = None,
    selector: Annotated[str | None, typer.Option(help="Which devices, as for rollouts start; * for all.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Instead of devices: the endpoint whose requests go over, share by share.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="How many of each version run at the endpoint (as many as of the one before).")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value that a version must be tagged with.")] = None,
    engine: Annotated[Literal["docker", "process"], typer.Option(help="What runs it on the device.")] = "docker",
    setting: Annotated[list[str] | None, typer.Option(help="key=value that the manifest lets an order change.")] = None,
    policy: policy_options.PolicyFile = None,
    preset: policy_options.Preset = None,
    wave: policy_options.Waves = None,
    on_failure: policy_options.OnFailure = None,
    as_json: Json = False,
) -> None:
    """Add a rule. What it starts takes the devices or the endpoint from older rollouts that are still open."""
    request: dict[str, Any] = {
        "name": name,
        "model": model,
        "tags": arguments.pairs(tag or (), option="--tag"),
        "policy": _policy(policy, wave, preset=preset, on_failure=on_failure),
    }
    if endpoint is not None:
        if slot or selector or setting or engine != "docker":
            raise typer.BadParameter("an endpoint has no slot, devices, engine or settings: say --endpoint alone")
        request |= {"replicas": replicas or 0}
    elif slot is None or selector is None or replicas is not None:
        raise typer.BadParameter("say --slot and --selector; or --endpoint, which alone has --replicas")
    else:
        texts = arguments.pairs(setting or (), option="--setting")
        settings = {key: arguments.value(text) for key, text in texts.items()}
        request |= {"slot": slot, "selector": selector, "engine": engine, "settings": settings}
    with Fleet(config.load()) as fleet:
        made = fleet.add_auto_rollout(request, endpoint=slot_name(endpoint) if endpoint else "")
    Screen(as_json=as_json).show(
        made, lambda it: it.say(f"versions of {made.model} start rollouts by rule {made.name}")
    )


@app.command("list")
def list_rules(*, as_json: Json = False) -> None:
    """List all rules, with what each started last."""
    with Fleet(config.load()) as fleet:
        rules = fleet.auto_rollouts()
    Screen(as_json=as_json).show(
        rules,
        lambda it: it.table(
            ("RULE", "MODEL", "TAGS", "WHERE", "DEVICES", "LAST", "ROLLOUT"),
            ((one.name, one.model, _tags(one.tags), *_where(one), one.last or "", one.rollout or "") for one in rules),
            empty="No rules: edgefleet auto-rollouts add NAME TEAM/MODEL --slot SLOT --selector LABELS",
        ),
    )


@app.command()
def remove(name: Annotated[str, typer.Argument(help="The rule's name.")], *, as_json: Json = False) -> None:
    """Remove a rule; what it has started goes on."""
    with Fleet(config.load()) as fleet:
        fleet.remove_auto_rollout(name)
    Screen(as_json=as_json).show({"name": name, "state": "removed"}, lambda it: it.say(f"rule {name} is removed"))


def _policy(file: Path | None, wave: list[str] | None, **options: Any) -> dict[str, Any]:
    return policy_options.combine(policy_options.read(file), wave, **options)


def _where(rule: AutoRollout) -> tuple[str, str]:
    return (f"endpoint {rule.endpoint}", "") if rule.endpoint else (f"slot {rule.slot}", rule.selector)


def _tags(tags: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in tags.items())
