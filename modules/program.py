"""How each of our programs begins and ends at a shell, so that none ends in a traceback there.

- ``--version`` is answered by every program.
- What is not installed is named, with the extra that brings it.
- A reader that goes away (``| head``) ends a program without a word, by the signal that ends others then (status 141).
- Output that cannot be written (a full disk, a closed descriptor) is an error in one line, and status 1.
"""

import contextlib
import errno
import importlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from modules import __version__

_OURS: Final = frozenset({"agent", "fleet", "hardware", "modules"})
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EBADF, errno.EIO})
_STDIN, _STDOUT, _STDERR = range(3)

Main = Callable[[], int | None]


def edgefleet() -> NoReturn:
    start("edgefleet", "fleet.client.__main__", extra="client")


def edgefleet_agent() -> NoReturn:
    start("edgefleet-agent", "agent.__main__", extra="agent")


def edgefleet_gateway() -> NoReturn:
    start("edgefleet-gateway", "agent.gateway.__main__", extra="agent")


def edgefleet_fleet() -> NoReturn:
    start("edgefleet-fleet", "fleet.__main__", extra="fleet")


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


def run(name: str, main: Main) -> NoReturn:
    """Run a program to its end; ``main`` returns its exit status."""
    _open_streams()
    try:
        with unread_ends():
            try:
                status = main() or 0
            except SystemExit as ended:
                _flush()
                raise ended from None
            _flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _discard(_STDOUT)
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{name}: the output cannot be written: {error.strerror}\n")
            sys.stderr.flush()
        status = 1
    sys.exit(status)


@contextlib.contextmanager
def unread_ends() -> Iterator[None]:
    """End the program where the reader of its output is gone; another pipe's end is the caller's affair."""
    try:
        yield
    except BrokenPipeError:
        if not any(_gone(one) for one in (_STDOUT, _STDERR)):
            raise
        # What is still to be written must not be tried again on the way out.
        _discard(_STDOUT)
        _discard(_STDERR)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


def _gone(descriptor: int) -> bool:
    """Whether nobody reads the pipe or socket that this is."""
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
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
