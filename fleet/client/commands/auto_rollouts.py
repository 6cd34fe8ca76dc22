"""``edgefleet auto-rollouts``: newly signed versions of a model start their rollouts by themselves."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fleet.client import arguments, config
from fleet.client.api import Fleet
from fleet.client.commands import policy_options
from fleet.client.screen import Json, Screen

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
    slot: Annotated[str, typer.Option(help="The slot on the device.")],
    selector: Annotated[str, typer.Option(help="Which devices, as for rollouts start; * for all.")],
    tag: Annotated[list[str] | None, typer.Option(help="key=value that a version must be tagged with.")] = None,
    engine: Annotated[Literal["docker", "process"], typer.Option(help="What runs it on the device.")] = "docker",
    setting: Annotated[list[str] | None, typer.Option(help="key=value that the manifest lets an order change.")] = None,
    policy: policy_options.PolicyFile = None,
    preset: policy_options.Preset = None,
    wave: policy_options.Waves = None,
    on_failure: policy_options.OnFailure = None,
    as_json: Json = False,
) -> None:
    """Add a rule. What it starts takes the devices from older rollouts of the slot."""
    settings = {key: arguments.value(text) for key, text in arguments.pairs(setting or (), option="--setting").items()}
    request: dict[str, Any] = {
        "name": name,
        "model": model,
        "slot": slot,
        "selector": selector,
        "tags": arguments.pairs(tag or (), option="--tag"),
        "engine": engine,
        "settings": settings,
        "policy": _policy(policy, wave, preset=preset, on_failure=on_failure),
    }
    with Fleet(config.load()) as fleet:
        made = fleet.add_auto_rollout(request)
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
            ("RULE", "MODEL", "TAGS", "SLOT", "DEVICES", "LAST", "ROLLOUT"),
            (
                (one.name, one.model, _tags(one.tags), one.slot, one.selector, one.last or "", one.rollout or "")
                for one in rules
            ),
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


def _tags(tags: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in tags.items())
