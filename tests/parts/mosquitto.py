"""A real mosquitto with the configuration that the product renders, on free loopback ports."""

import contextlib
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fleet.broker_config import render
from fleet.folder import Folder
from modules.protocol.topics import PREFIX
from tests.parts.pace import stretched
from tests.parts.presence import program

STARTS_WITHIN_S = stretched(20)
HOST = "127.0.0.1"


class Broker(NamedTuple):
    """A running broker; devices use ``device_port``, the fleet server ``service_port``."""

    host: str
    device_port: int
    service_port: int
    prefix: str
    process: subprocess.Popen[str]


@contextmanager
def broker(
    folder: Path,
    data: Folder,
    *,
    prefix: str = PREFIX,
    device_port: int | None = None,
    service_port: int | None = None,
    more: str = "",
    edit: Callable[[str], str] = str,
    **limits: int,
) -> Iterator[Broker]:
    """Render into ``folder`` from the fleet's data folder, start, wait until it listens, stop at the end.

    Ports can be named, to start a broker again where it was; ``more`` is added to its configuration, and
    ``edit`` changes it.
    """
    ports = (device_port or free_port(), service_port or free_port())
    named = {"device_port": ports[0], "service_port": ports[1], "prefix": prefix, "host": HOST}
    configuration = render(folder, data, **named, **limits)
    configuration.write_text(edit(configuration.read_text()) + more)
    executable = program("mosquitto")
    assert executable is not None, "mosquitto is not installed: mark the test with needs('mosquitto')"
    process = subprocess.Popen([executable, "-c", str(configuration)], stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    running = threading.Event()
    reader = threading.Thread(target=_read, args=(process, log, running), daemon=True)
    reader.start()
    try:
        assert running.wait(STARTS_WITHIN_S), f"mosquitto is not ready: {''.join(log)}"
        assert process.poll() is None, f"mosquitto did not start: {''.join(log)}"
        yield Broker(HOST, *ports, prefix, process)
    finally:
        process.terminate()
        process.wait(10)
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()


def free_port() -> int:
    """A loopback port that was free a moment ago, and that no system gives to whoever asks for any port."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def _read(process: subprocess.Popen[str], log: list[str], running: threading.Event) -> None:
    """Drain the broker's log, so that it never blocks; its word "running" comes after it listens, its end ends us."""
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line)
        if line.rstrip().endswith("running"):
            running.set()
    running.set()
