"""What a claim's certificate reaches at a real broker: its own pair of topics, asserted on delivery."""

import asyncio
import contextlib
import datetime as dt

import aiomqtt
import pytest
from cryptography.hazmat.primitives import serialization

from modules.names import DeviceId
from modules.protocol.topics import CLAIM
from tests.deploy.test_broker import TOPICS, WAIT_S, seen_before, site

__all__ = ["site"]
pytestmark = pytest.mark.needs("mosquitto")
MINE, OTHERS = "0123456789abcdef", "fedcba9876543210"
DEVICE = DeviceId("dev-victim")


def claim(site, ident):
    """Certificate and key of a claim, in one PEM file, as the server issues it."""
    issued = site.authority.service(f"{CLAIM}{ident}", life=dt.timedelta(days=1))
    key = serialization.load_pem_private_key(issued.key, None)
    return site.pem(f"{ident}.pem", issued.certificate, key)


async def ended(client):
    """Return, or raise, once the session is over."""
    async with asyncio.timeout(WAIT_S):
        async for _ in client.messages:
            pass


async def test_a_claim_asks_and_is_answered_at_its_own_pair(site):
    """What it says at its up reaches the server, what the server says at its down reaches it."""
    async with site.server() as server, site.session(claim(site, MINE)) as asking:
        await asking.subscribe(TOPICS.claim_down(MINE), qos=1)
        await asking.publish(TOPICS.claim_up(MINE), b"a request", qos=1)
        assert await seen_before(server, TOPICS.claim_up(MINE)) == []
        await server.publish(TOPICS.claim_down(MINE), b"an answer", qos=1)
        assert await seen_before(asking, TOPICS.claim_down(MINE)) == []


async def test_a_claim_writes_nowhere_else(site):
    """No device's up or down, no other claim's, no shared branch, no $SYS: nobody gets what it publishes there."""
    async with site.server() as server, site.session(claim(site, MINE)) as rogue:
        for topic in (
            TOPICS.order(DEVICE),
            *TOPICS.retained(DEVICE),
            TOPICS.blob_get(DEVICE),
            TOPICS.claim_up(OTHERS),
            TOPICS.claim_down(OTHERS),
            TOPICS.claim_down(MINE),
            f"{TOPICS.claim_up(MINE)}/more",
            f"{TOPICS.prefix}/_claims/{DEVICE}/up",
            f"{TOPICS.prefix}/_shared/blob/x",
            "$SYS/broker/version",
        ):
            await rogue.publish(topic, b"forged", qos=1, retain=True)
        await rogue.publish(TOPICS.claim_up(MINE), b"mine", qos=1)
        assert await seen_before(server, TOPICS.claim_up(MINE)) == []


async def test_a_claim_reads_nothing_but_its_own_answers_and_what_is_for_all(site):
    """Whatever it subscribes to, wildcards, shared groups and $SYS: orders and other claims' answers do not come."""
    async with site.server() as server, site.session(claim(site, MINE)) as curious:
        for topic in (
            "#", "+/#", "$SYS/#", f"{TOPICS.prefix}/+/up/#", f"{TOPICS.prefix}/+/down/#", TOPICS.all_down(DEVICE),
            f"{TOPICS.prefix}/_claims/#", TOPICS.claim_down(OTHERS), TOPICS.claim_up(OTHERS), TOPICS.claim_up(MINE),
            f"$share/workers/{TOPICS.prefix}/+/up/#",
        ):  # fmt: skip
            await curious.subscribe(topic, qos=1)
        for topic in (*TOPICS.retained(DEVICE), TOPICS.claim_down(OTHERS), TOPICS.claim_up(OTHERS)):
            await server.publish(topic, b"secret", qos=1)
        await server.publish(TOPICS.claim_down(MINE), b"an answer", qos=1)
        assert await seen_before(curious, TOPICS.claim_down(MINE)) == []


@pytest.mark.parametrize("topic", [TOPICS.status(DEVICE), TOPICS.claim_up(OTHERS), TOPICS.claim_down(MINE)])
async def test_a_claims_will_is_delivered_nowhere_else(site, topic):
    """Its session dies, and what it left behind for others is thrown away."""
    will = aiomqtt.Will(topic, b"gone", 1, retain=True)
    async with site.server() as server:
        dying = claim(site, MINE)
        with contextlib.suppress(aiomqtt.MqttError):
            # The same name again, as a second user of the claim has it: the broker ends the first session.
            async with site.session(dying, will=will) as client, site.session(dying):
                await ended(client)
        async with site.session(dying) as again:
            await again.publish(TOPICS.claim_up(MINE), b"mine", qos=1)
            assert topic not in await seen_before(server, TOPICS.claim_up(MINE))


async def test_a_claim_cannot_take_a_devices_session(site):
    """It connects with a device's client id, and the device goes on: the broker takes the name of the certificate."""
    async with site.session(site.device(DEVICE)) as victim, site.server() as server:
        async with site.session(claim(site, MINE), identifier=DEVICE) as thief:
            await thief.publish(TOPICS.claim_up(MINE), b"mine", qos=1)
        await victim.publish(TOPICS.report(DEVICE), b"alive", qos=1)
        assert TOPICS.report(DEVICE) not in await seen_before(server, TOPICS.report(DEVICE))


async def test_two_users_of_one_claim_end_each_others_sessions(site):
    """A claim is for one device: a second one that has it disturbs the first, and reaches no more than it."""
    pem = claim(site, MINE)
    with contextlib.suppress(aiomqtt.MqttError):  # at the end of the first session, which is over
        async with site.session(pem) as first, site.session(pem) as second:
            with pytest.raises(aiomqtt.MqttError):
                await ended(first)
            await second.publish(TOPICS.claim_up(MINE), b"mine", qos=1)
