"""Devices and module versions that are taken out: refused while in use, gone for everybody afterwards."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import aiomqtt
import pytest

from fleet import devices, events, orders, revisions
from fleet.refusals import Conflict, Missing
from fleet.removal import remove_device, remove_module
from fleet.rollouts import control
from fleet.rollouts.model import Policy, Wave
from modules import canonical
from modules import manifest as manifests
from modules.protocol.enrollment import JoinBundle
from modules.protocol.report import Health, Running, SlotReport
from tests.doubles.device import WAIT_S, Device, join
from tests.doubles.publisher import checked
from tests.parts.pace import stretched


@pytest.fixture
def small(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    return small_fleet


def remove(small, name):
    with small.database.write() as connection:
        remove_device(connection, small.now, name, by="token 1 (admin)")


def drop(small, ref):
    with small.database.write() as connection:
        digest = small.registry.digest(connection, ref)
        remove_module(connection, small.now, small.registry, ref, by="token 1 (admin)")
    with small.database.write() as connection:
        small.registry.discard(connection, digest)


def told(small):
    with small.database.read() as connection:
        return [(one["kind"], one["device"], one["by"]) for one in events.newest(connection)]


def test_an_open_rollout_goes_on_without_a_device_that_is_removed(small):
    """It is accounted for as gone, whether it had its order or not; the rollout ends with those that are left."""
    small.add_device("dev-c")
    rollout = small.start(small.add_module("digits"), policy=Policy(waves=(Wave(count=2),)))
    small.report("dev-b", "committed")
    remove(small, "dev-a")
    remove(small, "dev-c")
    small.tick()

    view = small.view(rollout)
    assert {one["device"]: one["standing"] for one in view["devices"]} == {
        "dev-a": "gone", "dev-b": "succeeded", "dev-c": "gone",
    }  # fmt: skip
    assert view["state"] == "done"
    assert "removed from the fleet" in view["devices"][0]["why"]
    assert ("device-removed", "dev-a", "token 1 (admin)") in told(small)


def test_a_removed_device_is_there_for_nobody(small):
    """Not in the list, not selected, not labelled, not ordered, and there is none to remove again."""
    ref = small.add_module("digits")
    small.start(ref)
    for name in ("dev-a", "dev-b"):
        small.report(name, "committed")
    remove(small, "dev-a")
    with small.database.write() as connection:
        assert [one["id"] for one in devices.view_all(connection)] == ["dev-b"]
        for asked in (
            lambda: devices.set_labels(connection, "dev-a", {}),
            lambda: devices.chosen(connection, "*", ["dev-a"]),
            lambda: small.orders.issue(connection, small.now, "dev-a"),
            lambda: control.empty_slot(connection, small.now, small.orders, "dev-a", "digits"),
            lambda: remove_device(connection, small.now, "dev-a"),
        ):
            with pytest.raises(Missing):
                asked()
        assert [one.device for one, _ in devices.chosen(connection, "*", None)] == ["dev-b"]
        assert [row.document is None for row in revisions.view(connection, "dev-a", "digits")] == [True, False]
        orders.forget_published(connection)
        assert [one.device for one in orders.unpublished(connection, limit=9)] == ["dev-b"]
    small.now += 40 * 86400
    small.tick()
    assert small.order("dev-a") is None


def test_a_removed_device_can_be_looked_up_as_it_was(small):
    """What it said last, its labels, when it was removed and by whom; its events and its rollout stay, too."""
    with small.database.write() as connection:
        devices.set_labels(connection, "dev-a", {"site": "berlin"})
    rollout = small.start(small.add_module("digits"), devices=("dev-a",))
    small.report("dev-a", "committed")
    remove(small, "dev-a")
    with small.database.read() as connection:
        shown = devices.view(connection, "dev-a")
    assert (shown["removed"], shown["removed_by"]) == (pytest.approx(small.now), "token 1 (admin)")
    assert shown["labels"] == {"site": "berlin"}
    assert [slot["phase"] for slot in shown["report"]["slots"]] == ["committed"]
    assert shown["facts"]["host"]["cores"] == 2
    assert ("device-removed", "dev-a", "token 1 (admin)") in told(small)
    assert [one["device"] for one in small.view(rollout)["devices"]] == ["dev-a"]


def test_what_a_removed_device_served_is_in_use_no_more(small):
    """Its last report, which is kept, holds no module back."""
    ref = small.add_module("digits")
    small.start(ref, devices=("dev-a",))
    small.report("dev-a", "committed")
    remove(small, "dev-a")
    drop(small, ref)


def test_a_module_in_use_is_not_removed(small):
    """Ordered, served, on its way, or what a cancel goes back to: each is named."""
    first, second = small.add_module("digits"), small.add_module("digits")
    rollout = small.start(first, devices=("dev-a",))
    with pytest.raises(Conflict, match=f"device dev-a, slot digits; rollout {rollout}"):
        drop(small, first)
    small.report("dev-a", "committed")
    newer = small.start(second, devices=("dev-a",))
    with pytest.raises(Conflict, match=f"rollout {newer}, whose cancel goes back to it"):
        drop(small, first)

    order = small.order("dev-a")
    with small.database.read() as connection:
        digest = small.registry.digest(connection, first)
    serving = Running(module=str(first), digest=digest)
    said = {"slot": "digits", "module": str(second), "digest": order.slots["digits"].digest, "serving": serving}
    small.send("dev-a", [SlotReport(**said, phase="committed", current=Health(state="up"))], order=order.counter)
    assert small.view(newer)["state"] == "done"
    with pytest.raises(Conflict, match="device dev-a, slot digits"):
        drop(small, first)
    small.report("dev-a", "committed")
    drop(small, first)
    assert ("module-removed", None, "token 1 (admin)") in told(small)


def test_a_removed_module_is_gone_and_its_number_stays_taken(small):
    """It cannot be seen, rolled out, registered again or signed again; its own blobs go, shared ones stay."""
    first, second = small.add_module("digits"), small.add_module("digits")  # the same file in both
    other = small.add_module("other", sign_it=False)
    with small.database.read() as connection:
        data = small.registry.manifest_bytes(connection, first)
        others = manifests.decode(small.registry.manifest_bytes(connection, other))
    shared = manifests.decode(data).files[0]
    drop(small, first)
    drop(small, other)
    with small.database.write() as connection:
        assert [one["ref"] for one in small.registry.view_all(connection)] == [str(second)]
        for asked in (small.registry.view, small.registry.signed, small.registry.manifest_bytes):
            with pytest.raises(Missing):
                asked(connection, first)
        with pytest.raises(Conflict, match="was removed"):
            small.registry.draft(connection, small.now, first, data)
        assert str(small.registry.reserve(connection, small.now, first.team, first.name)) == "3"
    assert small.blobs.length(shared.sha256) is not None
    assert small.blobs.length(shared.blocks) is not None
    assert small.blobs.length(others.files[0].sha256) is None
    assert small.blobs.length(others.files[0].blocks) is None


async def retained(server, device):
    """The topics of this device of which the broker keeps a message."""
    context = ssl.create_default_context(cafile=str(server.data.ca))
    context.load_cert_chain(server.data.service, server.data.key(server.data.service))
    broker = device.join.broker
    conf = Path(server.data.broker_place.read_text().strip()) / "mosquitto.conf"
    ports = [int(line.split()[1]) for line in conf.read_text().splitlines() if line.startswith("listener")]
    named = {"identifier": "service:looker", "protocol": aiomqtt.ProtocolVersion.V311, "tls_context": context}
    async with aiomqtt.Client(broker.host, ports[1], **named) as client:
        await client.subscribe(f"{device.topics.prefix}/#", qos=1)
        await client.publish(f"{device.topics.prefix}/service/marker", b"x", qos=1)
        found = []
        async for message in client.messages:
            if message.topic.value.endswith("/marker"):
                return [one for one in found if f"/{device.name}/" in one]
            found.append(message.topic.value)
    return found


async def connects(device):
    """Whether the broker takes the device's certificate and answers it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(stretched(5)), device.connected(will=False):
            return True
    return False


