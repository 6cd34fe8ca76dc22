"""A container engine with nothing in it, for a device of its own: modules need no network, so it makes none."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.parts.presence import answers, program
from tests.parts.programs import Program

_CONTAINERD = """version = 2
root = "{root}/cd"
state = "{root}/cs"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{root}/c"
"""


class Dockerd(NamedTuple):
    """The engine's socket, and its program, which can be stopped, killed and started again with what it holds.

    ``data`` is where that lies.
    """

    socket: str
    program: Program
    data: Path

    def start(self) -> None:
        self.program.start(ready=lambda: answers(self.socket))


def _end_shims(root: Path) -> None:
    """An engine that was killed forgets a container that it was just making; the process that holds it stays."""
    address = f"{root / 'c'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"containerd-shim" in command[0] and address in command:
                os.kill(int(process.name), signal.SIGKILL)


@contextmanager
def _disk(folder: Path, disk_mb: int) -> Iterator[None]:
    """A disk of its own, in memory, that can be full; 0 MiB: the machine's."""
    folder.mkdir()
    if not disk_mb:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def dockerd(disk_mb: int = 0) -> Iterator[Dockerd]:
    """An empty engine, which is stopped by its process id at the end, and its data removed.

    ``disk_mb``: how large a disk it has for them; 0: the machine's.
    """
    executable, beneath = program("dockerd"), program("containerd")
    assert executable is not None, "dockerd is not installed: mark the test with needs('dockerd')"
    assert beneath is not None, "containerd, which comes with dockerd, is not installed"
    # Short, because it makes sockets of its own below its folders.
    with (
        tempfile.TemporaryDirectory(prefix="efd-", ignore_cleanup_errors=True) as folder,
        _disk(Path(folder) / "data", disk_mb),
    ):
        root = Path(folder)
        arguments = ("--bridge=none", "--iptables=false", "--data-root", root / "data", "--exec-root", root / "exec")
        sockets = ("-H", f"unix://{root / 's'}", "--containerd", root / "c")
        # In a network of its own: an engine without a bridge removes the one that the machine's engine has made.
        apart = ("unshare", "--net", "--")
        command: list[str | Path] = [*apart, executable, *arguments, *sockets, "--pidfile", root / "pid"]
        (root / "c.toml").write_text(_CONTAINERD.format(root=root))
        # Its own, so that it outlives an engine that is killed, as it does where systemd runs both.
        containerd = Program("containerd", [beneath, "--config", root / "c.toml"], root / "c.log")
        engine = Dockerd(str(root / "s"), Program("dockerd", command, root / "log"), root / "data")
        try:
            containerd.start(ready=(root / "c").exists)
            engine.start()
            yield engine
        finally:
            engine.program.stop()
            containerd.stop()
            _end_shims(root)
