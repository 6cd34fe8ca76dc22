"""The main flows through a real server, a real broker with mTLS and ACL, and a device that speaks the real protocol."""

import asyncio
import time

import msgspec
import pytest

from modules import canonical
from modules import manifest as manifests
from modules.digests import measure_bytes
from modules.protocol import blobs as wire
from modules.protocol.report import Reason, Refusal, Running, SlotReport
from modules.signing import REPORT_TYPE, signer_from_pem
from modules.signing import sign as sign_envelope
from tests.doubles.device import WAIT_S, Device, join
from tests.doubles.publisher import checked

pytestmark = pytest.mark.needs("mosquitto")


async def until(http, path, condition):
    """The server's answer once it meets the condition."""
    async with asyncio.timeout(WAIT_S):
        while True:
            answer = checked(await asyncio.to_thread(http.get, path)).json()
            if condition(answer):
                return answer
            await asyncio.sleep(0.05)


def signed_module(owner, name, data=b"a graph"):
    manifest = owner.upload(name, {"model.onnx": data})
    owner.sign(manifest)
    return manifest


async def enrolled(folder, http, name):
    device = Device(folder / name, await asyncio.to_thread(join, http), name)
    response = await asyncio.to_thread(device.enrol)
    assert response.is_success, response.text
    return device


def slot_report(ordered, manifest, phase, **more):
    return SlotReport(slot="digits", phase=phase, module=str(manifest.ref), digest=ordered.digest, **more)


async def roll_out(http, manifest, **more):
    body = {"module": str(manifest.ref), "slot": "digits", "engine": "process"} | more
    return checked(await asyncio.to_thread(lambda: http.post("/api/v1/rollouts", json=body))).json()


async def test_a_module_goes_from_the_publisher_to_a_device_and_is_done_when_it_is_committed(fleet, tmp_path):
    """Enrol, facts, register, sign, roll out, order, pull, report, acknowledgement, done: the whole way."""
    _, http, owner = fleet
    files = {"model.onnx": b"m" * 200_000}
    device = await enrolled(tmp_path, http, "dev-journey")
    async with device.connected():
        await device.send_facts()
        await until(http, "/api/v1/devices/dev-journey", lambda shown: shown["facts"] and shown["online"])
        manifest = await asyncio.to_thread(owner.upload, "digits", files)
        await asyncio.to_thread(owner.sign, manifest)
        rollout = await roll_out(http, manifest, devices=["dev-journey"])
        assert [one["device"] for one in rollout["devices"]] == ["dev-journey"]

        order = await device.next_order(owner.director_keys)
        ordered = order.slots["digits"]
        assert ordered.manifest == manifest.ref.target
        assert ordered.engine == "process"

        document = await device.pull(measure_bytes(manifests.encode(manifest)))
        assert msgspec.json.decode(document)["name"] == "digits"
        assert await device.pull(manifest.files[0]) == files["model.onnx"]

        number = await device.report([slot_report(ordered, manifest, "fetching", progress=0.5)], order=order.counter)
        await device.acknowledgement(number)
        path = f"/api/v1/rollouts/{rollout['id']}"
        shown = checked(await asyncio.to_thread(http.get, path)).json()
        assert (shown["state"], shown["devices"][0]["phase"]) == ("running", "fetching")

        serving = Running(module=str(manifest.ref), digest=ordered.digest, provider="CPUExecutionProvider")
        committed = slot_report(ordered, manifest, "committed", serving=serving, times=(("committed", 1.0),))
        await device.acknowledgement(await device.report([committed], order=order.counter))
        shown = await until(http, path, lambda answer: answer["state"] == "done")
        assert shown["devices"][0]["serving"]["provider"] == "CPUExecutionProvider"

        reason = Reason("wrong-answer", "it went bad")
        await device.report([slot_report(ordered, manifest, "reverted", reason=reason)], order=order.counter)
        shown = await until(http, path, lambda answer: answer["state"] == "failed")
        assert any("open again" in entry["what"] for entry in shown["history"])


async def test_a_device_gets_trust_metadata_over_the_broker_and_an_answer_where_there_is_none(fleet, tmp_path):
    """Root and timestamp come as signed; a root that does not exist is an explicit no, never silence."""
    _, http, owner = fleet
    device = await enrolled(tmp_path, http, "dev-trust")
    async with device.connected():
        assert await device.metadata("1.root.json") == owner.founded.root
        assert await device.metadata("timestamp.json") == http.get("/api/v1/tuf/timestamp.json").content
        assert await device.metadata("2.root.json") is None
        missing = await device.ask(wire.BlobGet(request=900, digest=measure_bytes(b"nowhere").sha256))
        assert (missing.status, missing.data) == (wire.MISSING, b"there is no such blob")


