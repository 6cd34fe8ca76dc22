"""``edgefleet broker check``: what does this broker enforce, and what not?"""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.client.screen import Json, Screen
from modules.errors import BadSettings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Try a broker's rules."""


@app.command()
def check(
    probes: Annotated[Path, typer.Argument(help="The folder that edgefleet-fleet broker-probes wrote.")],
    *,
    as_json: Json = False,
) -> None:
    """Try a broker's rules as a stranger and as a stolen device, and say in plain words what it does not enforce."""
    screen = Screen(as_json=as_json)
    checks, found = _checks(), []
    with screen.progress() as step:
        for finding in checks.check(_probes(probes)):
            found.append(finding)
            step(f"{len(found)} checks, the last: {finding.name}", 0, 0)
    broken = [one for one in found if one.enforced is False]
    document = {
        "enforced": sum(one.enforced is True for one in found),
        "not_enforced": len(broken),
        "checks": [{"name": one.name, "enforced": one.enforced, "means": one.means} for one in found],
    }
    screen.show(document, lambda it: _shown(it, found, broken))
    if broken:
        raise typer.Exit(1)


def _shown(screen: Screen, found: list[Any], broken: list[Any]) -> None:
    words = {True: "yes", False: "NO", None: "-"}
    screen.table(("", "check"), [(words[one.enforced], one.name) for one in found], empty="nothing was checked")
    for one in found:
        if one.enforced is None:
            screen.say(f"- {one.name}: {one.means}")
    if not broken:
        screen.say("This broker enforces what a fleet needs.")
        return
    screen.say(f"This broker does not enforce {len(broken)} of {len(found)}:")
    for one in broken:
        screen.say(f"- {one.name}: {one.means}")


def _checks() -> Any:
    """Loaded when it is called: the client carries no MQTT library."""
    try:
        return importlib.import_module("fleet.client.broker.checks")
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"{error.name} is not installed",
            element="edgefleet broker",
            remedy="pip install 'edgefleet[client,broker]'",
        ) from error


def _probes(folder: Path) -> Any:
    return importlib.import_module("fleet.client.broker.probes").Probes(folder)
