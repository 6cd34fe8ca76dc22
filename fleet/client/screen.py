"""What a command shows: tables and progress for people, or one JSON document for programs.

Results go to stdout, everything else (progress, remarks, errors) to stderr.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TextIO

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from modules.errors import EdgefleetError
from modules.words import printable

_WIDE: Final = 4096
_DIGEST_SHOWN: Final = len("sha256:") + 12
_UTF_8: Final = frozenset({"utf-8", "utf8"})
_UNIT: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB")

# Called as work goes on: what is being done, bytes done so far, bytes in all (0: not known).
Step = Callable[[str, int, int], None]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


class Counted(str):
    """What a step counts, where that is not bytes: samples for instance."""

    __slots__ = ()


class _Amount(ProgressColumn):
    """Bytes as sizes; what is counted as ``2/3``."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = DownloadColumn()

    def render(self, task: Task) -> Text:
        if task.fields.get("counted"):
            return Text(f"{task.completed:.0f}/{task.total or 0:.0f}")
        return self._bytes.render(task)


class Screen:
    """Where one command shows what it found; ``as_json`` decides for whom."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out, self.err = _console(sys.stdout), _console(sys.stderr)

    def show(self, document: Any, human: Callable[["Screen"], None]) -> None:
        """The command's result: ``document`` as JSON, or whatever ``human`` prints."""
        if self.as_json:
            sys.stdout.write(_written(document, indent=2) + "\n")
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
        said = [(name, printable(str(value))) for name, value in pairs if value not in ("", None, (), [], {})]
        width = max((len(name) for name, _ in said), default=0)
        for name, value in said:
            # The terminal breaks a long line where it must, so that what is copied from it is whole.
            self.out.print(f"[bold]{name:<{width}}[/]  {escape(value)}", soft_wrap=True)

    def digest(self, text: str) -> str:
        """A digest in a table: its beginning on a terminal, where it would break every row; whole elsewhere."""
        return text[:_DIGEST_SHOWN] if self.out.is_terminal else text

    def say(self, sentence: str) -> None:
        """A result in words, for people."""
        self.out.print(escape(_lines(sentence)), highlight=False)

    def line(self, text: str) -> None:
        """One line of somebody else's, as long as it is: a terminal breaks it where it must, and nothing else."""
        self.out.print(escape(printable(text)), highlight=False, soft_wrap=True)

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
            _Amount(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=not sys.stderr.isatty()) as bars:
            tasks: dict[str, Any] = {}

            def step(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    counted = isinstance(what, Counted)
                    tasks[what] = bars.add_task(escape(what), total=total or None, counted=counted)
                bars.update(tasks[what], completed=done, total=total or None)

            yield step


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _console(stream: TextIO) -> Console:
    """A terminal's own width; a file or pipe gets one line for each row, however long."""
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=_WIDE)


def show_error(error: EdgefleetError, *, as_json: bool) -> None:
    """One block on stderr: what, where, what to do; with ``--json`` the same as a document on stdout."""
    err = _console(sys.stderr)
    err.print("[bold red]Error:[/] " + escape(printable(error.message)), highlight=False)
    if error.element:
        err.print("  [bold]where:[/] " + escape(printable(error.element)), highlight=False)
    if error.remedy:
        err.print("  [bold]what to do:[/] " + escape(printable(error.remedy)), highlight=False)
    if as_json:
        show_problem(error.code, error.message, element=error.element, remedy=error.remedy)


def show_problem(code: str, message: str, *, element: str = "", remedy: str = "") -> None:
    """What went wrong, as the one JSON document on stdout."""
    problem = {"code": code, "message": message, "element": element, "remedy": remedy}
    sys.stdout.write(_written({"error": problem}) + "\n")


def _written(document: Any, *, indent: int | None = None) -> str:
    """A document as JSON; in ASCII where it has the name of a file that is no text, or the output is not in UTF-8."""
    if str(sys.stdout.encoding).lower() in _UTF_8:
        with suppress(UnicodeEncodeError):
            return msgspec.json.format(msgspec.json.encode(document), indent=indent or -1).decode()
    return json.dumps(msgspec.to_builtins(document), indent=indent)


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
