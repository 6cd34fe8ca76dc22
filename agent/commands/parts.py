"""What the commands may use of the agent: its own parts, each made once by ``agent.wiring``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from securesystemslib.signer import Signer

from agent.answering import Told
from agent.clock import Clock
from agent.engines.contract import ContainerEngine
from agent.host import Host
from agent.inbox import Refuse
from agent.link import Link
from agent.loop import Loop
from agent.outbox import Outbox
from agent.settings import Settings
from agent.shelf import Shelf
from agent.store import Store
from agent.verify import Verifier
from modules.names import DeviceId


class Parts(NamedTuple):
    """``renew`` replaces the device's key and certificate and returns the new serial in hexadecimal; None: it cannot.

    ``end`` ends the agent in order, so that it starts again. ``telemetry`` is the duty of that name, or what stands in
    its place; so is ``batch``. ``recent`` are the newest lines of the agent's log, where it keeps any.
    """

    device: DeviceId
    settings: Settings
    store: Store
    shelf: Shelf
    engines: Mapping[str, ContainerEngine]
    host: Host
    loop: Loop
    outbox: Outbox
    link: Link
    signer: Callable[[], Signer]
    verifier: Verifier
    refuse: Refuse
    telemetry: Any
    batch: Any
    told: Callable[[], Awaitable[Told | None]]
    clock: Clock
    end: Callable[[], None]
    renew: Callable[[], Awaitable[str]] | None = None


def counted(number: int, what: str) -> str:
    """So many of it, as people say it."""
    return f"{number} {what}{'' if number == 1 else 's'}"
