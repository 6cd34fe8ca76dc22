"""An enrolled device that knows the digest of another's blob: over MQTT, by a broadcast and over HTTPS it gets nothing.

The broker, the server and its listener for blobs are the real ones. What an order named counts on for a second here.
"""

import asyncio
import http.client
import ssl
from contextlib import ExitStack

import pytest

from fleet.registry import named_digests
from modules import manifest as manifests
from modules.digests import sha256
from modules.manifest import Image, Runtime
from modules.protocol import blobs as wire
from tests.doubles.device import WAIT_S, Device, join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker

pytestmark = pytest.mark.needs("mosquitto")
GRACE_S = 1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A server with both ways for blobs, and who publishes there."""
    folder = tmp_path_factory.mktemp("rights")
    data = initialise(folder / "data")
    with ExitStack() as parts:
        running = parts.enter_context(broker(folder / "broker", data))
        settings = {"blob_port": "0", "replaced_order_s": str(GRACE_S)}
        server = parts.enter_context(fleet_server(data, running, **settings))
        operator = parts.enter_context(server.client())
        owner = Publisher(operator)
        owner.found()
        yield server, operator, owner


def module_of(owner, name):
    """A signed module with an image, and every digest that a device may pull for it."""
    put = {part: f"{part} of {name}".encode() for part in ("manifest", "config", "layer")}
    blobs = {}
    for part, data in put.items():
        found = checked(owner.http.put(f"/api/v1/blobs/{sha256(data)}", content=data)).json()
        blobs[part] = manifests.Blob(found["sha256"], found["length"], found["blocks"])
    image = Image(name="scoring:1", manifest=blobs["manifest"], config=blobs["config"], layers=(blobs["layer"],))
    files = {"model.onnx": name.encode() * 50_000}
    manifest = owner.upload(name, files, runtimes=(Runtime(), Runtime(image=image)))
    owner.sign(manifest)
    return manifest, {sha256(manifests.encode(manifest)), *named_digests(manifest)}


async def enrolled(fleet, folder, name):
    _, operator, _ = fleet
    device = Device(folder / name, await asyncio.to_thread(join, operator), name)
    checked(await asyncio.to_thread(device.enrol))
    return device


async def ordered(fleet, device, manifest):
    """A rollout to this device; its order has arrived."""
    _, operator, owner = fleet
    body = {"module": str(manifest.ref), "slot": "digits", "engine": "process", "devices": [device.name]}
    body |= {"supersede": True}
    path = f"/api/v1/devices/{device.name}"
    async with asyncio.timeout(WAIT_S):
        while checked(await asyncio.to_thread(operator.get, path)).json()["facts"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    checked(await asyncio.to_thread(lambda: operator.post("/api/v1/rollouts", json=body)))
    while True:
        order = await device.next_order(owner.director_keys)
        if "digits" in order.slots and order.slots["digits"].manifest == manifest.ref.target:
            return order


async def over_mqtt(device, blobs, shared=wire.ALONE):
    """The answers by digest: status and, unless there are bytes, the words."""
    found = {}
    for blob in blobs:
        device.request += 1
        block = await device.ask(wire.BlobGet(request=device.request, digest=blob, shared=shared))
        found[blob] = block.status, b"" if block.status == wire.OK else block.data
    return found


def over_https(device, blobs, method="GET"):
    context = ssl.create_default_context(cafile=str(device.folder / "ca.pem"))
    context.load_cert_chain(device.folder / "certificate.pem", device.folder / "key.pem")
    host, port = device.join.blob_url.removeprefix("https://").rsplit(":", 1)
    found = {}
    connection = http.client.HTTPSConnection(host, int(port), timeout=WAIT_S, context=context)
    try:
        for blob in blobs:
            connection.request(method, f"/blobs/{blob}")
            answer = connection.getresponse()
            said = answer.read()
            found[blob] = answer.status, b"" if answer.status == 200 else said.replace(blob.encode(), b"DIGEST")
    finally:
        connection.close()
    return found


NOWHERE = sha256(b"nowhere")
ABSENT = (wire.MISSING, b"there is no such blob")


async def test_a_device_gets_its_own_blobs_alone_whatever_way_it_asks(fleet, tmp_path):
    """Manifest, files, image, layers and every index: of its own all, of the other's none, in the very words for a blob
    that does not exist; no invitation to a broadcast, and joining one that nobody invited it to brings nothing."""
    _, operator, owner = fleet
    (first, mine), (second, other) = [await asyncio.to_thread(module_of, owner, name) for name in ("first", "second")]
    a, b = [await enrolled(fleet, tmp_path, name) for name in ("dev-a", "dev-b")]
    async with a.connected(), b.connected():
        for device, manifest in ((a, first), (b, second)):
            await device.send_facts()
            await ordered(fleet, device, manifest)
        for device, own, foreign in ((a, mine, other), (b, other, mine)):
            assert set((await over_mqtt(device, own)).values()) == {(wire.OK, b"")}
            for shared in (wire.ALONE, wire.COULD, wire.JOINED):
                assert set((await over_mqtt(device, {*foreign, NOWHERE}, shared)).values()) == {ABSENT}
            assert set((await asyncio.to_thread(over_https, device, own)).values()) == {(200, b"")}
            for method in ("GET", "HEAD"):
                answers = await asyncio.to_thread(over_https, device, {*foreign, NOWHERE}, method)
                assert {status for status, _ in answers.values()} == {404}
                assert len(set(answers.values())) == 1
        directors = sha256(owner.founded.director)
        assert (await over_mqtt(b, [directors]))[directors] == (wire.OK, b"")
    counted = checked(await asyncio.to_thread(operator.get, "/metrics")).text
    for way in ("asked", "https"):
        line = next(one for one in counted.splitlines() if f'blobs_withheld_total{{way="{way}"}}' in one)
        assert float(line.rsplit(" ", 1)[1]) > 0
    async with asyncio.timeout(WAIT_S):
        while True:
            told = checked(await asyncio.to_thread(operator.get, "/api/v1/events")).json()
            found = [one["device"] for one in told if one["kind"] == "blob-withheld"]
            if len(found) >= 2:
                break
            await asyncio.sleep(0.2)
    assert sorted(found) == ["dev-a", "dev-b"]


async def test_after_its_order_changed_a_device_gets_the_new_and_not_the_old(fleet, tmp_path):
    """At once what the new order names; what only an order before the last named is gone a moment later, on both
    ways; and once the slot is emptied, all of it."""
    _, operator, owner = fleet
    made = [await asyncio.to_thread(module_of, owner, name) for name in ("red", "green", "blue")]
    device = await enrolled(fleet, tmp_path, "dev-changes")
    async with device.connected():
        await device.send_facts()
        for manifest, own in made:
            await ordered(fleet, device, manifest)
            assert set((await over_mqtt(device, own)).values()) == {(wire.OK, b"")}
            assert set((await asyncio.to_thread(over_https, device, own)).values()) == {(200, b"")}
        (_, red), (_, green), (_, blue) = made
        await asyncio.sleep(GRACE_S + 0.2)
        assert set((await over_mqtt(device, red)).values()) == {ABSENT}
        assert {status for status, _ in (await asyncio.to_thread(over_https, device, red)).values()} == {404}
        assert set((await over_mqtt(device, green | blue)).values()) == {(wire.OK, b"")}
        path = f"/api/v1/devices/{device.name}/slots/digits"
        checked(await asyncio.to_thread(operator.delete, path))
        await device.next_order(owner.director_keys)
        await asyncio.sleep(GRACE_S + 0.2)
        assert set((await over_mqtt(device, red | green | blue)).values()) == {ABSENT}
