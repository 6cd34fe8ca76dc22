"""What the broker enforces with the product's configuration: asserted on delivery, never on what a SUBACK says."""

import asyncio
import datetime as dt
import pwd
import socket
import ssl
import time
from contextlib import asynccontextmanager, suppress

import aiomqtt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.authority import Authority
from fleet.broker_config import render
from fleet.folder import Folder
from fleet.setup import SERVICE, initialise
from modules.errors import BadSettings, Invalid
from modules.names import DeviceId
from modules.protocol.telemetry import STREAMS
from modules.protocol.topics import Topics
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
TOPICS = Topics()
# MQTT 3.1.1: CONNECT with a clean session as client "x", and a CONNACK that accepts.
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
ACCEPTED = b"\x20\x02\x00\x00"
WAIT_S = stretched(10)


class Site:
    """A running broker and certificates for whoever a test needs."""

    def __init__(self, folder, data, running):
        self.folder, self.data, self.broker = folder, data, running
        self.authority = Authority.load(data.ca)

    def device(self, name, life=dt.timedelta(days=1)):
        """Certificate and key of an enrolled device, in one PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.authority.device(DeviceId(name), key.public_key(), life)
        return self.pem(f"{name}.pem", certificate, key)

    def pem(self, file, certificate, key):
        path = self.folder / file
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(certificate + private)
        return path

    def context(self, pem):
        context = ssl.create_default_context(cafile=str(self.data.ca))
        if pem:
            context.load_cert_chain(pem)
        return context

    @asynccontextmanager
    async def session(self, pem, *, port=None, identifier=None, will=None):
        """A client with this certificate; by default on the devices' listener."""
        async with aiomqtt.Client(
            self.broker.host,
            port or self.broker.device_port,
            identifier=identifier or pem.stem,
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=self.context(pem),
            will=will,
            timeout=WAIT_S,
        ) as client:
            yield client

    @asynccontextmanager
    async def server(self):
        """The fleet server's own session, subscribed to everything."""
        pem = self.folder / "service.pem"
        pem.write_bytes(self.data.service.read_bytes() + Folder.key(self.data.service).read_bytes())
        async with self.session(pem, port=self.broker.service_port, identifier=SERVICE) as client:
            await client.subscribe(f"{TOPICS.prefix}/#", qos=1)
            yield client


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    data = Folder(folder / "data")
    initialise(data, time.time)
    with broker(folder / "broker", data) as running:
        yield Site(folder, data, running)


async def seen_before(client, marker):
    """Topics of all messages that arrive before the one on ``marker``: nothing else can still be on its way."""
    topics = []
    async with asyncio.timeout(WAIT_S):
        async for message in client.messages:
            if message.topic.value == marker:
                return topics
            topics.append(message.topic.value)
    raise AssertionError("the session ended")


async def test_a_device_writes_below_its_own_up_and_nowhere_else(site):
    """Foreign up and down, its own down, the shared branch and $SYS: nobody gets what it publishes there."""
    async with site.server() as server, site.session(site.device("dev-b")) as rogue:
        for topic in (
            TOPICS.report(DeviceId("dev-a")),
            TOPICS.order(DeviceId("dev-a")),
            TOPICS.order(DeviceId("dev-b")),
            f"{TOPICS.prefix}/_shared/blob/x",
            "$SYS/broker/version",
        ):
            await rogue.publish(topic, b"forged", qos=1, retain=True)
        marker = TOPICS.report(DeviceId("dev-b"))
        await rogue.publish(marker, b"mine", qos=1)
        assert await seen_before(server, marker) == []


async def test_a_device_retains_nothing_but_what_the_protocol_names(site):
    """Of all topics below its own up, only those that the protocol names are taken: it cannot fill the broker."""
    own = DeviceId("dev-e")
    streams = [TOPICS.telemetry(own, stream) for stream in STREAMS]
    named = [
        TOPICS.facts(own),
        TOPICS.status(own),
        TOPICS.blob_get(own),
        TOPICS.renewal(own),
        TOPICS.answer(own),
        *streams,
    ]
    async with site.server() as server, site.session(site.device(own)) as flooding:
        for topic in (
            *(TOPICS.up(own, "fill", str(n)) for n in range(50)),
            TOPICS.up(own, "report", "1"),
            TOPICS.up(own, "telemetry"),
            *(TOPICS.telemetry(own, f"stream{n}") for n in range(50)),
            TOPICS.telemetry(own, "host/more"),
            TOPICS.answer(DeviceId("dev-b")),
            TOPICS.up(own, "cmd", "ping"),
            TOPICS.telemetry(DeviceId("dev-b"), "host"),
            TOPICS.up(own),
            *named,
        ):
            await flooding.publish(topic, b"kept", qos=1, retain=True)
        marker = TOPICS.report(own)
        await flooding.publish(marker, b"mine", qos=1)
        assert await seen_before(server, marker) == named
        for topic in named:
            await server.publish(topic, b"", qos=1, retain=True)


