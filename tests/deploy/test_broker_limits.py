"""What a flood of one side leaves to the others, on a real broker with the product's configuration."""

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path

import aiomqtt
import pytest

from fleet.folder import Folder
from fleet.setup import SERVICE, initialise
from modules.protocol.topics import Topics
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto")]
TOPICS = Topics()
WAIT_S = stretched(20)
CONNECTIONS = 20


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A broker for twenty devices and 32 MiB, and the fleet's data folder."""
    folder = tmp_path_factory.mktemp("limits")
    data = Folder(folder / "data")
    initialise(data, time.time)
    with broker(folder / "broker", data, connections=CONNECTIONS, memory_mb=32) as running:
        yield data, running


def service(site, **more):
    """A session as the fleet server has it."""
    data, running = site
    context = ssl.create_default_context(cafile=str(data.ca))
    context.load_cert_chain(data.service, Folder.key(data.service))
    named = {"identifier": SERVICE, "protocol": aiomqtt.ProtocolVersion.V311, "timeout": WAIT_S}
    return aiomqtt.Client(running.host, running.service_port, tls_context=context, **named | more)


def closed(one):
    """Whether the broker has hung up."""
    one.settimeout(0.5)
    with contextlib.suppress(TimeoutError, ConnectionError):
        return one.recv(1) == b""
    return False


def resident(process):
    """The memory of a process in KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def test_devices_that_take_every_connection_leave_the_server_its_own(site):
    """Sixty half handshakes: beyond the twenty they are hung up on, and the fleet server connects and is heard."""
    _, running = site
    with contextlib.ExitStack() as stack:
        half = [
            stack.enter_context(socket.create_connection((running.host, running.device_port), timeout=WAIT_S))
            for _ in range(3 * CONNECTIONS)
        ]
        async with asyncio.timeout(WAIT_S), service(site) as client:
            await client.publish(TOPICS.order("dev-a"), b"x", qos=1)
        gone = await asyncio.to_thread(lambda: sum(map(closed, half)))
    assert gone >= 2 * CONNECTIONS


async def test_a_new_session_of_the_server_gets_what_every_device_has_said(tmp_path):
    """Status, report and facts of each of four thousand devices are retained: none of them is lost on the way."""
    data = Folder(tmp_path / "data")
    initialise(data, time.time)
    kinds, names = ("status", "report", "facts"), [f"dev-{number}" for number in range(4000)]
    topics = {f"{TOPICS.prefix}/{name}/up/{kind}" for name in names for kind in kinds}
    with broker(tmp_path / "broker", data, connections=len(names)) as running:
        many = {"max_queued_incoming_messages": 0, "max_inflight_messages": 1000}
        async with asyncio.timeout(6 * WAIT_S):
            async with service((data, running), **many, identifier="devices") as client:
                client.pending_calls_threshold = len(topics)
                await asyncio.gather(*(client.publish(topic, b"x" * 1000, qos=1, retain=True) for topic in topics))
            async with service((data, running), **many) as client:
                await client.subscribe(TOPICS.all_up(), qos=1)
                missing = set(topics)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2 * WAIT_S):
                        async for message in client.messages:
                            missing.discard(message.topic.value)
                            if not missing:
                                break
    assert not missing


async def test_messages_beyond_all_memory_are_refused_and_the_broker_lives(site):
    """Retained messages of more than 32 MiB: their sender is disconnected, and the next session works."""
    with contextlib.suppress(aiomqtt.MqttError):
        async with asyncio.timeout(3 * WAIT_S), service(site, timeout=5) as client:
            for number in range(400):
                await client.publish(f"{TOPICS.prefix}/dev-{number}/up/report", b"x" * 200_000, qos=1, retain=True)
    _, running = site
    assert running.process.poll() is None
    assert resident(running.process) < 80 << 10
    async with asyncio.timeout(WAIT_S), service(site) as client:
        await client.publish(TOPICS.order("dev-b"), b"x", qos=1)
