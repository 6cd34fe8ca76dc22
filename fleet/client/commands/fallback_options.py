"""A rollout's fallback from the command line: which endpoint answers instead of a device, and on which terms."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from modules.errors import Invalid

_WHEN: Final = ("unplaceable", "unhealthy", "overloaded")
_NEVER: Final = "never"

Fallback = Annotated[
    str | None, typer.Option(help="Who answers where no local module does: an https address, or endpoint:NAME.")
]
When = Annotated[
    str | None,
    typer.Option(help="unplaceable (it does not fit), unhealthy, overloaded, with commas between; or never."),
]
Region = Annotated[str | None, typer.Option(help="Where the fallback is, for modules whose data may not go anywhere.")]
Authorities = Annotated[
    Path | None, typer.Option("--fallback-ca", help="PEM file of who may name the fallback, instead of the system's.")
]
Waiting = Annotated[int | None, typer.Option(min=1, help="Overloaded from so many waiting requests on (16).")]
Latency = Annotated[float | None, typer.Option(min=0, help="Overloaded when answers take longer, in ms.")]
Requests = Annotated[int | None, typer.Option(min=0, help="Requests that each device may send there a day, by UTC.")]


def terms(*, when: str | None, ca: Path | None, option: str = "--fallback-", **others: Any) -> dict[str, Any]:
    """What was said of them; what was not, the server says.

    Raises:
        Invalid: a word that is none of the reasons, or a file that cannot be read.
    """
    said = {name: value for name, value in others.items() if value is not None}
    if when is not None:
        words = [] if when == _NEVER else [one.strip() for one in when.split(",")]
        if unknown := [one for one in words if one not in _WHEN]:
            raise Invalid(
                f"{unknown[0]!r} is no reason",
                element=f"{option}when",
                remedy=f"write {', '.join(_WHEN)}, or {_NEVER}",
            )
        said["when"] = list(dict.fromkeys(words))
    if ca is not None:
        try:
            said["ca"] = ca.read_text("ascii")
        except (OSError, ValueError) as error:
            raise Invalid(str(error), element=f"{option}ca", remedy="name a PEM file of certificates") from error
    return said