async def test_a_forged_report_changes_nothing_and_leaves_an_event(fleet, tmp_path):
    """A report that another key signed, or that names another device, is not stored and not acknowledged."""
    _, http, _ = fleet
    device = await enrolled(tmp_path, http, "dev-victim")
    thief = Device(tmp_path / "thief", device.join, "dev-thief")
    async with device.connected():
        forged = device.document(7, [], order=0)
        envelope = sign_envelope(
            canonical.encode(forged), payload_type=REPORT_TYPE, signers=[signer_from_pem(thief.key_pem)]
        )
        await device.say("report", envelope)
        await device.say("report", device.signed(device.document(8, [], order=0, device="dev-other"), REPORT_TYPE))
        await device.acknowledgement(await device.report([], order=0))

        assert checked(await asyncio.to_thread(http.get, "/api/v1/devices/dev-victim")).json()["report"]["number"] == 1
    events = checked(http.get("/api/v1/events")).json()
    assert [one["kind"] for one in events if one["device"] == "dev-victim"].count("forged-message") == 2


async def test_what_a_device_refuses_becomes_an_event_once(fleet, tmp_path):
    """A refusal stays in a device's reports for a while; the operator reads it once."""
    _, http, _ = fleet
    device = await enrolled(tmp_path, http, "dev-refuses")
    refusal = Refusal(what="order 3", reason=Reason("untrusted", "below the floor"), at=5.0)
    async with device.connected():
        await device.report([], order=0, refusals=(refusal,))
        await device.acknowledgement(await device.report([], order=0, refusals=(refusal,)))
    events = [one for one in checked(http.get("/api/v1/events")).json() if one["device"] == "dev-refuses"]
    assert [one["message"] for one in events if one["kind"] == "device-refused"] == [
        "order 3: below the floor [untrusted]"
    ]


async def test_a_removed_slot_is_left_out_of_the_next_order(fleet, tmp_path):
    """Emptying a slot is an order like any other: complete, with a higher counter, without that slot."""
    _, http, owner = fleet
    manifest = await asyncio.to_thread(signed_module, owner, "to-remove")
    device = await enrolled(tmp_path, http, "dev-remove")
    async with device.connected():
        await device.send_facts()
        await until(http, "/api/v1/devices/dev-remove", lambda shown: shown["facts"])
        await roll_out(http, manifest, selector="id=dev-remove")
        first = await device.next_order(owner.director_keys)
        checked(await asyncio.to_thread(http.delete, "/api/v1/devices/dev-remove/slots/digits"))
        second = await device.next_order(owner.director_keys)
        assert second.counter == first.counter + 1
        assert second.slots == {}


async def test_an_operator_steers_a_rollout(fleet, tmp_path):
    """Pause, resume and cancel over HTTP; what the state does not allow is a conflict."""
    _, http, owner = fleet
    manifest = await asyncio.to_thread(signed_module, owner, "to-steer")
    device = await enrolled(tmp_path, http, "dev-steer")
    async with device.connected():
        await device.send_facts()
        await until(http, "/api/v1/devices/dev-steer", lambda shown: shown["facts"])
        rollout = await roll_out(http, manifest, selector="id=dev-steer")
    path = f"/api/v1/rollouts/{rollout['id']}"
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert checked(http.post(f"{path}/{action}")).json()["state"] == state
    assert http.post(f"{path}/resume").status_code == 409
    assert checked(http.get("/api/v1/rollouts")).json()[0]["id"] == rollout["id"]
    assert "dev-steer" in {one["id"] for one in checked(http.get("/api/v1/devices")).json()}


async def test_presence_follows_the_session(fleet, tmp_path):
    """A device is online while it is connected, and offline after it left."""
    _, http, _ = fleet
    device = await enrolled(tmp_path, http, "dev-presence")
    path = "/api/v1/devices/dev-presence"
    async with device.connected():
        await until(http, path, lambda shown: shown["online"])
    await until(http, path, lambda shown: not shown["online"])


async def test_fifty_megabytes_come_over_the_broker_at_a_useful_rate(fleet, tmp_path, record_property):
    """Two requests of eight blocks at a time bring 50 MB, every block checked, at 5 MB/s even on a busy machine."""
    _, http, owner = fleet
    data = b"".join(bytes([i % 251]) * 65_537 for i in range(800))
    manifest = await asyncio.to_thread(signed_module, owner, "bulk", data)
    blob = manifest.files[0]
    device = await enrolled(tmp_path, http, "dev-bulk")
    async with device.connected():
        await device.send_facts()
        await until(http, "/api/v1/devices/dev-bulk", lambda shown: shown["facts"])
        await roll_out(http, manifest, devices=["dev-bulk"])
        await device.next_order(owner.director_keys)
        begin = time.perf_counter()
        pulled = await device.pull(blob, outstanding=2, per_request=8)
        rate = len(data) / 1e6 / (time.perf_counter() - begin)
    assert pulled == data
    record_property("MB/s", round(rate, 1))
    assert rate > 5
