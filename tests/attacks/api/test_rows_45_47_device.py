"""Rows 45 and 47: a device whose power fails on the way to a new module, and messages that no program can read."""

import asyncio
import json
import time

import aiomqtt
import pytest

from modules.protocol.phases import Phase
from modules.signing import REPORT_TYPE, envelope_limit, sign, signer_from_pem
from tests.doubles.device import Device, join
from tests.parts.programs import until

pytestmark = pytest.mark.long

# The broker passes on so much, and cuts off who sends more.
LONGEST = 384 << 10
LENGTHS = (900, 16_000, 90_000, LONGEST - 1000)
AGAIN = "again"


def metadata(device):
    return [path for path in (device.state / "trust" / "metadata").rglob("*.json") if path.is_file()]


def torn(device):
    """Files of the cache that are no JSON."""
    found = []
    for path in metadata(device):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            found.append(str(path))
    return found


def cut(edge):
    """The power fails while the cache is written; the module and the gateway are other programs, and go on."""
    edge.device.agent.kill()
    for path in metadata(edge.device):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(torn(edge.device)) >= 4
    edge.answers()


def test_row_45_power_cut(site, edge):
    """A second slot is ordered, and the agent is killed again and again on the way: whenever it has just begun a phase,
    with its cache of the trust metadata torn in the middle of every file. The module that worked answers all the while,
    the cache is built again from the root that the device was given, and in the end the order is carried out.

    What each single step leaves behind when it dies within, tests/agent/test_crash_points.py tries: it derives every
    write, file and effect of every step from a first run (the order taken, blobs, manifest, image, start, samples,
    switch, commit, revert, removal), and kills, fails and hangs at each. The agent of a process is killed here; that
    what it wrote before has reached the disk is in tests/agent and tests/modules, for files, tables and blobs.
    """
    device, system = edge.device, site.system
    cut(edge)
    rollout = system.start_rollout(edge.ref, edge.name, slot=AGAIN, more=("--engine", "process"))
    device.agent.start()
    device.until(lambda: device.phase(AGAIN), "the order is verified")
    assert torn(device) == []
    seen = set()
    while (phase := device.phase(AGAIN)) != Phase.COMMITTED:
        if phase not in seen:
            seen.add(phase)
            cut(edge)
            device.agent.start()
        time.sleep(0.005)  # another process brings it about
    assert seen
    assert system.ended(rollout, said=device.said)["state"] == "done"
    system.cli("devices", "empty", edge.name, AGAIN)
    device.until(lambda: device.slot(AGAIN) is None, "the slot is empty")
    device.until(lambda: system.api(f"devices/{edge.name}")["online"], "it is online again")
    site.works(edge)


def deep(limit):
    """Nested as deep as fits, in every form that a reader of JSON might recurse into, and what is no JSON at all."""
    half = limit // 2
    yield b"[" * (limit - 1)
    yield b"[" * half + b"]" * half
    yield b'{"a":' * (limit // 6)
    yield b'{"payload":"' + b"W1tb" * (limit // 5) + b'","payloadType":"x","signatures":[]}'
    yield b"1" * (limit - 1)
    yield b"\xff\xfe" * half
    yield b'{"payload":"' + b"\xff" * half + b'","epoch":"\xff"}'
    yield b""


def signed_deep(device):
    """With the device's real signature around it."""
    for payload in (b"[" * 200_000, b'{"slots":' * 20_000, b"\x00" * 200_000):
        yield device.signed_bytes(payload)


class Loud(Device):
    """A device that is in the fleet, and says what it likes."""

    def signed_bytes(self, payload):
        return sign(payload, payload_type=REPORT_TYPE, signers=[signer_from_pem(self.key_pem)])


async def sends_10_mb(device, topic):
    """Until the broker cuts the session, which the end of the session then says."""
    async with device.connected(will=False):
        large = device.client.publish(topic, b'{"a":[' + b"1," * (5 << 20) + b"1]}", qos=1)
        sending = asyncio.create_task(large, name="10 MB")
        await asyncio.wait([device.client._disconnected], timeout=20)
        sending.cancel()
        assert device.client._disconnected.done()


@pytest.mark.parametrize("kind", ["status", "facts", "report", "telemetry/host", "enroll", "cmd", "blob/get"])
async def test_row_47_malformed_messages_to_the_server(site, edge, tmp_path, kind):
    """An enrolled device sends 10 MB of JSON, which the broker cuts off, and fifty messages as deep as they may be
    long, some with its real signature: the same server process takes its report, and the other device is at work.
    (tests/attacks/wire tries each field of each document.)"""
    http = site.system.server.client()
    device = Loud(tmp_path, join(http), f"berlin-{kind.replace('/', '-')}")
    assert (await asyncio.to_thread(device.enrol)).is_success
    topic = device.topics.up(device.name, *kind.split("/"))
    with pytest.raises(aiomqtt.MqttError):
        await sends_10_mb(device, topic)
    async with device.connected():
        for payload in [one for length in LENGTHS for one in deep(length)] * 2 + [*signed_deep(device)] * 5:
            await device.client.publish(topic, payload, qos=1)
        await device.send_facts()
        await device.acknowledgement(await device.report([], order=0))
    told = {one["kind"] for one in site.system.api("events") if one["device"] == device.name}
    assert kind == "blob/get" or told & {"bad-message", "renewal-refused"}
    site.answered(site.ask("DELETE", f"/api/v1/devices/{device.name}"))
    http.close()
    site.works(edge)


def test_row_47_malformed_messages_to_a_device(site, edge):
    """Whoever owns the broker floods the device with the same, at every topic that it reads: the same agent process
    answers a command afterwards, and its module has answered all the while."""
    pid, system = edge.device.agent.pid, site.system
    log, before = edge.device.agent._log, edge.device.agent._log.stat().st_size
    with system.wiretap(edge.name) as tap:
        for level in ("order", "ack", "blob/1", "enroll", "cmd/ping/" + "0" * 32):
            # What is longer than a message of its kind may be is refused before it is read: short ones, too.
            for length in (900, 8000, 16_000, min(LONGEST, envelope_limit(256 << 10)) - 1000):
                for payload in deep(length):
                    tap.say(level, payload, retain=False)
            edge.answers()
    # Behind the flood it may be dropped, and has to wait until it is said again.
    assert edge.commanded("ping", within_s=90) == "done"
    until(lambda: edge.device.agent.pid == pid and edge.device.agent.runs, "the same agent runs", within_s=5)
    assert b"defect" not in log.read_bytes()[before:]  # all of it: a flood leaves more behind than its end
    site.works(edge)
