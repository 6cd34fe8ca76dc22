"""``edgefleet export``: the fleet as a SQLite file."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config, fleet_file
from fleet.client.api import Fleet
from fleet.client.fleet_views import VIEWS
from fleet.client.screen import Json, Screen, size

app = typer.Typer()


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write, as fleet.db.")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="A table that stays empty, as telemetry_history; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the fleet's devices, rollouts, reports, telemetry and events into a SQLite file; see docs/export.md."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet, screen.progress() as step:
        rows = fleet_file.write(fleet, file, step, replace=replace, without=without or ())
    length = file.stat().st_size
    document = {"file": str(file), "bytes": length, "rows": rows, "views": [view.name for view in VIEWS]}
    screen.show(document, lambda it: _say(it, file, length, rows))


def _say(screen: Screen, file: Path, length: int, rows: dict[str, int]) -> None:
    screen.table(("TABLE", "ROWS"), sorted(rows.items()), empty="Nothing.")
    screen.say(f"Wrote {file}, {size(length)}. Look at it with: sqlite3 {file}, or datasette {file}")
