"""A real fleet server as a process of its own, with a data folder made for it."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from fleet import setup
from fleet.folder import Folder
from tests.parts.mosquitto import HOST, Broker
from tests.parts.pace import stretched
from tests.parts.warm import Forked, start

STARTS_WITHIN_S = stretched(30)


class FleetServer(NamedTuple):
    """A running server: its address, data folder, operator's token, and process."""

    url: str
    data: Folder
    token: str
    process: subprocess.Popen[bytes] | Forked

    def client(self, token: str | None = None) -> httpx.Client:
        """An operator's HTTP client, which trusts the fleet's own CA alone."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        verify = trusting(self.data.ca)
        # The server ends what is idle for five seconds, which is as long as the library would go on with it.
        limits = httpx.Limits(keepalive_expiry=1)
        return httpx.Client(
            base_url=self.url, headers=headers, verify=verify, timeout=stretched(60), trust_env=False, limits=limits
        )

    def log(self) -> str:
        return (self.data.root.parent / "server.log").read_text()


def trusting(ca: Path) -> ssl.SSLContext:
    """TLS to whom this authority has certified, and to nobody else."""
    return ssl.create_default_context(cafile=str(ca))


def initialise(root: Path, database: str = "", names: Sequence[str] = ()) -> Folder:
    """Make a data folder as ``fleet init`` does, but for the first operator; ``database`` is its address if elsewhere.

    In this process, which saves some seconds: tests/fleet/test_main.py has the command itself.
    """
    folder = Folder(root)
    setup.initialise(folder, time.time, database=database, names=names)
    return folder


@contextmanager
def fleet_server(data: Folder, broker: Broker, *, program: str = "fleet", **settings: str) -> Iterator[FleetServer]:
    """Start a server on a free loopback port, wait until it answers, stop it at the end.

    ``program`` is the Python module that is run: the product's, unless somebody has changed it.
    """
    ready = data.root.parent / "ready"
    ready.unlink(missing_ok=True)
    given = {
        "HOST": HOST,
        "PORT": "0",
        "DATA": str(data.root),
        "BROKER_HOST": broker.host,
        "BROKER_PORT": str(broker.device_port),
        "BROKER_SERVICE_PORT": str(broker.service_port),
        "BROKER_PREFIX": broker.prefix,
        "CONSOLE": "false",  # it takes a second at each start
        "INSECURE_DEMO_KEYS": "true",  # tests keep the owner's keys beside everything else
    } | {name.upper(): value for name, value in settings.items()}
    environment = os.environ | {f"EDGEFLEET_FLEET_{name}": value for name, value in given.items()}
    command = [sys.executable, "-m", program, "serve", "--ready-file", str(ready)]
    log_path = data.root.parent / "server.log"
    with (
        log_path.open("ab") as log,
        start(command, environment, log, log) as process,
    ):
        try:
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not ready.exists():
                assert process.poll() is None, f"the server ended: {log_path.read_text()}"
                assert time.monotonic() < deadline, f"the server is not ready: {log_path.read_text()}"
                time.sleep(0.05)
            yield FleetServer(ready.read_text().strip(), data, data.operator_token.read_text().strip(), process)
        finally:
            process.terminate()
