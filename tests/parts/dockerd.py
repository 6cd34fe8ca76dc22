"""A container engine with nothing in it, for a device of its own: modules need no network, so it makes none."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.presence import answers, program
from tests.parts.programs import Program


@contextmanager
def dockerd() -> Iterator[str]:
    """The socket of an empty engine, which is stopped by its process id at the end, and its data removed."""
    executable = program("dockerd")
    assert executable is not None, "dockerd is not installed: mark the test with needs('dockerd')"
    # Short, because it makes sockets of its own below its folders.
    with tempfile.TemporaryDirectory(prefix="efd-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        socket = root / "s"
        arguments = ("--bridge=none", "--iptables=false", "--data-root", root / "data", "--exec-root", root / "exec")
        engine = Program(
            "dockerd", [executable, *arguments, "-H", f"unix://{socket}", "--pidfile", root / "pid"], root / "log"
        )
        try:
            engine.start(ready=lambda: answers(str(socket)))
            yield str(socket)
        finally:
            engine.stop()
