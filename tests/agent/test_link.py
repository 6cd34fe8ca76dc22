"""The session with a real broker: presence, delivery, an outage and its end."""

import asyncio
import datetime as dt
import shutil
import time
from contextlib import ExitStack

import aiomqtt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity import CA, CERTIFICATE, KEY, Identity
from agent.link import Link
from fleet.authority import Authority
from fleet.folder import Folder
from fleet.setup import initialise
from modules.errors import LinkLost
from modules.names import device_id
from modules.protocol.enrollment import Broker
from tests.doubles.clock import VirtualClock
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched
from tests.parts.wiretap import Wiretap

pytestmark = pytest.mark.needs("mosquitto")
DEVICE = device_id("dev-1")


class Site:
    """The fleet's data, and an enrolled device's identity folder."""

    def __init__(self, folder) -> None:
        self.data = Folder(folder / "data")
        initialise(self.data, time.time)
        self.folder = folder
        self.identity = self.enrol(DEVICE)

    def enrol(self, device):
        """The identity folder of another device."""
        identity = self.folder / f"identity-{device}"
        identity.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        authority = Authority.load(self.data.ca)
        (identity / CERTIFICATE).write_bytes(authority.device(device, key.public_key(), dt.timedelta(days=1)))
        (identity / KEY).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        shutil.copy(self.data.ca, identity / CA)
        return identity

    def broker(self, number=0, **ports):
        return broker(self.folder / f"broker-{number}", self.data, **ports)


class Session:
    """A link that runs, what came over it, and how often it connected."""

    def __init__(self, site, port, device=DEVICE) -> None:
        self.boots = 0
        self.connects = 0
        self.messages: asyncio.Queue = asyncio.Queue()
        self.take = lambda topic, payload: self.messages.put_nowait((topic.rest, payload))
        self.take_shared = lambda _blob, _payload: None
        self.link = Link(
            Identity(device=device, fleet="https://f", broker=Broker(host="127.0.0.1", port=port)),
            site.folder / f"identity-{device}",
            on_message=self.on_message,
            on_shared=self.on_shared,
            on_connect=self.on_connect,
            next_boot=self.next_boot,
            keepalive_s=60,
            clock=VirtualClock(),
        )

    def on_message(self, topic, payload) -> None:
        if payload == b"bad":
            raise OverflowError("int too big")
        self.take(topic, payload)

    def on_shared(self, blob, payload) -> None:
        self.take_shared(blob, payload)

    async def on_connect(self) -> None:
        self.connects += 1

    def next_boot(self) -> int:
        self.boots += 1
        return self.boots

    async def until(self, met) -> None:
        async with asyncio.timeout(stretched(15)):
            while not met():  # noqa: ASYNC110 - it is the library's state that is awaited
                await asyncio.sleep(0.02)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.link.run(), name="link")
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("link"))


async def test_a_session_delivers_and_comes_back_after_an_outage(site, caplog):
    """What is published at down/ arrives; an outage is logged once, publishing fails meanwhile, and the next session
    greets again with a higher boot number."""
    with ExitStack() as brokers:
        running = brokers.enter_context(site.broker())
        async with Session(site, running.device_port) as session:
            await session.until(lambda: session.connects == 1)
            running.process.terminate()
            await session.until(lambda: not session.link.connected)
            with pytest.raises(LinkLost):
                await session.link.publish(session.link.topics.report(DEVICE), b"x")
            boots = session.boots

            ports = {"device_port": running.device_port, "service_port": running.service_port}
            brokers.enter_context(site.broker(1, **ports))
            await session.until(lambda: session.connects > 1)
            assert session.boots > boots
            await session.link.publish(session.link.topics.report(DEVICE), b"x")

    lost = [record for record in caplog.records if "broker lost" in record.message]
    back = [record for record in caplog.records if "broker back" in record.message]
    assert (len(lost), len(back)) == (1, 1)


@pytest.mark.parametrize(("lasts_s", "told"), [(5.0, 1), (60.0, 0)])
async def test_sessions_that_somebody_takes_over_are_told_of(site, caplog, monkeypatch, lasts_s, told):
    """Two agents of a cloned disk end each other's sessions within seconds: the log asks, once, for the other one."""
    session = Session(site, 1)
    began = []

    async def taken_over():
        began.append(True)
        session.link._client = object()
        session.link._clock.advance(lasts_s)
        raise aiomqtt.MqttError("taken over")

    monkeypatch.setattr(session.link, "_session", taken_over)
    async with session:
        await session.until(lambda: len(began) > 20)

    assert caplog.text.count("does another agent run with this device's identity") == told


async def test_no_message_ends_the_session(site, caplog):
    """A retained message where none should be, or one that meets a defect, does no harm: others come."""
    with site.broker() as running, Wiretap(site.data, running, DEVICE) as tap:
        tap.say("", b"at no topic of ours")
        tap.say("order", b"bad")
        async with Session(site, running.device_port) as session:
            await session.until(lambda: session.connects)
            tap.say("order", b"bad", retain=False)
            tap.say("ack", b"good", retain=False)
            async with asyncio.timeout(stretched(15)):
                while await session.messages.get() != (("ack",), b"good"):
                    pass

            assert (session.boots, session.task.done()) == (1, False)
    assert len([record for record in caplog.records if "defect" in record.message]) == 1


async def test_a_device_without_a_broker_keeps_trying(site, free_port):
    """No broker is no error: the link waits and tries again, for ever."""
    async with Session(site, free_port()) as session:
        await session.until(lambda: session.boots > 3)

        assert not session.link.connected
        assert not session.task.done()