@pytest.mark.needs("mosquitto")
@pytest.mark.long
async def test_a_removed_device_connects_no_more_and_leaves_nothing_behind(fleet, tmp_path):
    """Its session ends, its certificate is refused, what the broker kept of it goes; others go on."""
    server, http, _ = fleet
    lost, other = [Device(tmp_path / name, join(http), name) for name in ("dev-lost", "dev-keep")]
    for device in (lost, other):
        checked(await asyncio.to_thread(device.enrol))
    ended = asyncio.Event()

    async def stay():
        with contextlib.suppress(aiomqtt.MqttError):
            async with lost.connected():
                await lost.send_facts()
                await lost.acknowledgement(await lost.report([], order=0))
                while True:
                    await lost.client.publish(lost.topics.blob_get(lost.name), b"x", qos=1)
                    await asyncio.sleep(0.05)
        ended.set()

    async with other.connected(), asyncio.TaskGroup() as group:
        group.create_task(stay())
        await until(http, lambda shown: {one["id"] for one in shown if one["facts"]} >= {"dev-lost"})
        answer = checked(await asyncio.to_thread(http.delete, "/api/v1/devices/dev-lost")).json()
        assert answer == {"device": "dev-lost", "broker": "the broker refuses its certificate"}
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
        assert not await connects(lost)
        assert "dev-lost" not in {
            one["id"] for one in checked(await asyncio.to_thread(http.get, "/api/v1/devices")).json()
        }
        await other.acknowledgement(await other.report([], order=0))
    assert await connects(other)
    async with asyncio.timeout(WAIT_S):
        while await retained(server, lost):  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.1)

    again = Device(tmp_path / "again", await asyncio.to_thread(join, http), "dev-lost")
    refused = await asyncio.to_thread(again.enrol)
    assert (refused.status_code, refused.json()["code"]) == (409, "name-removed")
    data = checked(await asyncio.to_thread(http.post, "/api/v1/devices/dev-lost/readmit", json={})).content
    again.join = canonical.decode(data, JoinBundle, limit=1 << 20, what="join bundle")
    checked(await asyncio.to_thread(again.enrol))
    async with again.connected(), asyncio.timeout(WAIT_S):
        assert again.orders.empty()
        await again.acknowledgement(await again.report([], order=0))
    assert not await connects(lost)


