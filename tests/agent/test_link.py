"""The session with a real broker: presence, delivery, an outage and its end."""

import asyncio
import datetime as dt
import shutil
import ssl
import time
from contextlib import ExitStack

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import doctor, status
from agent.identity import CA, CERTIFICATE, KEY, ROOT, Identity
from agent.identity import DEVICE as DEVICE_FILE
from agent.link import Link
from agent.mqtt_client import NotLetIn
from agent.settings import Settings
from agent.store import Store
from agent.wiring import keep_refusal
from fleet.authority import Authority
from fleet.folder import Folder
from fleet.setup import initialise
from modules import canonical
from modules.errors import LinkLost
from modules.names import device_id
from modules.protocol.enrollment import Broker
from tests.doubles.clock import VirtualClock
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched
from tests.parts.proxy import Proxy
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

    async def between(self) -> None:
        """Hold it between two sessions: one that ends while its thread connects leaves a socket open."""
        held = asyncio.Event()

        async def hold(_):
            held.set()
            await asyncio.Event().wait()

        self.link._clock.sleep = hold
        await held.wait()

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


REFUSED = {
    "another fleet's": (lambda _: (Authority.create("other"), 1), "authority that the broker does not know"),
    "over": (lambda site: (Authority.load(site.data.ca, lambda: time.time() - 2 * 86_400), 1), "it has ended"),
    "revoked": (lambda site: (Authority.load(site.data.ca), 1), "it was revoked"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_refused_certificate_is_known_at_once_with_its_reason(tmp_path, caplog, free_port, kind):
    """With TLS 1.3 a broker refuses after the handshake: no half minute is waited for its welcome, the log says why,
    once, and so does whoever asks; and it is asked again ever later."""
    make, why = REFUSED[kind]
    site = Site(tmp_path)
    authority, days = make(site)
    key = serialization.load_pem_private_key((site.identity / KEY).read_bytes(), None)
    made = authority.device(DEVICE, key.public_key(), dt.timedelta(days=days))
    (site.identity / CERTIFICATE).write_bytes(made)
    if kind == "revoked":
        number = x509.load_pem_x509_certificate(made).serial_number
        site.data.revoked.write_bytes(authority.revocations({number: time.time()}))
    port, told = free_port(), []
    session = Session(site, port)
    session.link.on_refusal = told.append
    async with session:
        await session.until(
            lambda: "broker lost" in caplog.text
        )  # an outage comes first, and is no reason to be silent
        with site.broker(device_port=port):
            await session.until(lambda: told and why in told[-1])
            began, tries, waited = time.monotonic(), session.boots, session.link._clock.monotonic()
            await session.until(lambda: session.boots >= tries + 4)

            assert time.monotonic() - began < stretched(5.0)
            assert session.link._clock.monotonic() - waited > 4 * 0.8 * 2.0
            # The broker may have hung up before its first alert was read.
            assert len(told) <= 2
            assert why in told[-1]
            assert caplog.text.count(why) == 1
            (tmp_path / "identity").symlink_to(site.identity)
            settings = Settings(state=str(tmp_path))
            found = await asyncio.to_thread(doctor._broker, settings, session.link._identity)
            assert (found.ok, why in found.found) == (False, True)
            await session.between()


async def test_the_librarys_small_talk_is_in_no_log(site, caplog, free_port):
    """It names each message that comes or goes, in its log's finest level, which nobody asked for."""
    session = Session(site, port := free_port())
    async with session:
        with site.broker(device_port=port):
            await session.until(lambda: session.connects)
        await session.between()
    assert [record for record in caplog.records if record.name == "mqtt"] == []


async def test_a_broker_that_only_hangs_up_does_not_unsay_why(site, caplog):
    """Of a refusal the alert is read or not, by chance: what it said once is neither forgotten nor said again."""
    revoked = ssl.SSLError(1, "[SSL] alert")
    revoked.reason = "TLSV1_ALERT_CERTIFICATE_REVOKED"
    session, told, met = Session(site, 1), [], [None, revoked, None, revoked, None]
    session.link.on_refusal = told.append

    async def refused():
        if not met:
            await asyncio.Event().wait()
        raise NotLetIn(met.pop(0))

    session.link._session = refused
    async with session:
        await session.until(lambda: not met)
    assert ["it was revoked" in one for one in told] == [False, True]
    assert caplog.text.count("it was revoked") == 1


def test_the_status_says_why_the_broker_refuses(site, tmp_path, capsys):
    """As long as it does: what the agent was told last is kept for whoever looks, and goes with the next welcome."""
    (tmp_path / "identity").symlink_to(site.identity)
    (site.identity / ROOT).write_bytes(b"{}")
    known = Identity(device=DEVICE, fleet="https://f", broker=Broker(host="127.0.0.1", port=1))
    (site.identity / DEVICE_FILE).write_bytes(canonical.encode(known))
    shown = []
    for why in ("the broker refuses it", "", "the broker refuses it again"):
        store = Store(tmp_path)
        keep_refusal(store, why)
        store.close()
        status.show(Settings(state=str(tmp_path)), as_json=False)
        shown.append(capsys.readouterr().out)
    assert ["the broker refuses" in one for one in shown] == [True, False, True]
    assert "  the broker refuses it again\n" in shown[2]


async def test_a_publish_ends_with_its_session(site):
    """What was under way when the network went is known to be lost at once, not minutes after it is back."""
    with site.broker() as running, Proxy(running.device_port) as network:
        async with Session(site, network.port) as session:
            await session.until(lambda: session.link.connected)
            network.swallow()
            topic = session.link.topics.report(DEVICE)
            publishing = asyncio.create_task(session.link.publish(topic, b"report"), name="publishing")
            await asyncio.sleep(0)
            network.cut()
            async with asyncio.timeout(stretched(15)):
                with pytest.raises(LinkLost, match="session"):
                    await publishing


async def test_a_device_without_a_broker_keeps_trying(site, free_port):
    """No broker is no error: the link waits and tries again, for ever."""
    async with Session(site, free_port()) as session:
        await session.until(lambda: session.boots > 3)

        assert not session.link.connected
        assert not session.task.done()
