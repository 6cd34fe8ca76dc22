"""How each of our programs begins and ends at a shell, so that none ends in a traceback there.

- ``--version`` is answered by every program.
- What is not installed is named, with the extra that brings it.
- A reader that goes away (``| head``) ends a program without a word, by the signal that ends others then (status 141).
- Output that cannot be written (a full disk, a closed descriptor) is an error in one line, and status 1.
- Ctrl-C ends a program without a word, unless it has more to say, and by that very signal: a shell shows status 130,
  and ends the loop or script that the program runs in.
- A disk that takes no more, wherever a file is written, is an error with what to do, and status 1.

That holds for what libraries print, too: argparse passes over an error in writing its help, and typer and rich end the
program with a status of their own. So the streams themselves remember that they failed.
"""

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, TextIO

from modules import __version__

_OURS: Final = frozenset({"agent", "fleet", "hardware", "modules"})
_STDIN, _STDOUT, _STDERR = range(3)
INTERRUPTED: Final = 128 + signal.SIGINT
# The signals that had this program unwind, beside Ctrl-C.
_unwound: Final[list[int]] = []
# What writing meets on a disk that is full, where its owner's share of it is, or where it takes no file so large.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

MAKE_ROOM: Final = (
    "make room on the disks that it writes to, the one of the temporary folder included, and run it again"
)

Main = Callable[[], int | None]


def edgefleet() -> NoReturn:
    start("edgefleet", "fleet.client.__main__", extra="client")


def edgefleet_agent() -> NoReturn:
    start("edgefleet-agent", "agent.__main__", extra="agent")


def edgefleet_gateway() -> NoReturn:
    start("edgefleet-gateway", "agent.gateway.__main__", extra="agent")


def edgefleet_fleet() -> NoReturn:
    start("edgefleet-fleet", "fleet.__main__", extra="fleet")


def disk_takes_no_more(error: OSError) -> bool:
    """Whether it is about a disk that files are written to; about standard output and its like it is not."""
    streams = (getattr(getattr(stream, "buffer", None), "raw", None) for stream in (sys.stdout, sys.stderr))
    return error.errno in _FULL and not any(getattr(raw, "failed", None) is error for raw in streams)


def start(name: str, module: str, *, extra: str) -> NoReturn:
    """Run ``main()`` of a module that is loaded now; ``extra`` is what must be installed for it."""

    def main() -> int | None:
        if sys.argv[1:] == ["--version"]:
            sys.stdout.write(f"{name} {__version__}\n")
            return 0
        try:
            status: int | None = importlib.import_module(module).main()
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in _OURS:
                raise
            sys.stderr.write(
                f"{name}: the package {package} is not installed\n"
                f"  what to do: pip install 'edgefleet[{extra}]', into {sys.prefix}\n"
            )
            return 1
        return status

    run(name, main)


def unwind() -> None:
    """Have SIGTERM and a terminal that closes end this program as Ctrl-C does: it takes away what it has begun.

    The second such signal ends it at once; one that is ignored (``nohup``) stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _unwinding)


def _unwinding(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    _unwound.append(number)
    raise KeyboardInterrupt


def run(name: str, main: Main) -> NoReturn:
    """Run a program to its end; ``main`` returns its exit status."""
    _open_streams()
    sys.stdout, out = _remembering(sys.stdout, _STDOUT)
    sys.stderr, err = _remembering(sys.stderr, _STDERR)
    status: Any
    try:
        status = main() or 0
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        if disk_takes_no_more(error):
            place = error.filename2 or error.filename
            sys.stderr.write(f"{name}: {error.strerror}{f': {place}' if place else ''}\n  what to do: {MAKE_ROOM}\n")
        elif error is not out.failed and error is not err.failed:
            raise
        status = 1
    _end(name, status, out, err)


def _end(name: str, status: Any, out: "_Descriptor", err: "_Descriptor") -> NoReturn:
    """Write what is left to write, and end with this status or as a shell expects it."""
    # From here on Ctrl-C ends it at once, without a word of the interpreter's own way out.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _flush()
    for stream in (out, err):
        if stream.failed:
            # What is still to be written must not be tried again on the way out.
            _discard(stream.fileno())
    # A program that went on without a reader of its log has not failed for that.
    if isinstance(out.failed, BrokenPipeError) or (isinstance(err.failed, BrokenPipeError) and status):
        _end_by(signal.SIGPIPE)
    if out.failed:
        sys.stderr.write(f"{name}: the output cannot be written: {out.failed.strerror}\n")
        _flush()
        status = 1
    elif status == INTERRUPTED:
        _end_by(*_unwound[:1] or [signal.SIGINT])
    sys.exit(status)


def _end_by(number: int) -> None:
    """End by this signal, as shells expect it; as the first process of a container this does nothing."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class _Descriptor(io.FileIO):
    """A standard stream's descriptor; it remembers that it could not be written, whoever passes over the error."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


def _remembering(stream: TextIO, descriptor: int) -> tuple[TextIO, _Descriptor]:
    """The same stream as before, over a descriptor that remembers."""
    stream.flush()
    raw = _Descriptor(descriptor, "w", closefd=False)
    by_line = bool(stream.line_buffering or getattr(stream, "write_through", False))
    # A letter that the terminal's encoding lacks, or a byte of a file's name that is no text, ends no program.
    text = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors="backslashreplace", line_buffering=by_line
    )
    return text, raw


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _discard(descriptor: int) -> None:
    empty = os.open(os.devnull, os.O_WRONLY)
    os.dup2(empty, descriptor)
    os.close(empty)


def _open_streams() -> None:
    """Open what was closed (``>&-``), or the next file of ours would get its number and whatever is printed.

    Writing to such a standard output fails, as it would have without us; words to nobody on standard error do not.
    """
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_WRONLY if descriptor == _STDERR else os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(_STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  open to the end
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  as above
