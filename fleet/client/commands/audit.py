"""``edgefleet audit``: who did what to what, from where; and whether the log is whole."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fleet.audit.chain import Verdict, verify
from fleet.client import audit_file, config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Show, check and export who did what."""


@app.command("list")
def list_rows(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    by: Annotated[str, typer.Option(help="Only what this principal did, as the list names it.")] = "",
    action: Annotated[str, typer.Option(help="Only actions that contain this, as rollouts.")] = "",
    as_json: Json = False,
) -> None:
    """Show the newest rows: when, who, from where, what, to what, and how it ended."""
    with Fleet(config.load()) as fleet:
        found = fleet.audit(limit=limit, by=by, action=action)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("ROW", "WHEN", "WHO", "FROM", "WHAT", "ABOUT", "OUTCOME"),
            (
                (one.id, when(one.at), one.by, one.origin, one.action, one.target, f"{one.outcome or ''} {one.code}")
                for one in found
            ),
            empty="Nothing was done yet.",
        ),
    )


@app.command()
def export(file: Annotated[Path, typer.Argument(help="A new file.")], *, as_json: Json = False) -> None:
    """Write all rows and signed heads into a file that can be verified anywhere, without the server."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        told = fleet.audit_heads()
        heads = [one.encode() for one in told.heads]
        rows = audit_file.write(file, audit_file.Log(told.key, heads, fleet.audit_rows()))
    document = {"file": str(file), "rows": rows, "heads": len(heads)}
    screen.show(document, lambda it: it.say(f"Wrote {rows} rows and {len(heads)} signed heads into {file}"))


@app.command()
def key(*, as_json: Json = False) -> None:
    """Print the key that signs the log's heads; keep it elsewhere, for verify --key."""
    with Fleet(config.load()) as fleet:
        told = fleet.audit_heads().key
    Screen(as_json=as_json).show(told, lambda it: it.say(msgspec.json.encode(told).decode()))


@app.command("verify")
def check(
    file: Annotated[Path | None, typer.Argument(help="An exported log; without it, the server is asked.")] = None,
    *,
    heads: Annotated[
        list[Path] | None,
        typer.Option(help="Heads that were shipped (audit-heads.jsonl); again for more."),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key", help="The key, as edgefleet audit key printed it.")] = None,
    as_json: Json = False,
) -> None:
    """Find whether rows were edited, removed, cut off or chained anew; exit code 1 if any were."""
    screen = Screen(as_json=as_json)
    shipped = [head for one in heads or () for head in audit_file.read_heads(one)]
    if file is not None:
        log = audit_file.read(file)
        verdict, told = _held(log, shipped, key_file)
    else:
        with Fleet(config.load()) as fleet:
            asked = fleet.audit_heads()
            log = audit_file.Log(asked.key, [one.encode() for one in asked.heads], fleet.audit_rows())
            verdict, told = _held(log, shipped, key_file)
    document = {**verdict._asdict(), "flaws": [flaw._asdict() for flaw in verdict.flaws], "key": told}
    screen.show(document, lambda it: _say(it, verdict))
    if key_file is None:
        screen.remark("The key is the server's word: keep elsewhere what edgefleet audit key prints, and give --key.")
    if verdict.flaws:
        raise typer.Exit(1)


def _held(log: audit_file.Log, shipped: list[bytes], key_file: Path | None) -> tuple[Verdict, dict[str, Any]]:
    told = log.key if key_file is None else msgspec.json.decode(key_file.read_bytes(), type=dict[str, Any])
    return verify(log.rows, [*log.heads, *shipped], audit_file.key_of(told)), told


def _say(screen: Screen, verdict: Verdict) -> None:
    if verdict.flaws:
        screen.table(("WHAT", "ROW", ""), [(one.code, one.id or "", one.message) for one in verdict.flaws], empty="")
        screen.say("This log was changed. Compare it with an earlier export, and ask who could write to the server.")
        return
    screen.say(
        f"{verdict.rows} rows fit together, {verdict.proved} of them are covered by {verdict.heads} signed heads."
    )