async def test_a_device_reads_its_own_down_and_what_is_for_all_and_nothing_else(site):
    """Whatever it subscribes to, wildcards and shared groups included, only its own down and _shared arrive."""
    other, own = DeviceId("dev-c"), DeviceId("dev-d")
    async with site.server() as server, site.session(site.device(own)) as curious:
        for topic in ("#", "+/#", TOPICS.all_down(other), f"{TOPICS.prefix}/+/up/#", TOPICS.all_down(own)):
            await curious.subscribe(topic, qos=1)
        await server.publish(TOPICS.order(other), b"secret", qos=1)
        await server.publish(TOPICS.report(other), b"secret", qos=1)
        await server.publish(f"{TOPICS.prefix}/_shared/blob/x", b"for all", qos=1)
        await server.publish(TOPICS.order(own), b"mine", qos=1)
        assert set(await seen_before(curious, TOPICS.order(own))) <= {f"{TOPICS.prefix}/_shared/blob/x"}


async def test_a_last_will_on_a_foreign_topic_is_not_delivered(site):
    """The broker checks a will like any other publication."""
    will = aiomqtt.Will(TOPICS.status(DeviceId("dev-a")), b"dead", 1)
    marker = TOPICS.report(DeviceId("dev-marker"))
    async with site.server() as server:
        with pytest.raises(aiomqtt.MqttError):
            await _vanish(site, site.device("dev-will"), will)
        async with site.session(site.device("dev-marker")) as other:
            await other.publish(marker, b"", qos=1)
            assert await seen_before(server, marker) == []


async def test_a_client_id_taken_from_another_device_kicks_nobody(site):
    """The client id is the certificate's name, whatever the client says."""
    victim_name = DeviceId("dev-victim")
    async with site.server() as server, site.session(site.device(victim_name)) as victim:
        await victim.subscribe(TOPICS.all_down(victim_name), qos=1)
        async with site.session(site.device("dev-thief"), identifier=victim_name):
            await server.publish(TOPICS.order(victim_name), b"still here", qos=1)
            assert await seen_before(victim, TOPICS.order(victim_name)) == []


async def test_a_message_over_the_limit_ends_the_session(site):
    """Nobody can fill the broker's memory with one message."""
    async with site.server() as server, site.session(site.device("dev-marker")) as other:
        with pytest.raises(aiomqtt.MqttError):
            await _send_too_much(site)
        marker = TOPICS.report(DeviceId("dev-marker"))
        await other.publish(marker, b"", qos=1)
        assert await seen_before(server, marker) == []


def test_the_devices_listener_takes_a_devices_certificate(site):
    """What the next tests find refused is not refused for another reason."""
    assert knock(site, site.device("dev-good"), site.broker.device_port) == ACCEPTED


@pytest.mark.parametrize("who", ["nobody", "stranger", "expired", "server", "service"])
def test_the_devices_listener_refuses_every_certificate_but_a_devices(site, who):
    """No certificate, a foreign CA's, an expired one, a server's and the service's own are refused at the handshake."""
    pems = {
        "nobody": lambda: None,
        "stranger": lambda: _stranger(site),
        "expired": lambda: site.device("dev-old", life=dt.timedelta(minutes=-5)),
        "server": lambda: _joined(site, site.data.server, "server-as-client.pem"),
        "service": lambda: _joined(site, site.data.service, "service-as-device.pem"),
    }
    assert knock(site, pems[who](), site.broker.device_port) == b""


