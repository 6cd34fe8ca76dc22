"""A container engine with nothing in it, for a device of its own: modules need no network, so it makes none."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.parts.presence import answers, program
from tests.parts.programs import Program


class Dockerd(NamedTuple):
    """The engine's socket, and its program, which can be stopped and started again with what it holds."""

    socket: str
    program: Program

    def start(self) -> None:
        self.program.start(ready=lambda: answers(self.socket))


@contextmanager
def dockerd() -> Iterator[Dockerd]:
    """An empty engine, which is stopped by its process id at the end, and its data removed."""
    executable = program("dockerd")
    assert executable is not None, "dockerd is not installed: mark the test with needs('dockerd')"
    # Short, because it makes sockets of its own below its folders.
    with tempfile.TemporaryDirectory(prefix="efd-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        arguments = ("--bridge=none", "--iptables=false", "--data-root", root / "data", "--exec-root", root / "exec")
        command: list[str | Path] = [executable, *arguments, "-H", f"unix://{root / 's'}", "--pidfile", root / "pid"]
        engine = Dockerd(str(root / "s"), Program("dockerd", command, root / "log"))
        try:
            engine.start()
            yield engine
        finally:
            engine.program.stop()
