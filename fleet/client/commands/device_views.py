"""``edgefleet devices sites``, ``health`` and ``selectors``: the fleet by place and time, and selectors."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from modules.names import slug

selectors = typer.Typer(no_args_is_help=True)
_STATES = ("online", "updating", "degraded", "offline", "revoked")
Name = Annotated[str, typer.Argument(help="The name of the selector.")]
Shared = Annotated[bool, typer.Option("--shared", help="For everybody who may read devices.")]


@selectors.callback()
def group() -> None:
    """Keep selectors under a name, for yourself or for everybody."""


@selectors.command("list")
def list_selectors(*, as_json: Json = False) -> None:
    """List your own selectors, and those that are shared."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", "saved-selectors")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("NAME", "SELECTOR", "WHOSE"),
            ((one["name"], one["selector"], f"shared by {one['by']}" if one["shared"] else "yours") for one in found),
            empty="None is kept yet: edgefleet devices selectors save NAME SELECTOR",
        ),
    )


@selectors.command()
def save(
    name: Name,
    selector: Annotated[str, typer.Argument(help="As rollouts take it: site=berlin,line!=2.")],
    *,
    shared: Shared = False,
    as_json: Json = False,
) -> None:
    """Keep a selector, or change one of that name."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("PUT", _place(name, shared=shared), {"selector": selector})
    Screen(as_json=as_json).show(found, lambda it: it.say(f"{found['name']}: {found['selector']}"))


@selectors.command()
def remove(name: Name, *, shared: Shared = False, as_json: Json = False) -> None:
    """Forget a selector."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("DELETE", _place(name, shared=shared))
    Screen(as_json=as_json).show(found, lambda it: it.say(f"{found['name']} is forgotten"))


def sites(
    *,
    label: Annotated[str, typer.Option(help="The key of the label that says where a device is.")] = "site",
    as_json: Json = False,
) -> None:
    """Show the fleet by the values of a label: how many devices are in which state."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"sites?{urlencode({'label': label})}")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("SITE", "DEVICES", *(one.upper() for one in _STATES)),
            (
                (one["site"] or "(none)", one["devices"], *(one["states"].get(state, 0) for state in _STATES))
                for one in found
            ),
            empty="There are no devices yet.",
        ),
    )


def health(
    *,
    hours: Annotated[int, typer.Option(min=1, max=192, help="So far back.")] = 24,
    as_json: Json = False,
) -> None:
    """Show how many devices were in which state over time, each quarter of an hour."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"health-history?hours={hours}")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("WHEN", *(one.upper() for one in _STATES)),
            ((when(one["at"]), *(one[state] for state in _STATES)) for one in found),
            empty="Nothing was counted yet.",
        ),
    )


def _place(name: str, *, shared: bool) -> str:
    return f"{'shared' if shared else 'saved'}-selectors/{slug(name, what='name of a selector')}"
