"""Row 19: a device of the fleet that means harm to another one, on the broker that both share."""

import asyncio
import json
import secrets
import socket
import time

import aiomqtt
import pytest

from fleet import probes
from fleet.settings import Settings
from modules import canonical
from modules.names import DeviceId
from modules.protocol.report import Ack, Report, Status
from modules.protocol.topics import Topics
from modules.signing import REPORT_TYPE
from tests.doubles.device import Device, join
from tests.parts.programs import run

pytestmark = pytest.mark.long

TOPICS = Topics()
PINGS = 6
SECRET = b"for the other device alone"


@pytest.fixture
def rogue(system, tmp_path):
    """Enrolled like any other, and hostile since."""
    with system.server.client() as http:
        one = Device(tmp_path / "rogue", join(http), f"dev-rogue-{secrets.token_hex(3)}")
        assert one.enrol().is_success
    return one


async def test_row_19_spoofed_topics_reach_nobody(system, edge, rogue):
    """What it publishes at the other's topics, retained or not, arrives neither there nor at the server: the device
    stays online under its own epoch, follows no order but its own, and takes no receipt that the server never gave."""
    victim = DeviceId(edge.name)
    before, refused = system.api(f"devices/{victim}"), edge.refusals()
    with system.wiretap(victim) as tap:
        await asyncio.to_thread(edge.device.until, lambda: tap.orders, "the broker has its order")
        orders = len(tap.orders)
        async with rogue.connected():
            report = Report(device=victim, number=1 << 40, issued=time.time(), order=0, agent="0")
            # A receipt for a number that was never given makes a device begin a new epoch: it would show.
            said = {
                TOPICS.order(victim): tap.orders[-1],
                TOPICS.ack(victim): canonical.encode(Ack(report=1 << 40, epoch=before["report"]["epoch"])),
                TOPICS.down(victim, "enroll"): b"{}",
                TOPICS.report(victim): rogue.signed(report, REPORT_TYPE),
                TOPICS.status(victim): canonical.encode(Status(online=False, boot=1 << 40)),
                TOPICS.order(DeviceId(rogue.name)): tap.orders[-1],
                "$SYS/broker/version": b"mine",
            }
            for topic, payload in said.items():
                for retain in (False, True):
                    await rogue.client.publish(topic, payload, qos=1, retain=retain)
            # Of what it sent before, nothing is still on its way once this has come.
            await rogue.send_facts()
        await asyncio.to_thread(
            edge.device.until, lambda: system.api(f"devices/{rogue.name}")["facts"], "the server hears the rogue"
        )
        assert len(tap.orders) == orders
    after = system.api(f"devices/{victim}")
    assert after["report"]["epoch"] == before["report"]["epoch"]
    assert after["report"]["number"] < 1 << 40
    assert edge.refusals() == refused
    assert not {"forged-message", "bad-message"} & {one["kind"] for one in edge.events()}
    edge.holds()


async def test_row_19_foreign_and_shared_subscriptions_hear_nothing(system, edge, rogue):
    """Whatever it subscribes to, it hears nothing of the other, and a shared subscription keeps no message from the
    server: each of some commands is answered."""
    victim = DeviceId(edge.name)
    async with rogue.connected():
        heard = []
        rogue.topics = _Listening(heard, rogue.topics)
        for wanted in (
            "#",
            "+/#",
            TOPICS.all_down(victim),
            f"{TOPICS.prefix}/{victim}/up/#",
            f"{TOPICS.prefix}/+/up/+",
            f"$share/edgefleet/{TOPICS.all_up()}",
            f"$share/edgefleet/{TOPICS.prefix}/{victim}/up/#",
        ):
            await rogue.client.subscribe(wanted, qos=1)
        with system.wiretap(victim) as tap:
            tap.say("nothing", SECRET, retain=False)
        for _ in range(PINGS):
            assert await asyncio.to_thread(edge.commanded, "ping") == "done"
    assert [topic for topic in heard if f"/{victim}/" in topic] == []
    edge.holds()


class _Listening(Topics):
    """Notes every topic that a message came at."""

    def __init__(self, heard, topics):
        super().__init__(topics.prefix)
        self._heard = heard

    def parse(self, topic):
        self._heard.append(topic)
        return super().parse(topic)


async def test_row_19_a_foreign_will_and_a_foreign_client_id_end_no_session(system, edge, rogue):
    """Its last will on the other's status is not delivered, and the other's client id gives it neither its session nor
    its messages: the device's session goes on, the same one."""
    victim = DeviceId(edge.name)
    boots = edge.device.agent.said().count("broker lost")
    will = aiomqtt.Will(TOPICS.status(victim), canonical.encode(Status(online=False, boot=1 << 40)), 1, retain=True)
    async with rogue.connected() as session:
        context = session.client._client._ssl_context
    for identifier, last in ((rogue.name, will), (victim, None)):
        client = aiomqtt.Client(
            system.broker.host, system.broker.device_port, identifier=identifier, tls_context=context, will=last
        )
        with pytest.raises(aiomqtt.MqttError):  # it is cut off, so that the broker has its will
            await _vanishes(client, victim)
    await asyncio.sleep(1.0)
    assert await asyncio.to_thread(edge.commanded, "ping") == "done"
    assert edge.device.agent.said().count("broker lost") == boots
    edge.holds()


async def _vanishes(client, victim):
    async with client:
        await client.subscribe(TOPICS.all_down(victim), qos=1)
        client._client.socket().shutdown(socket.SHUT_RDWR)
        async for message in client.messages:
            assert f"/{victim}/" not in message.topic.value


def test_row_19_the_whole_table_on_this_broker_while_the_device_works(system, edge, tmp_path):
    """``edgefleet broker check`` finds nothing that this broker does not enforce, and the device does not notice."""
    settings = Settings(
        data=system.data.root,
        broker_host=system.broker.host,
        broker_port=system.broker.device_port,
        broker_service_port=system.broker.service_port,
    )
    probes.write(tmp_path / "probes", system.data, settings)
    said = json.loads(run("fleet.client", "broker", "check", tmp_path / "probes", "--json", environment=system.home))
    assert said["not_enforced"] == 0
    assert said["enforced"] > 20
    assert edge.commanded("ping") == "done"
    edge.holds()
