"""``edgefleet telemetry``: what a device measured of itself."""

import time
from typing import Annotated, Final

import typer

from fleet.client import arguments, config
from fleet.client.answers import Figures, Telemetry
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from modules.names import device_id

app = typer.Typer()
_HEADINGS: Final = ("STREAM", "SLOT", "WHEN", "FIGURES")


@app.command()
def telemetry(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    *,
    stream: Annotated[str | None, typer.Option(help="Only this one: host, gateway or modules.")] = None,
    since: Annotated[
        str | None, typer.Option(help="All that came in this time, and not only the newest: 30m, 24h, 7d.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a device measured of itself: its machine, what applications see at its gateway, its modules."""
    seconds = None if since is None else arguments.seconds(since, option="--since")
    with Fleet(config.load()) as fleet:
        moment = None if seconds is None else max(time.time() - seconds, 0.0)
        found = fleet.telemetry(device_id(device), stream=stream, since=moment)
    Screen(as_json=as_json).show(found, lambda it: _show(it, found))


def _show(screen: Screen, found: Telemetry) -> None:
    if found.history is not None:
        rows = [_row(one.stream, one, one.received) for one in found.history]
    else:
        rows = [_row(one.stream, sample, one.received) for one in found.streams for sample in one.samples]
    screen.table(_HEADINGS, rows, empty="It has sent none yet.")
    for one in found.streams:
        if one.dropped:
            screen.remark(f"{one.stream}: it had no room for {one.dropped} samples, while it could not send them")


def _row(stream: str, sample: Figures, received: float | None) -> tuple[str, str, str, str]:
    figures = ", ".join(f"{name} {value:.10g}" for name, value in sample.figures.items())
    at = f"before {when(received)}" if sample.at is None else when(sample.at)
    return stream, sample.slot or "", at, figures
