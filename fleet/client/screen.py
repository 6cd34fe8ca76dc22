"""What a command shows: tables and progress for people, or one JSON document for programs.

Results go to stdout, everything else (progress, remarks, errors) to stderr.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TextIO

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from modules.errors import EdgefleetError
from modules.words import printable

_WIDE: Final = 4096
_UNIT: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB")
_JSON_KEY: Final = "edgefleet.json"

# Called as work goes on: what is being done, bytes done so far, bytes in all (0: not known).
Step = Callable[[str, int, int], None]


def _remember(context: typer.Context, value: bool) -> bool:  # noqa: FBT001  typer calls it so
    context.meta[_JSON_KEY] = value
    return value


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout.", callback=_remember, is_eager=True)
]


class Screen:
    """Where one command shows what it found; ``as_json`` decides for whom."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out, self.err = _console(sys.stdout), _console(sys.stderr)

    def show(self, document: Any, human: Callable[["Screen"], None]) -> None:
        """The command's result: ``document`` as JSON, or whatever ``human`` prints."""
        if self.as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
            sys.stdout.flush()
        else:
            human(self)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """A table, or the sentence ``empty`` where there are no rows."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(escape(printable(str(cell))) for cell in row))
        self.out.print(table if table.row_count else empty)

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Names and values, one pair a line; values that say nothing are left out."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in pairs:
            if value not in ("", None, (), [], {}):
                table.add_row(name, escape(printable(str(value))))
        self.out.print(table)

    def say(self, sentence: str) -> None:
        """A result in words, for people."""
        self.out.print(escape(_lines(sentence)), highlight=False)

    def remark(self, sentence: str) -> None:
        """Something worth knowing that is not the result."""
        self.err.print(escape(_lines(sentence)), style="dim", highlight=False)

    @contextmanager
    def progress(self) -> Iterator[Step]:
        """A line per piece of work, on stderr, for as long as the block runs; gone afterwards."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=not sys.stderr.isatty()) as bars:
            tasks: dict[str, Any] = {}

            def step(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(escape(what), total=total or None)
                bars.update(tasks[what], completed=done, total=total or None)

            yield step


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _console(stream: TextIO) -> Console:
    """A terminal's own width; a file or pipe gets one line for each row, however long."""
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=_WIDE)


def show_error(context: typer.Context, error: EdgefleetError) -> None:
    """One block on stderr: what, where, what to do; with ``--json`` the same as a document on stdout."""
    err = _console(sys.stderr)
    err.print("[bold red]Error:[/] " + escape(printable(error.message)), highlight=False)
    if error.element:
        err.print("  [bold]where:[/] " + escape(printable(error.element)), highlight=False)
    if error.remedy:
        err.print("  [bold]what to do:[/] " + escape(printable(error.remedy)), highlight=False)
    if context.meta.get(_JSON_KEY):
        problem = {"code": error.code, "message": error.message, "element": error.element, "remedy": error.remedy}
        sys.stdout.write(msgspec.json.encode({"error": problem}).decode() + "\n")


def size(length: int) -> str:
    """A length in bytes for people, in units of 1024."""
    if length < _UNIT:
        return f"{length} B"
    value, unit = length / _UNIT, 0
    while value >= _UNIT and unit < len(_UNITS) - 1:
        value, unit = value / _UNIT, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def when(moment: float | None) -> str:
    """Unix seconds for people, in UTC."""
    return "never" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")
