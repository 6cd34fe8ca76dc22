"""A scoring server of this machine's that outlives who started it: one container, whose labels are its only record.

It is restricted as on a device, but answers on TCP at the loopback address. Its network leads nowhere: packets that
leave it are never given this machine's address, so nothing answers them.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from fleet.client.local.containers import NO_TELEMETRY, hardened
from fleet.client.local.scorers import await_ready
from modules.errors import Invalid, NeedsOperator
from modules.names import Slug

ADDRESS: Final = "127.0.0.1"
INSIDE: Final = 5001
_NAME: Final = "edgefleet.service"
_OWNER: Final = "edgefleet.service.fleet"
_RECORD: Final = "edgefleet.service.record"
_NETWORK: Final = "edgefleet-services"
_NOWHERE: Final = {
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    "com.docker.network.bridge.enable_icc": "false",
}
_TIMEOUT_S: Final = 120.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is started. ``mounts`` are folders of this machine by their places inside, all read-only; memory in MiB.

    ``record`` is whatever its owner needs to find it again and to change it.
    """

    name: Slug
    owner: str
    image: str
    command: tuple[str, ...]
    mounts: Mapping[str, Path]
    variables: Mapping[str, str] = {}
    port: int
    memory_mb: int
    cpus: float | None = None
    record: Mapping[str, Any] = {}


class Service:
    """One container, running or not."""

    remedy = "correct the entry script or its environment, then reload() or update() the service"

    def __init__(self, container: Any) -> None:
        self._container = container
        labels = container.labels
        self.name = str(labels[_NAME])
        self.record: dict[str, Any] = json.loads(labels[_RECORD])
        self.port = int(self.record["port"])
        self.http = httpx.Client(base_url=f"http://{ADDRESS}:{self.port}", timeout=_TIMEOUT_S, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}"

    def exit_code(self) -> int | None:
        """How it ended, if it has."""
        self._container.reload()
        ended = self._container.status in {"exited", "dead"}
        return int(self._container.attrs["State"]["ExitCode"]) if ended else None

    def answers(self) -> bool:
        """Whether it is ready now."""
        try:
            return self.http.get("/").is_success
        except httpx.HTTPError:
            return False

    def await_ready(self) -> None:
        """Return once it is.

        Raises:
            NotReady: it ended, or took too long; the message ends with the last lines of its log.
        """
        await_ready(self, lambda: True)

    def log_tail(self, lines: int) -> str:
        return str(self._container.logs(tail=lines).decode("utf-8", "replace")).strip()

    def restart(self) -> None:
        """With the files as they are now."""
        self._container.restart(timeout=5)

    def remove(self) -> None:
        self._container.remove(force=True)


def start(engine: Any, plan: Plan) -> Service:
    """Start it; it need not be ready when this returns.

    Raises:
        Invalid: its port is in use.
        NeedsOperator: its network is not what it should be.
    """
    expect_free(plan.port)
    container = engine.containers.create(
        plan.image,
        [*plan.command, "--host", "0.0.0.0", "--port", str(INSIDE)],
        network=_network(engine),
        ports={f"{INSIDE}/tcp": (ADDRESS, plan.port)},
        environment=NO_TELEMETRY | dict(plan.variables),
        volumes={str(folder.resolve()): {"bind": place, "mode": "ro"} for place, folder in plan.mounts.items()},
        labels={
            _NAME: plan.name,
            _OWNER: plan.owner,
            _RECORD: json.dumps({**plan.record, "port": plan.port}),
        },
        **hardened(memory_mb=plan.memory_mb, cpus=plan.cpus),
    )
    try:
        container.start()
    except BaseException:
        container.remove(force=True)
        raise
    container.reload()
    return Service(container)


@contextmanager
def every(engine: Any, owner: str, name: str | None = None) -> Iterator[list[Service]]:
    """The services of one owner, for the block."""
    labels = [f"{_OWNER}={owner}", *([f"{_NAME}={name}"] if name else [])]
    found = [Service(one) for one in engine.containers.list(all=True, filters={"label": labels})]
    try:
        yield found
    finally:
        for one in found:
            one.http.close()


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def expect_free(port: int) -> None:
    """Nobody listens there.

    Raises:
        Invalid: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise Invalid(
                f"the port cannot be used: {error.strerror}",
                element=f"{ADDRESS}:{port}",
                remedy="choose another, or end what listens there",
            ) from error


def _network(engine: Any) -> str:
    """The network that leads nowhere, made once.

    Raises:
        NeedsOperator: there is one of this name that leads somewhere.
    """
    found = engine.networks.list(names=[f"^{_NETWORK}$"])
    if not found:
        engine.networks.create(_NETWORK, driver="bridge", options=_NOWHERE, check_duplicate=True)
    elif not _NOWHERE.items() <= (found[0].attrs.get("Options") or {}).items():
        raise NeedsOperator(
            "a network of this name is there, and from it services would reach others",
            element=_NETWORK,
            remedy=f"remove it, and it is made anew: docker network rm {_NETWORK}",
        )
    return _NETWORK