def test_the_services_listener_refuses_a_device_and_takes_the_service(site):
    """A device's certificate is of another CA than the services', whatever its name."""
    service = _joined(site, site.data.service, "service-knocks.pem")
    assert knock(site, site.device("dev-climber"), site.broker.service_port) == b""
    assert knock(site, service, site.broker.service_port) == ACCEPTED


def test_a_plain_connection_gets_no_answer(site):
    """The listeners speak TLS only."""
    for port in (site.broker.device_port, site.broker.service_port):
        with socket.create_connection((site.broker.host, port), WAIT_S) as raw:
            raw.sendall(CONNECT)
            assert _answer(raw) != ACCEPTED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(site, version):
    """TLS before 1.2 gets no session."""
    context = site.context(site.device("dev-tls"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = version
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = version
    with (
        socket.create_connection((site.broker.host, site.broker.device_port), WAIT_S) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname=site.broker.host)


def test_the_rendered_folder_holds_no_ca_key_and_nothing_for_others_to_read(site):
    """Whoever breaks into the broker gets its own key, and cannot issue certificates."""
    folder = site.folder / "broker"
    assert {path.name for path in folder.iterdir()} == {
        "broker.key", "broker.pem", "ca.pem", "devices.acl", "mosquitto.conf", "mosquitto.pid", "revoked.pem",
        "run.sh", "service-ca.pem", "services.acl",
    }  # fmt: skip
    assert folder.stat().st_mode & 0o077 == 0
    for certificate in ("ca.pem", "service-ca.pem"):
        assert b"PRIVATE" not in (folder / certificate).read_bytes()


def test_rendering_refuses_what_could_not_work(site, tmp_path):
    """A missing data folder, an unknown account and a prefix with wildcards are refused with the reason."""
    ports = {"device_port": 1, "service_port": 2}
    with pytest.raises(BadSettings, match="init"):
        render(tmp_path / "a", Folder(tmp_path / "none"), prefix="edgefleet/v1", **ports)
    with pytest.raises(BadSettings, match="no such account"):
        render(tmp_path / "b", site.data, prefix="edgefleet/v1", user="no-such-account", **ports)
    with pytest.raises(Invalid, match="prefix"):
        render(tmp_path / "c", site.data, prefix="edgefleet/+", **ports)


@pytest.mark.needs("root")
def test_rendered_for_another_account_the_files_are_its_own(site, tmp_path):
    """The account that mosquitto becomes can read its key, and nobody else."""
    account = pwd.getpwnam("nobody")
    render(tmp_path / "x", site.data, prefix="edgefleet/v1", user="nobody", device_port=1, service_port=2)
    for path in (tmp_path / "x", *(tmp_path / "x").iterdir()):
        assert path.stat().st_uid == account.pw_uid
    assert "user nobody" in (tmp_path / "x" / "mosquitto.conf").read_text()


def knock(site, pem, port):
    """The broker's answer to a CONNECT over TLS with this certificate; empty if it hangs up instead."""
    with socket.create_connection((site.broker.host, port), WAIT_S) as raw:
        try:
            with site.context(pem).wrap_socket(raw, server_hostname=site.broker.host) as tls:
                tls.sendall(CONNECT)
                # With TLS 1.3 a client learns only after its handshake that its certificate was refused.
                return _answer(tls)
        except OSError:
            return b""


def _answer(connection):
    try:
        return connection.recv(4)
    except OSError:
        return b""


async def _vanish(site, pem, will):
    """Connect and break off without a goodbye, so that the broker sends the will; ends with MqttError."""
    async with site.session(pem, will=will) as client:
        client._client.socket().shutdown(socket.SHUT_RDWR)
        async for _ in client.messages:
            pass


async def _send_too_much(site):
    async with site.session(site.device("dev-large")) as client:
        with suppress(
            aiomqtt.MqttError
        ):  # that it waits for an end of the sending in vain is not what ends the session
            await client.publish(TOPICS.report(DeviceId("dev-large")), bytes(500_000), timeout=1)
        async for _ in client.messages:
            pass


def _joined(site, certificate, file):
    pem = site.folder / file
    pem.write_bytes(certificate.read_bytes() + Folder.key(certificate).read_bytes())
    return pem


def _stranger(site):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = Authority.create("somebody else").device(DeviceId("dev-a"), key.public_key(), dt.timedelta(days=1))
    return site.pem("stranger.pem", certificate, key)