@pytest.mark.long
@pytest.mark.needs("mosquitto")
async def test_a_revoked_device_is_cut_off_and_comes_back_by_an_operators_word(fleet, tmp_path):
    """Its session ends within seconds and its certificate is refused, but it stays in the fleet, which says so; it
    comes back with another key and an operator's word, under its own name."""
    server, http, _ = fleet
    stolen = Device(tmp_path / "dev-stolen", join(http), "dev-stolen")
    checked(await asyncio.to_thread(stolen.enrol))

    async def stay():
        with contextlib.suppress(aiomqtt.MqttError):
            async with stolen.connected():
                while True:
                    await stolen.client.publish(stolen.topics.blob_get(stolen.name), b"x", qos=1)
                    await asyncio.sleep(0.05)

    session = asyncio.create_task(stay())
    await until(http, lambda shown: {"dev-stolen"} <= {one["id"] for one in shown if one["online"]})
    answer = checked(await asyncio.to_thread(http.post, "/api/v1/devices/dev-stolen/revoke")).json()
    assert answer == {"device": "dev-stolen", "broker": "the broker refuses its certificate"}
    async with asyncio.timeout(WAIT_S):
        await session
    assert not await connects(stolen)
    shown = checked(await asyncio.to_thread(http.get, "/api/v1/devices/dev-stolen")).json()
    assert shown["revoked"] > 0
    assert shown["certificate"] is None
    assert (await asyncio.to_thread(stolen.enrol)).status_code == 403  # with its bundle of before
    async with asyncio.timeout(WAIT_S):
        while await retained(server, stolen):  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.1)

    word = await asyncio.to_thread(http.post, "/api/v1/devices/dev-stolen/readmit", json={})
    bundle = canonical.decode(checked(word).content, JoinBundle, limit=1 << 20, what="join bundle")
    again = Device(tmp_path / "again", bundle, "dev-stolen")
    checked(await asyncio.to_thread(again.enrol))
    async with again.connected(), asyncio.timeout(WAIT_S):
        await again.acknowledgement(await again.report([], order=0))
    assert not await connects(stolen)
    missing = await asyncio.to_thread(http.post, "/api/v1/devices/dev-nobody/revoke")
    assert missing.status_code == 404


async def until(http, condition):
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition(checked(await asyncio.to_thread(http.get, "/api/v1/devices")).json()):
                return
            await asyncio.sleep(0.05)
